"""Label-only attacks: strong where there is a leak, blind where there is none, and content with labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from worlds import permuted, world

from leakpro_nb.attacks import NotApplicable, create
from leakpro_nb.attacks.membership.augmentation import Augmentation, Noise
from leakpro_nb.attacks.membership.boundary import Boundary
from leakpro_nb.attacks.membership.gap import Gap
from leakpro_nb.attacks.membership.label_only import as_numbers, space_of, with_numbers
from leakpro_nb.attacks.membership.oslo import Oslo, sources_and_validators
from leakpro_nb.attacks.membership.yoqo import Yoqo, graded
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.game.oracle import Oracle
from leakpro_nb.game.views import References, View
from leakpro_nb.measures import auc_interval


def labels_only(kind, **options):
    """Return a view that reveals labels only, and its truth; fewer images than records of tables, to save time."""
    view, member = world(kind, access="labels", **options)
    rows = np.arange(0, len(view), 4 if kind == "image" else 2)
    return permuted(view, rows), member[rows]


QUICK = {"queries": 400}
TABLES = ("classes", "one_logit", "two_logits")
# lower bounds of the lower end of the AUC's interval; for attacks that say yes or no the AUC is the balanced accuracy
STRONG = [
    *[(Augmentation(copies=16), kind, low) for kind, low in zip((*TABLES, "forest"), (0.77, 0.65, 0.65, 0.60), strict=True)],
    (Augmentation("calibrated", copies=16), "classes", 0.80),
    *[(Boundary(**QUICK), kind, low) for kind, low in zip((*TABLES, "forest"), (0.77, 0.60, 0.60, 0.55), strict=True)],
    (Boundary("calibrated", **QUICK), "forest", 0.65),
    *[(Yoqo(), kind, low) for kind, low in zip(TABLES, (0.74, 0.62, 0.60), strict=True)],
    (Yoqo(score="graded"), "classes", 0.79),
    *[(Yoqo("offline"), kind, low) for kind, low in zip(TABLES, (0.74, 0.60, 0.60), strict=True)],
    *[(Oslo(), kind, low) for kind, low in zip(TABLES, (0.78, 0.63, 0.63), strict=True)],
    (Oslo(taus=(0.3,)), "classes", 0.74),
    (Augmentation(copies=8), "image", 0.50),
    (Boundary(**QUICK), "image", 0.50),
    (Yoqo(iterations=60), "image", 0.50),
    (Oslo(), "image", 0.50),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "kind", "bound"), STRONG, ids=lambda value: str(value)[:60])
def test_strong_where_there_is_a_leak(attack, kind, bound):
    view, member = labels_only(kind)
    _, low, _ = auc_interval(attack.run(view).values, member)
    assert low > bound


@pytest.mark.parametrize(
    "attack", [Augmentation(copies=16), Boundary(**QUICK), Yoqo(score="graded"), Oslo()], ids=lambda each: each.title
)
def test_beats_the_baseline_of_those_who_see_labels_only(attack):
    view, member = labels_only("classes")
    gap = auc_interval(Gap().run(view).values, member)[0]
    assert auc_interval(attack.run(view).values, member)[0] > gap + 0.02


NULL = [
    Augmentation(copies=8), Augmentation("calibrated", copies=8), Boundary(**QUICK),
    Boundary("calibrated", queries=200), Yoqo(iterations=60), Yoqo(score="graded", iterations=60),
    Yoqo("offline", iterations=60), Oslo(rounds=40),
]  # fmt: skip


@pytest.mark.parametrize("attack", NULL, ids=str)
def test_blind_where_there_is_none(attack):
    """Pooled over three audits of models that trained on none of the records, the interval covers 0.5."""
    scores, truth = [], []
    for seed in range(3):
        view, member = labels_only("one_logit", leak=False, seed=seed)
        values = attack.run(view).values
        scores.append(stats.rankdata(values) / len(values))
        truth.append(member)
    _, low, high = auc_interval(np.concatenate(scores), np.concatenate(truth), 0.99)
    assert low <= 0.5 <= high
    assert high - low < 0.2


@pytest.mark.parametrize("attack", NULL, ids=str)
def test_order_of_records_changes_nothing(attack):
    view, _ = labels_only("two_logits")
    order = np.random.default_rng(3).permutation(len(view))
    np.testing.assert_allclose(attack.run(permuted(view, order)).values, attack.run(view).values[order], atol=1e-12)


@pytest.mark.parametrize(
    "attack", [Boundary(**QUICK), Augmentation(copies=4), Oslo(rounds=20), Yoqo(iterations=30)], ids=str
)
def test_a_record_is_scored_as_if_it_were_alone(attack):
    """Given the population's spread and range, and the changes chosen beforehand, who else is asked about is nothing."""
    view, _ = labels_only("two_logits")
    wide = np.vstack(
        [view.population_inputs, *[np.sign(j) * 9 * np.eye(20)[abs(j) - 1] for j in (*range(-20, 0), *range(1, 21))]]
    )
    wide = wide.astype(np.float32)
    view = dataclasses.replace(
        view, population_inputs=wide, population=view.ask(wide), knows_candidates=True, _cache={}
    )
    if isinstance(attack, Augmentation):
        view = dataclasses.replace(view, knows_candidates=False, _cache={})
    few = permuted(view, np.arange(40))
    alone, among = attack.run(few).values, attack.run(view).values[:40]
    assert np.mean(np.abs(alone - among) > 0.05 * (1 + np.abs(among))) < 0.1  # the spread moves a little


def linear(dimensions: int, *, constant: bool = False):
    """Return a view of a linear model on records of unequal spread, and the exact distances to its boundary."""
    rng = np.random.default_rng(0)
    X, Z = (rng.normal(size=(n, dimensions)) * np.geomspace(0.1, 10, dimensions) for n in (200, 300))
    if constant:
        X[:, 0] = Z[:, 0] = 0.03
    w = rng.normal(size=dimensions) / np.geomspace(0.1, 10, dimensions)

    def model(x):
        return np.stack([np.zeros(len(x)), np.asarray(x) @ w + 0.3], axis=1)

    oracle = Oracle(lambda: model, 2, {"function": "logits"}).behind("labels")
    labels = model(X).argmax(axis=1)
    labels[:5] = 1 - labels[:5]
    view = View(
        access="labels", labels=labels, logits=oracle(X), inputs=X, oracle=oracle, population_inputs=Z,
        population=oracle(Z), population_labels=model(Z).argmax(axis=1),
    )  # fmt: skip
    exact = np.abs(X @ w + 0.3) / np.linalg.norm(w * np.vstack([X, Z]).std(axis=0))
    return view, np.where(np.arange(len(X)) < 5, 0.0, exact)


@pytest.mark.parametrize(("dimensions", "queries", "tolerance"), [(2, 1000, 0.06), (20, 1000, 0.06), (20, 3000, 0.04)])
def test_boundary_distance_of_a_linear_model(dimensions, queries, tolerance):
    """Never less than the exact distance, and at most so much more for 95 of 100 records."""
    view, exact = linear(dimensions)
    found = Boundary(queries=queries).run(view)
    assert (found.values[:5] == 0).all()
    ratio = found.values[5:] / exact[5:]
    assert ratio.min() > 1 - 1e-6
    assert np.quantile(ratio, 0.95) < 1 + tolerance
    assert found.notes["queries per record"] <= queries + 1


def test_boundary_leaves_constant_columns_alone_and_counts_its_queries():
    view, _ = linear(5, constant=True)
    asked = []

    def count(x):
        asked.append(np.asarray(x))
        return view.oracle._model(x)

    counted = dataclasses.replace(view, oracle=Oracle(lambda: count, 2, {"function": "logits"}).behind("labels"))
    found = Boundary(queries=300).run(counted)
    assert all((x[:, 0] == 0.03).all() for x in asked)
    assert sum(map(len, asked)) <= len(view) * (found.notes["queries per record"] - 1) + 100
    around = np.vstack([view.inputs, view.population_inputs])
    low, high = around.min(axis=0), around.max(axis=0)
    assert all(((x >= low - 1e-9) & (x <= high + 1e-9)).all() for x in asked)


def test_boundary_of_a_model_with_one_answer():
    view, _ = linear(3)
    same = Oracle(lambda: lambda x: np.tile([1.0, 0.0], (len(x), 1)), 2, {"function": "logits"}).behind("labels")
    stuck = dataclasses.replace(view, oracle=same, logits=same(view.inputs), population=same(view.population_inputs))
    with pytest.raises(NotApplicable, match="gave everything the same"):
        Boundary().run(stuck)


def test_two_valued_columns_are_measured_by_their_range():
    X = np.column_stack([np.r_[1.0, np.zeros(99)], np.linspace(0, 1, 100), np.full(100, 7.0)])
    view = View("labels", np.zeros(100, dtype=int), np.zeros((100, 2)), inputs=X)
    space = space_of(view)
    assert space.moved.tolist() == [True, True, False]
    np.testing.assert_allclose(space.unit, [0.5, X[:, 1].std()])
    np.testing.assert_array_equal(space.at(np.arange(100), space.points), X.astype(float))


@pytest.mark.parametrize("as_type", [np.asarray, torch.as_tensor, pd.DataFrame])
def test_inputs_keep_their_type_and_precision(as_type):
    X = as_type(np.arange(6, dtype=np.float32).reshape(3, 2))
    back = with_numbers(X, as_numbers(X))
    assert type(back) is type(X)
    assert np.asarray(back).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(back), np.asarray(X))


def test_noise_is_the_same_for_everyone_and_leaves_categories_alone():
    frame = pd.DataFrame({"age": [30.0, 40.0, 90.0], "job": ["a", "b", "a"], "member": [0.0, 1.0, 0.0]})
    noise = Noise(1.0, 0, (10.0, 0.5), (0.0, 0.0), (100.0, 1.0), (False, True))
    moved = noise(frame)
    assert moved["job"].tolist() == frame["job"].tolist()
    assert moved["age"][1] - 40 == pytest.approx(moved["age"][0] - 30)
    assert set(moved["member"]) <= {0.0, 1.0}
    assert hash(noise) == hash(Noise(1.0, 0, (10.0, 0.5), (0.0, 0.0), (100.0, 1.0), (False, True)))


def test_graded_yoqo_counts_the_answer_by_what_it_tells():
    p = np.array([[0.9, 0.5], [0.1, 0.5]])
    inside = np.array([[True, True], [False, False]])
    yes, no = (graded(np.full(2, said), p, inside, ~inside) for said in (True, False))
    assert yes[0] == pytest.approx(np.log(0.7) - np.log(0.3)) == -no[0]
    assert yes[1] == no[1] == 0


def test_oslo_splits_the_models_that_never_saw_the_record():
    trained_on = np.random.default_rng(0).random((24, 50)) < 0.5
    sources, validators = sources_and_validators(trained_on)
    assert not (sources & validators).any()
    assert not ((sources | validators) & trained_on).any()
    assert (validators.sum(axis=0) == np.clip((~trained_on).sum(axis=0) // 4, 1, 3)).all()
    assert not np.any(sources_and_validators(np.array([[False], [False], [True]])))


def test_oslo_at_one_threshold_of_1_is_the_gap_attack():
    view, _ = labels_only("two_logits")
    np.testing.assert_array_equal(Oslo(taus=(1.0,), rounds=2).run(view).values, Gap().run(view).values)


@pytest.mark.parametrize("attack", [Yoqo(), Oslo()], ids=lambda each: each.title)
def test_models_are_left_as_they_were(attack):
    view, _ = labels_only("two_logits")
    model = view.references.models[0].model.train()
    before = [weight.detach().clone() for weight in model.parameters()]
    dataclasses.replace(attack, **({"iterations": 3} if isinstance(attack, Yoqo) else {"rounds": 2})).run(view)
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    model.eval()


@pytest.mark.parametrize("attack", [Augmentation(), Boundary(), Yoqo(), Oslo()], ids=lambda each: each.title)
def test_says_why_it_cannot_run(attack):
    view, _ = labels_only("two_logits")
    with pytest.raises(AccessDenied, match="records themselves"):
        attack.run(dataclasses.replace(view, inputs=None, _cache={}))
    same = dataclasses.replace(view, inputs=np.ones((len(view), 4)), population_inputs=None, population=None, _cache={})
    with pytest.raises(NotApplicable, match="all of these records are the same"):
        attack.run(same)
    words = dataclasses.replace(same, inputs=np.array([["a"]] * len(view)))
    with pytest.raises(NotApplicable, match="not made of numbers"):
        attack.run(words)
    gaps = dataclasses.replace(same, inputs=np.full((len(view), 2), np.nan))
    with pytest.raises(NotApplicable, match="values are missing"):
        attack.run(gaps)


@pytest.mark.parametrize("attack", [Boundary(), Yoqo(), Oslo()], ids=lambda each: each.title)
def test_categories_cannot_be_moved(attack):
    view, _ = labels_only("two_logits")
    n = len(view)
    frame = pd.DataFrame({"age": np.arange(n) / n, "job": ["a", "b"] * (n // 2)})
    with pytest.raises(NotApplicable, match="columns of categories"):
        attack.run(dataclasses.replace(view, inputs=frame, population_inputs=None, population=None, _cache={}))


@pytest.mark.parametrize("attack", [Yoqo(), Oslo()], ids=lambda each: each.title)
def test_forests_have_no_gradient(attack):
    with pytest.raises(NotApplicable, match="only torch networks"):
        attack.run(labels_only("forest")[0])


def test_too_few_shadow_models():
    view, _ = labels_only("two_logits")
    two = view.references.select(np.arange(2), slice(None))
    with pytest.raises(NotApplicable, match="train at least 6"):
        Oslo().run(dataclasses.replace(view, references=two, _cache={}))
    for attack in (Yoqo(), Oslo(), Boundary("calibrated"), Augmentation("calibrated")):
        with pytest.raises(NotApplicable, match="needs shadow models"):
            attack.run(dataclasses.replace(view, references=None, _cache={}))
    bare = References(two.logits, two.trained_on, two.pair)
    with pytest.raises(AccessDenied, match="only their predictions"):
        Yoqo().run(dataclasses.replace(view, references=bare, _cache={}))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("boundary", {"queries": 3}, "at least 50"),
        ("boundary", {"max_evaluations": 1}, "as many as initial_evaluations"),
        ("boundary", {"mode": "x"}, "plain or calibrated"),
        ("augmentation", {"copies": 0}, "at least 1"),
        ("augmentation", {"sizes": [0.0]}, "positive numbers"),
        ("yoqo", {"mode": "x"}, "online or offline"),
        ("yoqo", {"iterations": 0}, "at least 1"),
        ("yoqo_offline", {"score": "graded"}, "use binary"),
        ("oslo", {"taus": [2.0]}, "up to 1"),
        ("oslo", {"step": 0.0}, "positive"),
    ],
)
def test_wrong_option_names_field_and_remedy(name, options, words):
    with pytest.raises(InputError, match=words):
        create(name, options)
