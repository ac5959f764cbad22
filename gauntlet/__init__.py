"""Gauntlet: a streaming champion/challenger router with online A/B evaluation for machine-learning models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluator.offline.api import analyze, compare, drift, drift_stream, plan, simulate, to_html, to_text

__version__ = "0.1.0"
__all__ = ["analyze", "compare", "drift", "drift_stream", "plan", "simulate", "to_html", "to_text"]


def __getattr__(name: str) -> object:
    """The public functions, imported when they are first asked for (PEP 562): the kernel itself needs no service."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from evaluator.offline import api

    return getattr(api, name)
