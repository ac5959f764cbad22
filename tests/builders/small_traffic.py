"""Traffic of the small experiment with its own clock, as fast as the services take it."""

from __future__ import annotations

import httpx
import numpy as np

from builders.small_experiment import FEATURES

START = 1_700_006_400.0
ENOUGH = 8000


class Traffic:
    """Requests a minute apart, and their outcomes half an hour later; what the weights 1.5, -1, .5 say is the truth."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._rng = np.random.default_rng(5)
        self._sent = 0
        self._enough = ENOUGH

    def as_much_again(self) -> None:
        """For the next question."""
        self._enough = self._sent + ENOUGH

    async def more(self) -> None:
        """A little more, up to what is enough for any answer: from then on only the services have to work."""
        if self._sent < self._enough:
            await self.send(120)

    async def send(self, n: int) -> None:
        x = self._rng.normal(size=(n, 3)).round(6)
        labels = (self._rng.random(n) < 1 / (1 + np.exp(-x @ np.array([1.5, -1.0, 0.5])))).astype(int)
        numbers = range(self._sent, self._sent + n)
        times = {i: START + 60.0 * i for i in numbers}
        instances = [
            {"features": dict(zip(FEATURES, row.tolist(), strict=True)), "id": f"p-{i:06d}", "at": times[i]}
            for i, row in zip(numbers, x, strict=True)
        ]
        answer = await self._client.post("/v1/predict", json={"instances": instances})
        assert answer.status_code == 200, answer.text
        outcomes = [
            {"id": f"p-{i:06d}", "value": int(label), "at": times[i] + 1800.0}
            for i, label in zip(numbers, labels, strict=True)
        ]
        answer = await self._client.post("/v1/outcomes", json={"outcomes": outcomes})
        assert answer.status_code < 300, answer.text
        self._sent += n
