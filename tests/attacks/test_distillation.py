"""Attacks that watch students of the model: worlds with models, known answers, and what they say where they cannot run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import softmax
from worlds import permuted, world

import leakpro_nb as lp
from leakpro_nb.attacks import NotApplicable, create
from leakpro_nb.attacks.membership import Sequence, Trajectory, distillation
from leakpro_nb.attacks.membership.distillation import Distillation, distil, lessons
from leakpro_nb.attacks.membership.sequence import signal_sequence, spread
from leakpro_nb.attacks.membership.trajectory import log_odds_trajectory, loss_trajectory
from leakpro_nb.attacks.signals import log_odds
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.game.views import View
from leakpro_nb.measures import auc_interval

KINDS = ("classes", "one_logit", "two_logits", "forest", "image")
ATTACKS = [Trajectory(), Sequence()]
OPTIONS = [
    Trajectory(signal="loss", material="population"),
    Trajectory(shadows=1, epochs=4, seed=1),
    Sequence(reader="last", hidden=4),
]
STRONG = {"classes": 0.90, "one_logit": 0.78, "two_logits": 0.78, "forest": 0.90, "image": 0.65}
STRONG_LABELS = {"classes": 0.78, "one_logit": 0.66, "forest": 0.62}


def low_end(attack, view, member):
    return auc_interval(attack.run(view).values, member)[1]


# --- worlds with models


@pytest.mark.parametrize(
    ("kind", "attack"),
    [*[(kind, Trajectory()) for kind in KINDS], *[(kind, Sequence()) for kind in ("classes", "one_logit", "image")]],
)
def test_strong_where_there_is_a_leak(kind, attack):
    view, member = world(kind, shadows=2)
    assert low_end(attack, view, member) > STRONG[kind]


@pytest.mark.parametrize(
    ("kind", "attack"), [*[(kind, Trajectory()) for kind in STRONG_LABELS], ("classes", Sequence())]
)
def test_strong_on_labels_alone(kind, attack):
    view, member = world(kind, shadows=2, access="labels")
    assert low_end(attack, view, member) > STRONG_LABELS[kind]


@pytest.mark.parametrize("attack", OPTIONS, ids=repr)
def test_options_are_strong_too(attack):
    view, member = world("classes", shadows=2)
    assert low_end(attack, view, member) > 0.84


@pytest.mark.parametrize("attack", [*ATTACKS, OPTIONS[0]], ids=repr)
def test_blind_where_there_is_none(attack):
    """Pooled over leak-free audits, the 99 % interval covers 0.5."""
    scores, truth = [], []
    for seed in range(3):
        view, member = world("classes", leak=False, seed=seed, shadows=2)
        scores.append(stats.rankdata(attack.run(view).values))
        truth.append(member)
    _, low, high = auc_interval(np.concatenate(scores), np.concatenate(truth), 0.99)
    assert low <= 0.5 <= high
    assert high - low < 0.07


@pytest.mark.parametrize(
    ("kind", "attack"), [("classes", Trajectory()), ("forest", Trajectory(epochs=4)), ("classes", Sequence(epochs=4))]
)
def test_order_of_records_changes_nothing(kind, attack):
    view, _ = world(kind, shadows=2)
    order = np.random.default_rng(3).permutation(len(view))
    np.testing.assert_allclose(attack.run(permuted(view, order)).values, attack.run(view).values[order], rtol=1e-12)


# --- what the game is


@pytest.fixture
def overheard(monkeypatch):
    """Return what students were taught: (inputs, answers), shadow and target in turn."""
    heard = []

    def listen(recipe, taught, answers, inputs, how):
        heard.append((np.asarray(taught), answers))
        return distil(recipe, taught, answers, inputs, how)

    monkeypatch.setattr(distillation, "distil", listen)
    return heard


def test_a_lesson_pairs_shadow_and_target_and_knows_who_trained_the_shadow():
    view, _ = world("classes", shadows=2)
    every, order, notes = lessons(view, Distillation(epochs=2))
    assert notes["shadow models distilled"] == len(every) == 2
    for k, lesson in enumerate(every):
        np.testing.assert_array_equal(lesson.member, view.references.trained_on[k][order])
        np.testing.assert_array_equal(lesson.shadow[-1], view.references.logits[k][order])
        np.testing.assert_array_equal(lesson.target[-1], view.logits[order])
        assert lesson.shadow.shape == (3, len(view), 5)


@pytest.mark.parametrize("material", ["population", "everything"])
def test_shadow_and_target_are_taught_on_the_same_people_none_of_them_the_shadows_own_population(overheard, material):
    view, _ = world("classes", shadows=2)
    lessons(view, Distillation(epochs=2, material=material))
    for k in range(2):
        (shadow, _), (target, _) = overheard[2 * k : 2 * k + 2]
        np.testing.assert_array_equal(shadow, target)
        outside = view.population_inputs[~view.population_references.trained_on[k]]
        audited = 0 if material == "population" else len(view)
        np.testing.assert_array_equal(shadow[audited:], outside)
        assert len({row.tobytes() for row in shadow[:audited]} ^ {row.tobytes() for row in view.inputs[:audited]}) == 0


def test_behind_labels_shadows_are_heard_through_labels_as_well(overheard):
    view, _ = world("classes", shadows=2, access="labels")
    every, _, _ = lessons(view, Distillation(epochs=2))
    assert all(np.isin(answers, (0, 1)).all() for _, answers in overheard)
    assert all(np.isin(lesson.shadow[-1], (0, 1)).all() for lesson in every)


def test_the_target_does_not_shape_what_is_learnt_on_shadows():
    """The attack model sees the target's paths last: another target changes no lesson's shadow side."""
    view, _ = world("classes", shadows=2)
    other = dataclasses.replace(view, oracle=view.references.models[1].behind("scores"), _cache={})
    for one, two in zip(
        lessons(view, Distillation(epochs=2))[0], lessons(other, Distillation(epochs=2))[0], strict=True
    ):
        np.testing.assert_array_equal(one.shadow, two.shadow)
        assert not np.array_equal(one.target[0], two.target[0])


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_student_comes_to_say_what_it_is_taught(outputs):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4)).astype(np.float32)
    teacher = np.column_stack([np.zeros(600), X @ rng.normal(size=(4, max(1, outputs - 1)))])
    answers = softmax(teacher, axis=1)
    recipe = lp.Recipe(lambda: torch.nn.Linear(4, outputs), lr=0.02, batch_size=50)
    said = distil(recipe, X[:400], answers[:400], X[400:], Distillation(epochs=40))
    assert said.shape == (40, 200, max(2, outputs))
    apart = np.abs(softmax(said, axis=2) - answers[400:]).mean(axis=(1, 2))
    assert apart[0] > 0.1
    assert apart[-1] < 0.01


def test_students_do_not_start_where_a_target_of_the_same_seed_started():
    recipe = lp.Recipe(lambda: torch.nn.Linear(4, 3), optimizer="sgd", lr=1e-12)
    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    for seed in range(3):
        (said, _), (again, _) = (
            distil(recipe, X, np.full((50, 3), 1 / 3), X, Distillation(2, seed=seed)) for _ in "ab"
        )
        with torch.no_grad():
            untrained = recipe.build(seed)(torch.from_numpy(X)).numpy()
        np.testing.assert_array_equal(said, again)
        assert np.abs(said - untrained).max() > 0.01


def test_batch_normalisation_survives_a_remainder_of_one():
    make = lambda: torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))  # noqa: E731
    X = np.random.default_rng(0).normal(size=(33, 2)).astype(np.float32)
    said = distil(lp.Recipe(make, batch_size=16), X, np.full((33, 2), 0.5), X, Distillation(epochs=2))
    assert np.isfinite(said).all()


def test_signals_along_the_path():
    logits, labels = np.random.default_rng(0).normal(size=(4, 7, 3)), np.arange(7) % 3
    p = softmax(logits, axis=-1)
    own = p[:, np.arange(7), labels].T
    np.testing.assert_allclose(loss_trajectory(logits, labels), -np.log(own))
    np.testing.assert_allclose(log_odds_trajectory(logits, labels), np.log(own / (1 - own)))
    rest = p.copy()
    rest[:, np.arange(7), labels] = 0
    modified = (1 - own) * np.log(own) + (rest * np.log(1 - rest)).sum(axis=-1).T
    expected = [np.log(own), p.max(axis=-1).T, p.std(axis=-1).T, (p * np.log(p)).sum(axis=-1).T, modified]
    got = signal_sequence(logits, labels)
    assert got.shape == (7, 4, 6)
    np.testing.assert_allclose(got[..., :5], np.stack(expected, axis=-1))
    np.testing.assert_allclose(got[..., 5], log_odds(logits, labels).T)
    assert spread(np.zeros((2, 4)), np.zeros(2, dtype=int)).tolist() == [0.0, 0.0]


# --- where they cannot run


def without(view: View, **fields) -> View:
    return dataclasses.replace(view, **fields, _cache={})


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_what_is_lacking_is_one_clear_sentence(attack):
    view, _ = world("classes", shadows=2)
    with pytest.raises(NotApplicable, match="needs shadow models"):
        attack.run(without(view, references=None))
    with pytest.raises(AccessDenied, match="ask the shadow models"):
        attack.run(without(view, references=dataclasses.replace(view.references, models=())))
    with pytest.raises(AccessDenied, match="ask the target"):
        attack.run(without(view, oracle=None))
    with pytest.raises(AccessDenied, match="records themselves"):
        attack.run(without(view, inputs=None))
    unseen = dataclasses.replace(view.references, trained_on=np.zeros_like(view.references.trained_on))
    with pytest.raises(NotApplicable, match="on some of the records in question and not on others"):
        attack.run(without(view, references=unseen))


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_without_a_population_the_records_in_question_teach(attack):
    view, member = world("classes", shadows=2)
    bare = without(view, population=None, population_labels=None, population_inputs=None, population_references=None)
    assert low_end(attack, bare, member) > 0.85
    with pytest.raises(NotApplicable, match=r"population of at least 50 records .* material=everything"):
        dataclasses.replace(attack, material="population").run(bare)


@pytest.mark.parametrize("name", ["trajectory", "sequence"])
@pytest.mark.parametrize(("option", "value"), [("epochs", 1), ("shadows", 0), ("material", "all"), ("seed", -1)])
def test_unknown_options_are_refused(name, option, value):
    with pytest.raises(InputError, match=f"{name}.{option}"):
        create(name, {option: value})


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("trajectory", "signal", "x"), ("sequence", "reader", "x"), ("sequence", "hidden", 0)],
)
def test_options_of_one_attack_are_checked(name, option, value):
    with pytest.raises(InputError, match=f"{name}.{option}"):
        create(name, {option: value})
