"""Users' conditions against Python's own reading of them, with facts that are known and facts that are not."""

import ast
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.config.rules import RuleCondition

NAMES = ["brier", "days_since_training", "log_loss", "rmse_rise"]  # of any value
numbers = st.sampled_from(["0", "1", "2.5", "-1", "1e3"])
signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
names = st.sampled_from(NAMES)
compared = st.builds(lambda name, sign, number: f"{name} {sign} {number}", names, signs, numbers) | st.builds(
    lambda low, name, high: f"{low} < {name} <= {high}", numbers, names, numbers
)
conditions = st.recursive(
    compared,
    lambda inner: (
        st.builds(lambda one: f"not ({one})", inner)
        | st.builds(lambda one, word, other: f"({one}) {word} ({other})", inner, st.sampled_from(["and", "or"]), inner)
    ),
    max_leaves=5,
)
values = st.sampled_from([-1.0, 0.0, 1.0, 2.5, 1000.0])


@settings(max_examples=300, deadline=None)
@given(text=conditions, facts=st.fixed_dictionaries(dict.fromkeys(NAMES, values)))
def test_with_all_facts_known_it_says_what_python_says(text: str, facts: dict[str, float]) -> None:
    assert RuleCondition(text).holds(facts) is eval(text, {"__builtins__": {}}, facts)


@settings(max_examples=300, deadline=None)
@given(
    text=conditions,
    facts=st.fixed_dictionaries(dict.fromkeys(NAMES, values)),
    hidden=st.sets(st.sampled_from(NAMES), max_size=3),
)
def test_what_is_said_with_facts_missing_stays_true_whatever_they_are(
    text: str, facts: dict[str, float], hidden: set[str]
) -> None:
    """Kleene's logic is sound: an answer given without some facts is the answer for every value of theirs."""
    condition = RuleCondition(text)
    known = {name: value for name, value in facts.items() if name not in hidden}
    said = condition.holds(known)
    if said is None:
        assert hidden & set(condition.names)
        return
    for filled in product([-1.0, 0.0, 2.5, 1000.0], repeat=len(hidden)):
        assert condition.holds(known | dict(zip(sorted(hidden), filled, strict=True))) is said


@settings(max_examples=400, deadline=None)
@given(text=st.text(max_size=80) | st.text(st.sampled_from("accuracy<>=!()0.1 andornot[]{}:'\"\\\n\t@*"), max_size=60))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        condition = RuleCondition(text)
    except ValueError:
        return
    assert condition.names
    allowed = (
        ast.BoolOp,
        ast.UnaryOp,
        ast.Compare,
        ast.Name,
        ast.Constant,
        ast.boolop,
        ast.unaryop,
        ast.cmpop,
        ast.Load,
    )
    assert all(isinstance(node, allowed) for node in ast.walk(ast.parse(text.strip(), mode="eval").body))
