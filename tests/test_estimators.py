"""The scikit-learn estimators: its own checks, its own numbers, and what fitting, going on and pickling must keep."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

import graphc as gx

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'graphc[sklearn]'")

from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from graphc.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_checks_of_sklearn(estimator, check):
    check(estimator)


@pytest.fixture
def numbers():
    """Samples and a smooth function of them."""
    random = np.random.RandomState(0)
    samples = random.randn(150, 4)
    return samples, np.sin(samples[:, 0]) + samples[:, 1] * samples[:, 2]


@pytest.fixture
def classes():
    """Three classes called by texts, apart but for a few samples."""
    random = np.random.RandomState(0)
    labels = random.randint(3, size=150)
    return random.randn(150, 4) + 2 * np.eye(3, 4)[labels], np.array(["ant", "bee", "cat"])[labels]


EQUAL = {"random_state": 3, "shuffle": False, "batch_size": 40, "max_iter": 12, "n_iter_no_change": 99, "alpha": 0.1}


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"solver": "sgd", "activation": "tanh", "hidden_layer_sizes": (8, 5)}, 1e-10),
        ({"solver": "sgd", "activation": "logistic", "momentum": 0.5, "hidden_layer_sizes": (8, 5)}, 1e-10),
        ({"solver": "sgd", "activation": "relu"}, 1e-10),
        ({"solver": "sgd", "activation": "identity", "hidden_layer_sizes": ()}, 1e-10),
        ({"solver": "adam", "activation": "tanh", "hidden_layer_sizes": 8}, 1e-5),  # its epsilon stands elsewhere
    ],
)
def test_numbers_are_those_of_sklearn(numbers, classes, settings, tolerance):
    ours = MLPRegressor(**EQUAL, **settings).fit(*numbers)
    theirs = neural_network.MLPRegressor(**EQUAL, **settings).fit(*numbers)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)
    np.testing.assert_allclose(ours.predict(numbers[0]), theirs.predict(numbers[0]), rtol=tolerance, atol=tolerance)
    for mine, known in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(mine, known, rtol=tolerance, atol=tolerance)
    ours = MLPClassifier(**EQUAL, **settings).fit(*classes)
    theirs = neural_network.MLPClassifier(**EQUAL, **settings).fit(*classes)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)
    found, known = ours.predict_proba(classes[0]), theirs.predict_proba(classes[0])
    np.testing.assert_allclose(found, known, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(np.exp(ours.predict_log_proba(classes[0])), found)
    assert (ours.predict(classes[0]) == theirs.predict(classes[0])).all()
    assert ours.score(*classes) == theirs.score(*classes)


def test_equal_seeds_give_equal_numbers(numbers):
    first, again, other = (MLPRegressor(max_iter=5, random_state=seed).fit(*numbers) for seed in (1, 1, 2))
    assert first.loss_curve_ == again.loss_curve_
    assert (first.predict(numbers[0]) == again.predict(numbers[0])).all()
    assert first.loss_curve_ != other.loss_curve_


def test_pickled_in_the_middle_it_goes_on_alike(classes):
    samples, labels = classes
    fitted = MLPClassifier(random_state=0)
    for _ in range(3):
        fitted.partial_fit(samples, labels, classes=["ant", "bee", "cat", "dog"])
    copy = pickle.loads(pickle.dumps(fitted))
    assert (copy.predict_proba(samples) == fitted.predict_proba(samples)).all()
    assert copy.predict_proba(samples).shape == (150, 4)
    for _ in range(2):
        fitted.partial_fit(samples, labels)
        copy.partial_fit(samples, labels)
    assert copy.loss_curve_ == fitted.loss_curve_
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 5
    assert not hasattr(clone(fitted), "classes_")


def test_warm_start_goes_on(numbers):
    fitted = MLPRegressor(max_iter=4, random_state=0, warm_start=True).fit(*numbers)
    fitted.set_params(learning_rate_init=0.01, alpha=0.0).fit(*numbers)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 8
    assert fitted.loss_ == fitted.loss_curve_[-1] < fitted.loss_curve_[3]
    with pytest.raises(ValueError, match="differ from the earlier fit"):
        fitted.set_params(hidden_layer_sizes=(5,)).fit(*numbers)
    fitted.set_params(warm_start=False).fit(*numbers)
    assert [weights.shape for weights in fitted.coefs_] == [(4, 5), (5, 1)]
    assert fitted.n_iter_ == 4


def test_early_stopping_keeps_the_best_weights(classes):
    samples, labels = classes
    settings = {"random_state": 0, "early_stopping": True, "n_iter_no_change": 4, "learning_rate_init": 0.03}
    fitted = MLPClassifier(**settings, validation_fraction=0.3).fit(samples, labels)
    scores = fitted.validation_scores_
    best = scores.index(max(scores))
    assert fitted.n_iter_ == len(scores) == best + 1 + 4 < fitted.max_iter
    with_best = MLPClassifier(**settings, validation_fraction=0.3).set_params(max_iter=best + 1).fit(samples, labels)
    assert (with_best.predict_proba(samples) == fitted.predict_proba(samples)).all()
    with pytest.raises(ValueError, match="early_stopping"):
        fitted.partial_fit(samples, labels)


def test_stops_where_nothing_gets_better_and_says_when_it_did_not(numbers):
    samples, targets = numbers
    stopped = MLPRegressor(random_state=0, tol=1e3, n_iter_no_change=3).fit(samples, targets)
    assert stopped.n_iter_ == 4
    with pytest.warns(ConvergenceWarning, match="5 epochs"):
        MLPRegressor(random_state=0, max_iter=5).fit(samples, targets)


def test_f32_stays_f32_and_several_targets_stay_apart(numbers):
    samples, targets = numbers[0].astype(np.float32), np.stack([numbers[1], -numbers[1]], 1)
    fitted = MLPRegressor(random_state=0, learning_rate_init=0.01).fit(samples, targets)
    found = fitted.predict(samples)
    assert found.shape == (150, 2) and found.dtype == np.float32
    assert fitted.score(samples, targets) > 0.9
    assert [weights.dtype for weights in fitted.coefs_] == [np.float32, np.float32]
    assert gx.predict_step(fitted.module_, x=gx.f32["n", 4])(samples).shape == (150, 2)


def test_in_a_pipeline_and_a_search(classes):
    samples, labels = classes
    model = make_pipeline(StandardScaler(), MLPClassifier(random_state=0, max_iter=20, learning_rate_init=0.01))
    search = GridSearchCV(model, {"mlpclassifier__alpha": [1e-4, 1e4]}, cv=2).fit(samples, labels)
    assert search.best_params_ == {"mlpclassifier__alpha": 1e-4}
    assert search.best_score_ > 0.8


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"hidden_layer_sizes": (5, 0)}, r"hidden_layer_sizes is \(5, 0\); it must be whole numbers from 1"),
        ({"hidden_layer_sizes": 2.5}, "hidden_layer_sizes is 2.5"),
        ({"activation": "step"}, "activation is 'step'; it must be one of identity"),
        ({"solver": "lbfgs"}, "solver is 'lbfgs'; it must be one of adam, sgd"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": "all"}, "batch_size is 'all'"),
        ({"max_iter": 0}, "max_iter is 0"),
        ({"alpha": -1}, "alpha is -1; it must be at least 0"),
        ({"learning_rate_init": float("nan")}, "learning_rate_init is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"validation_fraction": 0.0}, "validation_fraction is 0.0"),
    ],
)
def test_wrong_settings_are_said(numbers, settings, text):
    with pytest.raises(ValueError, match=text):
        MLPRegressor(**settings).fit(*numbers)


def test_wrong_labels_and_a_loss_without_end_are_said(numbers, classes):
    samples, labels = classes
    with pytest.raises(ValueError, match="the first call of partial_fit needs classes"):
        MLPClassifier().partial_fit(samples, labels)
    with pytest.raises(ValueError, match=r"label 'cat'; the classes are \['ant', 'bee'\]"):
        MLPClassifier().partial_fit(samples, labels, classes=["ant", "bee"])
    with pytest.raises(gx.NumericsError, match="lower the learning rate"):
        MLPRegressor(solver="sgd", learning_rate_init=1e9, random_state=0).fit(*numbers)


def test_graphc_itself_does_not_need_sklearn():
    program = """
import sys, graphc
assert "sklearn" not in sys.modules
sys.modules["sklearn"] = None
try:
    import graphc.estimators
except ImportError as error:
    assert "pip install 'graphc[sklearn]'" in str(error)
else:
    raise AssertionError("graphc.estimators came without scikit-learn")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
