"""Several queries per record, and RMIA's further variants: against brute force, and in worlds with models."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
import worlds
from scipy import stats
from scipy.stats import norm, rankdata
from torch import nn
from worlds import permuted, world

from leakpro_nb.attacks import NotApplicable, create, title_of
from leakpro_nb.attacks.membership import Lira, Rmia, rmia, rmia_direct
from leakpro_nb.attacks.membership.lira import lira_offline, lira_online
from leakpro_nb.attacks.membership.rmia import (
    fit_bins,
    reference_probability,
    rmia_count,
    rmia_ratio,
    rmia_vote,
    rmia_vote_among,
)
from leakpro_nb.attacks.queries import Flip, Identity, Jitter, Rotate, Shift, queried, queries_for, spread_of
from leakpro_nb.attacks.signals import log_odds, probability
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.game.views import Observed
from leakpro_nb.measures import auc_interval

IMAGES = np.random.default_rng(0).random((5, 2, 8, 6)).astype(np.float32)
TABLE = pd.DataFrame(
    {"age": [20, 35, 61, 40], "pressure": [80.5, 91.0, np.nan, 88.0], "smokes": [0, 1, 1, 0], "ward": list("abca")}
)

# --- the changes


@pytest.mark.parametrize("query", queries_for(IMAGES, 18), ids=repr)
def test_images_of_any_type_are_changed_alike_one_by_one(query):
    changed = query(IMAGES)
    assert changed.dtype == IMAGES.dtype
    assert changed.shape == IMAGES.shape
    np.testing.assert_array_equal(query(IMAGES[::-1])[::-1], changed)
    np.testing.assert_array_equal(query(torch.from_numpy(IMAGES)).numpy(), changed)
    np.testing.assert_array_equal(query(IMAGES[:, 0]), changed[:, 0])


def test_flip_shift_and_rotation_do_what_they_say():
    np.testing.assert_array_equal(Flip()(IMAGES), IMAGES[..., ::-1])
    moved = Shift(2, -1)(IMAGES)
    np.testing.assert_array_equal(moved[..., :-1, 2:], IMAGES[..., 1:, :-2])
    np.testing.assert_array_equal(moved[..., :-1, :2], IMAGES[..., 1:, 2:0:-1])  # mirrored at the border
    square = IMAGES[..., :6, :]
    np.testing.assert_allclose(Rotate(90)(square), np.rot90(square, axes=(-2, -1)), atol=1e-6)
    assert Rotate(90)(torch.from_numpy(square)).dtype == torch.float32


def test_the_queries_are_the_papers_eighteen_and_shorter_lists_are_their_beginning():
    every = queries_for(IMAGES, 18)
    assert every[:2] == (Identity(), Flip())
    assert len({query(IMAGES).tobytes() for query in every}) == 18
    for count in (1, 2, 8):
        assert queries_for(IMAGES, count) == every[:count]
    assert len(set(every)) == 18  # hashable, so that a view remembers its answers
    large = np.zeros((1, 3, 32, 32), dtype=np.float32)
    assert {(q.dx, q.dy) for q in queries_for(large, 18) if isinstance(q, Shift)} == {
        (x, y) for x in (-4, 0, 4) for y in (-4, 0, 4)
    } - {(0, 0)}
    with pytest.raises(NotApplicable, match="18 ways"):
        queries_for(IMAGES, 19)


def test_jitter_moves_all_rows_by_the_same_and_keeps_types():
    X = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32) * [1, 100, 0]
    X = X.astype(np.float32)
    one, two = queries_for(X, 3)[1:]
    moved = one(X) - X
    assert one(X).dtype == np.float32
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:1], moved.shape), atol=1e-4)
    assert (moved[:, 2] == 0).all()
    assert abs(moved[0, 1]) > 5 * abs(moved[0, 0])  # in units of the column
    assert not np.allclose(one(X), two(X))
    np.testing.assert_array_equal(one(torch.from_numpy(X)).numpy(), one(X))


def test_jitter_of_a_frame_leaves_categories_and_yes_or_no_alone():
    changed = Jitter(1.0, 1, spread_of(TABLE))(TABLE)
    pd.testing.assert_series_equal(changed.dtypes, TABLE.dtypes)
    pd.testing.assert_frame_equal(changed[["smokes", "ward"]], TABLE[["smokes", "ward"]])
    assert (changed["age"] != TABLE["age"]).all()
    assert changed["pressure"].isna().tolist() == [False, False, True, False]
    assert queries_for(TABLE, 3) == queries_for(TABLE.iloc[[2, 0, 3, 1]], 3)


def test_what_cannot_be_changed_is_one_clear_sentence():
    for query in (Flip(), Shift(1, 0), Rotate(10)):
        with pytest.raises(NotApplicable, match="rows of a table"):
            query(TABLE)
    with pytest.raises(NotApplicable, match="cannot be moved"):
        Shift(6, 0)(IMAGES)
    for X in (np.zeros((4, 3), dtype=np.int64), TABLE[["smokes", "ward"]], np.eye(4, dtype=np.float32)):
        with pytest.raises(NotApplicable, match="several queries need images, or a table with numbers"):
            queries_for(X, 2)


# --- votes, bins and pairs, against brute force


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("queries", [1, 2, 5])
def test_votes_equal_all_pairs(monkeypatch, queries, gamma):
    rng = np.random.default_rng(0)
    x, z = np.round(rng.lognormal(size=(queries, 60)), 1), np.round(rng.lognormal(size=(queries, 40)), 1)
    x[0, 7] = np.nan
    monkeypatch.setattr(rmia, "PAIRS_AT_ONCE", 333)  # blocks of eight records, the last one short
    brute = [
        np.nan
        if np.isnan(x[:, i]).any()
        else np.mean([sum(x[q, i] / gamma > z[q, j] for q in range(queries)) > queries / 2 for j in range(40)])
        for i in range(60)
    ]
    np.testing.assert_allclose(rmia_vote(x, z, gamma), brute, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("queries", [1, 3])
def test_among_the_audited_nobody_is_compared_with_themselves(queries, gamma):
    rng = np.random.default_rng(1)
    x = np.round(rng.lognormal(size=(queries, 50)), 1)
    x[:, 4] = np.nan
    known = [j for j in range(50) if j != 4]
    brute = [
        np.nan if i == 4 else np.mean([(x[:, i] / gamma > x[:, j]).sum() > queries / 2 for j in known if j != i])
        for i in range(50)
    ]
    np.testing.assert_allclose(rmia_vote_among(x, gamma), brute, atol=1e-12)


def test_correction_is_that_of_the_research_code_where_a_record_counts_itself():
    x = np.array([[1.0, 3.0, 2.0, 5.0]])
    raw = rmia_count(x[0], x[0], 0.9)
    np.testing.assert_allclose(rmia_vote_among(x, 0.9), (raw * 4 - 1) / 3)
    with pytest.raises(NotApplicable, match="fewer than two"):
        rmia_vote_among(np.array([[1.0, np.nan]]))


def test_votes_never_hold_all_pairs_in_memory():
    rng = np.random.default_rng(0)
    x, z = rng.random((3, 8_000)), rng.random((3, 8_000))
    tracemalloc.start()
    rmia_vote(x, z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000 * 8_000 / 4  # a quarter of a byte per pair


def test_bins_join_medians_and_never_fall():
    rng = np.random.default_rng(0)
    inside = rng.random((6, 400)) < 0.5
    p = np.clip(rng.random(400) + 0.1 * inside, 0.01, 0.99) * rng.uniform(0.9, 1, (6, 400))
    seen = Observed(p[0], p[1:], inside[1:])
    curve = fit_bins(seen, bins=8)
    out = np.array([p[1:][~inside[1:, i], i].mean() if (~inside[1:, i]).any() else np.nan for i in range(400)])
    prior = reference_probability(p[1:], inside[1:])
    both = ~np.isnan(prior)
    groups = np.array_split(np.argsort(out[both]), 8)
    np.testing.assert_allclose(curve.mean_out, [np.median(out[both][g]) for g in groups])
    highest = np.maximum.accumulate([np.median(prior[both][g]) for g in groups])
    np.testing.assert_allclose(curve(curve.mean_out), highest)
    assert (np.diff(curve(np.linspace(0, 1, 99))) >= 0).all()
    assert np.isnan(curve(np.array([np.nan]))).all()
    with pytest.raises(NotApplicable, match="some shadow models trained on"):
        fit_bins(Observed(p[0], p[1:], np.zeros_like(inside[1:])))


def test_direct_equals_all_pairs_one_by_one():
    rng = np.random.default_rng(0)
    models, n, m, gamma = 14, 9, 11, 1.5
    x = Observed(rng.normal(size=n), rng.normal(size=(models, n)), rng.random((models, n)) < 0.5)
    z = Observed(rng.normal(size=m), rng.normal(size=(models, m)), rng.random((models, m)) < 0.5)
    x.trained_on[:, 3] = True  # no model without it: nothing to compare

    def density(phi, values):
        return norm.logpdf(phi, np.median(values), np.std(values))

    brute = np.full(n, np.nan)
    for i in range(n):
        votes = []
        for j in range(m):
            a = x.trained_on[:, i] & ~z.trained_on[:, j]
            b = ~x.trained_on[:, i] & z.trained_on[:, j]
            if a.sum() < 2 or b.sum() < 2:
                continue
            ratio = sum(
                sign * density(seen.target[k], seen.references[side, k])
                for sign, side in ((1, a), (-1, b))
                for seen, k in ((x, i), (z, j))
            )
            votes.append(ratio > np.log(gamma))
        if votes:
            brute[i] = np.mean(votes)
    np.testing.assert_allclose(rmia_direct.rmia_direct(x, z, gamma), brute, atol=1e-12)
    assert np.isnan(brute[3])


def test_direct_refuses_large_audits_and_what_no_pair_tells_apart(monkeypatch):
    few = Observed(np.zeros(3), np.zeros((2, 3)), np.array([[True] * 3, [False] * 3]))
    with pytest.raises(NotApplicable, match="2 shadow models tell apart"):
        rmia_direct.rmia_direct(few, few)
    monkeypatch.setattr(rmia_direct, "LARGEST", 8)
    with pytest.raises(NotApplicable, match="9 pairs of records"):
        rmia_direct.rmia_direct(few, few)


# --- in worlds with models

ASKING = [
    Lira(queries=4),
    Lira(mode="offline", queries=4),
    Rmia(queries=4),
    Rmia(mode="offline", queries=3),
    Rmia(score="count", queries=3),
    Rmia(score="count", z="audit", queries=2),
]
VARIANTS = [
    *ASKING,
    Rmia(score="count", z="audit"),
    Rmia(mode="offline", offline_map="bins"),
    Rmia(mode="offline", offline_map="bins", score="count", reference_mean="trimmed"),
    Rmia(score="direct"),
]


def test_who_asks_more_than_once_says_so():
    assert title_of(create("rmia_queries")) == "RMIA (online, several queries)"
    assert all(attack.asks for attack in ASKING)
    assert not any(attack.asks for attack in (Lira(), Rmia(), Rmia(score="direct")))


@pytest.mark.parametrize("attack", VARIANTS, ids=repr)
@pytest.mark.parametrize("kind", ["classes", "image", "forest"])
def test_strong_where_there_is_a_leak(kind, attack):
    view, member = world(kind)
    _, low, _ = auc_interval(attack.run(view).values, member)
    assert low > {"classes": 0.55, "image": 0.55, "forest": 0.6}[kind]


@pytest.mark.parametrize("attack", VARIANTS, ids=repr)
def test_blind_where_there_is_none(attack):
    scores, truth = [], []
    for kind, seed in (("classes", 0), ("image", 0), ("classes", 1)):
        view, member = world(kind, leak=False, seed=seed)
        values = attack.run(view).values
        scores.append(rankdata(values) / len(values))
        truth.append(member)
    _, low, high = auc_interval(np.concatenate(scores), np.concatenate(truth), 0.99)
    assert low <= 0.5 <= high


@pytest.mark.parametrize("attack", VARIANTS, ids=repr)
@pytest.mark.parametrize("kind", ["classes", "image"])
def test_order_of_records_changes_nothing(kind, attack):
    view, _ = world(kind)
    order = np.random.default_rng(3).permutation(len(view))
    ours, theirs = attack.run(permuted(view, order)).values, attack.run(view).values[order]
    if getattr(attack, "score", "") in ("count", "direct"):
        # single precision moves a ratio by a millionth, and so now and then a record past another
        assert np.abs(ours - theirs).mean() < 1e-4
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_lira_averages_its_queries():
    view, _ = world("image")
    views = queried(view, 3)
    assert views[0] is view
    for mode, score in (("online", lira_online), ("offline", lira_offline)):
        each = [score(*v.signal(log_odds).audit) for v in views]
        np.testing.assert_allclose(Lira(mode, queries=3).run(view).values, sum(each) / 3)
    flipped = log_odds(view.ask(Flip()(view.features())), view.labels)
    np.testing.assert_allclose(views[1].signal(log_odds).audit.target, flipped)


def test_rmia_averages_logarithms_or_takes_the_vote():
    view, _ = world("image")
    x, z = [], []
    for v in queried(view, 3):
        signal = v.signal(probability)
        x.append(rmia_ratio(signal.audit.target, reference_probability(*signal.audit[1:])))
        z.append(rmia_ratio(signal.population.target, reference_probability(*signal.population[1:], population=True)))
    np.testing.assert_allclose(Rmia(queries=3).run(view).values, np.log(x).mean(axis=0))
    votes = np.sum([np.greater.outer(a, b) for a, b in zip(x, z, strict=True)], axis=0)
    np.testing.assert_allclose(Rmia(score="count", queries=3).run(view).values, (votes >= 2).mean(axis=1))


def test_one_query_needs_no_more_than_stored_predictions():
    view, _ = world("image")
    stored = dataclasses.replace(view, oracle=None, inputs=None, _cache={})
    for attack in (Lira(queries=2), Rmia(queries=2)):
        assert np.isfinite(dataclasses.replace(attack, queries=1).run(stored).values).all()
        with pytest.raises(AccessDenied, match="only predictions"):
            attack.run(stored)


def test_bins_are_read_off_records_that_the_attacker_trained_on():
    view, _ = world("classes")
    scrambled = dataclasses.replace(view, logits=view.logits[::-1], oracle=None, _cache={})
    p = view.signal(probability).audit
    np.testing.assert_array_equal(fit_bins(p), fit_bins(scrambled.signal(probability).audit))
    stranger = dataclasses.replace(view, knows_candidates=False, _cache={})
    ours, theirs = (Rmia(mode="offline", offline_map="bins").run(v).values for v in (view, stranger))
    assert stats.spearmanr(ours, theirs).statistic > 0.95
    assert not np.allclose(ours, theirs)  # the stranger has only the population to read it off
    lone = dataclasses.replace(stranger, population=None, population_labels=None, _cache={})
    with pytest.raises(NotApplicable, match="population records"):
        Rmia(mode="offline", offline_map="bins").run(lone)


def test_z_from_the_audit_needs_no_population():
    view, _ = world("classes")
    bare = dataclasses.replace(view, population=None, population_labels=None, _cache={})
    assert "population" not in Rmia(score="count", z="audit").knowledge
    for score in ("count", "direct"):
        assert np.isfinite(Rmia(score=score, z="audit").run(bare).values).all()
        with pytest.raises(NotApplicable, match="population records"):
            Rmia(score=score).run(bare)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("lira", {"queries": 0}, "at least 1"),
        ("lira", {"queries": 2.0}, "at least 1"),
        ("rmia", {"queries": True}, "at least 1"),
        ("rmia", {"offline_map": "curve"}, "line or bins"),
        ("rmia", {"z": "members"}, "population or audit"),
        ("rmia", {"score": "direct", "queries": 2}, "queries=1"),
        ("rmia_offline", {"score": "direct"}, "mode=online"),
    ],
)
def test_wrong_option_names_field_and_remedy(name, options, words):
    with pytest.raises(InputError, match=words):
        create(name, options)


def test_number_of_queries_is_chosen_without_the_audited_membership():
    """Nothing of the target goes into the choice, and the choice is what the attack then asks."""
    view, _ = world("image")
    for make in (Lira, Rmia):
        chosen = make(queries=None).run(view)
        count = chosen.notes["queries per record"]
        assert count == 1  # these networks never learnt from changed copies
        np.testing.assert_array_equal(chosen.values, make(queries=count).run(view).values)
        other = dataclasses.replace(view, oracle=view.references.models[0], _cache={})
        assert make(queries=None).run(other).notes["queries per record"] == count
        few = dataclasses.replace(view, references=view.references.select(np.arange(2), slice(None)), _cache={})
        assert make(queries=None).run(few).notes["queries per record"] == 1
    assert make(queries=None).asks


class Copies(nn.Module):
    """Learns from copies of each image that are mirrored and moved by a pixel, as most networks for images do."""

    def forward(self, X):
        if not self.training:
            return X
        mirrored = torch.rand(len(X)) < 0.5
        X = torch.where(mirrored[:, None, None, None], X.flip(-1), X)
        wide = torch.nn.functional.pad(X, (1, 1, 1, 1), mode="reflect")
        down, right = torch.randint(0, 3, (2, len(X), 1)) + torch.arange(8)[None, None]
        return wide[torch.arange(len(X))[:, None, None], 0, down[:, :, None], right[:, None, :]][:, None]


PLAIN_NET = worlds._image_net


def copies_net():
    return nn.Sequential(Copies(), *PLAIN_NET())


@pytest.mark.slow
def test_more_queries_pay_where_the_model_learnt_from_changed_copies(monkeypatch):
    """AUC of RMIA over five such targets: 0.650 [0.633, 0.667] with one query, 0.716 [0.700, 0.732] with 18."""
    monkeypatch.setattr(worlds, "_image_net", copies_net)
    make = worlds.lp.Recipe
    monkeypatch.setattr(worlds.lp, "Recipe", lambda net, **rest: make(net, **{**rest, "epochs": 60}))
    view, member = worlds.world.__wrapped__("image")
    one, all_of_them, chosen = (Rmia(queries=count).run(view) for count in (1, 18, None))
    assert auc_interval(all_of_them.values, member)[0] > auc_interval(one.values, member)[0] + 0.02
    assert chosen.notes["queries per record"] >= 8


@pytest.mark.parametrize("access", ["labels", "scores"])
def test_a_shadow_model_without_judges_can_be_asked_changed_questions(access):
    """With one pair nobody is left to judge; behind labels the shadow model gives labels, whichever comes first."""
    view, _ = world("classes", shadows=2, access=access)
    noise = Jitter(0.05, 1, (1.0,) * 20)
    first, last = view.as_target(0).through(noise), view.through(noise).as_target(0)
    assert len(first.references) == len(last.references) == 0
    np.testing.assert_allclose(first.logits, last.logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(first.population, last.population, rtol=1e-5, atol=1e-5)
    assert np.isin(first.logits, (0, 1)).all() == (access == "labels")
