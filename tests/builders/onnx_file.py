"""ONNX files of a logistic regression, written by hand: the few messages of the format that it takes (onnx.proto3)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression

_FLOAT, _INT = 1, 2
"""TensorProto.FLOAT; AttributeProto.INT."""


def matrix_model(model: LogisticRegression) -> bytes:
    """One input of a matrix; as converters write classifiers, a label's output stands before the probabilities."""
    width = model.coef_.shape[1]
    return _file(
        model,
        nodes=[_node("MatMul", ["x", "weights"], "score")],
        inputs=[_value("x", ["N", width])],
        outputs=[_value("margin", ["N", 2]), _value("probabilities", ["N", 2])],
    )


def column_model(model: LogisticRegression, names: Sequence[str]) -> bytes:
    """An input for each column."""
    return _file(
        model,
        nodes=[_node("Concat", names, "x", axis=1), _node("MatMul", ["x", "weights"], "score")],
        inputs=[_value(name, ["N", 1]) for name in names],
        outputs=[_value("probabilities", ["N", 2])],
    )


def _file(
    model: LogisticRegression, nodes: list[bytes], inputs: list[bytes], outputs: list[bytes], opset: int = 13
) -> bytes:
    weights = np.column_stack([np.zeros(model.coef_.shape[1]), model.coef_[0]])
    bias = np.array([0.0, model.intercept_[0]])
    nodes = [*nodes, _node("Add", ["score", "bias"], "margin"), _node("Softmax", ["margin"], "probabilities", axis=1)]
    graph = b"".join(
        [
            *(_message(1, node) for node in nodes),
            _message(2, b"logistic"),
            _message(5, _tensor("weights", weights)),
            _message(5, _tensor("bias", bias)),
            *(_message(11, value) for value in inputs),
            *(_message(12, value) for value in outputs),
        ]
    )
    return _number(1, 8) + _message(7, graph) + _message(8, _message(1, b"") + _number(2, opset))


def _node(kind: str, inputs: Sequence[str], output: str, axis: int | None = None) -> bytes:
    attribute = b"" if axis is None else _message(5, _message(1, b"axis") + _number(3, axis) + _number(20, _INT))
    names = b"".join(_message(1, name.encode()) for name in inputs)
    return names + _message(2, output.encode()) + _message(4, kind.encode()) + attribute


def _tensor(name: str, values: np.ndarray) -> bytes:
    sizes = b"".join(_number(1, size) for size in values.shape)
    data = struct.pack(f"<{values.size}f", *values.ravel())
    return sizes + _number(2, _FLOAT) + _message(8, name.encode()) + _message(9, data)


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    sizes = [_number(1, one) if isinstance(one, int) else _message(2, one.encode()) for one in shape]
    kind = _number(1, _FLOAT) + _message(2, b"".join(_message(1, size) for size in sizes))
    return _message(1, name.encode()) + _message(2, _message(1, kind))


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
