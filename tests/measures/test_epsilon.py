"""Lower bounds on epsilon: known answers, peers' figures, and how often a bound is wrong on mechanisms that we know."""

from __future__ import annotations

import dataclasses
import doctest
import json
import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from scipy import stats

from leakpro_nb.errors import InputError
from leakpro_nb.measures import epsilon
from leakpro_nb.measures.epsilon import (
    Bonferroni,
    CutPlan,
    EpsilonBound,
    GuessPlan,
    MultiSplit,
    Preregistered,
    Split,
    bayesian_epsilon,
    ceiling,
    clopper_pearson_epsilon,
    epsilon_lower_bound,
    fdp_epsilon,
    fdp_mu,
    gdp_delta,
    gdp_epsilon,
    gdp_mu,
    gdp_mu_lower_bound,
    one_run_epsilon,
    one_run_p_value,
)

METHODS = ("one_run", "fdp", "clopper_pearson", "gdp", "bayesian")
GAUSSIAN = ("fdp", "gdp")
# few splits are the sterner test: the median of many hardly ever claims anything by luck
RULES = {"preregistered": Preregistered(), "bonferroni": Bonferroni(), "split": Split(), "multisplit": MultiSplit(5)}
DELTA = 1e-5


# --- helpers that the package does not offer -------------------------------------------------------------------------


def p_value_by_loop(m: int, r: int, v: int, eps: float, delta: float) -> float:
    """The p-value as the paper's appendix writes it, one term at a time."""
    q = 1 / (1 + math.exp(-eps))
    beta = stats.binom.sf(v - 1, r, q)
    total = alpha = 0.0
    for i in range(1, v + 1):
        total = stats.binom.sf(v - i - 1, r, q) - beta
        alpha = max(alpha, total / i)
    return min(1.0, beta + 2 * m * delta * alpha)


def fdp_rejects_by_loop(m: int, g: int, v: int, mu: float, error: float = 0.05) -> bool:
    """The recursion of the f-DP paper with lists of all its terms."""
    h, r = [0.0] * (v + 1), [0.0] * (v + 1)
    r[v], h[v] = error * v / m, error * (g - v) / m
    for i in range(v - 1, -1, -1):
        h[i] = max(h[i + 1], stats.norm.cdf(stats.norm.ppf(r[i + 1]) - mu))
        r[i] = min(r[i + 1] + i / (g - i) * (h[i] - h[i + 1]), 1.0)
    return r[0] + h[0] > g / m


def sweep_counts(scores: np.ndarray, inserted: np.ndarray) -> tuple[np.ndarray, ...]:
    """k_neg, k_pos, guesses and right guesses of every plan that Privacy Meter tries."""
    m = len(scores)
    member = inserted[np.argsort(scores)]
    cuts = np.arange(0, m, math.isqrt(m))
    k_neg, k_pos = (np.array(x) for x in zip(*((a, b) for b in cuts for a in cuts if a < b), strict=True))
    seen = np.r_[0, np.cumsum(member)]
    return k_neg, k_pos, k_neg + m - k_pos, k_neg - seen[k_neg] + seen[m] - seen[k_pos]


def unpaid_sweep(scores: np.ndarray, inserted: np.ndarray, delta: float = 0.0) -> tuple[np.ndarray, ...]:
    """Bounds of all plans at the full error each: their maximum is no bound, which a test below shows."""
    k_neg, k_pos, guesses, correct = sweep_counts(scores, inserted)
    m = len(scores)
    bounds = [one_run_epsilon(m, int(r), int(v), delta=delta) for r, v in zip(guesses, correct, strict=True)]
    return np.array(bounds), k_neg, k_pos, correct


@pytest.fixture(scope="module")
def peer(cases):
    folder = cases / "rmia_duci_ramia_dp" / "dpaudit"
    arrays = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    return json.loads((folder / "expected.json").read_text()), arrays


# --- one run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("m", "r", "v", "bounds"),
    [
        (1000, 100, 95, (2.17243, 2.16517, 0.59431)),
        (1000, 100, 100, (3.49296, 3.46537, 0.80901)),
        (1000, 1000, 600, (0.29746, 0.29723, 0.26598)),
        (1000, 31, 31, (2.28809, 2.25842, 0)),
        (5000, 500, 480, (2.79498, 2.78302, 0.45532)),
        (60000, 900, 880, (3.40536, 3.18291, 0)),
        (100, 10, 5, (0, 0, 0)),
    ],
)
def test_one_run_known_answers(m, r, v, bounds):
    got = [one_run_epsilon(m, r, v, delta=delta) for delta in (0, 1e-5, 1e-3)]
    assert got == pytest.approx(bounds, abs=1e-4)


def test_one_run_equals_the_peer(peer):
    for row in peer[0]["table"]:
        m, r, v, delta = row["m"], row["r"], row["v"], row["delta"]
        assert one_run_epsilon(m, r, v, delta=delta, confidence=1 - row["p"]) == pytest.approx(row["eps"], abs=1e-4)
        assert one_run_p_value(m, r, v, 1.0, delta) == pytest.approx(row["p_at_eps1"], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize(("m", "r", "v"), [(1000, 100, 95), (1000, 1000, 600), (300, 40, 1), (300, 40, 0), (50, 9, 9)])
def test_vectorised_p_value_equals_the_loop(m, r, v, delta):
    for eps in (0.0, 0.3, 1.0, 4.0, 20.0):
        assert one_run_p_value(m, r, v, eps, delta) == pytest.approx(p_value_by_loop(m, r, v, eps, delta), abs=1e-14)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
def test_p_value_grows_with_eps_and_shrinks_with_right_guesses(delta):
    grid = np.linspace(0, 6, 121)
    for v in (40, 55, 70, 95, 100):
        assert np.diff([one_run_p_value(1000, 100, v, eps, delta) for eps in grid]).min() >= -1e-12
    for eps in (0.0, 0.5, 2.0):
        assert np.diff([one_run_p_value(1000, 100, v, eps, delta) for v in range(101)]).max() <= 1e-12


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
def test_one_run_bound_is_the_last_eps_that_is_rejected(delta):
    bound = one_run_epsilon(1000, 100, 95, delta=delta)
    assert one_run_p_value(1000, 100, 95, bound, delta) < 0.05 < one_run_p_value(1000, 100, 95, bound + 1e-6, delta)


def test_sweep_of_the_peer_is_reproduced(peer):
    expected, arrays = peer
    bounds, k_neg, k_pos, correct = unpaid_sweep(arrays["scores"], arrays["memberships"])
    np.testing.assert_allclose(bounds, arrays["sweep_eps"], atol=1e-4)
    np.testing.assert_array_equal(k_neg, arrays["sweep_k_neg"])
    np.testing.assert_array_equal(k_pos, arrays["sweep_k_pos"])
    best = bounds.argmax()
    assert (len(bounds), k_neg[best], k_pos[best], correct[best]) == (528, 62, 930, 132)
    assert bounds[best] == pytest.approx(expected["sweep"]["eps_opt"], abs=1e-4) == pytest.approx(3.774239, abs=1e-4)


def test_sweep_of_the_peer_on_64_canaries_is_reproduced(peer):
    expected, arrays = peer
    bounds, k_neg, k_pos, _ = unpaid_sweep(arrays["scores"][:64], arrays["memberships"][:64], delta=DELTA)
    best = bounds.argmax()
    assert bounds[best] == pytest.approx(expected["sweep_first64_delta1e_5"]["eps_opt"], abs=1e-4)
    assert (k_neg[best], k_pos[best]) == (8, 56)


def test_one_plan_of_the_sweep_through_the_front_door(peer):
    scores, inserted = peer[1]["scores"], peer[1]["memberships"]
    bound = epsilon_lower_bound(scores, inserted, plan=GuessPlan(62, 70))
    assert (bound.guesses, bound.correct) == (132, 132)
    assert bound.eps == pytest.approx(3.774239, abs=1e-4)


# --- f-DP, GDP, rates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("m", "g", "v", "mu", "eps"),
    [
        (1000, 100, 95, 0.7868, 3.323),
        (1000, 100, 100, 1.2255, 5.549),
        (1000, 1000, 600, 0.1638, 0.5835),
        (5000, 500, 480, 0.9375, 4.063),
    ],
)
def test_fdp_known_answers(m, g, v, mu, eps):
    assert fdp_mu(m, g, v) == pytest.approx(mu, abs=5.1e-5)
    assert fdp_epsilon(m, g, v, delta=DELTA) == pytest.approx(eps, abs=5.1e-4)


@pytest.mark.parametrize(("m", "g", "v"), [(1000, 100, 95), (1000, 100, 60), (200, 200, 200), (500, 20, 18)])
def test_fdp_bound_is_the_last_mu_that_the_recursion_rejects(m, g, v):
    bound = fdp_mu(m, g, v)
    assert bound > 0
    assert fdp_rejects_by_loop(m, g, v, bound)
    assert not fdp_rejects_by_loop(m, g, v, bound + 1e-6)


def test_fdp_shows_nothing_from_guesses_at_random():
    assert fdp_mu(1000, 100, 50) == fdp_mu(1000, 0, 0) == fdp_mu(1000, 10, 0) == 0


def test_gdp_conversions():
    assert gdp_delta(1.0, 1.0) == pytest.approx(stats.norm.cdf(-0.5) - math.e * stats.norm.cdf(-1.5), abs=1e-15)
    assert (gdp_epsilon(1.0, DELTA), gdp_epsilon(2.0, DELTA)) == pytest.approx((4.377, 9.997), abs=5e-4)
    for mu in (0.01, 0.3, 1.0, 5.0, 40.0):
        for delta in (1e-12, 1e-5, 0.1):
            eps = gdp_epsilon(mu, delta)
            if eps:
                assert gdp_mu(eps, delta) == pytest.approx(mu, rel=1e-6)
    assert gdp_epsilon(0.0, DELTA) == gdp_epsilon(1e-6, DELTA) == 0.0


def test_clopper_pearson_is_the_formula_and_both_directions_rest_on_the_same_two_bounds():
    tp, n1, fp, n0 = 120, 400, 9, 600
    tpr = stats.beta.ppf(0.025, tp, n1 - tp + 1)
    fpr = stats.beta.ppf(0.975, fp + 1, n0 - fp)
    assert clopper_pearson_epsilon(tp, n1, fp, n0, delta=1e-3) == pytest.approx(math.log((tpr - 1e-3) / fpr))
    # the same table seen from the other side: clearing non-members instead of accusing members
    mirrored = clopper_pearson_epsilon(n0 - fp, n0, n1 - tp, n1, delta=1e-3)
    assert mirrored == pytest.approx(clopper_pearson_epsilon(tp, n1, fp, n0, delta=1e-3))
    assert gdp_mu_lower_bound(tp, n1, fp, n0) == pytest.approx(stats.norm.ppf(1 - fpr) - stats.norm.ppf(1 - tpr))


def test_rates_without_information_show_nothing():
    counts = (np.array([0, 5, 10, 0]), 10, np.array([0, 5, 10, 10]), 10)
    for bounds in (clopper_pearson_epsilon(*counts), gdp_mu_lower_bound(*counts), bayesian_epsilon(*counts)[0]):
        assert bounds.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("counts", [(95, 500, 5, 500), (300, 500, 200, 500), (10, 300, 0, 700), (490, 500, 300, 500)])
def test_bayesian_interval_equals_sampling(counts):
    tp, n1, fp, n0 = counts
    rng = np.random.default_rng(0)
    tpr = rng.beta(tp + 0.5, n1 - tp + 0.5, 400_000)
    fpr = rng.beta(fp + 0.5, n0 - fp + 0.5, 400_000)
    with np.errstate(divide="ignore", invalid="ignore"):
        sampled = np.fmax(np.fmax(np.log((tpr - DELTA) / fpr), np.log((1 - fpr - DELTA) / (1 - tpr))), 0)
    interval = bayesian_epsilon(*counts, delta=DELTA)
    for value, quantile in zip(interval, (0.05, 0.95), strict=True):
        assert (sampled <= value).mean() == pytest.approx(quantile, abs=0.002)


@pytest.mark.parametrize(
    ("method", "ceilings"),
    [("one_run", (3.493, 5.114, 5.809, 8.113)), ("clopper_pearson", (2.570, 4.209, 4.906, 7.212))],
)
def test_ceilings_known_answers(method, ceilings):
    assert [ceiling(m, method) for m in (100, 500, 1000, 10_000)] == pytest.approx(ceilings, abs=5.1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", RULES)
def test_a_perfect_attack_reaches_its_ceiling_and_no_more(method, rule):
    inserted = np.arange(400) % 2 == 0
    bound = epsilon_lower_bound(inserted.astype(float), inserted, method=method, plan=RULES[rule], delta=DELTA)
    assert 0 < bound.eps <= bound.plan_ceiling + 1e-9
    assert bound.eps <= bound.ceiling + 1e-9 == pytest.approx(ceiling(400, method, delta=DELTA))
    if rule in {"preregistered", "bonferroni"}:
        assert bound.eps == pytest.approx(bound.plan_ceiling)
    if method in {"one_run", "fdp"}:
        everything = epsilon_lower_bound(inserted, inserted, method=method, plan=GuessPlan(200, 200), delta=DELTA)
        assert everything.eps == pytest.approx(everything.ceiling)


def test_mean_bounds_on_a_gaussian_mechanism_are_those_of_the_sheet():
    """1000 canaries, 200 guesses; f-DP 2.47 and one run at delta 0 1.54 for mu 1, 5.74 and 3.42 for mu 2."""
    for mu, fdp, one_run in ((1, 2.47, 1.54), (2, 5.74, 3.42)):
        got = {"fdp": [], "one_run": []}
        for scores, inserted in gaussian_runs(40, mu):
            for method, bounds in got.items():
                delta = DELTA if method == "fdp" else 0.0
                bounds.append(epsilon_lower_bound(scores, inserted, method=method, delta=delta).eps)
        # the mean of 40 runs strays by up to 0.09
        assert [np.mean(got["fdp"]), np.mean(got["one_run"])] == pytest.approx([fdp, one_run], abs=0.3)


# --- how often a bound is wrong --------------------------------------------------------------------------------------


def gaussian_runs(runs: int, mu: float, m: int = 1000, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Audits of the Gaussian mechanism, each canary with its own noise; mu = 0 leaks nothing."""
    rng = np.random.default_rng([seed, int(10 * mu)])
    for _ in range(runs):
        inserted = rng.random(m) < 0.5
        yield rng.normal(size=m) + mu * inserted, inserted


def response_runs(runs: int, eps: float, m: int = 1000, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Audits of randomised response: the worst (eps, 0)-private mechanism, and nothing but ties."""
    rng = np.random.default_rng([seed, int(10 * eps)])
    for _ in range(runs):
        inserted = rng.random(m) < 0.5
        yield (inserted ^ (rng.random(m) > 1 / (1 + math.exp(-eps)))).astype(float), inserted


def bounds_of(
    audits: Iterator[tuple[np.ndarray, np.ndarray]], method: str, rule: str, delta: float
) -> list[EpsilonBound]:
    return [
        epsilon_lower_bound(scores, inserted, method=method, plan=RULES[rule], delta=delta, seed=seed)
        for seed, (scores, inserted) in enumerate(audits)
    ]


def allowed(runs: int) -> int:
    """So many wrong claims of 5 % are exceeded by chance once in a thousand tests."""
    return int(stats.binom.ppf(0.999, runs, 0.05))


def check_no_leak(runs: int, method: str, rule: str) -> None:
    claims = sum(bound.eps > 0 for bound in bounds_of(gaussian_runs(runs, 0.0), method, rule, DELTA))
    print(f"\nno leak, {method}, {rule}: eps > 0 in {claims} of {runs} ({claims / runs:.2%})")
    assert claims <= allowed(runs)


def check_gaussian(runs: int, mu: float, method: str, rule: str) -> None:
    truth = gdp_epsilon(mu, DELTA)
    eps = np.array([bound.eps for bound in bounds_of(gaussian_runs(runs, mu), method, rule, DELTA)])
    wrong = int((eps > truth).sum())
    print(f"\nGaussian mu {mu} (eps {truth:.3f}), {method}, {rule}: mean {eps.mean():.3f}, above {wrong} of {runs}")
    assert wrong <= allowed(runs)
    assert eps.mean() > 0.1 * truth  # a bound that says nothing is never wrong


def check_response(runs: int, true_eps: float, method: str, rule: str) -> None:
    """Gaussian methods are held to mu: randomised response is no worse than that Gaussian mechanism at any point."""
    bounds = bounds_of(response_runs(runs, true_eps), method, rule, DELTA if method in GAUSSIAN else 0.0)
    if method in GAUSSIAN:
        truth = 2 * stats.norm.ppf(1 / (1 + math.exp(-true_eps)))
        shown = np.array([bound.mu for bound in bounds])
    else:
        truth, shown = true_eps, np.array([bound.eps for bound in bounds])
    wrong = int((shown > truth).sum())
    print(
        f"\nresponse eps {true_eps}, {method}, {rule}: truth {truth:.3f}, mean {shown.mean():.3f}, above {wrong} of {runs}"
    )
    assert wrong <= allowed(runs)
    assert true_eps < 1 or shown.mean() > 0.1 * truth


every_rule = pytest.mark.parametrize("rule", RULES)
every_method = pytest.mark.parametrize("method", METHODS)


@every_method
@every_rule
def test_no_leak_no_claim(method, rule):
    check_no_leak(100 if method == "bayesian" else 300, method, rule)


@pytest.mark.slow
@every_method
@every_rule
def test_no_leak_no_claim_in_full(method, rule):
    check_no_leak(2000, method, rule)


def test_an_unpaid_sweep_claims_leaks_that_are_not_there():
    """45.7 % of 2000 leak-free audits were measured for Privacy Meter's sweep: why a plan must be paid for."""

    @cache
    def needed(guesses: int) -> int:
        """Fewest right guesses for which chance alone has less than 5 %."""
        return int(stats.binom.isf(0.05, guesses, 0.5)) + 1

    claims = 0
    for scores, inserted in gaussian_runs(300, 0.0):
        _, _, guesses, correct = sweep_counts(scores, inserted)
        claims += any(v >= needed(int(r)) for r, v in zip(guesses, correct, strict=True))
    assert one_run_epsilon(1000, 100, needed(100)) > 0 == one_run_epsilon(1000, 100, needed(100) - 1)
    assert 0.30 < claims / 300 < 0.60


@every_method
@pytest.mark.parametrize("rule", ["preregistered", "split"])
def test_bound_stays_below_a_gaussian_mechanism(method, rule):
    check_gaussian(40, 1.0, method, rule)


@pytest.mark.slow
@pytest.mark.parametrize("mu", [1.0, 2.0])
@every_method
@every_rule
def test_bound_stays_below_a_gaussian_mechanism_in_full(mu, method, rule):
    check_gaussian(200 if method == "bayesian" else 500, mu, method, rule)


@pytest.mark.parametrize("eps", [0.5, 1.0, 2.0, 4.0])
@every_method
def test_bound_stays_below_randomised_response(eps, method):
    check_response(40 if method == "bayesian" else 200, eps, method, "preregistered")


@pytest.mark.slow
@pytest.mark.parametrize("eps", [0.5, 1.0, 2.0, 4.0])
@every_method
@every_rule
def test_bound_stays_below_randomised_response_in_full(eps, method, rule):
    check_response(200 if method == "bayesian" else 500, eps, method, rule)


# --- plans, ties, order ----------------------------------------------------------------------------------------------


def leaky(m: int = 300, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A leak with many ties."""
    scores, inserted = next(gaussian_runs(1, 1.5, m, seed))
    return np.round(scores), inserted


@every_method
@every_rule
@pytest.mark.parametrize("ties", ["random", "abstain"])
def test_order_of_the_canaries_never_matters(method, rule, ties):
    scores, inserted = leaky()
    options = {"method": method, "plan": RULES[rule], "delta": DELTA, "ties": ties, "seed": 1}
    bound = epsilon_lower_bound(scores, inserted, **options)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(scores))
        assert epsilon_lower_bound(scores[order], inserted[order], **options) == bound


@pytest.mark.parametrize("inserted", [np.arange(400) < 200, np.arange(400) >= 200, np.arange(400) % 2 == 0])
def test_ties_are_not_broken_by_the_order_of_the_array(inserted):
    """A constant score knows nothing; sorted canaries would be all right or all wrong if the order decided."""
    right = [epsilon_lower_bound(np.zeros(400), inserted, seed=seed).correct for seed in range(100)]
    assert len(set(right)) > 5
    assert np.mean(right) == pytest.approx(40, abs=2)  # 80 guesses; the mean strays by 0.4
    silent = epsilon_lower_bound(np.zeros(400), inserted, ties="abstain")
    assert (silent.guesses, silent.eps) == (0, 0.0)


def test_abstaining_leaves_out_exactly_the_canaries_that_tie_at_a_cut():
    scores = np.array([0, 1, 1, 1, 2, 3, 4, 4, 5, 6])
    inserted = np.array([0, 0, 1, 0, 1, 0, 1, 0, 1, 1])
    for plan, guesses, correct in [
        (GuessPlan(4, 4), 8, 6),  # cuts between distinct scores
        (GuessPlan(3, 3), 3, 3),  # both cuts inside a tie: 0 and 5, 6 remain
        (GuessPlan(0, 2), 2, 2),
        (GuessPlan(10, 0), 10, 5),
        (GuessPlan(5, 5), 10, 6),
    ]:
        bound = epsilon_lower_bound(scores, inserted, plan=plan, ties="abstain")
        assert (bound.guesses, bound.correct) == (guesses, correct), plan


def test_cut_plan_counts_what_lies_beyond_the_other_sides_scores():
    scores = np.arange(10.0)
    inserted = np.array([0, 0, 1, 0, 0, 1, 0, 1, 1, 1])
    high = epsilon_lower_bound(scores, inserted, method="clopper_pearson", plan=CutPlan(None, 0))
    low = epsilon_lower_bound(scores, inserted, method="clopper_pearson", plan=CutPlan(1, None))
    assert (high.guesses, high.correct) == (3, 3)  # above the highest non-member, 6
    assert (low.guesses, low.correct) == (5, 4)  # below the second member, 5: one miss


def test_two_directions_share_the_error():
    scores, inserted = next(gaussian_runs(1, 2.0))
    n1, n0 = int(inserted.sum()), int((~inserted).sum())
    both = epsilon_lower_bound(scores, inserted, method="clopper_pearson", plan=CutPlan(20, 20))
    alone = [
        epsilon_lower_bound(scores, inserted, method="clopper_pearson", plan=plan, confidence=0.975).eps
        for plan in (CutPlan(20, None), CutPlan(None, 20))
    ]
    assert both.eps == pytest.approx(max(alone))
    cut = np.sort(scores[~inserted])[-21]
    hits = int((scores[inserted] > cut).sum())
    assert clopper_pearson_epsilon(hits, n1, 20, n0, confidence=0.975) == pytest.approx(alone[1])


def test_bonferroni_pays_for_each_plan():
    scores, inserted = next(gaussian_runs(1, 1.5))
    grid = ((0.1, 0.1), (None, 0.2), (0.3, None), (0.05, 0.4))
    paid = epsilon_lower_bound(scores, inserted, plan=Bonferroni(grid))
    plans = [GuessPlan(100, 100), GuessPlan(0, 200), GuessPlan(300, 0), GuessPlan(50, 400)]
    alone = [epsilon_lower_bound(scores, inserted, plan=plan, confidence=1 - 0.05 / 4) for plan in plans]
    best = max(alone, key=lambda bound: bound.eps)
    assert (paid.eps, paid.plan) == (pytest.approx(best.eps), best.plan)
    assert paid.confidence == 0.95
    assert paid.eps < max(epsilon_lower_bound(scores, inserted, plan=plan).eps for plan in plans)


def test_a_split_bounds_on_half_of_the_canaries():
    scores, inserted = next(gaussian_runs(1, 2.0))
    bound = epsilon_lower_bound(scores, inserted, plan=Split(((0.5, 0.5),)))
    assert (bound.m, bound.guesses, bound.plan) == (1000, 500, GuessPlan(250, 250))
    assert bound.eps == pytest.approx(one_run_epsilon(500, 500, bound.correct))


def test_multisplit_hangs_less_on_the_seed_than_one_split():
    scores, inserted = next(gaussian_runs(1, 2.0))
    spread = {
        rule: np.std([epsilon_lower_bound(scores, inserted, plan=rule, seed=seed).eps for seed in range(20)])
        for rule in ("split", "multisplit")
    }
    assert spread["multisplit"] < 0.7 * spread["split"]


def test_multisplit_pays_double_and_takes_the_lower_median():
    scores, inserted = next(gaussian_runs(1, 2.0))
    lower = []
    for seed in range(6):
        one = epsilon_lower_bound(scores, inserted, plan=MultiSplit(1), seed=seed)
        halved = epsilon_lower_bound(scores, inserted, plan=Split(), confidence=0.975, seed=seed)
        assert one.eps == pytest.approx(halved.eps)
        lower.append(one.eps - epsilon_lower_bound(scores, inserted, plan=MultiSplit(2), seed=seed).eps)
    assert min(lower) >= 0 < max(lower)  # the first of two splits is the same


def test_names_of_rules_and_what_a_bound_says():
    scores, inserted = leaky()
    for name, rule in {"preregistered": Preregistered(), "split": Split(), "bonferroni": Bonferroni()}.items():
        bound = epsilon_lower_bound(scores, inserted, plan=name)
        assert bound == epsilon_lower_bound(scores, inserted, plan=rule)
        assert bound.rule == name
    bound = epsilon_lower_bound(scores, inserted, method="fdp", delta=DELTA, confidence=0.9)
    assert (bound.m, bound.method, bound.delta, bound.confidence) == (300, "fdp", DELTA, 0.9)
    assert gdp_epsilon(bound.mu, DELTA) == bound.eps
    kinds = {m: epsilon_lower_bound(scores, inserted, method=m, delta=DELTA).kind for m in METHODS}
    assert [m for m, kind in kinds.items() if kind == "credible"] == ["bayesian"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        bound.eps = 9.0


def test_one_sided_plans():
    scores, inserted = leaky()
    assert epsilon_lower_bound(scores, inserted, plan=Preregistered(0.1, "high")).plan == GuessPlan(0, 30)
    assert epsilon_lower_bound(scores, inserted, plan=Preregistered(0.29, "low")).plan == GuessPlan(87, 0)


def test_two_canaries_are_enough_to_show_nothing():
    for method in METHODS:
        for rule in RULES.values():
            bound = epsilon_lower_bound([0.0, 1.0], [False, True], method=method, plan=rule, delta=DELTA)
            assert bound.eps == 0.0 <= bound.plan_ceiling


# --- bad input -------------------------------------------------------------------------------------------------------

GOOD = {"scores": np.arange(6.0), "inserted": np.array([True, False] * 3)}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("inserted", {"inserted": np.ones(6, dtype=bool)}),
        ("inserted", {"inserted": np.zeros(6, dtype=bool)}),
        ("inserted", {"scores": np.zeros(0), "inserted": np.zeros(0, dtype=bool)}),
        ("inserted", {"inserted": np.array([True, False])}),
        ("inserted", {"inserted": np.array([2, 0, 1, 0, 1, 0])}),
        ("scores", {"scores": np.array([0, 1, np.nan, 3, 4, 5])}),
        ("scores", {"scores": np.zeros((6, 1))}),
        ("scores", {"scores": np.array(list("abcdef"))}),
        ("delta", {"delta": -1e-9}),
        ("delta", {"delta": 1.0}),
        ("delta", {"delta": math.nan}),
        ("delta", {"method": "fdp"}),
        ("delta", {"method": "gdp", "delta": 0.0}),
        ("confidence", {"confidence": 1.0}),
        ("confidence", {"confidence": 95}),
        ("confidence", {"confidence": 0.05}),
        ("confidence", {"confidence": math.nan}),
        ("method", {"method": "sweep"}),
        ("plan", {"plan": "best"}),
        ("plan", {"plan": 0.1}),
        ("plan", {"plan": CutPlan(1, 1)}),
        ("plan", {"plan": GuessPlan(4, 3)}),
        ("plan", {"plan": GuessPlan(1, 1), "method": "clopper_pearson"}),
        ("plan", {"plan": CutPlan(3, 0), "method": "clopper_pearson"}),
        ("ties", {"ties": "first"}),
    ],
)
def test_bad_input_names_the_field(field, change):
    with pytest.raises(InputError) as caught:
        epsilon_lower_bound(**{**GOOD, **change})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "work",
    [
        lambda: one_run_epsilon(10, 11, 5),
        lambda: one_run_epsilon(10, 5, 6),
        lambda: one_run_p_value(10, 5, 5, -1.0),
        lambda: fdp_mu(10, 5, -1),
        lambda: gdp_epsilon(1.0, 0.0),
        lambda: gdp_epsilon(math.inf, 0.1),
        lambda: gdp_mu(math.inf, 0.1),
        lambda: ceiling(1),
        lambda: ceiling(100, "sweep"),
        lambda: GuessPlan(-1, 3),
        lambda: CutPlan(None, None),
        lambda: CutPlan(-1, None),
        lambda: Preregistered(0.6),
        lambda: Preregistered(0.1, "left"),
        lambda: Bonferroni(()),
        lambda: Split(((None, None),)),
        lambda: MultiSplit(0),
        lambda: bayesian_epsilon(1, 2, 1, 2, level=1.0),
        lambda: clopper_pearson_epsilon(1, 2, 1, 2, delta=2.0),
        lambda: clopper_pearson_epsilon(3, 2, 1, 2),
        lambda: gdp_mu_lower_bound(1, 2, np.array([0, 3]), 2),
        lambda: bayesian_epsilon(1, 2, -1, 2),
    ],
)
def test_functions_and_plans_refuse_nonsense(work):
    with pytest.raises(InputError):
        work()


def test_examples_in_the_documentation():
    assert doctest.testmod(epsilon).failed == 0
