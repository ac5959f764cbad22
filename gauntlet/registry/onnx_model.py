"""A model in an ONNX file, by ONNX Runtime: rows go into the inputs that the file declares, numbers come out.

A file with one input of two dimensions takes a matrix, in the order of the configured features; one with several
inputs takes a column by each, and names them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import ModelUnusable
from gauntlet.registry.plain_numbers import PlainNumbers

_TYPES: dict[str, type] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
_NUMBERS = ("tensor(float)", "tensor(double)")


class OnnxModel(PlainNumbers):
    """Loaded from the bytes of a file, so that nothing beside it is read. Raises `ModelUnusable`."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # requests come side by side
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        self._inputs = self._session.get_inputs()
        unknown = sorted({one.type for one in self._inputs} - _TYPES.keys())
        if unknown:
            raise ModelUnusable(f"model {path}: its inputs are {', '.join(unknown)}, which rows can't be")
        self._output = _output(self._session.get_outputs(), path)
        if len(self._inputs) > 1:
            self.feature_names_in_ = [one.name for one in self._inputs]
        elif len(shape := self._inputs[0].shape) == 2 and isinstance(shape[1], int):
            self.n_features_in_ = shape[1]

    def numbers(self, rows: Any) -> NDArray[Any]:
        if len(self._inputs) == 1:
            (only,) = self._inputs
            given: dict[str, NDArray[Any]] = {only.name: np.asarray(rows, dtype=_TYPES[only.type])}
        else:
            given = {
                one.name: np.asarray(rows[one.name].to_numpy(), dtype=_TYPES[one.type]).reshape(-1, 1)
                for one in self._inputs
            }
        (found,) = self._session.run([self._output], given)
        return np.asarray(found)


def _output(outputs: list[Any], path: Path) -> str:
    """The name of the output that has the probabilities, or the numbers. Raises `ModelUnusable`."""
    numbers = [one.name for one in outputs if one.type in _NUMBERS]
    if not numbers:
        given = ", ".join(f"{one.name} ({one.type})" for one in outputs)
        remedy = "convert it with the option zipmap=False"
        raise ModelUnusable(f"model {path}: no output is a tensor of numbers, but {given}: {remedy}")
    named = [name for name in numbers if "prob" in name.lower()]
    return str((named or numbers)[-1])
