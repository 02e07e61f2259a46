"""Ranges: how points are drawn, how their scores are combined, and what the attack sees and does not see."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score
from worlds import permuted, world

from leakpro_nb.attacks import create
from leakpro_nb.attacks.usage.range_membership import (
    RangeMembership,
    aggregate,
    choose_trim,
    log_mean_exp,
    range_view,
    trim_table,
    trimmed_mean,
)
from leakpro_nb.attacks.usage.samplers import (
    Altered,
    Ball,
    MissingValues,
    Sample,
    WordReplacement,
    default_radius,
    scales,
)
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.game.oracle import Oracle
from leakpro_nb.measures import auc_interval


@pytest.fixture(scope="module")
def case(cases):
    """Return the folder of the case, and scores (1000, 10) and truth of its full run."""
    folder = cases / "rmia_duci_ramia_dp"
    run = np.load(folder / "ramia_run" / "attack_result_0.npz")
    return folder, run["scores"].reshape(1000, 10), run["memberships"].reshape(1000, 10)[:, 0].astype(bool)


LARGEST = {10: 0.8828, 9: 0.8885, 8: 0.8913, 7: 0.8897, 5: 0.8730, 1: 0.8077}
SMALLEST = {1: 0.8443, 5: 0.8808, 9: 0.8829}


def test_case_range_scores_reach_the_known_figures(case):
    _, A, member = case
    assert roc_auc_score(np.repeat(member, 10), A.ravel()) == pytest.approx(0.8262, abs=5e-5)
    table = trim_table(A, member)
    assert {k: table[k, "largest"] for k in LARGEST} == pytest.approx(LARGEST, abs=5e-5)
    assert {k: table[k, "smallest"] for k in SMALLEST} == pytest.approx(SMALLEST, abs=5e-5)
    assert roc_auc_score(member, trimmed_mean(A, 9, "largest")) == pytest.approx(0.8885, abs=5e-5)
    assert roc_auc_score(member, aggregate(A, "mean")) == pytest.approx(0.8828, abs=5e-5)
    assert roc_auc_score(member, aggregate(A, "max")) == pytest.approx(0.8077, abs=5e-5)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
@pytest.mark.parametrize(("direction", "name"), [("largest", "bottom"), ("smallest", "top")])
def test_case_trimming_equals_the_peers(case, share, direction, name):
    """At .8 and .9 the peer loses a point to rounding, down to none: there we keep what the ratio says."""
    folder, _, _ = case
    scores = np.load(folder / "ramia" / "scores.npy")
    theirs = np.load(folder / "ramia" / f"trim_{name}_{share}.npy")
    np.testing.assert_allclose(trimmed_mean(scores, round(10 * (1 - share)), direction), theirs, atol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_trimmed_mean_at_both_ends(n):
    A = np.random.default_rng(0).normal(size=(50, n))
    np.testing.assert_allclose(trimmed_mean(A, n, "largest"), A.mean(axis=1))
    np.testing.assert_allclose(trimmed_mean(A, n, "smallest"), A.mean(axis=1))
    np.testing.assert_allclose(trimmed_mean(A, 1, "largest"), A.max(axis=1))
    np.testing.assert_allclose(trimmed_mean(A, 1, "smallest"), A.min(axis=1))
    for k in range(1, n + 1):
        assert np.isfinite(trimmed_mean(A, k, "largest")).all()


@pytest.mark.parametrize("k", [0, 11, 2.5, True])
def test_trimmed_mean_refuses_what_would_be_nan(k):
    with pytest.raises(InputError, match="keep from 1 to 10"):
        trimmed_mean(np.zeros((3, 10)), k, "largest")


def test_log_mean_exp_is_exact_for_huge_scores():
    A = np.array([[1000.0, 1000.0], [0.0, np.log(3)]])
    np.testing.assert_allclose(log_mean_exp(A), [1000.0, np.log(2)])
    B = np.random.default_rng(0).normal(size=(20, 6))
    np.testing.assert_allclose(log_mean_exp(B), logsumexp(B, axis=1) - np.log(6))


@pytest.mark.parametrize("how", ["trimmed", "mean", "max", "log_mean_exp", "centre"])
def test_a_point_without_score_leaves_its_range_without(how):
    A = np.array([[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]])
    scores = aggregate(A, how, 2)
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])


def test_choice_of_k_and_direction_finds_where_the_signal_is():
    rng = np.random.default_rng(0)
    member = np.arange(2000) < 1000
    top, bottom = rng.normal(size=(2, 2000, 10))
    top = np.sort(top, axis=1) + np.r_[np.zeros(7), [2.0] * 3] * member[:, None]
    bottom = np.sort(bottom, axis=1) - np.r_[[2.0] * 3, np.zeros(7)] * ~member[:, None]
    assert choose_trim([(top, member)])[1] == "largest"
    assert choose_trim([(top, member)])[0] <= 4
    assert choose_trim([(bottom, member)])[1] == "smallest"
    assert choose_trim([(bottom, member)])[0] <= 4
    assert choose_trim([]) is None
    assert choose_trim([(top, np.ones(2000, dtype=bool))]) is None


# samplers


@pytest.mark.parametrize("D", [1, 2, 5, 40])
def test_uniform_ball_fills_the_ball_evenly(D):
    X = np.random.default_rng(0).normal(size=(4000, D))
    ball = Ball(1.5, scale=(1.0,) * D)
    offsets = ball.draw(X, 3) - X
    radius = np.linalg.norm(offsets, axis=1)
    assert radius.max() <= 1.5
    assert kstest((radius / 1.5) ** D, "uniform").pvalue > 0.001
    assert np.abs(offsets.mean(axis=0)).max() < 5 * 1.5 / np.sqrt(4000)


def test_gaussian_ball_is_the_papers():
    X = np.random.default_rng(0).normal(size=(4000, 20))
    radius = np.linalg.norm(Ball(1.5, "gaussian", (1.0,) * 20).draw(X, 1) - X, axis=1)
    proposals = np.linalg.norm(np.random.default_rng(1).normal(0, 1.5 / np.sqrt(20), (40_000, 20)), axis=1)
    assert radius.max() <= 1.5
    assert kstest(radius, proposals[proposals <= 1.5]).pvalue > 0.001


def test_case_ball_of_the_peer_looks_like_ours(case):
    folder, _, _ = case
    centre, theirs = (np.load(folder / "ramia" / f"{name}.npy") for name in ("center", "l2_r1_5_seed0"))
    ball = Ball(1.5, "gaussian", (1.0,) * 20)
    ours = np.concatenate([ball.draw(centre[None], j) for j in range(1, 2001)])
    assert np.linalg.norm(theirs - centre, axis=1).max() <= 1.5
    assert kstest(np.linalg.norm(theirs - centre, axis=1), np.linalg.norm(ours - centre, axis=1)).pvalue > 0.001


def test_scales_are_standard_deviations_and_one_for_yes_or_no():
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.normal(0, 7, 5000), rng.random(5000) < 0.01, np.ones(5000)])
    np.testing.assert_allclose(scales(table), [7, 1, 0], rtol=0.05)
    moved = Ball(0.5).fitted(table).draw(table, 1)
    assert (moved[:, 2] == 1).all()
    assert np.abs(moved[:, 0] - table[:, 0]).max() > 2


def test_default_radius_reaches_a_neighbour_for_one_in_ten():
    points = np.random.default_rng(0).normal(size=(1000, 3))
    radius = default_radius(points)
    near = Ball(radius, scale=(1.0,) * 3).inside(points, points, np.arange(1000)).sum(axis=1)
    assert np.mean(near > 1) == pytest.approx(0.1, abs=0.005)
    assert default_radius(np.repeat(points, 2, axis=0)) == pytest.approx(radius)


@pytest.mark.parametrize("kind", [np.float32, "frame", "tensor", "image"])
def test_samples_keep_the_type_and_the_shape(kind):
    X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    given = {
        "frame": pd.DataFrame(X, columns=list("abcd"), index=range(5, 35)), "tensor": torch.as_tensor(X),
        "image": X.reshape(30, 1, 2, 2),
    }.get(kind, X)  # fmt: skip
    for sampler in [Ball(0.1).fitted(given)] + ([Altered()] if kind == "image" else []):
        new = sampler.draw(given, 2)
        assert type(new) is type(given)
        assert new.shape == given.shape
        assert np.asarray(new).dtype == np.float32
        assert sampler.draw(given, 0) is given


def samplers_and_records():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 6))
    frame = pd.DataFrame({"a": range(40), "b": rng.integers(3, size=40), "c": rng.choice(["x", "y", "z"], 40)})
    texts = np.array([f"word{i} is a text of some words {i % 7}" for i in range(40)])
    return {
        "ball": (Ball(1.0).fitted(X), X),
        "gaussian": (Ball(1.0, "gaussian").fitted(X), X),
        "missing": (MissingValues(("b", "c")).fitted(frame), frame),
        "images": (Altered(), rng.random((40, 1, 8, 8))),
        "words": (WordReplacement(toy_fill), texts),
    }


def toy_fill(texts):
    return [[["one", "two", "three"] for word in text.split() if word == "[MASK]"] for text in texts]


@pytest.mark.parametrize("name", ["ball", "gaussian", "missing", "images", "words"])
@pytest.mark.parametrize("j", [1, 2, 5])
def test_samples_depend_on_neither_order_nor_company(name, j):
    sampler, X = samplers_and_records()[name]
    order = np.random.default_rng(1).permutation(40)[:25]
    part = X.iloc[order] if hasattr(X, "iloc") else X[order]
    whole, alone = sampler.draw(X, j), sampler.draw(part, j)
    assert np.array_equal(np.asarray(whole)[order], np.asarray(alone))
    assert not np.array_equal(np.asarray(sampler.draw(X, j + 1)), np.asarray(whole))
    other = dataclasses.replace(sampler, seed=1)
    if j > 1:  # the first picture is the mirror image, whatever the seed
        assert not np.array_equal(np.asarray(other.draw(X, j)), np.asarray(whole))
    assert hash(Sample(sampler, j)) == hash(Sample(dataclasses.replace(sampler), j))


def test_pictures_are_mirrored_turned_and_shifted_a_little():
    rng = np.random.default_rng(0)
    X = rng.random((5, 1, 16, 16)).astype(np.float32)
    assert np.array_equal(Altered().draw(X, 1), X[..., ::-1])
    still = Altered(degrees=0, pixels=0)
    for j in (2, 3):
        np.testing.assert_allclose(still.draw(X, j), X, atol=1e-6)
        assert np.abs(Altered().draw(X, j) - X).max() > 0.01
    flat = np.full((2, 8, 8), 3.0)
    for j in range(1, 6):
        np.testing.assert_allclose(Altered().draw(flat, j), 3.0, atol=1e-9)


def test_words_are_replaced_by_others_that_fit():
    texts = np.array(["a b c d e f", "one", ""], dtype=object)
    sampler = WordReplacement(toy_fill, words=2)
    seen = set()
    for j in range(1, 40):
        new = sampler.draw(texts, j)
        changed = [w for w, old in zip(new[0].split(), "abcdef", strict=True) if w != old]
        assert 1 <= len(changed) <= 2
        assert set(changed) <= {"one", "two", "three"}
        assert new[1] in {"two", "three"}  # never the original
        assert new[2] == ""
        seen.add(new[0])
    assert len(seen) > 20


def test_missing_values_go_through_all_there_are():
    frame = pd.DataFrame({"id": range(4), "sex": list("mfmf"), "ward": list("abca"), "age": [1.5, 2.5, 9.0, 4.0]})
    sampler = MissingValues(("sex", "ward")).fitted(frame)
    assert sampler.values == (("f", "m"), ("a", "b", "c"))
    assert sampler.count(10) == 6
    drawn = [sampler.draw(frame, j) for j in range(6)]
    for row in range(4):
        assert len({tuple(each.iloc[row][["sex", "ward"]]) for each in drawn}) == 6
        assert all(each.iloc[row]["age"] == frame["age"][row] for each in drawn)
    assert MissingValues(("age",), ((0.0, 1.0),)).count(10) == 10
    assert (
        MissingValues(("sex", "age"), (["m", "f"], (0.0, 1.0))).fitted(frame).draw(frame, 3)["age"].between(0, 1).all()
    )


def test_missing_values_do_not_look_at_what_is_missing():
    frame = pd.DataFrame({"id": range(4), "sex": list("mfmf"), "n": [1, 2, 3, 4]})
    sampler = MissingValues(("sex",)).fitted(frame)
    pd.testing.assert_frame_equal(sampler.draw(frame, 1), sampler.draw(frame.assign(sex="m"), 1))


def test_missing_values_range_holds_whoever_agrees():
    frame = pd.DataFrame({"id": [0, 0, 1, 2], "sex": list("mfmf")})
    inside = MissingValues(("sex",)).fitted(frame).inside(frame.iloc[[0, 3]], frame, np.array([0, 3])).toarray()
    assert inside.tolist() == [[True, True, False, False], [False, False, False, True]]
    table = np.array([[0.0, 5.0, 1.0], [0.0, 5.0, 2.0], [1.0, 5.0, 1.0]])
    numbered = MissingValues((2,)).fitted(table)
    assert numbered.inside(table[:1], table, np.array([0])).toarray().tolist() == [[True, True, False]]
    assert set(numbered.draw(table, 0)[:, 2]) <= {1.0, 2.0}


def test_a_numeric_column_becomes_an_interval_and_a_short_one_a_list():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=200), "n": rng.integers(3, size=200), "k": range(200), "id": range(200)})
    sampler = MissingValues(("x", "n", "k")).fitted(frame)
    assert sampler.values[0] == (frame["x"].min(), frame["x"].max())
    assert sampler.values[1] == (0, 1, 2)
    assert len(sampler.values[2]) == 200
    drawn = sampler.draw(frame, 1)
    assert drawn["x"].between(frame["x"].min(), frame["x"].max()).all()
    assert drawn["k"].dtype == frame["k"].dtype


TABLE = np.random.default_rng(0).normal(size=(20, 3))
FRAME = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "z"]})


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: Ball(0), "use a positive number"),
        (lambda: Ball(-1.0), "use a positive number"),
        (lambda: Ball(float("nan")), "use a positive number"),
        (lambda: Ball(1.0, "square"), "use uniform or gaussian"),
        (lambda: Ball(1.0).fitted(FRAME), "a distance needs numbers"),
        (lambda: Ball(1.0).fitted(np.array(["a", "b"])), "a distance needs numbers"),
        (lambda: Ball().fitted(np.ones((5, 2))), "records that differ"),
        (lambda: MissingValues(()), "name at least one column"),
        (lambda: MissingValues("a"), "name at least one column"),
        (lambda: MissingValues(("a", "a")), "every column once"),
        (lambda: MissingValues(("a",), ((2.0, 1.0),)), r"pair \(low, high\)"),
        (lambda: MissingValues(("a",), ([],)), "give values to choose from"),
        (lambda: MissingValues(("c",)).fitted(FRAME), "not a column of the records; they have a, b"),
        (lambda: MissingValues(("a", "b")).fitted(FRAME), "leave at least one column"),
        (lambda: MissingValues(("a",)).fitted(TABLE), "a number from 0 to 2"),
        (lambda: MissingValues((3,)).fitted(TABLE), "a number from 0 to 2"),
        (lambda: MissingValues((0,)).fitted(np.zeros((4, 2, 2))), "the records are no table"),
        (lambda: Altered().fitted(TABLE), "no picture"),
        (lambda: Altered(degrees=-1), "an angle"),
        (lambda: Altered(pixels=-1), "at least 0"),
        (lambda: WordReplacement(None), "pass a function"),
        (lambda: WordReplacement(toy_fill, words=0), "at least 1"),
        (lambda: WordReplacement(toy_fill).fitted(TABLE), "no texts"),
        (lambda: RangeMembership(create("base"), samples=0), "at least 1"),
        (lambda: RangeMembership(create("base"), how="median"), "use one of"),
        (lambda: RangeMembership(create("base"), k=11), "keep from 1 to 10"),
        (lambda: RangeMembership(create("base"), direction="up"), "largest or smallest"),
    ],
)
def test_bad_input_is_named_in_one_sentence(act, words):
    with pytest.raises(InputError, match=words):
        act()


# the attack on models


def ranges_of(view, radius):
    """Return the view in which ranges around its records stand for them, and the attack's sampler."""
    ball = Ball(radius).fitted(view.features())
    n = len(view)
    inside = ball.inside(view.features(), view.features(), np.arange(n))
    trained_on = np.asarray((inside @ view.references.trained_on.T.astype(int)).T > 0)
    return range_view(view, view.features(), view.labels, trained_on), ball, inside


@pytest.mark.parametrize("kind", ["classes", "forest", "one_logit"])
@pytest.mark.parametrize("how", ["trimmed", "mean", "centre"])
def test_finds_ranges_of_a_leaking_model(kind, how):
    view, member = world(kind)
    ranges, ball, inside = ranges_of(view, 0.5)
    truth = np.asarray(inside @ member.astype(int)) > 0
    scores = RangeMembership(create("base_offline"), ball, 8, how).run(ranges).values
    known = ~np.isnan(scores)
    assert known.mean() > 0.95
    assert roc_auc_score(truth[known], scores[known]) > 0.6


@pytest.mark.parametrize("kind", ["classes", "forest"])
@pytest.mark.parametrize("point", ["base", "base_offline"])
def test_finds_nothing_where_there_is_nothing(kind, point):
    view, member = world(kind, leak=False)
    ranges, ball, inside = ranges_of(view, 0.5)
    truth = np.asarray(inside @ member.astype(int)) > 0
    scores = RangeMembership(create(point), ball, 8).run(ranges).values
    known = ~np.isnan(scores)
    _, low, high = auc_interval(scores[known], truth[known], 0.99)
    assert low <= 0.5 <= high


def test_points_near_a_picture_give_it_away():
    view, member = world("image")
    attack = RangeMembership(create("base_offline"), Altered(degrees=5, pixels=0.5, mirror=False), 5)
    assert roc_auc_score(member, attack.run(view).values) > 0.6


def test_references_are_members_of_a_range_when_they_trained_on_any_record_in_it():
    view, _ = world("classes")
    ranges, _, inside = ranges_of(view, 3.0)
    several = np.flatnonzero(np.asarray(inside.sum(axis=1)).ravel() > 1)
    assert len(several) > 10
    for r in several[:20]:
        rows = inside[r].indices
        assert np.array_equal(ranges.references.trained_on[:, r], view.references.trained_on[:, rows].any(axis=1))


def test_tuning_does_not_look_at_the_target():
    view, _ = world("classes")
    ranges, ball, _ = ranges_of(view, 1.0)
    rng = np.random.default_rng(0)
    noise = Oracle(lambda: lambda X: rng.normal(size=(len(X), 5)), 5)
    scrambled = dataclasses.replace(ranges, logits=rng.permutation(ranges.logits), oracle=noise, _cache={})
    attack = RangeMembership(create("base_offline"), ball, 6)
    honest, other = attack.run(ranges), attack.run(scrambled)
    assert (honest.notes["k"], honest.notes["direction"]) == (other.notes["k"], other.notes["direction"])
    assert honest.notes["k chosen on"] == "shadow models"
    assert not np.allclose(honest.values, other.values)


def test_what_was_chosen_makes_the_same_attack_again():
    view, _ = world("classes")
    ranges, ball, _ = ranges_of(view, 1.0)
    attack = RangeMembership(create("base_offline"), ball, 6)
    scores = attack.run(ranges)
    again = dataclasses.replace(attack, k=scores.notes["k"], direction=scores.notes["direction"]).run(ranges)
    assert np.array_equal(scores.values, again.values)
    assert again.notes["k chosen on"] == "fixed beforehand"


def test_without_shadow_models_the_plain_mean_is_kept():
    view, member = world("classes")
    alone = dataclasses.replace(view, references=None, population_references=None, _cache={})
    attack = RangeMembership(create("population"), Ball(0.5).fitted(view.features()), 5)
    scores = attack.run(alone)
    assert (scores.notes["k"], scores.notes["direction"]) == (5, "largest")
    assert roc_auc_score(member, scores.values) > 0.55


@pytest.mark.parametrize("how", ["trimmed", "max"])
def test_the_order_of_the_records_does_not_matter(how):
    view, _ = world("classes")
    ranges, ball, _ = ranges_of(view, 1.0)
    order = np.random.default_rng(3).permutation(len(ranges))
    attack = RangeMembership(create("base_offline"), ball, 5, how)
    np.testing.assert_allclose(attack.run(permuted(ranges, order)).values, attack.run(ranges).values[order], atol=1e-5)


def test_predictions_alone_are_not_enough():
    view, _ = world("classes")
    stored = dataclasses.replace(view, oracle=None, inputs=None, _cache={})
    with pytest.raises(AccessDenied, match="only predictions"):
        RangeMembership(create("base_offline"), Ball(1.0)).run(stored)


def test_labels_alone_can_be_attacked():
    view, member = world("classes", access="labels")
    attack = RangeMembership(create("gap"), Ball(0.5).fitted(view.features()), 8, "mean")
    scores = attack.run(view).values
    assert len(np.unique(scores)) > 2  # asking around the centre turns yes or no into a number
    assert roc_auc_score(member, scores) > 0.55
