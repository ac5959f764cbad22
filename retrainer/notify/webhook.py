"""A signed webhook as Standard Webhooks 1.0.0 has it (https://www.standardwebhooks.com): one POST, no redirects."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from gauntlet.errors import ConfigError
from retrainer.notify.notices import Notice

SECONDS = 15.0
_PREFIX = "whsec_"
_GONE = 410


class DeliveryFailed(Exception):
    """A try that did not succeed. `final`: another won't either; `wait`: seconds that the receiver asks for."""

    def __init__(self, message: str, *, final: bool = False, wait: float | None = None) -> None:
        super().__init__(message)
        self.final = final
        self.wait = wait


def keys(target: str, variable: str, secrets: str) -> list[bytes]:
    """The keys in a text of secrets. Raises `ConfigError`, which tells no secret."""
    found = []
    for secret in secrets.split():
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not 24 <= len(key) <= 64:
            raise ConfigError(
                f"notify: {target}: {variable} must hold whsec_ and 24 to 64 random bytes in base64, for example from  "
                "python -c \"import base64, os; print('whsec_' + base64.b64encode(os.urandom(32)).decode())\""
            )
        found.append(key)
    if not found:
        raise ConfigError(f"notify: {target}: the environment variable {variable} must hold the webhook's secret")
    return found


def signed(notice: Notice, secrets: list[bytes], now: float) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a try at `now`, the machine's time; a receiver refuses what is older than minutes."""
    body = msgspec.json.encode(
        {
            "type": f"gauntlet.{notice.kind}",
            "timestamp": datetime.fromtimestamp(notice.at, UTC).isoformat(),
            "data": msgspec.to_builtins(notice),
        }
    )
    content = f"{notice.id}.{int(now)}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in secrets)
    headers = {
        "content-type": "application/json",
        "user-agent": "gauntlet",
        "webhook-id": notice.id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
    return body, headers


def post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """Raises `DeliveryFailed` for any answer but 2xx, or none."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read(65_536)
    except (OSError, http.client.HTTPException) as error:
        raise DeliveryFailed(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        wait = None
        with contextlib.suppress(ValueError):
            wait = float(answer.headers.get("retry-after", ""))
        raise DeliveryFailed(f"answered {answer.status} {answer.reason}", final=answer.status == _GONE, wait=wait)
