"""Quantile regression attack: known answers, worlds with models, and what it says where it cannot run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import ndtri
from worlds import permuted, world

from leakpro_nb.attacks import NotApplicable, create
from leakpro_nb.attacks.inputs import as_numbers, canonical_order
from leakpro_nb.attacks.membership import Quantile
from leakpro_nb.attacks.membership.quantile import (
    LEVELS,
    _activations,
    gaussian_level,
    other_classes,
    pinball_loss,
    quantile_level,
)
from leakpro_nb.attacks.signals import log_odds
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.game.views import View
from leakpro_nb.measures import auc_interval

RNG = np.random.default_rng(0)
HEADS = ("gaussian", "quantiles")
# lower bounds of the interval of the AUC, well above chance and below what was seen (seed 0)
STRONG = {"classes": 0.80, "one_logit": 0.63, "two_logits": 0.63, "forest": 0.85, "image": 0.58}


def gaussian_view(shift: float = 0.0, rows: int = 2000) -> tuple[View, np.ndarray, np.ndarray]:
    """Return a view whose log-odds are Gaussian given the record, the exact normal scores, and who was raised."""

    def sample(n):
        x = RNG.uniform(-1, 1, (n, 3))
        return x, 3 * x[:, 0], np.exp(x[:, 1])

    (x, mean, sd), (z, z_mean, z_sd) = sample(rows), sample(rows)
    raised = np.arange(rows) % 2 == 0
    phi = mean + sd * (RNG.normal(size=rows) + shift * raised)
    around = z_mean + z_sd * RNG.normal(size=rows)
    view = View(
        access="scores", labels=np.ones(rows, dtype=int), logits=np.column_stack([np.zeros(rows), phi]), inputs=x,
        population=np.column_stack([np.zeros(rows), around]), population_labels=np.ones(rows, dtype=int),
        population_inputs=z,
    )  # fmt: skip
    return view, (phi - mean) / sd, raised


# --- known answers


def test_gaussian_level_is_the_standardised_residual():
    np.testing.assert_allclose(gaussian_level(np.array([3.0]), np.array([1.0]), np.array([4.0])), [0.5])


def test_quantile_level_of_gaussian_quantiles_is_the_normal_score_inside_and_outside():
    mean, sd = RNG.normal(size=500), RNG.uniform(0.1, 3, 500)
    phi = mean + sd * RNG.normal(0, 2, 500)
    quantiles = mean[:, None] + sd[:, None] * ndtri(LEVELS)
    np.testing.assert_allclose(quantile_level(phi, quantiles, np.array(LEVELS)), (phi - mean) / sd, atol=1e-9)
    crossed = quantiles[:, [2, 0, 1, 4, 3]]
    np.testing.assert_allclose(quantile_level(phi, crossed, np.array(LEVELS)), (phi - mean) / sd, atol=1e-9)


def test_equal_quantiles_give_finite_ordered_levels():
    phi = np.array([-2.0, 0.0, 2.0])
    out = quantile_level(phi, np.zeros((3, 5)), np.array(LEVELS))
    assert np.isfinite(out).all()
    assert (np.diff(out) > 0).all()


@pytest.mark.parametrize("level", LEVELS)
def test_pinball_loss_is_least_at_the_quantile(level):
    sample = np.arange(1000) / 999.0
    grid = np.linspace(0, 1, 401)
    best = grid[np.argmin([pinball_loss(sample, q, level).mean() for q in grid])]
    assert best == pytest.approx(level, abs=0.005)


@pytest.mark.parametrize("head", HEADS)
def test_exact_gaussian_log_odds_are_recovered(head):
    view, exact, _ = gaussian_view()
    score = Quantile(head=head).run(view).values
    assert np.corrcoef(score, exact)[0, 1] > 0.95
    # fresh non-members: a spread taken from the fit's own residuals would be too small, and these scores too wide
    assert score.std() == pytest.approx(1, abs=0.12)
    assert score.mean() == pytest.approx(0, abs=0.1)


def test_it_finds_what_the_log_odds_alone_hide():
    view, _, raised = gaussian_view(shift=1.0)
    _, low, _ = auc_interval(Quantile().run(view).values, raised)
    assert low > auc_interval(view.signal(log_odds).audit.target, raised)[2]


def test_other_classes_hold_nothing_of_the_true_class():
    logits, labels = RNG.normal(0, 4, (40, 6)), RNG.integers(6, size=40)
    raised = logits.copy()
    raised[np.arange(40), labels] += RNG.normal(0, 9, 40)
    np.testing.assert_array_equal(other_classes(raised, labels), other_classes(logits, labels))
    rest = np.exp(other_classes(logits, labels))
    rest[np.arange(40), labels] = 0
    np.testing.assert_allclose(rest.sum(axis=1), 1)


@pytest.mark.parametrize("outputs", [1, 4])
def test_activations_hold_nothing_that_the_last_layer_reads(outputs):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 12), torch.nn.ReLU(), torch.nn.Linear(12, outputs)).eval()
    X = RNG.normal(size=(200, 5)).astype(np.float32)
    (h,) = _activations(net, X)
    weight = net[2].weight.detach().double().numpy()
    differences = weight if outputs == 1 else weight[1:] - weight[0]
    np.testing.assert_allclose(h @ differences.T, 0, atol=1e-6)
    assert h.std() > 0.1


def test_categories_get_the_same_codes_in_both_sets():
    audited = pd.DataFrame({"ward": ["b", "c"], "age": [30, 40]})
    population = pd.DataFrame({"ward": ["a", "c", None], "age": [1, 2, 3]})
    one, two = as_numbers(audited, population)
    np.testing.assert_array_equal(one, [[1, 30], [2, 40]])
    np.testing.assert_array_equal(two, [[0, 1], [2, 2], [np.nan, 3]])
    (texts,) = as_numbers(np.array([["x", "1"], ["y", "2"]], dtype=object))
    assert texts.shape == (2, 2)
    assert texts.dtype == np.float64
    (pixels,) = as_numbers(torch.zeros(3, 2, 4))
    assert pixels.shape == (3, 8)


def test_canonical_order_is_that_of_the_contents():
    X, y = RNG.normal(size=(50, 3)), RNG.integers(3, size=50)
    shuffle = RNG.permutation(50)
    np.testing.assert_array_equal(X[canonical_order(X, y)], X[shuffle][canonical_order(X[shuffle], y[shuffle])])


# --- worlds with models


@pytest.mark.parametrize(
    ("kind", "head"), [*[(kind, "gaussian") for kind in STRONG], ("classes", "quantiles"), ("forest", "quantiles")]
)
def test_strong_where_there_is_a_leak(kind, head):
    view, member = world(kind, shadows=2)
    _, low, _ = auc_interval(Quantile(head=head).run(view).values, member)
    assert low > STRONG[kind]


@pytest.mark.parametrize(
    ("kind", "access"), [("classes", "scores"), ("classes", "white_box"), ("one_logit", "white_box")]
)
def test_strong_from_the_representation(kind, access):
    view, member = world(kind, shadows=2, access=access)
    _, low, _ = auc_interval(Quantile(features="representation").run(view).values, member)
    assert low > STRONG[kind] - 0.02


@pytest.mark.parametrize(
    ("attack", "audits"),
    [(Quantile(), 5), (Quantile(head="quantiles"), 2), (Quantile(features="representation"), 5)],
    ids=repr,
)
def test_blind_where_there_is_none(attack, audits):
    """Pooled over leak-free audits, the 99 % interval covers 0.5."""
    scores, truth = [], []
    for seed in range(audits):
        view, member = world("classes", leak=False, seed=seed, shadows=2)
        scores.append(stats.rankdata(attack.run(view).values))
        truth.append(member)
    _, low, high = auc_interval(np.concatenate(scores), np.concatenate(truth), 0.99)
    assert low <= 0.5 <= high
    assert high - low < 0.08


@pytest.mark.parametrize("attack", [Quantile(), Quantile(features="representation")], ids=repr)
def test_order_of_records_changes_nothing(attack):
    view, _ = world("classes", shadows=2)
    order = np.random.default_rng(3).permutation(len(view))
    np.testing.assert_allclose(attack.run(permuted(view, order)).values, attack.run(view).values[order], rtol=1e-12)


def test_order_of_the_population_changes_nothing():
    view, _ = world("classes", shadows=2)
    order = np.random.default_rng(3).permutation(len(view.population_labels))
    shuffled = dataclasses.replace(
        view, population=view.population[order], population_labels=view.population_labels[order],
        population_inputs=view.population_inputs[order], population_references=None, _cache={},
    )  # fmt: skip
    np.testing.assert_allclose(Quantile().run(shuffled).values, Quantile().run(view).values, rtol=1e-12)


def test_the_overfitted_network_of_the_reference_case(cases):
    """A peer's quantile attack is at chance on these logits (AUC .476), the loss reaches .561."""
    data = np.load(cases / "adult" / "adult_overfit_h2_n8.npz")
    rows = np.r_[data["train_idx"], data["test_idx"]]
    rest = np.setdiff1d(np.arange(len(data["y"])), rows)
    view = View(
        access="scores", labels=data["y"][rows], logits=data["target_logits"][rows].astype(np.float64),
        inputs=data["X"][rows], population=data["target_logits"][rest].astype(np.float64),
        population_labels=data["y"][rest], population_inputs=data["X"][rest],
    )  # fmt: skip
    _, low, _ = auc_interval(Quantile().run(view).values, np.arange(len(rows)) < len(data["train_idx"]))
    assert low > 0.575


# --- where it cannot run


def without(view: View, **fields) -> View:
    return dataclasses.replace(view, **fields, _cache={})


def test_without_a_population_it_says_so():
    view, _, _ = gaussian_view(rows=60)
    with pytest.raises(NotApplicable, match="people who were not used"):
        Quantile().run(without(view, population=None, population_labels=None, population_inputs=None))


def test_a_tiny_population_is_refused():
    view, _, _ = gaussian_view(rows=49)
    with pytest.raises(NotApplicable, match="49 records; give at least 50"):
        Quantile().run(view)


def test_predictions_alone_are_not_enough():
    view, _, _ = gaussian_view(rows=60)
    with pytest.raises(AccessDenied, match="records themselves"):
        Quantile().run(without(view, inputs=None, population_inputs=None))


def test_labels_alone_are_not_enough():
    view, _, _ = gaussian_view(rows=60)
    with pytest.raises(AccessDenied, match="access: labels"):
        Quantile().run(without(view, access="labels"))


def test_two_classes_have_no_representation_behind_scores():
    view, _, _ = gaussian_view(rows=60)
    with pytest.raises(NotApplicable, match="features=records"):
        Quantile(features="representation").run(view)


@pytest.mark.parametrize("option", ["features", "head"])
def test_unknown_options_are_refused(option):
    with pytest.raises(InputError, match=f"quantile.{option}"):
        create("quantile", {option: "nonsense"})
