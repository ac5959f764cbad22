"""Targets: one blocking function each that delivers one notice, built from configuration and environment."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from gauntlet import preflight
from gauntlet.config.notify import NotifyConfig
from gauntlet.errors import ConfigError
from gauntlet.types import Channel, Severity
from retrainer.notify import webhook
from retrainer.notify.notices import Notice
from retrainer.notify.open_lineage import KIND
from retrainer.notify.webhook import DeliveryFailed

Send = Callable[[Notice], None]
"""Tells a notice; whatever it raises is a try that failed."""


class Target(msgspec.Struct, frozen=True):
    """Who is told, from which severity on, and how."""

    name: str
    severity: Severity
    send: Send
    channel: Channel = "handler"

    @property
    def lineage(self) -> bool:
        return self.channel == "lineage"

    def wants(self, notice: Notice) -> bool:
        """Whether it is told; lineage is for its own targets, and nothing else for them."""
        if self.lineage or notice.kind == KIND:
            return self.lineage and notice.kind == KIND
        return notice.severity >= self.severity


def targets(settings: Sequence[NotifyConfig], environ: Mapping[str, str] = os.environ) -> list[Target]:
    """Raises `ConfigError` for a secret that is missing or none, and for a handler that is not a function."""
    return [Target(one.name, Severity(one.severity), _send(one, environ), one.channel) for one in settings]


def _send(one: NotifyConfig, environ: Mapping[str, str]) -> Send:
    if one.handler is not None:
        handler = preflight.named_function(one.handler, f"notify: the handler of {one.name},")
        return lambda notice: handler(msgspec.to_builtins(notice))
    if one.webhook is not None:
        url, secret = one.webhook, one.secret or ""
        keys = webhook.keys(one.name, secret, environ.get(secret, ""))
        return lambda notice: webhook.post(url, *webhook.signed(notice, keys, time.time()))
    if one.lineage is not None:
        return _by_lineage(one.name, one.lineage, one.secret, environ)
    if not preflight.installed("apprise"):
        raise ConfigError(f"notify: {one.name} needs apprise: pip install 'gauntlet-ml[notify]'")
    variable = one.apprise or ""
    address = environ.get(variable, "")
    if not address:
        raise ConfigError(f"notify: {one.name}: the environment variable {variable} must hold the address for apprise")
    return lambda notice: _by_apprise(variable, address, notice)


def _by_lineage(name: str, url: str, secret: str | None, environ: Mapping[str, str]) -> Send:
    headers = {"content-type": "application/json"}
    if secret is not None:
        if not environ.get(secret):
            raise ConfigError(f"notify: {name}: the environment variable {secret} must hold the bearer token")
        headers["authorization"] = f"Bearer {environ[secret]}"
    return lambda notice: webhook.post(url, msgspec.json.encode(notice.data), headers)


def _by_apprise(variable: str, address: str, notice: Notice) -> None:
    """Tell it by whatever service stands behind the address. Imported here: it takes seconds."""
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it repeats addresses that it can't read, tokens and all
    service = apprise.Apprise.instantiate(address)
    if service is None:
        raise DeliveryFailed(f"{variable} holds no address that apprise knows")
    teller = apprise.Apprise()
    teller.add(service)
    kind = apprise.NotifyType.FAILURE if notice.severity >= Severity.HIGH else apprise.NotifyType.WARNING
    if notice.severity <= Severity.LOW:
        kind = apprise.NotifyType.INFO
    title = f"[{notice.severity}] {notice.title}"
    if not teller.notify(body=notice.text, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
        raise DeliveryFailed(f"{service.service_name} ({variable}) did not take it")
