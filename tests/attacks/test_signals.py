"""Signals equal their textbook definitions where those are accurate, and stay accurate where those are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from leakpro_nb.attacks.membership.multi_signal import SIGNALS
from leakpro_nb.attacks.signals import (
    TAYLOR_FLOOR,
    Confidence,
    LogConfidence,
    confidence,
    log_confidence,
    log_odds,
    log_probability,
    margin,
    max_probability,
    negative_entropy,
    negative_modified_entropy,
    probability,
)


@pytest.fixture(params=[2, 3, 10])
def outputs(request):
    rng = np.random.default_rng(request.param)
    return rng.normal(0, 3, (4, 50, request.param)), rng.integers(request.param, size=50)


def own(values, y):
    return np.take_along_axis(values, np.broadcast_to(y[:, None], (*values.shape[:-1], 1)), axis=-1)[..., 0]


def test_signals_equal_their_definitions(outputs):
    z, y = outputs
    p = softmax(z, axis=-1)
    p_y, is_y = own(p, y), np.arange(z.shape[-1]) == y[:, None]
    np.testing.assert_allclose(max_probability(z, y), p.max(axis=-1))
    np.testing.assert_allclose(negative_entropy(z, y), (p * np.log(p)).sum(axis=-1), rtol=1e-9)
    np.testing.assert_allclose(margin(z, y), own(z, y) - np.where(is_y, -np.inf, z).max(axis=-1))
    others = np.where(is_y, 0.0, p * np.log(1 - p)).sum(axis=-1)
    np.testing.assert_allclose(negative_modified_entropy(z, y), (1 - p_y) * np.log(p_y) + others, rtol=1e-7)


def test_margin_of_two_classes_is_the_log_odds():
    z, y = np.random.default_rng(0).normal(0, 3, (50, 2)), np.arange(50) % 2
    np.testing.assert_allclose(margin(z, y), log_odds(z, y), rtol=1e-12)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_signal_is_finite_float64_and_higher_when_right_and_surer(name, classes):
    z = np.zeros((3, classes), dtype=np.float32)
    z[:, 0] = [2.0, 20.0, 800.0]
    values = SIGNALS[name](z, np.zeros(3, dtype=int))
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    assert (np.diff(values) >= 0).all()
    assert values[1] > values[0]
    assert np.isfinite(SIGNALS[name](z, np.ones(3, dtype=int))).all()  # sure and wrong


def test_small_entropies_do_not_cancel():
    z = np.array([[40.0, 0.0, 0.0]])  # 1 - p_y = 2 exp(-40), far below the spacing of numbers near 1
    rest = np.exp(-40.0)
    assert negative_entropy(z, np.array([0]))[0] == pytest.approx(-2 * rest * 41, rel=1e-9)
    # -(1 - p_y) log p_y - 2 p_c log(1 - p_c), with p_c = e and 1 - p_y = 2 e: 4 e^2 + 2 e^2
    assert negative_modified_entropy(z, np.array([0]))[0] == pytest.approx(-6 * rest**2, rel=1e-9)


def test_one_impossible_class_is_no_nan():
    z = np.array([[0.0, -np.inf, 1.0]])
    for name in ("log_odds", "log_probability", "margin", "max_probability", "entropy", "modified_entropy"):
        assert np.isfinite(SIGNALS[name](z, np.array([0]))).all(), name


def test_confidences_equal_the_research_codes_formulas(outputs):
    z, y = outputs
    for t in (1.0, 2.0):
        u = z / t
        np.testing.assert_allclose(Confidence(temperature=t)(z, y), own(softmax(u, axis=-1), y), rtol=1e-9)
        away = own(np.exp(u), y)
        soft = own(np.exp(u - 0.6), y)
        wanted = soft / (np.exp(u).sum(axis=-1) - away + soft)
        np.testing.assert_allclose(Confidence("soft_margin", t)(z, y), wanted, rtol=1e-9)

        def taylor(v):
            return np.maximum(1 + v + v**2 / 2 + v**3 / 6, TAYLOR_FLOOR)

        wanted = own(taylor(u), y) / taylor(u).sum(axis=-1)
        np.testing.assert_allclose(Confidence("taylor", t)(z, y), wanted, rtol=1e-9)
        soft = taylor(own(u, y) - 0.6)
        wanted = soft / (taylor(u).sum(axis=-1) - own(taylor(u), y) + soft)
        np.testing.assert_allclose(Confidence("soft_margin_taylor", t)(z, y), wanted, rtol=1e-9)


def test_taylor_known_answer():
    z = np.array([[2.0, 0.0]])  # 1 + 2 + 2 + 8/6 = 19/3 against 1
    assert Confidence("taylor")(z, np.array([0]))[0] == pytest.approx(19 / 22)
    assert Confidence("taylor", terms=3)(z, np.array([0]))[0] == pytest.approx(5 / 6)


def test_taylor_with_an_odd_top_power_is_positive_and_monotone():
    u = np.linspace(-50, 50, 1001)
    z = np.stack([u, np.zeros_like(u)], axis=1)
    p = Confidence("taylor")(z, np.zeros(len(u), dtype=int))
    assert (p > 0).all()
    assert (np.diff(p) >= 0).all()
    assert np.isfinite(Confidence("taylor")(np.array([[-np.inf, 0.0]]), np.array([0]))).all()


def test_more_terms_come_closer_to_softmax():
    z, y = np.random.default_rng(0).normal(0, 1, (50, 3)), np.zeros(50, dtype=int)
    errors = [abs(Confidence("taylor", terms=n)(z, y) - probability(z, y)).max() for n in (3, 5, 9, 15)]
    assert (np.diff(errors) < 0).all()
    assert errors[-1] < 1e-6


def test_defaults_are_the_plain_functions_so_that_attacks_share_them():
    assert confidence(Confidence()) is probability
    assert log_confidence(1.0) is log_probability
    assert log_confidence(2.0) == LogConfidence(2.0)
    z, y = np.array([[1.0, 3.0]]), np.array([1])
    assert LogConfidence(2.0)(z, y)[0] == pytest.approx(log_probability(z / 2, y)[0])
