"""Disclosure by look-up: brute force, constructed cases where the peers are wrong, and the reference tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leakpro_nb.attacks.synthetic.disclosure import anonymity_loss, attribution, disclosure, loss_coefficient
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import encode

CASES = Path(__file__).parents[4] / "shared" / "cases" / "synthetic"
reference = pytest.mark.skipif(not CASES.exists(), reason="the reference cases are not at hand")


def people(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n).astype(float),
            "city": rng.choice(["Lund", "Malmö", "Ystad"], n),
            "job": rng.choice(list("abcdefgh"), n),
            "ill": rng.random(n) < 0.3,
        }
    )
    for column in ("age", "job"):
        frame.loc[rng.random(n) < 0.1, column] = None
    return frame


def brute(targets: pd.DataFrame, synthetic: pd.DataFrame, secret: str, bins_of: pd.DataFrame):
    edges = np.linspace(bins_of["age"].min(), bins_of["age"].max(), 11)
    edges[0], edges[-1] = -np.inf, np.inf
    one, two = (t.assign(age=pd.cut(t["age"], edges, labels=False)).astype(object) for t in (targets, synthetic))
    one, two = (t.where(t.notna(), "missing") for t in (one, two))
    known = [c for c in targets.columns if c != secret]
    exact, nearest = [], []
    for _, row in one.iterrows():
        differ = (two[known] != row[known]).sum(axis=1)
        right = two[secret] == row[secret]
        exact.append(right[differ == 0].mean())
        nearest.append(right[differ == differ.min()].mean())
    return np.array(exact, dtype=float), np.array(nearest)


@pytest.mark.parametrize("secret", ["ill", "age", "job"])
def test_attribution_is_that_of_brute_force(secret):
    original, synthetic = people(80, 0), people(150, 1)
    synthetic.loc[0, "age"] = 200.0
    o, s = encode(original, synthetic)
    exact, nearest = brute(original, synthetic, secret, original)
    found = attribution(o, s, secret)
    np.testing.assert_allclose(found.exact, exact, atol=1e-12)
    np.testing.assert_allclose(found.nearest, nearest, atol=1e-12)
    np.testing.assert_array_equal(attribution(o, s, secret, generalised=False).nearest, found.exact)
    assert 0 < found.matched.mean() < 1
    np.testing.assert_array_equal(found.zero, np.where(np.isnan(exact), 0, exact))


def test_values_that_one_side_lacks():
    one = pd.DataFrame({"k": ["a", "b", "new"], "t": ["x", "other", "x"]})
    two = pd.DataFrame({"k": ["a", "a", "b", "gone"], "t": ["x", "y", "x", "x"]})
    o, s = encode(one, two)
    found = attribution(o, s, "t")
    np.testing.assert_array_equal(found.exact, [0.5, 0.0, np.nan])
    assert found.nearest.tolist() == [0.5, 0.0, 0.75]


def test_what_a_majority_gives_away_is_no_leak():
    """One peer scores a secret that is independent of everything, with a 99 % majority, as if it were disclosed."""
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame({"k": rng.integers(0, 30, 3000).astype(str), "t": np.where(rng.random(3000) < 0.99, "no", "yes")})
        for _ in range(3)
    ]
    found = disclosure(*encode(*frames), secrets=["t"])["t"]
    assert found.original.zero.mean() > 0.95
    assert abs(found.original.zero.mean() - found.control.zero.mean()) < 0.01


def test_a_copy_gives_everything_away_and_strangers_are_spared():
    table = people(300, 2).assign(id=np.arange(300).astype(str))
    o, s, c = encode(table, table, people(300, 3).assign(id=np.arange(300, 600).astype(str)))
    found = disclosure(o, s, c)
    for secret in ("age", "city", "job", "ill"):
        assert found[secret].original.zero.mean() == 1.0
        assert found[secret].control.zero.mean() == 0.0
        assert found[secret].control.nearest.mean() < 0.85


@pytest.mark.parametrize(
    "frame",
    [pd.DataFrame({"x": [1.0] * 4, "y": ["u"] * 4}), pd.DataFrame({"x": [np.nan] * 4, "y": [None] * 4})],
    ids=["constant", "missing"],
)
def test_columns_without_content_match_everybody(frame):
    o, s = encode(frame, frame[:1])
    for secret in ("x", "y"):
        assert attribution(o, s, secret).exact.tolist() == [1.0] * 4
        assert disclosure(o, s)[secret].control is None


def test_best_mix_of_precision_and_recall():
    right = np.r_[np.ones(100), np.zeros(900)].astype(bool)
    sure = np.r_[np.ones(100), np.zeros(900)]
    assert loss_coefficient(right, sure) == pytest.approx(1 - (1 / 4) ** 3)
    assert loss_coefficient(right, np.zeros(1000)) == pytest.approx(0.1)
    assert loss_coefficient(right[::-1], sure) == pytest.approx(0.1)
    # a single lucky guess is not looked at
    assert loss_coefficient(np.arange(1000) == 0, -np.arange(1000.0)) == pytest.approx(
        (1 - (np.log10(0.05) / -4) ** 3) / 50
    )


def test_anonymity_is_lost_by_copies_only():
    rng = np.random.default_rng(0)

    def secretive(n: int) -> pd.DataFrame:
        return pd.DataFrame(rng.normal(size=(n, 4)).round(3), columns=list("abcd")).assign(
            t=rng.integers(0, 8, n).astype(str)
        )

    original = secretive(800)
    for copied, low, high in ((800, 0.99, 1.0), (240, 0.9, 1.0), (0, -0.4, 0.2)):
        o, s, c = encode(original, pd.concat([original[:copied], secretive(800 - copied)]), secretive(800))
        at_risk, spared = anonymity_loss(o, s, c, secret="t")
        assert low <= at_risk.coefficient <= high
        assert spared.coefficient < 0.3
    order = rng.permutation(800)
    assert anonymity_loss(o.take(order), s.take(order), secret="t")[0].attack == pytest.approx(at_risk.attack)


def test_anonymity_of_a_secret_that_never_varies_cannot_be_lost():
    o, s = encode(people(60, 0).assign(ill=True), people(60, 1).assign(ill=True))
    assert np.isnan(anonymity_loss(o, s, secret="ill")[0].coefficient)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda o: attribution(o, o, "height"), "columns = height: not a column"),
        (lambda o: attribution(o, o, "age", ["height"]), "columns = height: not a column"),
        (lambda o: attribution(o, o, "age", ["age"]), "known = age: .*other than the secret"),
        (lambda o: anonymity_loss(o.take(np.arange(1)), o, secret="age"), "original = 1 records"),
    ],
)
def test_bad_questions_are_one_clear_sentence(ask, message):
    with pytest.raises(InputError, match=message):
        ask(encode(people(20, 0))[0])


@reference
@pytest.mark.parametrize("name", ["adults5k", "adults"])
def test_reference_tables(name):
    expected = json.loads((CASES / "exact_expected.json").read_text())
    asked = expected["adults5k"]["cap"]
    o, s, c = encode(*(pd.read_parquet(CASES / name / f"{each}.parquet") for each in ("train", "synthetic", "control")))
    found = disclosure(o, s, c, secrets=[asked["secret"]], known=asked["keys"])[asked["secret"]]
    for side, cap in (("train", found.original), ("control", found.control)):
        known = expected[name]["cap"][side]
        assert 1 - np.nanmean(cap.exact) == pytest.approx(known["one_minus_cap"], abs=1e-12)
        assert 1 - cap.zero.mean() == pytest.approx(known["one_minus_zero_cap"], abs=1e-12)
        assert cap.matched.mean() == pytest.approx(known["matched"], abs=1e-12)
    if name == "adults5k":  # SDMetrics prints twice this, since the secret has two values
        assert 2 * (1 - found.original.nearest.mean()) == pytest.approx(0.525, abs=5e-4)
