"""Checks of a loaded model's content, which skops does not audit: it audits types.

scikit-learn and scipy follow the indices of compiled parts without bounds checks, so a crafted file of harmless types
could make a prediction read or write outside of its arrays. And an estimator with `memory` loads pickles from that
folder when it is fitted again. Invariant: every tree belongs to an estimator that bounds its features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from sklearn.base import BaseEstimator
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.metrics._dist_metrics import MinkowskiDistance64
from sklearn.neighbors import BallTree, KDTree
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

from gauntlet.errors import ModelUnusable


def check_indices(model: object) -> None:
    """Raises ValueError or AttributeError for a compiled part that is damaged."""
    _visit(model, _check)


def refuse_memory(model: object, path: Path) -> None:
    """Raises ModelUnusable for an estimator with a cache: joblib would load pickles from its folder at the next fit."""

    def check(value: object) -> Collection[str]:
        if isinstance(value, BaseEstimator) and getattr(value, "memory", None) is not None:
            raise ModelUnusable(
                f"model {path}: its {type(value).__name__} has memory={value.memory!r}, a folder whose pickles would "
                "be loaded when the model is fitted again; save the model anew with memory=None in that estimator",
                code="model_untrusted",
            )
        return ()

    _visit(model, check)


def _visit(model: object, check: Callable[[object], Collection[str]]) -> None:
    """Check every object that `model` holds, except below the attributes that `check` returns for their owner."""
    seen: dict[int, object] = {}
    stack = [model]
    while stack:
        value = stack.pop()
        if id(value) not in seen:
            seen[id(value)] = value  # kept alive, so that no later object gets its id
            stack += _held(value, checked=check(value))


def _held(value: Any, checked: Collection[str]) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple | set):
        yield from value
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, np.ndarray):
        yield from value.flat if value.dtype == object else ()
    yield from (held for name, held in getattr(value, "__dict__", {}).items() if name not in checked)


def _check(value: Any) -> Collection[str]:
    """Check one object; returns the attributes that need no look of their own."""
    if isinstance(value, BaseDecisionTree) and hasattr(value, "tree_"):
        _check_tree(value.tree_, value.n_features_in_)
        return ("tree_",)
    if isinstance(value, BaseHistGradientBoosting) and hasattr(value, "_predictors"):
        categorical = np.asarray(value._bin_mapper.is_categorical_, dtype=bool)
        _require(categorical.shape == (value.n_features_in_,), "the features of a histogram")
        for predictor in (one for step in value._predictors for one in step):
            _check_predictor(predictor, categorical)
        return ("_predictors",)
    if isinstance(value, BaseForest | BaseGradientBoosting) and hasattr(value, "estimators_"):
        # These hand rows to their trees unchecked, whatever width a tree itself was fitted with.
        trees = np.array(value.estimators_, dtype=object)
        if isinstance(value, BaseGradientBoosting):
            _require(trees.ndim == 2 and trees.shape[1] == value.n_trees_per_iteration_, "the trees of a boosting step")
        for tree in trees.flat:
            _check_tree(tree.tree_, value.n_features_in_)
    elif isinstance(value, Tree | TreePredictor):
        _require(False, "a tree outside of an estimator")
    elif isinstance(value, KDTree | BallTree):
        _check_neighbors(value, bounds=2 if isinstance(value, KDTree) else 1)
    elif isinstance(value, MinkowskiDistance64):
        _require(_weights(value) == 0, "the weights of a metric")
    elif isinstance(value, BSpline):
        _require(
            value.t.ndim == 1 and 0 <= value.k < len(value.t) <= len(value.c) + value.k + 1, "the knots of a spline"
        )
    elif isinstance(value, scipy.sparse.spmatrix | scipy.sparse.sparray) and hasattr(value, "check_format"):
        value.check_format(full_check=True)
    return ()


def _check_tree(tree: Any, features: int) -> None:
    """Children come after their parent, within the tree; so every path ends. A leaf has no left child (-1)."""
    _require(isinstance(tree, Tree) and 1 <= tree.node_count <= tree.capacity, "the size of a tree")
    _check_nodes(tree.children_left != -1, tree.children_left, tree.children_right, tree.feature, features)


def _check_predictor(predictor: Any, categorical: NDArray[np.bool_]) -> None:
    _require(isinstance(predictor, TreePredictor) and len(predictor.nodes) > 0, "the size of a tree")
    nodes = predictor.nodes
    inner = nodes["is_leaf"] == 0
    _check_nodes(inner, nodes["left"], nodes["right"], nodes["feature_idx"], len(categorical))
    split = nodes[inner & (nodes["is_categorical"] != 0)]
    bitsets = predictor.raw_left_cat_bitsets
    whole = bitsets.ndim == 2 and bitsets.shape[1] == 8 and (split["bitset_idx"] < len(bitsets)).all()
    _require(bool(whole and categorical[split["feature_idx"]].all()), "the categories of a tree")


def _check_nodes(
    inner: NDArray[np.bool_], left: NDArray[Any], right: NDArray[Any], feature: NDArray[Any], features: int
) -> None:
    for child in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        _require(bool(((child > np.flatnonzero(inner)) & (child < len(inner))).all()), "the children of a tree's node")
    _require(bool(((feature[inner] >= 0) & (feature[inner] < features)).all()), "the features of a tree's node")


def _check_neighbors(tree: KDTree | BallTree, bounds: int) -> None:
    data, index, nodes, node_bounds = map(np.asarray, tree.get_arrays())
    _require(index.shape == (len(data),) and bool(((index >= 0) & (index < len(data))).all()), "the rows of a k-d tree")
    inside = (nodes["idx_start"] >= 0) & (nodes["idx_start"] <= nodes["idx_end"]) & (nodes["idx_end"] <= len(data))
    _require(len(nodes) > 0 and bool(inside.all()), "the rows of a k-d tree")
    last = np.flatnonzero(nodes["is_leaf"] == 0).max(initial=-1)
    _require(2 * last + 2 < len(nodes) or last < 0, "the nodes of a k-d tree")
    weighted = [_weights(part) for part in tree.__getstate__() if isinstance(part, MinkowskiDistance64)]
    _require(set(weighted) <= {0, data.shape[1]}, "the weights of a k-d tree's metric")
    _require(node_bounds.shape == (bounds, len(nodes), data.shape[1]), "the bounds of a k-d tree")


def _weights(metric: MinkowskiDistance64) -> int:
    return len(metric.__getstate__()[1])


def _require(condition: bool, part: str) -> None:
    if not condition:
        raise ValueError(f"{part} can't be right: the file is damaged or crafted")
