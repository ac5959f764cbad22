"""The address of the model registry: which addresses are valid, and that none contains a secret."""

from __future__ import annotations

from gauntlet.config.section import check


def check_registry(registry: str) -> None:
    """Raise `ValueError` unless it is an address of a registry, without a secret in it."""
    scheme, _, rest = registry.partition("://")
    known = registry == "local" or (
        scheme in ("mlflow+sqlite", "mlflow+http", "mlflow+https") and rest.strip("/") != ""
    )
    check(
        known and (scheme != "mlflow+sqlite" or rest.startswith("/")),
        f"`registry` must be local, mlflow+sqlite:///path, mlflow+http://host or mlflow+https://host, not {registry!r}",
    )
    check(
        scheme == "mlflow+sqlite" or "@" not in rest,
        "`registry` must have no user or password: MLflow reads them from MLFLOW_TRACKING_USERNAME, "
        "MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN",
    )
