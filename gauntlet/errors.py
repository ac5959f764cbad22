"""Domain errors: what was wrong, where, and whether trying again helps. They know no HTTP."""

from __future__ import annotations

from pathlib import Path


class GauntletError(Exception):
    """Base of all of Gauntlet's errors.

    `code` is the machine-readable reason (stable, snake_case); `retriable` says whether the same call may succeed
    later.
    """

    code = "error"
    retriable = False

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ConfigError(GauntletError):
    """The configuration is refused; the message names the file, the line, the key and the reason."""

    code = "bad_config"


class BadInput(GauntletError):
    """A caller sent something that cannot be used; nothing of it was kept."""

    code = "bad_input"


class NotAllowed(GauntletError):
    """No key or an unknown one (`unauthenticated`), or a key whose role is too low (`forbidden`)."""

    code = "forbidden"


class InUse(GauntletError):
    """Another process does this work on the same files; the message names the process and the folder."""

    code = "in_use"


class TransitionRefused(GauntletError):
    """The rollout state machine does not allow this command in this state."""

    code = "transition_refused"


class Conflict(GauntletError):
    """A compare-and-set lost: somebody else changed the record first. Read it and decide again."""

    code = "conflict"
    retriable = True


class ModelUnusable(GauntletError):
    """A model artifact is missing, does not match its checksum, or fails to load or to answer."""

    code = "model_unusable"


class InvalidOutput(GauntletError):
    """A model answered with the wrong shape, or with values that are not finite or no probabilities."""

    code = "invalid_output"


class DamagedFile(GauntletError):
    """A file of Gauntlet's own can't be read; restored, or put right by `remedy`, it is read again."""

    code = "damaged_file"
    retriable = True

    def __init__(self, path: Path, cause: object, remedy: str) -> None:
        self.text = f"{path} can't be read: {cause}"
        self.remedy = remedy
        super().__init__(f"{self.text}; {remedy}")


class RegistryUnavailable(GauntletError):
    """The model registry's server does not answer; what this machine has of it goes on serving."""

    code = "registry_unavailable"
    retriable = True


class RegistryRefused(GauntletError):
    """The model registry's server has refused a call: no right to it, read-only, or a request that it can't do."""

    code = "registry_refused"


class LogUnavailable(GauntletError):
    """The event log cannot take or give events just now."""

    code = "log_unavailable"
    retriable = True


class RecordsUnavailable(GauntletError):
    """The records' database does not answer, or refuses; what it missed is written when it does."""

    code = "records_unavailable"
    retriable = True


class StateUnavailable(GauntletError):
    """The state store does not answer; the last known record stays in force."""

    code = "state_unavailable"
    retriable = True
