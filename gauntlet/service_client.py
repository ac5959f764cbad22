"""A client of a service's operator API. It follows no redirect and no proxy, so that a key goes to the named address
only; no error shows a key."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from gauntlet.errors import BadInput, GauntletError

SECONDS = 15.0
_KEY_REMEDY = "put the key into the environment variable GAUNTLET_KEY, or name it with --key-env or --key-file"


class NotReached(BadInput):
    """No service answered; the message names the address and the remedy."""

    code = "not_reached"


class Refused(GauntletError):
    """The service refused; the message is its reason, `body` all of its answer."""

    code = "refused"

    def __init__(self, message: str, *, code: str, retriable: bool, body: bytes = b"") -> None:
        super().__init__(message, code=code)
        self.retriable = retriable
        self.body = body


class ServiceClient:
    """The service at `url`, asked with `key`. This one is a router; for another, a class has its name and prefix."""

    service = "router"
    prefix = "v1"

    def __init__(self, url: str, key: str | None = None, *, start: str = "gauntlet up CONFIG") -> None:
        """start: the command that would start it. Raises `BadInput` for an invalid address or key."""
        parts = urlsplit(url)
        try:
            self._host, self._port = parts.hostname, parts.port
        except ValueError as error:
            raise BadInput(f"--url {url}: {error}") from error
        if parts.scheme not in ("http", "https") or not self._host or parts.username is not None:
            raise BadInput(f"--url {url}: an address looks like http://127.0.0.1:8420")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise BadInput("the API key has characters that no key can have; is it the right variable or file?")
        self._secure = parts.scheme == "https"
        self._base = parts.path.rstrip("/")
        self._key = key
        self._start = start
        self.url = f"{parts.scheme}://{parts.netloc}{self._base}"

    def get(self, *path: str, **query: object) -> bytes:
        """The body of an answer to GET; a query's null is left out. Raises `NotReached` or `Refused`."""
        return self._exchange("GET", path, _query(query), None)

    def post(
        self, *path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None, **query: object
    ) -> bytes:
        """The body of an answer to POST; a query's null is left out. Raises `NotReached` or `Refused`."""
        return self._exchange("POST", path, _query(query), json.dumps(body).encode(), headers)

    def _exchange(
        self,
        method: str,
        path: tuple[str, ...],
        query: str,
        content: bytes | None,
        more: Mapping[str, str] | None = None,
    ) -> bytes:
        route = "/".join((self._base, self.prefix, *(quote(step, safe="") for step in path))) + query
        key = {"x-api-key": self._key} if self._key else {}
        headers = {"content-type": "application/json", **key, **(more or {})}
        connection = self._connection()
        try:
            connection.request(method, route, content, headers)
            response = connection.getresponse()
            status, location, body = response.status, response.getheader("location"), response.read()
        except TimeoutError as error:
            sent = "; a command may have been taken all the same, and may be repeated" if method == "POST" else ""
            raise NotReached(f"{self.url} did not answer within {SECONDS:g} s{sent}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or error or type(error).__name__
            remedy = f"start it with  {self._start}  or give its address as --url"
            raise NotReached(f"no {self.service} answers at {self.url}: {reason}; {remedy}") from error
        finally:
            connection.close()
        if status >= 300:
            self._refuse(status, location, body)
        return body

    def _connection(self) -> http.client.HTTPConnection:
        assert self._host is not None, "checked at the start"
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=SECONDS, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=SECONDS)

    def _refuse(self, status: int, location: str | None, body: bytes) -> None:
        if location is not None:
            raise NotReached(
                f"{self.url} sends on to {location}: give the address of the {self.service} itself as --url"
            )
        try:
            error = msgspec.json.decode(body)["error"]
            code, message, retriable = str(error["code"]), str(error["message"]), bool(error["retriable"])
        except (msgspec.MsgspecError, KeyError, TypeError):
            raise NotReached(
                f"what answers at {self.url} ({status}) is no Gauntlet {self.service}; give its --url"
            ) from None
        if code == "unauthenticated":
            message = f"the {self.service} " + ("knows no such key" if self._key else "asks for an API key")
            message += f": {_KEY_REMEDY}"
        again = "; try again" if retriable else ""
        raise Refused(f"refused ({code}): {message}{again}", code=code, retriable=retriable, body=body)


def _query(query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
