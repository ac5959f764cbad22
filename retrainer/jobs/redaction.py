"""Secrets removed from what a job prints or raises before anybody sees it: credentials recognised by their form, and
the values of environment variables whose names suggest a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_MASK = "***"
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8  # a shorter value, such as "1", would mask what is no secret
_NAME = r"(?:api[_-]?key|token|secret|password|passwd)"
_FORMS = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]+@", re.IGNORECASE), rf"\1{_MASK}@"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {_MASK}"),
    (re.compile(rf"({_NAME}[\"']?\s*[:=]\s*)[\"']?[^\s\"',;&]{{4,}}", re.IGNORECASE), rf"\1{_MASK}"),
    (re.compile(r"\b(?:gh[opsu]_|github_pat_|glpat-|hf_|sk-|whsec_|xox[a-z]-|AKIA)[\w+/=-]{16,}"), _MASK),
)


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """`text` with every secret that is recognised replaced by three stars; of one of several lines each line."""
    values = [value for name, value in environ.items() if _SECRET_NAME.search(name)]
    known = {part for value in values for part in (value, *value.splitlines()) if len(part) >= _SHORTEST}
    for value in sorted(known, key=len, reverse=True):
        text = text.replace(value, _MASK)
    for form, mask in _FORMS:
        text = form.sub(mask, text)
    return text
