"""PyTorch itself, where it is installed (it has five gigabytes, so it is in no lock): the page's trainer in a job, and
its files in a comparison."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import retraining_data
from builders.retraining_jobs import order, run

from gauntlet import adapters
from gauntlet.cli import main

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'gauntlet-ml[torch]'")

PAGE = (Path(__file__).parents[2] / "docs" / "retraining.md").read_text(encoding="utf-8")


def perceptron(width: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(width, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2), torch.nn.Softmax(dim=1)
    )


async def test_the_pages_trainer_makes_a_challenger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [text for text in re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL) if "TorchModel" in text]
    (tmp_path / "churn_torch.py").write_text(block.replace('("age", "income")', str(retraining_data.NAMES)))
    monkeypatch.syspath_prepend(str(tmp_path))
    config = retraining_data.configuration(tmp_path, trainer="churn_torch:train")
    answer = await run(await order(config, await retraining_data.lay(config)))
    assert answer.version == "v0002", answer
    rows = [dict.fromkeys(retraining_data.NAMES, 0.5)] * 2
    loaded = adapters.registry(config).load("v0002")
    assert loaded.valid(loaded.predict(rows)).all()
    assert loaded.schema.input == "matrix"


def test_its_files_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(3000, 2)), columns=["a", "b"])
    rows["y"] = (rows.a - rows.b + rng.normal(size=3000) > 0) * 1
    rows.to_csv("test.csv", index=False)
    x = torch.tensor(rows[["a", "b"]].to_numpy(), dtype=torch.float32)
    old, new = perceptron(2), perceptron(2)
    optimiser = torch.optim.Adam(new.parameters(), lr=0.05)
    for _ in range(100):
        loss = torch.nn.functional.nll_loss(torch.log(new(x)), torch.tensor(rows.y.to_numpy()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.save(old.eval(), "old.pt")
    rows_of_any_number = {0: torch.export.Dim("rows")}
    torch.export.save(torch.export.export(new.eval(), (x[:4],), dynamic_shapes=(rows_of_any_number,)), "new.pt2")
    words = ["--baseline", "old.pt", "--candidate", "new.pt2", "--test-data", "test.csv", "--target", "y"]
    more = ["--features", "a", "b", "--classes", "0", "1", "--allow-pickle", "--no-latency", "--output", "report.json"]
    assert main(["compare", *words, *more]) in (0, 3)
    assert json.loads(Path("report.json").read_text())["metrics"]["auc"]["lower"] > 0.1
    torch.save(new.state_dict(), "weights.pt")
    assert main(["compare", *["weights.pt" if word == "new.pt2" else word for word in words], *more]) == 2
