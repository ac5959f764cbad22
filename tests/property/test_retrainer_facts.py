"""The facts are one fold over the evaluator's events: exact after a restart anywhere, bounded, deaf to repetitions."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.events import Drift, DriftSignal, Health
from retrainer.triggers.facts import Facts, estimate, fold, learned

steps = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["health", "health", "open", "escalate", "close"]),
            "model": st.sampled_from(["v1", "v1", "v2"]),
            "episode": st.sampled_from(["a", "b"]),
            "wait": st.sampled_from([1.0, 10.0]),
            "outcomes": st.integers(0, 50),
            "accuracy": st.sampled_from([0.5, 0.75, 1.0]),
            "severity": st.sampled_from(["LOW", "MEDIUM", "HIGH", "CRITICAL"]),
            "statistic": st.sampled_from([0.16, 0.31]),
        }
    ),
    max_size=40,
)


def events(drawn: list[dict]) -> list[Health | Drift]:
    at, found = 0.0, []
    for number, one in enumerate(drawn):
        at += one["wait"]
        if one["kind"] == "health":
            found.append(
                Health(
                    id=f"h{number}",
                    at=at,
                    experiment="e",
                    model=one["model"],
                    outcomes=one["outcomes"],
                    metrics={"accuracy": one["accuracy"]},
                )
            )
            continue
        kinds = enumerate(("distribution", "categories", "regime", "r2"))
        raised = [DriftSignal(name=f"x{n}", statistic=one["statistic"], p_value=0.01, kind=kind) for n, kind in kinds]
        found.append(
            Drift(
                id=f"d{number}",
                at=at,
                experiment="e",
                episode=one["episode"],
                event=one["kind"],
                severity=one["severity"],
                confidence=0.9,
                root_cause="concept",
                action="retrain_recent",
                model=one["model"],
                rows=10,
                raised=raised,
            )
        )
    return found


def folded(found: list[Health | Drift], facts: Facts | None = None) -> Facts:
    facts = facts or Facts()
    for event in found:
        facts = fold(facts, event)
    return facts


@settings(max_examples=150, deadline=None)
@given(drawn=steps, at=st.integers(0, 40))
def test_a_restart_anywhere_changes_nothing(drawn: list[dict], at: int) -> None:
    found = events(drawn)
    saved = msgspec.json.encode(folded(found[:at]))
    assert folded(found[at:], msgspec.json.decode(saved, type=Facts)) == folded(found)


@settings(max_examples=150, deadline=None)
@given(drawn=steps)
def test_the_facts_are_what_the_events_say(drawn: list[dict]) -> None:
    found = events(drawn)
    facts = folded(found)
    blocks = [event for event in found if isinstance(event, Health)]
    assert sum(rows for _, rows in facts.labelled) == sum(event.outcomes for event in blocks)
    if found:
        present = found[-1].model
        own = facts.of(present)
        stay = [n for n, event in enumerate(found) if event.model != present]
        since = stay[-1] + 1 if stay else 0
        last = next((e for e in reversed(found[since:]) if isinstance(e, Drift)), None)
        if last is None:
            assert own.episode is None, "what was open before it left is forgotten"
        elif last.event != "close":
            assert own.episode is not None
            assert (own.episode.id, own.episode.severity, own.episode.features) == (last.episode, last.severity, 2)
            assert own.episode.statistic == own.episode.transition == own.episode.r2_fall == last.raised[0].statistic
        mine = [event for event in blocks if event.model == present]
        rows = sum(event.outcomes for event in mine)
        shown = estimate(own.blocks, "accuracy", 0.5)
        if rows:
            assert shown is not None
            assert abs(shown.value - sum(e.outcomes * e.metrics["accuracy"] for e in mine) / rows) < 1e-12
            assert learned(own, "accuracy", rows) is not None
        assert learned(own, "accuracy", rows + 1) is None


@settings(max_examples=100, deadline=None)
@given(drawn=steps)
def test_blocks_that_come_again_count_once(drawn: list[dict]) -> None:
    found = [event for event in events(drawn) if event.model == "v1"]
    again = folded([event for event in found for _ in range(2)])
    assert again.labelled == folded(found).labelled
    assert again.of("v1").blocks == folded(found).of("v1").blocks


def test_the_facts_stay_bounded() -> None:
    facts = Facts()
    for n in range(1500):
        event = Health(
            id=f"h{n}", at=float(n), experiment="e", model=f"v{n // 200}", outcomes=3, metrics={"accuracy": 0.9}
        )
        facts = fold(facts, event)
    assert sum(rows for _, rows in facts.labelled) == 4500, "none is lost, the oldest are told together"
    assert len(facts.labelled) <= 1000
    assert len(facts.champions) == 4
    assert all(len(own.blocks) <= 200 and len(own.first) <= 60 for own in facts.champions.values())
