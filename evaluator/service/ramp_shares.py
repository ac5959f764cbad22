"""Thompson allocation: each challenger's part of the ramp's traffic, from looks taken at the same time. Pure.

Posteriors are the paired effects against the champion with their cluster-robust errors, so they are valid whatever the
shares were. Invariant: a share is a function of matured outcomes, so the propensities of later requests depend on
the past alone; nothing is drawn at random.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from evaluator.service.block_sums import RolloutSums
from evaluator.service.design import EvaluationDesign
from evaluator.stats import NoAnswer
from evaluator.stats.thompson import Contrast, contrast_allocation
from gauntlet.config import ThompsonConfig
from gauntlet.events import Evaluation
from gauntlet.types import CHALLENGER


def with_ramp_shares(
    looks: Sequence[Evaluation], rollouts: Mapping[str, RolloutSums], design: EvaluationDesign, settings: ThompsonConfig
) -> list[Evaluation]:
    """The looks in their order, those of challengers on the ramp with their part of its traffic."""
    if not settings.enabled:
        return list(looks)
    shares: dict[str, float] = {}
    for together in _on_ramp(looks, rollouts, design):
        contrasts = [
            Contrast(look.pairs, look.effect, look.standard_error)
            for look in together
            if look.effect is not None and look.standard_error is not None
        ]
        found = contrast_allocation(contrasts, floor=settings.floor, burn_in=settings.burn_in)
        if not isinstance(found, NoAnswer):
            shares |= {look.id: share for look, share in zip(together, found.shares[1:], strict=True)}
    return [msgspec.structs.replace(look, ramp_share=shares.get(look.id)) for look in looks]


def _on_ramp(
    looks: Sequence[Evaluation], rollouts: Mapping[str, RolloutSums], design: EvaluationDesign
) -> list[list[Evaluation]]:
    """The looks of each time whose challengers run, by the latest block with traffic, and serve, by those of a day (or
    a large block) before it."""
    latest: dict[float, int] = {}
    serving: dict[float, list[tuple[int, Evaluation]]] = defaultdict(list)
    for look in looks:
        known = design.last_closed(design.looked_block(look.at))
        blocks = {index: block.exposures for index, block in rollouts[look.rollout].blocks.items() if index <= known}
        blocks = {index: exposures for index, exposures in blocks.items() if any(exposures.values())}
        last = max(blocks, default=None)
        if last is None:
            continue
        latest[look.at] = max(latest.get(look.at, last), last)
        if look.standard_error and any(
            n[CHALLENGER] for i, n in blocks.items() if i > last - design.harm_blocks_per_block
        ):
            serving[look.at].append((last, look))
    found = [[look for last, look in some if last == latest[at]] for at, some in serving.items()]
    return [together for together in found if together]
