"""Multilayer perceptrons as scikit-learn estimators, for its pipelines, searches and cross-validation.

They need scikit-learn: `pip install 'graphc[sklearn]'`. Parameters and attributes have the names, meanings and defaults
of sklearn.neural_network; training and prediction are compiled functions of this package.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("graphc.estimators needs scikit-learn 1.6 or later: pip install 'graphc[sklearn]'") from error

from graphc import functional, nn, optim
from graphc.data import DataLoader, TensorDataset
from graphc.function import Function
from graphc.settings import is_number, is_whole, require
from graphc.step import predict_step, train_step
from graphc.tensor import Scalar, Tensor, dim, f32, f64, i64
from graphc.train import EarlyStopping, fit, predict

Array = np.ndarray[Any, Any]

ACTIVATIONS = {"identity": nn.Identity, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
SOLVERS = ("adam", "sgd")
ROWS = 1024  # in one call of a compiled function, unless batch_size is larger
SMALL_BATCH = 200  # what batch_size="auto" is at most


@dataclass(frozen=True)
class Layout:
    """What the compiled functions of an estimator depend on.

    sizes  of the layers: features, hidden ones, outputs
    rows   in one call at most
    """

    sizes: tuple[int, ...]
    activation: str
    solver: str
    momentum: float
    rows: int
    classifies: bool
    wide: bool


class Network:
    """The layers of an estimator with the functions that train and apply them, compiled when first used."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.dtype = f64 if layout.wide else f32
        layers: list[nn.Module] = []
        for inputs, outputs in zip(layout.sizes, layout.sizes[1:], strict=False):
            layers += [nn.Linear(inputs, outputs, dtype=self.dtype), ACTIVATIONS[layout.activation]()]
        self.module = nn.Sequential(*layers[:-1])
        parameters = list(self.module.parameters())
        self.weights, self.biases = parameters[::2], parameters[1::2]
        self.alpha = Scalar("alpha", 0.0, self.dtype)
        self.optimizer: optim.Optimizer = optim.Adam(parameters)
        if layout.solver == "sgd":
            self.optimizer = optim.SGD(parameters, momentum=layout.momentum, nesterov=layout.momentum > 0)

    def initialise(self, random: np.random.RandomState) -> None:
        """Evenly from ±sqrt(6 / (inputs + outputs)), with 2 for 6 where the activation is logistic."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            limit = np.sqrt((2 if self.layout.activation == "logistic" else 6) / sum(weight.shape))
            for parameter in (weight, bias):  # drawn as [in, out], so that equal seeds give scikit-learn's numbers
                parameter.copy_(random.uniform(-limit, limit, parameter.shape[::-1]).T)

    @cached_property
    def train(self) -> Function:
        rows = dim("batch", max=self.layout.rows)
        target = i64[rows] if self.layout.classifies else self.dtype[rows, self.layout.sizes[-1]]
        return train_step(self.module, self.loss, self.optimizer, x=self.dtype[rows, self.layout.sizes[0]], y=target)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Of a batch: cross entropy, or half the squared error, and the L2 penalty divided by its rows."""
        classifies = self.layout.classifies
        error = functional.cross_entropy(output, target) if classifies else functional.mse_loss(output, target) / 2
        for weight in self.weights:
            error = error + (weight**2).sum() * self.alpha / 2 / output.shape[0]
        return error

    @cached_property
    def apply(self) -> Function:
        """Rows to probabilities of the classes, or to the targets of a regression."""
        rows = dim("batch", max=self.layout.rows)
        scores = nn.Sequential(self.module, nn.Softmax(-1)) if self.layout.classifies else self.module
        return predict_step(scores, x=self.dtype[rows, self.layout.sizes[0]])

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (self.layout, self.module.state_dict(), self.optimizer.state_dict())


def restore(layout: Layout, weights: dict[str, Array], slots: dict[str, Array]) -> Network:
    network = Network(layout)
    network.module.load_state_dict(weights)
    network.optimizer.load_state_dict(slots)
    return network


class ScoreStopping(EarlyStopping):
    """Stop when a score no longer rises; keeps all scores, and the weights of the best."""

    def __init__(self, score: Callable[[], float], module: nn.Module, patience: int, min_delta: float) -> None:
        super().__init__("score", patience, min_delta, mode="max")
        self.score, self.module = score, module
        self.scores: list[float] = []
        self.weights = module.state_dict()

    def after_epoch(self, epoch: int, row: Any) -> bool:
        self.scores.append(self.score())
        stop = super().after_epoch(epoch, {"score": self.scores[-1]})
        if self.waited == 0:
            self.weights = self.module.state_dict()
        return stop


class MultilayerPerceptron(BaseEstimator, ABC):  # type: ignore[misc]
    """What the classifier and the regressor share.

    hidden_layer_sizes   units of the hidden layers; () for none
    activation           of the hidden layers: "relu", "tanh", "logistic" or "identity"
    solver               "adam", or "sgd" with Nesterov's momentum
    alpha                strength of the L2 penalty: alpha / 2 times the squared weights, divided by the rows of a batch
    batch_size           rows of a batch; "auto" is 200, or all samples where there are fewer
    learning_rate_init   of the solver, the same in all epochs
    max_iter             epochs at most
    shuffle              take the samples in another random order in every epoch
    random_state         int, RandomState or None: initial weights, orders and the held-out samples follow from it
    tol                  an epoch counts as better when it is so by more than this
    n_iter_no_change     epochs without a better one that end the training
    early_stopping       watch the score of held-out samples instead of the loss, and keep the best weights
    validation_fraction  share of the samples that are held out then
    momentum             of "sgd"
    warm_start           `fit` goes on from the weights it finds
    verbose              print a line an epoch

    Fitted, it has n_features_in_, n_iter_, n_outputs_, loss_, loss_curve_, coefs_ and intercepts_ (copies; one of each
    for a layer, weights [in, out]), module_ (the layers), and with early_stopping validation_scores_. Numbers are f32
    for float32 samples and f64 for all others.
    """

    classifies: bool

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        momentum: float = 0.9,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.momentum = momentum
        self.warm_start = warm_start
        self.verbose = verbose

    # -- training

    def fit(self, X: Any, y: Any) -> Self:
        """Train on samples X [n, features] and targets y.

        Raises ValueError for settings and data that make no sense, NumericsError when the loss is no longer finite;
        warns with ConvergenceWarning when the last epochs still made it better.
        """
        if not self._train(X, y, self.max_iter, self.warm_start):
            warnings.warn(f"not converged after {self.max_iter} epochs (max_iter)", ConvergenceWarning, stacklevel=2)
        return self

    def _partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        if self.early_stopping:
            raise ValueError("early_stopping is True; partial_fit has no samples to hold out")
        self._train(X, y, 1, True, classes)
        return self

    def _train(self, X: Any, y: Any, epochs: int, goes_on: bool, classes: Any = None) -> bool:
        """Some epochs; returns whether the last of them made nothing better."""
        self._check_settings()
        fresh = not goes_on or not hasattr(self, "_network")
        samples, targets = self._read(X, y, fresh, classes)
        if fresh:
            self._start(samples)
        if self._layout(samples) != self._network.layout:
            raise ValueError("layers, solver, momentum or batch_size differ from the earlier fit; set warm_start=False")
        return self._run_epochs(samples, targets, epochs)

    def _start(self, samples: Array) -> None:
        self._random = check_random_state(self.random_state)
        self._network = Network(self._layout(samples))
        self._network.initialise(self._random)
        self.loss_curve_: list[float] = []
        self.n_iter_ = 0

    def _run_epochs(self, samples: Array, targets: Array, epochs: int) -> bool:
        network, stopping = self._network, EarlyStopping("loss", self.n_iter_no_change, self.tol)
        if self.early_stopping:
            samples, held, targets, wanted = self._split(samples, targets)
            stopping = ScoreStopping(
                lambda: self._score(predict(network.apply, held), wanted), network.module, stopping.patience, self.tol
            )
        network.optimizer.lr = self.learning_rate_init
        network.alpha.set(self.alpha)
        size = SMALL_BATCH if isinstance(self.batch_size, str) else self.batch_size
        seed = int(self._random.randint(2**31))
        loader = DataLoader(TensorDataset(samples, targets), min(size, len(samples)), self.shuffle, seed=seed)
        history = fit(network.train, loader, epochs, callbacks=[stopping], verbose=bool(self.verbose))
        self.loss_curve_ += history["loss"]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ += len(history)
        if isinstance(stopping, ScoreStopping):
            self.validation_scores_ = stopping.scores
            network.module.load_state_dict(stopping.weights)
        return stopping.waited >= stopping.patience

    def _split(self, samples: Array, targets: Array) -> list[Array]:
        kinds = targets if self.classifies else None
        size, seed = self.validation_fraction, self._random
        return train_test_split(samples, targets, test_size=size, random_state=seed, stratify=kinds)  # type: ignore[no-any-return]

    def _layout(self, samples: Array) -> Layout:
        return Layout(
            sizes=(samples.shape[1], *map(int, units(self.hidden_layer_sizes)), self.n_outputs_),
            activation=self.activation,
            solver=self.solver,
            momentum=float(self.momentum) if self.solver == "sgd" else 0.0,
            rows=ROWS if isinstance(self.batch_size, str) else max(ROWS, int(self.batch_size)),
            classifies=self.classifies,
            wide=samples.dtype == np.float64,
        )

    @abstractmethod
    def _read(self, X: Any, y: Any, reset: bool, classes: Any = None) -> tuple[Array, Array]:
        """Samples and targets as the compiled step takes them; `reset` forgets what an earlier fit found."""

    @abstractmethod
    def _score(self, outputs: Array, targets: Array) -> float:
        """What is to rise on held-out samples."""

    def _validate(self, X: Any, reset: bool, **options: Any) -> Any:
        dtypes = [np.float64, np.float32] if reset and "y" in options else self._network.dtype.numpy
        return validate_data(self, X, dtype=dtypes, order="C", reset=reset, **options)

    def _check_settings(self) -> None:
        self._require("hidden_layer_sizes", all(map(is_count, units(self.hidden_layer_sizes))), "whole numbers from 1")
        self._require("activation", self.activation in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}")
        self._require("solver", self.solver in SOLVERS, f"one of {', '.join(SOLVERS)}")
        self._require("batch_size", self.batch_size == "auto" or is_count(self.batch_size), '"auto" or from 1')
        for name in ("max_iter", "n_iter_no_change"):
            self._require(name, is_count(getattr(self, name)), "a whole number from 1")
        for name in ("alpha", "learning_rate_init", "tol"):
            self._require(name, is_within(getattr(self, name), 0, np.inf), "at least 0")
        self._require("momentum", is_within(self.momentum, 0, 1), "at least 0 and less than 1")
        fraction = self.validation_fraction
        self._require("validation_fraction", is_within(fraction, 0, 1) and fraction > 0, "between 0 and 1")

    def _require(self, name: str, holds: bool, text: str) -> None:
        require(holds, name, getattr(self, name), text)

    # -- what was fitted

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        return predict(self._network.apply, self._validate(X, reset=False))

    @property
    def module_(self) -> nn.Sequential:
        return self._network.module

    @property
    def coefs_(self) -> list[Array]:
        return [weight.numpy().T for weight in self._network.weights]

    @property
    def intercepts_(self) -> list[Array]:
        return [bias.numpy() for bias in self._network.biases]


class MLPClassifier(ClassifierMixin, MultilayerPerceptron):  # type: ignore[misc]
    """Classes of samples: a softmax on top of the layers, trained on the cross entropy. Fitted, it has classes_."""

    classifies = True

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """One epoch over these samples; the first call needs `classes`, all labels that there will be."""
        if classes is None and not hasattr(self, "_network"):
            raise ValueError("the first call of partial_fit needs classes: all labels that there will be")
        return self._partial_fit(X, y, classes)

    def predict(self, X: Any) -> Array:
        """The most probable class of every row, [n]."""
        outputs = self._outputs(X)
        chosen: Array = self.classes_[outputs.argmax(axis=1)]
        return chosen

    def predict_proba(self, X: Any) -> Array:
        """The probability of every class, in the order of classes_, [n, classes]."""
        return self._outputs(X)

    def predict_log_proba(self, X: Any) -> Array:
        return np.log(self._outputs(X))

    def _read(self, X: Any, y: Any, reset: bool, classes: Any = None) -> tuple[Array, Array]:
        samples, labels = self._validate(X, reset, y=y)
        check_classification_targets(labels)
        if reset:
            self.classes_ = np.unique(labels if classes is None else classes)
            self.n_outputs_ = len(self.classes_)
        unknown = np.setdiff1d(labels, self.classes_)
        if unknown.size:
            raise ValueError(f"y has the label {unknown.tolist()[0]!r}; the classes are {self.classes_.tolist()}")
        return samples, np.searchsorted(self.classes_, labels)

    def _score(self, outputs: Array, targets: Array) -> float:
        return float(accuracy_score(targets, outputs.argmax(axis=1)))


class MLPRegressor(RegressorMixin, MultilayerPerceptron):  # type: ignore[misc]
    """Numbers of samples, one or several each, trained on half their mean squared error."""

    classifies = False

    def partial_fit(self, X: Any, y: Any) -> Self:
        """One epoch over these samples."""
        return self._partial_fit(X, y)

    def predict(self, X: Any) -> Array:
        """The numbers of every row: [n], or [n, targets] where there are several."""
        found = self._outputs(X)
        return found.ravel() if self.n_outputs_ == 1 else found

    def _read(self, X: Any, y: Any, reset: bool, classes: Any = None) -> tuple[Array, Array]:
        samples, numbers = self._validate(X, reset, y=y, multi_output=True, y_numeric=True)
        if numbers.ndim == 2 and numbers.shape[1] == 1:
            numbers = column_or_1d(numbers, warn=True)
        targets = np.ascontiguousarray(numbers.reshape(len(samples), -1), samples.dtype)
        if reset:
            self.n_outputs_ = targets.shape[1]
        return samples, targets

    def _score(self, outputs: Array, targets: Array) -> float:
        return float(r2_score(targets, outputs))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def units(hidden_layer_sizes: Any) -> tuple[Any, ...]:
    return tuple(hidden_layer_sizes) if isinstance(hidden_layer_sizes, Iterable) else (hidden_layer_sizes,)


def is_count(number: Any) -> bool:
    return is_whole(number) and bool(number >= 1)


def is_within(number: Any, low: float, end: float) -> bool:
    """A number from low up to but without the end."""
    return is_number(number) and bool(low <= number < end)
