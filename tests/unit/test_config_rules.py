"""Users' rules: what a condition says of known and unknown facts, and that nothing else than a condition gets in."""

import math

import pytest

from gauntlet.config.load import parse
from gauntlet.config.rules import DEEPEST, FACTS, LONGEST, RuleCondition
from gauntlet.errors import ConfigError

START = "experiment: e\ntask: classification\nchampion: {model: m.skops}\n"


@pytest.mark.parametrize(
    ("text", "facts", "holds"),
    [
        ("accuracy < 0.85", {"accuracy": 0.8499}, True),
        ("accuracy < 0.85", {"accuracy": 0.85}, False),
        ("accuracy <= 0.85", {"accuracy": 0.85}, True),
        ("new_samples > 10000", {"new_samples": 10_000.0}, False),
        ("days_since_training > 7", {"days_since_training": 7.001}, True),
        ("drift_count == 5 or drift_count != 5", {"drift_count": 5.0}, True),
        ("0.7 <= data_quality < 0.8", {"data_quality": 0.7}, True),
        ("0.7 <= data_quality < 0.8", {"data_quality": 0.8}, False),
        ("not accuracy < 0.85", {"accuracy": 0.85}, True),
        ("accuracy_fall > -0.01", {"accuracy_fall": 0.0}, True),
        ("accuracy < 1", {"accuracy": 1.0}, False),
        ("accuracy >= 1", {"accuracy": 1.0}, True),
        ("drift_severity == 4", {"drift_severity": 4.0}, True),
        ("accuracy > 0", {"accuracy": 0.0}, False),
        ("rmse < 0", {"rmse": 1.0}, False),
        (" accuracy < 0.85 and drift_count > 5 ", {"accuracy": 0.8, "drift_count": 6.0}, True),
        ("accuracy < 0.85 and drift_count > 5", {"accuracy": 0.8, "drift_count": 5.0}, False),
        # What is not known decides nothing, and where the rest decides, it is not asked.
        ("accuracy < 0.85", {}, None),
        ("accuracy < 0.85", {"accuracy": None}, None),
        ("accuracy < 0.85", {"accuracy": math.nan}, None),
        ("not accuracy < 0.85", {}, None),
        ("accuracy < 0.85 and drift_count > 5", {"drift_count": 5.0}, False),
        ("accuracy < 0.85 and drift_count > 5", {"drift_count": 6.0}, None),
        ("accuracy < 0.85 or drift_count > 5", {"drift_count": 6.0}, True),
        ("accuracy < 0.85 or drift_count > 5", {"drift_count": 5.0}, None),
    ],
)
def test_what_a_condition_says(text: str, facts: dict[str, float | None], holds: bool | None) -> None:
    assert RuleCondition(text).holds(facts) is holds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("accuracy", "neither true nor false"),
        ("accuracy < 85", "column 1: 'accuracy < 85' always holds: accuracy is from 0 to 1"),
        ("outcomes > 9 and 1 < drift_p_value", "column 18: '1 < drift_p_value' never holds"),
        ("not accuracy_fall > 5", "'accuracy_fall > 5' never holds: accuracy_fall is from -1 to 1"),
        ("0 <= data_quality < 0.8", "'0 <= data_quality' always holds"),
        ("drift_severity == 5", "never holds"),
        ("drift_severity != -1", "always holds"),
        ("accuracy <= 1", "always holds"),
        ("accuracy < 0", "never holds"),
        ("1 < 2", "names no fact"),
        ("acuracy < 0.85", "did you mean 'accuracy'?"),
        ("accuracy < 0.85 and __import__('os').system('true') == 0", "column 21: .* is neither a fact nor a number"),
        ("(lambda: accuracy)() < 1", "neither a fact nor a number"),
        ("accuracy.real < 1", "neither a fact nor a number"),
        ("[accuracy][0] < 1", "neither a fact nor a number"),
        ("(accuracy := 1) < 2", "neither a fact nor a number"),
        ("accuracy < 'high'", "neither a fact nor a number"),
        ("accuracy < True", "neither a fact nor a number"),
        ("accuracy < 1e999", "neither a fact nor a number"),
        ("accuracy < " + "9" * 400, "neither a fact nor a number"),
        ("accuracy < 9**9**9", "neither a fact nor a number"),
        ("accuracy if accuracy else 1", "neither true nor false"),
        ("accuracy is 1", "compares facts with numbers"),
        ("accuracy in (1, 2)", "compares facts with numbers"),
        ("accuracy < 1or 2", "column"),
        ("accuracy < 1; 1", "column 13"),
        ("accuracy <", "column"),
        ("accuracy < 1\0", "can't be read|null bytes"),
        ("", "column 1"),
        ("not " * DEEPEST + "accuracy < 1", f"more than {DEEPEST}"),
        ("(" * 240 + "accuracy < 1" + ")" * 240, "column"),
        ("accuracy < 1 and " * 40 + "accuracy < 1", f"{LONGEST} at most"),
    ],
)
def test_what_is_no_condition_is_refused_with_place_and_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RuleCondition(text)


def test_the_deepest_and_the_longest_are_read() -> None:
    deep = "not " * (DEEPEST - 1) + "accuracy < 1"
    assert RuleCondition(deep).holds({"accuracy": 0.5}) is False
    long = "log_loss < 1 or " * 30
    assert RuleCondition(long + "log_loss < " + "1".ljust(LONGEST - len(long) - 11, "0")).names == ("log_loss",)
    assert RuleCondition("drift_count > 5 or accuracy < 1 or drift_count > 9").names == ("drift_count", "accuracy")


def rules(*rules: str) -> str:
    return START + "retrain:\n  triggers:\n    rules:\n" + "".join(f"      - {{{rule}}}\n" for rule in rules)


def test_a_rule_is_refused_in_its_file_with_the_line() -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml:7: retrain\.triggers\.rules\.0: .*did you mean 'accuracy'"):
        parse(rules("name: a, condition: acuracy < 1"), "c.yaml")
    with pytest.raises(ConfigError, match="can't go by rmse with `task: classification`"):
        parse(rules("name: a, condition: rmse > 1"))
    with pytest.raises(ConfigError, match="must have names, each once"):
        parse(rules("name: a, condition: accuracy < 1", "name: a, condition: accuracy < 0.5"))
    with pytest.raises(ConfigError, match="must have names, each once"):
        parse(rules("name: a b, condition: accuracy < 1", "name: a-b, condition: accuracy < 0.5"))
    with pytest.raises(ConfigError, match="must be letters, digits"):
        parse(rules("name: 'a:b', condition: accuracy < 1"))


@pytest.mark.parametrize(
    ("action", "mode"), [("retrain", "automatic"), ("investigate_and_retrain", "approve"), ("notify", "suggest")]
)
def test_an_action_says_what_a_rule_may_start(action: str, mode: str) -> None:
    (rule,) = parse(rules(f"name: a, condition: accuracy < 1, action: {action}")).retrain.triggers.rules
    assert rule.mode == mode


def test_every_fact_is_explained() -> None:
    assert all(len(about) > 3 for about in FACTS.values())
