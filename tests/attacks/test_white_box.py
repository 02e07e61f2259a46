"""Attacks on whoever hands out the model file: strong, blind and indifferent to order as all must be, and harmless."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from worlds import permuted, world

from leakpro_nb.attacks import NotApplicable, create
from leakpro_nb.attacks.gradients import log_odds_of, look_inside, loss_of, per_record
from leakpro_nb.attacks.membership import ActivationGradient, GradientNorm, Population
from leakpro_nb.attacks.membership.gradient_norm import gradient_norms
from leakpro_nb.audits.validity import null_scores
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.game.oracle import Oracle
from leakpro_nb.game.recipes import loss_per_record
from leakpro_nb.game.views import View
from leakpro_nb.measures import auc_interval

QUICK = {"epochs": 25, "folds": 2}


def open_world(kind: str, **options) -> tuple[View, np.ndarray]:
    return world(kind, access="white_box", **options)


def oracle_of(net: nn.Module, classes: int = 2) -> Oracle:
    return Oracle(lambda: net, classes)


def low_end(attack, view: View, member: np.ndarray) -> float:
    values = attack.run(view).values
    scored = ~np.isnan(values)
    return auc_interval(values[scored], member[scored])[1]


def auc(values: np.ndarray, member: np.ndarray) -> float:
    return auc_interval(values, member)[0]


# lower bounds of the AUC's interval, well above chance and below what was seen
@pytest.mark.parametrize(
    ("kind", "attack", "bound"),
    [
        ("classes", GradientNorm("plain"), 0.80),
        ("classes", GradientNorm("offline"), 0.80),
        ("classes", GradientNorm(), 0.88),
        ("classes", GradientNorm(norm="l1", layers="per_layer"), 0.88),
        ("classes", GradientNorm(norm="linf", layers="last"), 0.88),
        ("classes", ActivationGradient("shadows", epochs=8), 0.90),
        ("one_logit", GradientNorm("plain"), 0.64),
        ("one_logit", GradientNorm(), 0.72),
        ("one_logit", ActivationGradient(**QUICK), 0.64),
        ("two_logits", GradientNorm(), 0.72),
        ("image", GradientNorm("plain"), 0.58),
        ("image", GradientNorm(), 0.69),
        ("image", ActivationGradient(gradient_layers=0), 0.54),
    ],
    ids=str,
)
def test_strong_where_there_is_a_leak(kind, attack, bound):
    view, member = open_world(kind)
    assert low_end(attack, view, member) > bound


def test_activations_and_gradients_say_more_than_the_loss():
    view, member = open_world("classes")
    values = ActivationGradient().run(view).values
    scored = ~np.isnan(values)
    assert auc_interval(values[scored], member[scored])[1] > 0.82
    assert auc(values[scored], member[scored]) > auc(Population().run(view).values[scored], member[scored])


@pytest.mark.parametrize(
    "attack",
    [GradientNorm("plain"), GradientNorm("offline"), GradientNorm(), ActivationGradient(**QUICK),
     ActivationGradient("shadows", **QUICK)],
    ids=repr,
)  # fmt: skip
def test_blind_where_there_is_none(attack):
    """Pooled over leak-free worlds, the interval covers 0.5."""
    scores, truth = [], []
    for seed in range(4):
        view, member = open_world("classes", leak=False, seed=seed, shadows=4)
        values = attack.run(view).values
        scored = ~np.isnan(values)
        scores.append(stats.rankdata(values[scored]) / scored.sum())
        truth.append(member[scored])
    _, low, high = auc_interval(np.concatenate(scores), np.concatenate(truth), 0.99)
    assert low <= 0.5 <= high
    assert high - low < 0.09


@pytest.mark.parametrize(
    "attack",
    [
        GradientNorm("plain"),
        GradientNorm(),
        ActivationGradient(**QUICK),
        ActivationGradient("shadows", epochs=3, folds=2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["one_logit", "image"])
def test_order_of_records_changes_nothing(attack, kind):
    if kind == "image" and getattr(attack, "practice", "") == "shadows":
        pytest.skip("covered by the other world; it takes long")
    view, _ = open_world(kind)
    order = np.random.default_rng(3).permutation(len(view))
    ours, theirs = attack.run(permuted(view, order)).values, attack.run(view).values[order]
    # the attack model is trained in single precision
    tolerance = 1e-3 if isinstance(attack, ActivationGradient) else 1e-6
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_norms_of_a_linear_model_are_those_computed_by_hand():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(2, size=40)
    net = nn.Linear(3, 1)
    inside = look_inside(oracle_of(net), X)
    w, b = net.weight.detach().double().numpy()[0], net.bias.item()
    error = np.abs(1 / (1 + np.exp(-(X.astype(float) @ w + b))) - y)
    extended = np.column_stack([X.astype(float), np.ones(40)])
    for norm, order in (("l1", 1), ("l2", 2), ("linf", np.inf)):
        by_hand = error * np.linalg.norm(extended, order, axis=1)
        for layers in ("all", "last", "per_layer"):
            np.testing.assert_allclose(gradient_norms(inside, X, y, norm, layers), by_hand, rtol=1e-6)


def test_norm_of_two_layers_is_that_of_autograd():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(6, 4)), rng.integers(3, size=6)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    norms, layers = [], []
    for x, label in zip(torch.as_tensor(X), torch.as_tensor(y), strict=True):
        net.zero_grad()
        nn.functional.cross_entropy(net(x[None]), label[None]).backward()
        each = [torch.cat([net[i].weight.grad.ravel(), net[i].bias.grad.ravel()]).norm().item() for i in (0, 2)]
        norms.append(np.hypot(*each))
        layers.append(each)
    inside = look_inside(oracle_of(net, 3), X)
    np.testing.assert_allclose(gradient_norms(inside, X, y), norms, rtol=1e-9)
    np.testing.assert_allclose(gradient_norms(inside, X, y, layers="last"), np.array(layers)[:, 1], rtol=1e-9)
    geometric = np.sqrt(np.prod(layers, axis=1))
    np.testing.assert_allclose(gradient_norms(inside, X, y, layers="per_layer"), geometric, rtol=1e-9)


class Squeezed(nn.Module):
    """One logit per record, without an axis for it, after BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 1))

    def forward(self, x):
        return self.body(x).squeeze()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.rnn(x.reshape(-1, 2, 2))[0][:, -1])


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(x if x.sum() > 0 else 2 * x)


@pytest.mark.parametrize("make", [Squeezed, Recurrent, Branching])
def test_one_by_one_gives_the_same_as_all_at_once(make):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)).astype(np.float32), rng.integers(2, size=30)
    torch.manual_seed(0)
    inside = look_inside(oracle_of(make()), X)

    def flat(gradients):
        return torch.cat([each.reshape(-1) for each in gradients.values()])

    together, alone = (per_record(inside, X, y, flat, vectorised=way) for way in (True, False))
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-12)
    assert np.abs(together).max() > 0


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_loss_is_that_of_training_and_its_gradient_never_vanishes(columns):
    rng = np.random.default_rng(0)
    z = torch.as_tensor(rng.normal(0, 3, (50, columns)))
    y = torch.as_tensor(rng.integers(max(2, columns), size=50))
    torch.testing.assert_close(loss_of(z, y), loss_per_record(z, y))
    p = torch.softmax(z, 1) if columns > 1 else torch.sigmoid(z)
    torch.testing.assert_close(log_odds_of(p, y, "probabilities"), log_odds_of(z, y))
    sure = torch.zeros((1, columns), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(1, columns, dtype=torch.float64)
    shift[0, -1] = 60.0
    loss_of(sure + shift, torch.tensor([max(1, columns - 1)])).sum().backward()
    expected = np.exp(-60.0) * max(1, columns - 1)
    assert abs(float(sure.grad[0, -1])) == pytest.approx(expected, rel=1e-6)


def test_the_model_is_left_as_it_was():
    view, _ = open_world("one_logit")
    net = view.white_box()
    net.train()
    for each in net.parameters():
        each.grad = torch.ones_like(each)
    before = copy.deepcopy(net.state_dict())
    try:
        for attack in (
            GradientNorm("plain"),
            GradientNorm("plain", layers="last"),
            ActivationGradient(epochs=2, folds=2),
        ):
            attack.run(view)
        assert all(each.training for each in net.modules())
        assert all(each.requires_grad and (each.grad == 1).all() for each in net.parameters())
        assert not any(each._forward_hooks or each._forward_pre_hooks for each in net.modules())
        assert all(torch.equal(before[name], each) for name, each in net.state_dict().items())
        assert all(each.dtype == torch.float32 for each in net.parameters())
    finally:
        net.eval()
        net.zero_grad()


def test_a_table_is_read_as_an_array():
    import pandas as pd

    view, _ = open_world("one_logit")
    table = dataclasses.replace(view, inputs=pd.DataFrame(view.inputs), _cache={})
    np.testing.assert_array_equal(GradientNorm("plain").run(table).values, GradientNorm("plain").run(view).values)


def test_known_records_are_practice_and_get_no_score():
    view, _ = open_world("classes")
    scores = ActivationGradient(**QUICK).run(view)
    assert (np.isnan(scores.values) == view.known).all()
    assert scores.notes["practised on"] == "400 known records"


def test_nothing_is_learnt_from_records_that_are_judged():
    """Their membership is in no view; the known ones decide all, so that fewer judged records change nothing."""
    view, _ = open_world("one_logit")
    rows = np.flatnonzero(view.known | (np.arange(len(view)) % 3 == 0))
    values, part = (ActivationGradient(**QUICK).run(each).values for each in (view, permuted(view, rows)))
    np.testing.assert_allclose(part, values[rows], rtol=1e-3, atol=1e-3)


def test_shadow_models_play_the_target_in_the_null_audit():
    view, member = open_world("classes", shadows=4)
    scores = null_scores(view, GradientNorm())
    scored = ~np.isnan(scores)
    _, low, high = auc_interval(scores[scored], member[scored], 0.99)
    assert low <= 0.5 <= high
    with pytest.raises(NotApplicable, match="members and as many others"):
        null_scores(view, ActivationGradient())


@pytest.mark.parametrize("attack", [GradientNorm("plain"), GradientNorm(), ActivationGradient()], ids=repr)
def test_a_forest_has_no_gradients(attack):
    view, _ = open_world("forest")
    with pytest.raises(NotApplicable, match="it needs a torch network"):
        attack.run(view)


@pytest.mark.parametrize(
    "attack", [GradientNorm("plain"), ActivationGradient(), ActivationGradient("shadows")], ids=repr
)
def test_whoever_sees_scores_alone_is_refused(attack):
    view, _ = world("one_logit")
    with pytest.raises(AccessDenied, match="access: scores"):
        attack.run(view)


def test_what_is_missing_is_one_clear_sentence():
    view, _ = open_world("one_logit")
    lonely = dataclasses.replace(view, references=None, known=None, known_members=None, _cache={})
    for attack, words in (
        (GradientNorm(), "needs shadow models"),
        (ActivationGradient("shadows"), "needs shadow models"),
        (ActivationGradient(), "there are none"),
    ):
        with pytest.raises(NotApplicable, match=words):
            attack.run(lonely)
    with pytest.raises(NotApplicable, match="only its predictions"):
        GradientNorm("plain").run(dataclasses.replace(view, oracle=None, _cache={}))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("gradient_norm", {"mode": "x"}, "plain, offline or online"),
        ("gradient_norm", {"norm": "l3"}, "l1, l2 or linf"),
        ("gradient_norm", {"layers": "first"}, "all, last or per_layer"),
        ("activation_gradient", {"practice": "x"}, "known or shadows"),
        ("activation_gradient", {"folds": 1}, "at least 2"),
        ("activation_gradient", {"width": 2.0}, "up to 1"),
        ("activation_gradient", {"learning_rate": 0.0}, "between 0 and 1"),
    ],
)
def test_wrong_options_name_field_and_remedy(name, options, words):
    with pytest.raises(InputError, match=words):
        create(name, options)
