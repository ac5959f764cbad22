"""The conditions of users' rules, such as `accuracy < 0.85 and drift_count > 5`: comparisons of named facts with
numbers, joined by `and`, `or` and `not`. Pure.

Nothing is ever evaluated as Python: a condition is parsed, every part that is not on the short list below is refused,
and what is left is walked. Three-valued (Kleene): a fact that is not known makes a comparison unknown, not false.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping

from gauntlet.spelling import did_you_mean

LONGEST = 500
"""Characters."""
DEEPEST = 20
"""Conditions within conditions."""

FACTS = {
    "accuracy": "of the champion over the window of its health; classification",
    "log_loss": "the same; classification",
    "brier": "the same; classification",
    "rmse": "the same; regression",
    "mae": "the same; regression",
    "accuracy_fall": "by how much accuracy is below the baseline; classification",
    "rmse_rise": "by what share RMSE is above the baseline; regression",
    "outcomes": "matured outcomes in that window",
    "data_quality": "score of the requests' quality, from 0 to 1",
    "drift_statistic": "largest distance of a feature from the reference, of those that drift is shown in",
    "drift_p_value": "smallest p value of those",
    "transition_drift": "largest change of a transition probability, of those that drift is shown in",
    "drift_count": "features that drift is shown in",
    "drift_severity": "of the open drift episode: 0 none, 1 low, 2 medium, 3 high, 4 critical",
    "new_samples": "labelled rows since those that the champion was trained on",
    "data_growth": "the same as a share of the rows that it was trained on",
    "days_since_training": "days since the champion was trained",
    "hours_since_job": "hours since the last job started",
    "attempts": "jobs against this champion that did not fail",
}
"""What a condition may name."""

_RANGES = {
    **dict.fromkeys(("accuracy", "data_quality", "drift_statistic", "drift_p_value", "transition_drift"), (0.0, 1.0)),
    "accuracy_fall": (-1.0, 1.0),
    "drift_severity": (0.0, 4.0),
}
"""Least and greatest values of facts that have both."""

OF_TASK = {
    "classification": {"accuracy", "log_loss", "brier", "accuracy_fall"},
    "regression": {"rmse", "mae", "rmse_rise"},
}
"""Facts that only one task has."""

_COMPARE: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

_ALLOWED = "a condition compares facts with numbers (<, <=, >, >=, ==, !=) and joins comparisons by and, or, not"


class RuleCondition:
    """A parsed condition. `names`: the facts it is about, in the order of the text."""

    def __init__(self, text: str) -> None:
        """Raises `ValueError` with the place and the reason, for anything that is not a condition."""
        self.text = text
        self._root = _parsed(text)
        _require_truth(self._root, 1)
        found = [node for node in ast.walk(self._root) if isinstance(node, ast.Name)]
        self.names = tuple(dict.fromkeys(node.id for node in sorted(found, key=lambda node: node.col_offset)))
        if not self.names:
            raise ValueError(f"it names no fact, so it is always the same; there are {', '.join(FACTS)}")

    def holds(self, facts: Mapping[str, float | None]) -> bool | None:
        """Whether it holds; None where that depends on a fact that is not known (absent, None or not a number)."""
        return _truth(self._root, facts)


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text):,} characters, {LONGEST} at most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as for `1or 2`, which would be read as something else
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"column {error.offset or 1}: {error.msg}; {_ALLOWED}") from None
    except (ValueError, RecursionError, MemoryError, Warning):
        raise ValueError(f"it can't be read; {_ALLOWED}") from None


def _require_truth(node: ast.expr, depth: int) -> None:
    """Refuse what is not true or false, at any depth."""
    if depth > DEEPEST:
        raise ValueError(f"column {node.col_offset + 1}: more than {DEEPEST} conditions within each other")
    match node:
        case ast.BoolOp():
            for value in node.values:
                _require_truth(value, depth + 1)
        case ast.UnaryOp(op=ast.Not()):
            _require_truth(node.operand, depth + 1)
        case ast.Compare():
            for sign in node.ops:
                if type(sign) not in _COMPARE:
                    raise ValueError(f"column {node.col_offset + 1}: {_ALLOWED}")
            sides = (node.left, *node.comparators)
            for side in sides:
                _require_number(side)
            for left, sign, right in zip(sides, node.ops, sides[1:], strict=False):
                _require_chance(left, sign, right)
        case _:
            raise ValueError(
                f"column {node.col_offset + 1}: {ast.unparse(node)!r} is neither true nor false; {_ALLOWED}"
            )


def _require_number(node: ast.expr) -> None:
    match node:
        case ast.Name() if node.id in FACTS:
            return
        case ast.Name():
            hint = did_you_mean(node.id, FACTS) or f"there are {', '.join(FACTS)}"
            raise ValueError(f"column {node.col_offset + 1}: there is no fact {node.id!r}; {hint}")
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and abs(value) < 1e300:
            return
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as operand):
            _require_number(operand)
        case _:
            raise ValueError(
                f"column {node.col_offset + 1}: {ast.unparse(node)!r} is neither a fact nor a number; {_ALLOWED}"
            )


def _require_chance(left: ast.expr, sign: ast.cmpop, right: ast.expr) -> None:
    """Refuse to compare a fact with a number that all of its values are on one side of, such as 85 for 85 %."""
    fact = next((side.id for side in (left, right) if isinstance(side, ast.Name)), "")
    if fact not in _RANGES or (isinstance(left, ast.Name) and isinstance(right, ast.Name)):
        return
    least, greatest = _RANGES[fact]
    number = _number(right if isinstance(left, ast.Name) else left, {})
    assert number is not None
    ends = (least, min(max(number, least), greatest), greatest)
    found = {_truth(ast.Compare(left, [sign], [right]), {fact: value}) for value in ends}
    if len(found) == 1:
        text = f"{ast.unparse(ast.Compare(left, [sign], [right]))}"
        always = "always holds" if True in found else "never holds"
        raise ValueError(f"column {left.col_offset + 1}: '{text}' {always}: {fact} is from {least:g} to {greatest:g}")


def _truth(node: ast.expr, facts: Mapping[str, float | None]) -> bool | None:
    match node:
        case ast.BoolOp():
            decides = isinstance(node.op, ast.Or)  # the value that settles it, whatever the others are
            found = [_truth(value, facts) for value in node.values]
            return decides if decides in found else None if None in found else not decides
        case ast.UnaryOp():
            inner = _truth(node.operand, facts)
            return None if inner is None else not inner
        case ast.Compare():
            sides = [_number(side, facts) for side in (node.left, *node.comparators)]
            found = [
                None if left is None or right is None else _COMPARE[type(sign)](left, right)
                for left, sign, right in zip(sides, node.ops, sides[1:], strict=False)
            ]
            return False if False in found else None if None in found else True
    raise AssertionError("checked when it was parsed")


def _number(node: ast.expr, facts: Mapping[str, float | None]) -> float | None:
    match node:
        case ast.Name():
            value = facts.get(node.id)
            return None if value is None or math.isnan(value) else value
        case ast.Constant():
            return float(node.value)  # type: ignore[arg-type]
        case ast.UnaryOp():
            number = _number(node.operand, facts)
            return None if number is None else -number
    raise AssertionError("checked when it was parsed")
