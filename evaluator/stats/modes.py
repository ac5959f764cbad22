"""Decision modes that users know by name, as monitors of one side: mSPRT, Wald's SPRT and the fixed horizon.

Invariant: the one of `monitor`: P(p ≤ u) ≤ u under no effect for every u whenever one stops, and p ≤ alpha exactly when
z has exceeded its bound at some look. The win side gets z, the harm side −z and a level of its own.

S = z √V is the score, V its variance, I = t · horizon its information, so that an effect δ moves S by δ I. What is
stated in units of the effect becomes a slope λ = δ I / V of S on the scale of V, and exp(λS − λ²V/2) is at most 1 on
average at any stopping time under no effect (at λ fixed by the past). For a null moved by a margin the effect is
counted from that null.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from evaluator.stats.errors import PlanError
from evaluator.stats.normal_mixture import log_mixture, mixture_bound
from evaluator.stats.score_process import Floats

Bools = NDArray[np.bool_]

# Wald's slope is set anew whenever the information has grown by this factor: the variance known at the first look may
# rest on five blocks, and a slope twice too steep can never win.
_LEG: Final = 2.0


def _setting(name: str, value: Floats | float, cells: int) -> Floats:
    """A number above 0 for each cell. Raises PlanError for anything else."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (cells,)) or not bool(np.all(np.isfinite(array) & (array > 0.0))):
        raise PlanError(f"the {name} {value!r} is not a finite number above 0 for each of {cells} cells")
    return np.broadcast_to(array, (cells,)).copy()


def _level(name: str, value: float, most: float) -> float:
    if not 0.0 < value < most:
        raise PlanError(f"the {name} {value!r} does not lie strictly between 0 and {most:g}")
    return value


def _agreed(p: Floats, before: Floats, crossed: Bools, alpha: float) -> Floats:
    """p that is at most alpha exactly where a bound has been crossed, now or before: rounding must not part them."""
    p = np.where(crossed, np.minimum(p, alpha), p)
    return np.where(~crossed & (before > alpha), np.maximum(p, math.nextafter(alpha, 1.0)), p)


def _listed(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _floats(values: list[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class MixtureSPRT:
    """The mixture sequential probability ratio test of Johari, Pekelis & Walsh (2015; 2022, "Always valid inference"),
    one-sided.

    Theirs mixes the likelihood ratio over effects N(0, τ²): with θ̂ = S/I of variance σ² = V/I²,
        Λ = √(σ²/(σ²+τ²)) exp(θ̂² τ² / (2 σ² (σ²+τ²))) = √(ρ/(V+ρ)) exp(S² / (2(V+ρ))),  ρ = (V/I)² / τ².
    A side mixes over the half of that normal which lies in its direction: Λ₊ = 2 Φ(S/√(V+ρ)) Λ. Each side keeps its
    level exactly, and twice the smaller p of both sides is theirs, 1/Λ, over Φ(|S|/√(V+ρ)), which is hardly under 1
    where anything is decided. ρ is fixed at a cell's first look, from the V/I known then: only its efficiency, not the
    level, depends on that.

    τ is the standard deviation of the effects one hopes for; the smallest effect worth having is a good τ (the bound is
    then nearly tightest when that effect is found).
    """

    alpha: float
    tau: Floats
    horizon: Floats
    rho: Floats  # nan before the first look
    p: Floats

    @classmethod
    def start(cls, alpha: float, cells: int = 1, *, tau: Floats | float, horizon: Floats | float) -> Self:
        """Before the first look. tau in units of the effect, horizon in units of I at t = 1; one, or one a cell."""
        _level("level", alpha, 0.5)
        tau, horizon = _setting("effect size", tau, cells), _setting("horizon", horizon, cells)
        return cls(alpha, tau, horizon, np.full(cells, np.nan), np.ones(cells))

    @property
    def spent(self) -> Floats:
        """All of alpha is at stake from the first look on."""
        return np.where(np.isnan(self.rho), 0.0, self.alpha)

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        v, z = np.where(ready, variance, 1.0), np.where(ready, z, 0.0)
        ratio = v / np.where(ready, t * self.horizon, 1.0)
        rho = np.where(ready & np.isnan(self.rho), (ratio / self.tau) ** 2, self.rho)
        r = np.where(ready, rho, 1.0)
        bounds = np.where(ready, mixture_bound(v, self.alpha, r) / np.sqrt(v), np.inf)
        evidence = np.where(ready, log_mixture(z * np.sqrt(v), v, r), 0.0)
        p = np.minimum(self.p, np.exp(-np.maximum(evidence, 0.0)))
        return bounds, replace(self, rho=rho, p=_agreed(p, self.p, ready & (z >= bounds), self.alpha))

    def to_dict(self) -> dict[str, Any]:
        return {"rho": _listed(self.rho), "p": self.p.tolist()}

    @classmethod
    def from_dict(cls, alpha: float, data: dict[str, Any], *, tau: Floats | float, horizon: Floats | float) -> Self:
        fresh = cls.start(alpha, len(data["p"]), tau=tau, horizon=horizon)
        return replace(fresh, rho=_floats(data["rho"]), p=_floats(data["p"]))


@dataclass(frozen=True, eq=False)
class WaldSPRT:
    """Wald's (1945) sequential probability ratio test of "no effect" against one stated effect δ > 0.

    The log likelihood ratio of a drift δI in S of variance V is λS − λ²V/2 with λ = δI/V. V/I is an estimate and may
    move with the traffic, so λ is set at the first look and again each time the information has doubled; the legs
    between add up. The null is rejected at 1/α, the alternative (`accepted`) once the ratio for it,
    −λ(S − δI) − λ²V/2 over the same legs, reaches 1/β. With V/I constant both are Wald's, with the thresholds 1/α and β
    of which he showed that they keep the errors under α and β (his (1−β)/α and β/(1−α) only keep them about there).

    accepted: cells in which an effect of δ or more is ruled out with error at most β: a test may end there without a
    winner. It stays; the other bound goes on standing, and p stays valid.

    Limits that are made by inverting this bound rule an effect in or out exactly at the null, and elsewhere as far as
    V/I kept still.
    """

    alpha: float
    beta: float
    effect: Floats
    horizon: Floats
    slope: Floats  # λ of the leg that runs; nan before the first look
    legs: Floats  # shape (5, cells): S, V, I at the start of the leg, log evidence for and against δ of the legs before
    p: Floats
    accepted: Bools

    @classmethod
    def start(
        cls, alpha: float, cells: int = 1, *, effect: Floats | float, beta: float, horizon: Floats | float
    ) -> Self:
        """Before the first look. effect: δ > 0 in the side's direction; horizon: I at t = 1; one, or one a cell."""
        _level("level", alpha, 0.5)
        _level("error beta", beta, 1.0)
        effect, horizon = _setting("effect", effect, cells), _setting("horizon", horizon, cells)
        none = np.full(cells, np.nan)
        return cls(
            alpha, beta, effect, horizon, none, np.zeros((5, cells)), np.ones(cells), np.zeros(cells, dtype=np.bool_)
        )

    @property
    def spent(self) -> Floats:
        """All of alpha is at stake from the first look on."""
        return np.where(np.isnan(self.slope), 0.0, self.alpha)

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        v, z = np.where(ready, variance, 1.0), np.where(ready, z, 0.0)
        information = np.where(ready, t * self.horizon, 1.0)
        s, next_slope = z * np.sqrt(v), self.effect * information / v
        slope = np.where(ready & np.isnan(self.slope), next_slope, self.slope)
        s0, v0, i0, before, against = self.legs
        step, half = np.where(ready, slope, 1.0), 0.5 * np.where(ready, slope, 0.0) * np.maximum(v - v0, 0.0)
        evidence = before + step * (s - s0 - half)
        refuted = against - step * (s - s0 - self.effect * (information - i0) + half)
        needed = s0 + half + (math.log(1.0 / self.alpha) - before) / step
        # A leg so good that even S < 0 would do has crossed before; limits ask for bounds of at least 0.
        bounds = np.where(ready, np.maximum(needed / np.sqrt(v), 0.0), np.inf)
        p = np.minimum(self.p, np.exp(-np.maximum(np.where(ready, evidence, 0.0), 0.0)))
        turn = ready & ((i0 == 0.0) | (information >= _LEG * i0))
        legs = np.where(turn, np.stack([s, v, information, evidence, refuted]), self.legs)
        return bounds, replace(
            self,
            slope=np.where(turn, next_slope, slope),
            legs=legs,
            p=_agreed(p, self.p, ready & (z >= bounds), self.alpha),
            accepted=self.accepted | (ready & (refuted >= math.log(1.0 / self.beta))),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "slope": _listed(self.slope),
            "legs": self.legs.tolist(),
            "p": self.p.tolist(),
            "accepted": self.accepted.tolist(),
        }

    @classmethod
    def from_dict(
        cls, alpha: float, data: dict[str, Any], *, effect: Floats | float, beta: float, horizon: Floats | float
    ) -> Self:
        fresh = cls.start(alpha, len(data["p"]), effect=effect, beta=beta, horizon=horizon)
        return replace(
            fresh,
            slope=_floats(data["slope"]),
            legs=np.array(data["legs"], dtype=np.float64),
            p=_floats(data["p"]),
            accepted=np.array(data["accepted"], dtype=np.bool_),
        )


@dataclass(frozen=True, eq=False)
class FixedHorizon:
    """The classical test: a cell's first look at t ≥ 1 decides at z_{1−α}, and nothing before or after it does.

    p is 1 until then and stays as it is from then on, so looking on costs nothing and wins nothing.
    """

    alpha: float
    p: Floats
    done: Bools

    @classmethod
    def start(cls, alpha: float, cells: int = 1) -> Self:
        _level("level", alpha, 0.5)
        return cls(alpha, np.ones(cells), np.zeros(cells, dtype=np.bool_))

    @property
    def spent(self) -> Floats:
        return np.where(self.done, self.alpha, 0.0)

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        now = ready & ~self.done & (t >= 1.0)
        bounds = np.where(now, -ndtri(self.alpha), np.inf)
        p = np.where(now, ndtr(-np.where(now, z, 0.0)), self.p)
        return bounds, replace(self, p=_agreed(p, self.p, now & (z >= bounds), self.alpha), done=self.done | now)

    def to_dict(self) -> dict[str, Any]:
        return {"p": self.p.tolist(), "done": self.done.tolist()}

    @classmethod
    def from_dict(cls, alpha: float, data: dict[str, Any]) -> Self:
        return replace(cls.start(alpha, len(data["p"])), p=_floats(data["p"]), done=np.array(data["done"], dtype=bool))
