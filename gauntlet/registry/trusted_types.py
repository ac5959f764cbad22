"""Types that a skops file may hold without being listed under `champion.trusted`, each with the reason.

The name of a type in a file is text of whoever wrote the file. It is looked up in a table made from the installed
libraries and never imported, so a file can't choose what is run. A trusted class may be called with any arguments (by
skops, or as the `func` of a FunctionTransformer) and given any state. Hence no package is trusted as a whole:
`numpy.memmap` writes files, and a distribution of scipy.stats executes a string of its state.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator

_ESTIMATOR = "scikit-learn estimator"
_PART = "part of a fitted scikit-learn estimator"
_SCORE = "score function of scikit-learn"
_DATA = "data without code"

_NOT_MODELS = {"utils", "externals", "datasets", "experimental", "tests"}
"""Subpackages of scikit-learn whose estimators serve tests, or fetch and run things."""

_PART_BASES = (
    "sklearn._loss.loss.BaseLoss",
    "sklearn._loss.link.BaseLink",
    "sklearn._loss._loss.CyLossFunction",
    "sklearn.gaussian_process.kernels.Kernel",
    "sklearn.metrics._scorer._BaseScorer",
    "sklearn.model_selection._split.BaseCrossValidator",
    "sklearn.model_selection._split.BaseShuffleSplit",
    "sklearn.neural_network._stochastic_optimizers.BaseOptimizer",
)
"""Base classes whose every subclass in scikit-learn holds numbers and names only."""

_PARTS = {
    "sklearn.tree._tree.Tree": _PART,
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor": _PART,
    "sklearn.metrics._scorer._PassthroughScorer": _PART,
    "sklearn.neighbors._kd_tree.KDTree": _PART,
    "sklearn.neighbors._ball_tree.BallTree": _PART,
    "sklearn.metrics._dist_metrics.EuclideanDistance64": _PART,
    "sklearn.metrics._dist_metrics.ManhattanDistance64": _PART,
    "sklearn.metrics._dist_metrics.ChebyshevDistance64": _PART,
    "sklearn.metrics._dist_metrics.MinkowskiDistance64": _PART,
    "sklearn.calibration._CalibratedClassifier": _PART,
    "sklearn.cluster._bisect_k_means._BisectingTree": _PART,
    "sklearn.compose._column_transformer.make_column_selector": _PART,
    "sklearn.impute._iterative._ImputerTriplet": _PART,
    "sklearn.utils._bunch.Bunch": _PART,
    "sklearn.utils._metadata_requests.MetadataRequest": _PART,
    "sklearn.utils._metadata_requests.MethodMetadataRequest": _PART,
    "gauntlet.markov.MarkovRegimes": "the regime model of this package: arrays only",
    "scipy.interpolate._bsplines.BSpline": "knots and coefficients of a SplineTransformer",
    "scipy._lib.array_api_compat.numpy._aliases.asarray": "copies an array; kept by scipy's BSpline",
    "scipy.sparse._csr.csr_matrix": _DATA,
    "scipy.sparse._csr.csr_array": _DATA,
    "scipy.sparse._csc.csc_matrix": _DATA,
    "scipy.sparse._csc.csc_array": _DATA,
    "collections.OrderedDict": _DATA,
    "numpy.dtype": _DATA,
    "numpy.number": _DATA,
    "builtins.object": _DATA,
    "numpy.mean": "the default of FeatureAgglomeration",
    "functools.partial": "binds arguments; the function itself has to be trusted too",
    "sklearn.utils.validation.check_array": "checks an array; in HistGradientBoosting with categories",
}
"""Names that are trusted one by one; those of compiled structures have their indices checked after loading."""

_SCORES = ("chi2", "f_classif", "f_regression", "r_regression", "mutual_info_classif", "mutual_info_regression")

_BOOSTING = {
    "xgboost": ("xgboost.sklearn", "xgboost.core.Booster"),
    "lightgbm": ("lightgbm.sklearn", "lightgbm.basic.Booster"),
}
"""The module of a library's estimators, and the type of its trees."""


def trusted(names: Iterable[str]) -> dict[str, str]:
    """The `names` (`module.type`) that need no entry under `champion.trusted`, with the reason of each."""
    names = sorted(names)
    table = dict(_scikit_learn()) if names else {}
    for package in _BOOSTING:
        if any(name.startswith(f"{package}.") for name in names) and importlib.util.find_spec(package) is not None:
            table |= _boosting(package)
    return {name: table[name] for name in names if name in table}


@functools.cache
def _scikit_learn() -> dict[str, str]:
    import skops.io  # noqa: F401 - imports every module of scikit-learn that has estimators
    from sklearn import feature_selection
    from sklearn.base import BaseEstimator
    from sklearn.metrics import get_scorer, get_scorer_names

    table = dict(_PARTS)
    for name in _PART_BASES:
        table |= dict.fromkeys(_names_below(_loaded(name), "sklearn"), _PART)
    table |= dict.fromkeys(
        (name for name in _names_below(BaseEstimator, "sklearn") if not _NOT_MODELS & set(name.split("."))), _ESTIMATOR
    )
    scores = [getattr(feature_selection, name) for name in _SCORES]
    scores += [get_scorer(name)._score_func for name in get_scorer_names()]
    return table | {f"{score.__module__}.{score.__name__}": _SCORE for score in scores}


@functools.cache
def _boosting(package: str) -> dict[str, str]:
    from sklearn.base import BaseEstimator

    estimators, trees = _BOOSTING[package]
    importlib.import_module(estimators)
    return {
        **dict.fromkeys(_names_below(BaseEstimator, estimators), f"{package} estimator"),
        trees: f"trees of {package}",
    }


def _loaded(name: str) -> type | None:
    """The type of that name in a module that is already imported; None where this release has none."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None)


def _names_below(base: type | None, package: str) -> Iterator[str]:
    """The names of all imported subclasses of `base` that `package` itself defines and that their names lead to."""
    subclasses: list[type] = base.__subclasses__() if base is not None else []
    for cls in subclasses:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name.startswith(f"{package}.") and _loaded(name) is cls:
            yield name
        yield from _names_below(cls, package)
