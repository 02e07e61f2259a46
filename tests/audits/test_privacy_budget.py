"""The privacy-budget audit, on mechanisms whose epsilon is known."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import leakpro_nb as lp
from leakpro_nb.audits import budget_checks, canary_runs, privacy_budget
from leakpro_nb.errors import AuditFailed, InputError
from leakpro_nb.measures.epsilon import gdp_epsilon
from leakpro_nb.plots import privacy_budget as plots
from leakpro_nb.results import Result
from leakpro_nb.risk.budget import BudgetFinding, budget_verdict
from leakpro_nb.story import privacy_budget as story

pytest.importorskip("opacus")
torch = pytest.importorskip("torch")

from leakpro_nb.defences import DpSgd, dp_training

SCORES = lp.ThreatModel(access="scores", goal="privacy_budget")
PLAIN = lp.ThreatModel(access="scores", knowledge=("labels",), goal="privacy_budget")
"""An attacker who cannot train a model to compare with."""

IDS = 1200


def noisy_counts(sigma: float):
    """Return a training that counts records by identity and label, and releases the counts with Gaussian noise.

    One record changes one count by 1: a Gaussian mechanism with mu = 1 / sigma.
    """

    def train(records: lp.Records, seed: int):
        counts = np.random.default_rng(seed).normal(0, sigma, size=(IDS, 2))
        np.add.at(counts, (records.X[:, 0].astype(int), records.y), 1)
        return lambda X: counts[np.asarray(X)[:, 0].astype(int)]

    return train


def randomised_response(eps: float):
    """Return a training that says of each identity and label whether it is there, and lies as often as eps allows."""

    def train(records: lp.Records, seed: int):
        there = np.zeros((IDS, 2), dtype=bool)
        there[records.X[:, 0].astype(int), records.y] = True
        lies = np.random.default_rng(seed).random(there.shape) > 1 / (1 + math.exp(-eps))
        answers = np.where(lies, ~there, there).astype(float)
        return lambda X: answers[np.asarray(X)[:, 0].astype(int)]

    return train


def make_net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.ReLU(), torch.nn.Linear(40, 2))


def make_linear() -> torch.nn.Module:
    net = torch.nn.Linear(6, 2)
    torch.nn.init.zeros_(net.weight)
    return net


def make_wide() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(6, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)
    )


def counted(train, n: int = 200) -> lp.Target:
    """Return a target whose records are identities."""
    ids = np.arange(IDS, dtype=float)[:, None]
    y, members = np.random.default_rng(0).integers(2, size=IDS), np.arange(IDS) < n
    model = train(lp.Records(ids[members], y[members]), 0)
    return lp.Target(model, lp.Records(ids, y, members), lp.Recipe(train=train), name="counts", outputs="logits")


def learnt(recipe, n: int = 900) -> lp.Target:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    members = np.arange(n) < 300
    own = lp.Recipe(train=recipe) if isinstance(recipe, DpSgd) else recipe
    return lp.Target(
        own.fit(X[members], y[members], 0), lp.Records(X, y, members), own, name="net", subjects="patients"
    )


def dp(noise: float = 5.0, **options) -> DpSgd:
    return DpSgd(make_net, **{"noise_multiplier": noise, "epochs": 20, "batch_size": 300, "lr": 0.2, **options})


def play(target, out, threat=None, **options):
    plan = privacy_budget.prepare(target, threat, out=out, **{"workers": 1, "num_canaries": 300, **options})
    canaries = privacy_budget.insert(plan)
    observed = privacy_budget.train(plan, canaries, progress=False)
    scored = privacy_budget.score(plan, canaries, observed)
    result = privacy_budget.bound(plan, canaries, observed, scored)
    privacy_budget.save(plan, result, canaries, scored)
    return SimpleNamespace(plan=plan, canaries=canaries, observed=observed, scored=scored, result=result)


def eps(result: Result, method: str = "one_run", kind: str = "mislabelled") -> float:
    return next(b["eps"] for b in result.extras["bounds"] if b["method"] == method and b["canary"] == kind)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """DP-SGD that claims what its accountant says, with gradient canaries and mislabelled records."""
    return play(learnt(dp()), tmp_path_factory.mktemp("honest"), reveal_records=True)


# --- known epsilon ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_no_bound_is_above_the_epsilon_of_a_gaussian_mechanism(tmp_path, sigma):
    truth = gdp_epsilon(1 / sigma, 1e-5)
    for seed in range(4):
        result = play(
            counted(noisy_counts(sigma)),
            tmp_path / str(seed),
            PLAIN,
            seed=seed,
            claimed_epsilon=truth,
            claimed_delta=1e-5,
        ).result
        assert max(b["eps"] for b in result.extras["bounds"] if b["kind"] == "confidence") <= truth
        assert result.verdict.level != "demonstrated"
        if sigma < 1:
            assert eps(result) > 1.5
            assert eps(result, "fdp") > 2


def test_randomised_response_is_nearly_reached_and_never_passed(tmp_path):
    for seed in range(4):
        result = play(
            counted(randomised_response(2.0)), tmp_path / str(seed), PLAIN, seed=seed, num_canaries=900,
            bounds=["one_run"], guess_share=0.25, claimed_epsilon=2.0, claimed_delta=1e-9,
        ).result  # fmt: skip
        assert 1.0 < eps(result) <= 2.0


def test_a_claim_below_the_truth_is_refuted(tmp_path):
    result = play(counted(noisy_counts(0.25)), tmp_path, PLAIN, seed=1, claimed_epsilon=1.0, claimed_delta=1e-5).result
    assert result.verdict.level == "demonstrated"
    assert "refuted" in result.verdict.headline
    assert result.verdict.values["epsilon_claimed"] == 1.0


def test_a_training_without_noise_is_far_from_private(tmp_path):
    """Nothing but counting: every guess is right, so the bound reaches what this plan can show."""
    result = play(counted(noisy_counts(0.0)), tmp_path, PLAIN, claimed_epsilon=50.0, claimed_delta=1e-5).result
    bound = result.extras["bounds"][0]
    assert bound["correct"] == bound["guesses"] == 60
    assert bound["eps"] == pytest.approx(bound["plan_ceiling"])
    assert bound["eps"] > 2.5


@pytest.mark.slow
def test_bounds_hold_in_nearly_all_experiments(tmp_path):
    """At the true epsilon a bound may be too high in 5 % of experiments."""
    truth, wrong, n = 1.0, 0, 60
    for seed in range(n):
        result = play(
            counted(randomised_response(truth)), tmp_path / str(seed), PLAIN, seed=seed, num_canaries=500,
            bounds=["one_run"], guess_share=0.25, claimed_epsilon=truth, claimed_delta=1e-9,
        ).result  # fmt: skip
        wrong += eps(result) > truth
    assert wrong <= 8  # P[Binomial(60, 0.05) > 8] is below 0.3 %


@pytest.mark.slow
def test_nothing_is_found_where_nothing_is_kept(tmp_path):
    """A training that ignores its records, 60 times: some leakage is claimed in about 5 % at most."""
    claims = 0
    for seed in range(60):
        run = play(
            counted(noisy_counts(1e6)), tmp_path / str(seed), SCORES, seed=seed, claimed_epsilon=1.0, claimed_delta=1e-5,
            bounds=["one_run", "fdp"],
        )  # fmt: skip
        claims += eps(run.result) > 0
    assert claims <= 8


# --- DP-SGD ----------------------------------------------------------------------------------------------------------


def test_dp_sgd_keeps_its_own_claim(honest):
    result = honest.result
    claim = result.extras["claim"]["epsilon"]
    assert 1 < claim < 10
    assert 0 < eps(result, kind="gradient") < claim
    assert result.verdict.level == "limited"
    assert all(
        check.passed is not False for check in result.checks if check.name in (*budget_checks.GATES, "mechanism")
    )


def test_the_claim_holds_for_every_run(tmp_path):
    """One record more may mean one step more each epoch, so the smallest run's claim is not always the largest."""
    target = learnt(dp(batch_size=178))  # 2.5 batches are about 445 records: two steps an epoch or three
    plan = privacy_budget.prepare(target, out=tmp_path, num_canaries=300, canaries="mislabelled", runs=6)
    canaries = privacy_budget.insert(plan)
    sizes = len(canaries.base) + canaries.inserted["mislabelled"].sum(axis=1)
    assert len({plan.mechanism.steps(int(n)) for n in sizes}) == 2
    claims = [plan.mechanism.claim(int(n)).epsilon for n in sizes]
    assert canaries.claim.epsilon == max(claims) > claims[int(np.argmin(sizes))]


def test_dp_sgd_that_claims_less_than_it_leaks_is_refuted(tmp_path):
    result = play(learnt(dp(noise=1.0)), tmp_path, canaries="gradient", claimed_epsilon=1.0, claimed_delta=1e-5).result
    assert result.verdict.level == "demonstrated"
    assert result.extras["accountant"]["epsilon"] > 10 > result.extras["claim"]["epsilon"]


def test_forgotten_noise_is_caught_twice(tmp_path, monkeypatch):
    """The claim is computed for noise that a broken program never adds."""

    def silent(self) -> None:
        for p in self.params:
            p.grad = p.summed_grad.clone().view_as(p)

    monkeypatch.setattr(dp_training._Watched, "add_noise", silent)
    result = play(learnt(dp(noise=20.0)), tmp_path, canaries=["gradient"]).result
    assert result.verdict.level == "demonstrated"
    assert next(check for check in result.checks if check.name == "mechanism").passed is False


def test_much_noise_shows_nothing(tmp_path):
    recipe = DpSgd(make_linear, noise_multiplier=60.0, epochs=10, batch_size=600, lr=1.0)
    result = play(learnt(recipe), tmp_path, canaries="mislabelled").result
    assert eps(result) == 0
    assert result.extras["claim"]["epsilon"] < 1
    assert result.verdict.level == "not_found"
    assert "“nothing shown”, not “private”" in result.verdict.sentence


def test_an_overfitted_network_gives_its_canaries_away(tmp_path):
    net = lp.Recipe(make_wide, optimizer="adam", lr=0.01, epochs=100, batch_size=64)
    result = play(learnt(net), tmp_path, SCORES, claimed_epsilon=0.1, claimed_delta=1e-5).result
    assert eps(result) > 0.3
    assert result.verdict.level == "demonstrated"
    assert next(check for check in result.checks if check.name == "mechanism").passed is None


# --- the experiment --------------------------------------------------------------------------------------------------


def test_coins_decide_what_is_trained_on(honest):
    plan, canaries = honest.plan, honest.canaries
    audited, *clean = privacy_budget.trainings(plan, canaries)
    inserted = canaries.inserted["mislabelled"][0]
    assert len(audited.y) == len(canaries.base) + inserted.sum()
    np.testing.assert_array_equal(audited.X[len(canaries.base) :], canaries.X[inserted])
    np.testing.assert_array_equal(audited.inserted, canaries.inserted["gradient"][0])
    for each in clean:
        assert len(each.y) == len(canaries.base)
        assert not each.inserted.any()
    assert len({each.seed for each in (audited, *clean)}) == 3


def test_records_behind_canaries_are_not_trained_on(tmp_path):
    plan = privacy_budget.prepare(learnt(dp()), out=tmp_path, num_canaries=250, canaries=["mislabelled", "input"])
    canaries = privacy_budget.insert(plan)
    used = np.concatenate(list(canaries.rows.values()))
    assert len(set(used)) == 500
    assert not set(used) & set(canaries.base)
    assert not set(canaries.test) & (set(used) | set(canaries.base))
    assert len(canaries.base) == 300  # there were enough others


def test_members_make_way_where_others_are_too_few(tmp_path):
    target = learnt(dp(), n=400)
    canaries = privacy_budget.insert(
        privacy_budget.prepare(target, out=tmp_path, num_canaries=200, canaries="mislabelled")
    )
    assert len(canaries.base) == 200
    np.testing.assert_array_equal(canaries.test, canaries.base)
    with pytest.raises(InputError, match="use at most 250"):
        privacy_budget.insert(privacy_budget.prepare(target, out=tmp_path, num_canaries=251, canaries="mislabelled"))


def test_membership_may_be_unknown(tmp_path):
    target = learnt(dp())
    records = lp.Records(target.records.X, target.records.y)
    result = play(lp.Target(target.model, records, target.recipe), tmp_path, canaries="gradient").result
    assert result.target.members == 900
    assert result.target.non_members == 0


def test_an_interrupted_audit_ends_as_an_uninterrupted_one(honest, tmp_path, monkeypatch):
    calls = []
    observe = canary_runs.Training._observe

    def dying(self):
        calls.append(self.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return observe(self)

    monkeypatch.setattr(canary_runs.Training, "_observe", dying)
    with pytest.raises(KeyboardInterrupt):
        play(honest.plan.target, tmp_path)
    again = play(honest.plan.target, tmp_path)
    assert calls == ["run-0", "calibration", "calibration", "null"]
    assert again.result.extras["bounds"] == honest.result.extras["bounds"]
    for name, each in again.scored.items():
        np.testing.assert_array_equal(each.values, honest.scored[name].values)


def test_finished_trainings_are_not_repeated_and_more_runs_keep_them(honest, monkeypatch, tmp_path):
    calls = []
    observe = canary_runs.Training._observe
    monkeypatch.setattr(canary_runs.Training, "_observe", lambda self: (calls.append(self.name), observe(self))[1])
    first = play(honest.plan.target, tmp_path)
    play(honest.plan.target, tmp_path)
    assert len(calls) == 3
    more = play(honest.plan.target, tmp_path, runs=2)
    assert calls[3:] == ["run-1"]
    np.testing.assert_array_equal(more.scored["gradient"].values[:300], first.scored["gradient"].values)
    assert more.result.extras["bounds"][0]["m"] == 600
    assert more.result.extras["bounds"][0]["plan_ceiling"] > first.result.extras["bounds"][0]["plan_ceiling"]


def test_damaged_files_are_made_again(honest, tmp_path):
    first = play(honest.plan.target, tmp_path, canaries="gradient")
    for file in (tmp_path / "cache" / "privacy_budget").glob("*.safetensors"):
        data = bytearray(file.read_bytes())
        data[-3] ^= 1
        file.write_bytes(data)
    again = play(honest.plan.target, tmp_path, canaries="gradient")
    np.testing.assert_array_equal(first.scored["gradient"].values, again.scored["gradient"].values)


def test_processes_change_nothing(honest, tmp_path):
    again = play(honest.plan.target, tmp_path, workers=2)
    assert again.result.extras["bounds"] == honest.result.extras["bounds"]


def test_coins_that_the_attack_knows_beforehand_stop_the_audit(honest):
    """If a model without canaries tells how the coins fell, the coins were not secret."""
    plan, name = honest.plan, "mislabelled"
    each = honest.scored[name]
    told = privacy_budget.Scored(each.values, each.inserted, each.inserted + 0.1 * np.arange(len(each.null)) / 300)
    checks = budget_checks.checks(
        plan, honest.canaries, honest.observed, {**honest.scored, name: told},
        {kind: {"one_run": privacy_budget._bound(plan, s, "one_run")} for kind, s in honest.scored.items()},
    )  # fmt: skip
    assert next(check for check in checks if check.name == "null_audit").passed is False


def test_loaded_coins_are_noticed(honest):
    unfair = {"mislabelled": privacy_budget.Scored(np.arange(300.0), np.arange(300) < 200, np.zeros(300))}
    assert budget_checks._coins(unfair).passed is False
    in_order = {"mislabelled": privacy_budget.Scored(np.arange(300.0), np.arange(300) < 150, np.zeros(300))}
    assert budget_checks._coins(in_order).passed is False
    assert budget_checks._coins(honest.scored).passed


def test_kinds_share_the_error(honest, tmp_path):
    alone = play(honest.plan.target, tmp_path, canaries="gradient")
    assert alone.plan.level == 0.95
    assert honest.plan.level == 0.975
    assert {b["confidence"] for b in honest.result.extras["bounds"]} == {0.975}


# --- verdict ---------------------------------------------------------------------------------------------------------


def ruled(bound: float, claim: float, ceiling: float = 4.0, **options) -> str:
    finding = BudgetFinding("input", "Nonsense records", bound, ceiling, 200, 150)
    options = {"claim": claim, "delta": 1e-5, "level": 0.95, "method": "One-run bound", **options}
    return budget_verdict([finding], **options).level


def test_the_rule():
    assert ruled(2.0, 1.0) == "demonstrated"
    assert ruled(2.0, 3.0) == "limited"
    assert ruled(2.0, math.inf) == "limited"
    assert ruled(0.0, 3.0) == "not_found"
    assert ruled(0.0, 8.0) == "inconclusive"
    assert ruled(0.0, 3.0, failed_checks=["x"]) == "inconclusive"
    assert ruled(2.0, 1.0, failed_gates=["x"]) == "inconclusive"
    assert ruled(2.0, 1.0, failed_checks=["x"]) == "demonstrated"


# --- report ----------------------------------------------------------------------------------------------------------


def test_the_result_is_complete_and_strict(honest):
    text = (honest.plan.out / "result.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    loaded = Result.model_validate(json.loads(text))
    assert loaded.template == "privacy_budget"
    assert loaded.extras["headline"] == "one_run"
    for each in loaded.extras["bounds"]:
        assert 0 <= each["eps"] <= each["plan_ceiling"] + 1e-6
        assert each["delta"] == 1e-5
        assert each["kind"] == ("credible" if each["method"] == "bayesian" else "confidence")
    frame = pd.read_parquet(honest.plan.out / "scores.parquet")
    assert len(frame) == 600
    assert frame.inserted.sum() == sum(sum(n) for n in loaded.extras["inserted"].values())


def test_the_report_says_what_matters(honest):
    result = honest.result
    table = story.bound_table(result).data
    assert "decides" in table
    assert "credible" in table
    assert "nothing shown" in table
    assert "Gaussian noise does" in table
    assert "not the model in use" in story.meaning(result).data
    assert f"{result.extras['claim']['epsilon']:.2f}" in story.summary(result).data
    assert "0.00001" in story.target_table(honest.plan, honest.canaries).data
    assert "Gradient canaries" in story.canary_table(honest.plan, honest.canaries).data
    assert story.advice(result).data.startswith("1. ")
    assert "Gradient canaries" in story.exposed(result).data
    assert len(result.most_exposed) == 10
    assert story.found(result) is not None


def test_figures_have_words(honest):
    for picture in (plots.bounds(honest.result), plots.scores(honest.result, honest.scored)):
        assert "<svg" in picture.svg()
        assert "Gradient canaries" in picture.alt
        assert picture.reading.startswith("*How to read it")


def test_training_without_a_claim_can_be_told(tmp_path):
    run = play(learnt(dp(noise=0.0, epochs=3)), tmp_path, canaries="gradient", num_canaries=200)
    assert run.result.extras["claim"]["epsilon"] is None
    assert "promises nothing" in run.result.verdict.sentence
    for text in (story.summary(run.result), story.meaning(run.result), story.bound_table(run.result)):
        assert "inf" not in text.data.replace("infinite", "").lower().replace("information", "")
    assert plots.bounds(run.result).alt


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_canaries": 5}, "num_canaries = 5"),
        ({"num_canaries": 363}, "network has 362; use at most 362"),
        ({"num_canaries": 2.5}, "num_canaries"),
        ({"runs": 0}, "runs = 0"),
        ({"bounds": []}, "bounds"),
        ({"bounds": ["one"]}, "there are one_run"),
        ({"bounds": ["bayesian", "fdp"]}, "name another one first"),
        ({"plan": "best"}, "choose one of preregistered"),
        ({"guess_share": 0.6}, "guess_share = 0.6"),
        ({"canaries": "parrot"}, "there are gradient, mislabelled, input"),
        ({"canaries": []}, "name one of"),
        ({"canaries": "gradient", "threat": SCORES}, "none of them can be used"),
        ({"claimed_delta": 1e-5}, "give claimed_epsilon too"),
        ({"claimed_epsilon": -1.0}, "claimed_epsilon = -1"),
        ({"claimed_epsilon": 1.0, "claimed_delta": 0.0}, "claimed_delta = 0"),
        ({"claimed_epsilon": 1.0, "claimed_delta": 1e-5, "delta": 1e-6}, "says nothing at a smaller one"),
        ({"delta": 2.0}, "delta = 2"),
        ({"confidence": 0.3}, "confidence = 0.3"),
        ({"seed": -1}, "seed = -1"),
        ({"workers": 0}, "workers = 0"),
        ({"target": "table.csv"}, "give a target.py with a recipe"),
    ],
)
def test_bad_input(tmp_path, honest, options, words):
    target = options.pop("target", honest.plan.target)
    with pytest.raises(InputError, match=words):
        privacy_budget.prepare(target, options.pop("threat", None), out=tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_a_custom_training_must_state_its_claim(tmp_path):
    with pytest.raises(InputError, match="claimed_epsilon = missing"):
        privacy_budget.prepare(counted(noisy_counts(1.0)), out=tmp_path)
    with pytest.raises(InputError, match="claimed_delta = missing"):
        privacy_budget.prepare(counted(noisy_counts(1.0)), out=tmp_path, claimed_epsilon=1.0)


def test_gradient_canaries_need_dp_sgd(tmp_path):
    plan = privacy_budget.prepare(
        counted(noisy_counts(1.0)),
        out=tmp_path,
        canaries=["gradient", "mislabelled"],
        claimed_epsilon=1.0,
        claimed_delta=1e-5,
    )
    assert list(plan.kinds) == ["mislabelled"]
    assert "DpSgd" in plan.refused["gradient"]


def test_a_training_that_fails_is_named(tmp_path):
    def train(records: lp.Records, seed: int):
        if len(records) > 300:
            raise ValueError("out of luck")
        return noisy_counts(1.0)(records, seed)

    target = counted(noisy_counts(1.0))
    broken = lp.Target(target.model, target.records, lp.Recipe(train=train), outputs="logits")
    with pytest.raises(AuditFailed, match="training run-0 failed: ValueError: out of luck"):
        play(broken, tmp_path, PLAIN, claimed_epsilon=1.0, claimed_delta=1e-5)


def test_a_target_without_a_recipe_is_told_what_this_audit_needs(tmp_path):
    records = lp.Records(np.zeros((40, 2)), np.arange(40) % 2, np.arange(40) < 20)
    with pytest.raises(InputError, match=r"target.recipe = missing: this audit trains models itself"):
        privacy_budget.prepare(lp.Target(lambda x: np.full((len(x), 2), 0.5), records), out=tmp_path)


def test_ordinary_training_is_not_called_a_function_of_ones_own():
    for recipe, words in (
        (lp.Recipe(torch.nn.Identity), "neither clipping nor noise"),
        (lp.Recipe(train=print), "one's own"),
    ):
        plan = SimpleNamespace(mechanism=None, target=SimpleNamespace(recipe=recipe))
        assert words in budget_checks._mechanism(plan, None, []).sentence
