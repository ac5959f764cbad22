"""A PyTorch module as a model: a matrix of the configured features in, probabilities or numbers out.

A trainer returns `TorchModel(module)`; a file holds a whole module (`.pt`, `.pth`) or an exported program (`.pt2`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import ModelUnusable
from gauntlet.registry.plain_numbers import PlainNumbers


class TorchModel(PlainNumbers):
    """`module` takes a float32 tensor of shape (rows, features)."""

    def __init__(self, module: Any) -> None:
        self.module = module

    @classmethod
    def load(cls, path: Path) -> TorchModel:
        """The model in a file that was allowed by name. Raises `ModelUnusable` for one that has no module."""
        import torch

        if path.suffix == ".pt2":
            return cls(torch.export.load(path).module())
        found = torch.load(path, map_location="cpu", weights_only=False)  # allowed by name
        if isinstance(found, Mapping):
            remedy = "save the whole module, or  torch.export.save(torch.export.export(module, (rows,)), 'model.pt2')"
            raise ModelUnusable(f"model {path}: it holds weights and no module: {remedy}", code="model_format")
        return cls(found.eval())

    def numbers(self, rows: Any) -> NDArray[Any]:
        import torch

        with torch.inference_mode():
            found = self.module(torch.as_tensor(np.array(rows, dtype=np.float32)))
        return np.asarray(found.cpu().numpy())
