"""DP-SGD as a recipe: what it promises, what it does, and what it refuses."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

pytest.importorskip("opacus")
pytest.importorskip("dp_accounting")
torch = pytest.importorskip("torch")

from leakpro_nb.defences import DpSgd, GradientCanaries, dp_sgd, dp_training
from leakpro_nb.errors import InputError
from leakpro_nb.game.recipes import Recipe
from leakpro_nb.game.records import Records
from leakpro_nb.measures.epsilon import gdp_epsilon


def make_net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


def make_one_logit() -> torch.nn.Module:
    return torch.nn.Linear(6, 1)


def with_batch_norm() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))


def make_records(n: int = 120, classes: int = 3) -> Records:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    return Records(X, X[:, :classes].argmax(axis=1) if classes > 2 else (X[:, 0] > 0).astype(int))


def recipe(make=make_net, **options) -> DpSgd:
    return DpSgd(make, **{"noise_multiplier": 1.0, "epochs": 2, "batch_size": 30, **options})


def weights(net: torch.nn.Module) -> np.ndarray:
    return np.concatenate([tensor.numpy().ravel() for tensor in net.state_dict().values()])


def test_one_step_on_everyone_is_the_gaussian_mechanism():
    for noise in (0.7, 1.0, 3.0):
        claim = recipe(noise_multiplier=noise, epochs=1, batch_size=100).claim(100)
        assert claim.epsilon == pytest.approx(gdp_epsilon(1 / noise, 1e-5), rel=1e-4)


def test_the_claim_is_the_published_value():
    assert recipe(batch_size=100).claim(1600).epsilon == pytest.approx(2.796, abs=0.001)


@pytest.mark.parametrize(("noise", "n", "epochs"), [(1.0, 1600, 2), (0.8, 5000, 10), (2.0, 1000, 20)])
def test_the_claim_agrees_with_opacus(noise, n, epochs):
    from opacus.accountants import PRVAccountant, RDPAccountant

    dp = recipe(noise_multiplier=noise, batch_size=100, epochs=epochs)
    found = {}
    for kind in (PRVAccountant, RDPAccountant):
        accountant = kind()
        accountant.history = [(noise, dp.sample_rate(n), dp.steps(n))]
        found[kind] = accountant.get_epsilon(1e-5)
    epsilon = dp.claim(n).epsilon
    assert epsilon == pytest.approx(found[PRVAccountant], rel=0.01)
    assert epsilon < found[RDPAccountant] < 1.4 * epsilon


def test_no_noise_no_promise():
    claim = recipe(noise_multiplier=0).claim(1000)
    assert math.isinf(claim.epsilon)
    assert claim.assumptions


def test_more_delta_less_epsilon():
    dp = recipe()
    assert dp.claim(500, 1e-3).epsilon < dp.claim(500).epsilon < dp.claim(500, 1e-8).epsilon


def test_the_same_seed_gives_the_same_network():
    own = Recipe(train=recipe())
    records = make_records()
    torch.manual_seed(5)
    first = weights(own.fit(records.X, records.y, 3))
    torch.rand(7)
    np.testing.assert_array_equal(first, weights(own.fit(records.X, records.y, 3)))
    assert not np.allclose(first, weights(own.fit(records.X, records.y, 4)))


def test_training_leaves_other_randomness_alone():
    records = make_records()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    recipe()(records, 0)
    torch.testing.assert_close(torch.rand(3), expected)


def test_it_learns_without_noise_and_on_one_logit():
    records = make_records()
    net = recipe(noise_multiplier=0, epochs=40, lr=1.0)(records, 0)
    right = (net(torch.from_numpy(records.X)).argmax(1).numpy() == records.y).mean()
    assert right > 0.8
    records = make_records(classes=2)
    net = recipe(make_one_logit, noise_multiplier=0.5, epochs=20)(records, 0)
    right = ((net(torch.from_numpy(records.X))[:, 0] > 0).numpy() == records.y).mean()
    assert right > 0.8
    assert not net.training


def test_it_does_what_it_says():
    records = make_records(300)
    trace = recipe(noise_multiplier=1.7, max_grad_norm=0.3, epochs=20).run(records, 0).trace
    assert trace["steps"] == 200
    assert trace["sample_rate"] == pytest.approx(0.1)
    assert trace["drawn"] == pytest.approx(0.1, abs=0.006)  # four standard deviations
    assert trace["noise"] == pytest.approx(1.7, rel=0.02)
    assert 0 < trace["pull"] <= 1


def test_one_step_is_clipped_descent():
    """Without noise, one step on everyone, against gradients taken one by one."""
    records, clip, lr = make_records(20), 0.2, 0.5
    dp = recipe(make_net, noise_multiplier=0, max_grad_norm=clip, epochs=1, batch_size=20, lr=lr)
    after = dp(records, 7)
    with dp_training.seeded(7, torch=True):
        before = make_net()
    total = [torch.zeros_like(p) for p in before.parameters()]
    for x, y in zip(torch.from_numpy(records.X), torch.from_numpy(records.y), strict=True):
        loss = torch.nn.functional.cross_entropy(before(x[None]), y[None])
        gradient = torch.autograd.grad(loss, list(before.parameters()))
        norm = torch.cat([g.flatten() for g in gradient]).norm()
        total = [t + g * min(1.0, clip / float(norm)) for t, g in zip(total, gradient, strict=True)]
    for p, q, t in zip(before.parameters(), after.parameters(), total, strict=True):
        torch.testing.assert_close(q, p - lr * t / 20, rtol=1e-4, atol=1e-6)


def test_batches_may_be_empty():
    assert np.isfinite(weights(recipe(batch_size=1, epochs=1)(make_records(60), 0))).all()


@pytest.mark.parametrize("directions", ["dirac", "random"])
def test_gradient_canaries_are_clipped_like_records(directions):
    """Without noise an attacker sees each of them once per step, at the clipping norm though they came ten times as loud."""
    coins = np.arange(40) % 3 == 0
    canaries = GradientCanaries(coins, directions)
    run = recipe(noise_multiplier=0, epochs=4, batch_size=120, max_grad_norm=0.5).run(make_records(), 0, canaries)
    if directions == "dirac":
        np.testing.assert_allclose(run.scores, 4.0 * coins, atol=1e-3)
    else:
        assert run.scores[coins].min() > 0
        assert run.scores[coins].mean() == pytest.approx(4.0, abs=2.0)
        assert abs(run.scores[~coins].mean()) < 2.0


def test_canaries_left_out_leave_no_trace():
    records = make_records()
    plain = recipe().run(records, 0)
    watched = recipe().run(records, 0, GradientCanaries(np.zeros(30, dtype=bool)))
    assert len(plain.scores) == 0
    assert len(watched.scores) == 30
    # the coins of canaries are tossed by the same generator, so later batches differ; the settings do not
    assert plain.trace["steps"] == watched.trace["steps"]


def unclipped(optimizer) -> None:
    """Add up gradients as they are, as a program does that forgets to clip."""
    for p in optimizer.params:
        total = p.grad_sample.sum(dim=0)
        p.summed_grad = total if p.summed_grad is None else p.summed_grad + total


def test_an_unclipped_training_is_conspicuous(monkeypatch):
    coins = np.arange(40) < 20
    dp = recipe(noise_multiplier=0, batch_size=120, epochs=3, max_grad_norm=0.05)
    assert dp.run(make_records(), 0, GradientCanaries(coins)).trace["pull"] <= 1
    monkeypatch.setattr(dp_training.DPOptimizer, "clip_and_accumulate", unclipped)
    run = dp.run(make_records(), 0, GradientCanaries(coins))
    assert run.trace["pull"] > 1
    np.testing.assert_allclose(run.scores[coins], 3 * dp_training.LOUD, rtol=1e-3)


def test_too_many_dirac_canaries():
    with pytest.raises(InputError, match="83 parameters"):
        recipe().run(make_records(), 0, GradientCanaries(np.ones(84, dtype=bool)))


def test_batch_normalisation_is_refused():
    with pytest.raises(InputError, match="GroupNorm"):
        recipe(with_batch_norm)(make_records(), 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise_multiplier": -1}, "noise_multiplier = -1"),
        ({"noise_multiplier": math.nan}, "noise_multiplier"),
        ({"max_grad_norm": 0}, "positive"),
        ({"epochs": 0}, "epochs = 0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"delta": 0}, "delta = 0"),
        ({"lr": True}, "lr"),
        ({"make": make_net()}, "function or class"),
        ({"make": 3}, "function or class"),
    ],
)
def test_bad_settings(options, words):
    with pytest.raises(InputError, match=words):
        recipe(**options)


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(dp_sgd, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r'opacus and dp_accounting not installed: run: pip install "leakpro-nb\[dp\]"'
    ):
        recipe()


def test_caches_tell_recipes_apart():
    """A trained model depends on every setting and on the network's code, but not on delta."""
    same = Recipe(train=recipe()).fingerprint()
    assert Recipe(train=recipe()).fingerprint() == same
    assert Recipe(train=recipe(delta=1e-6)).fingerprint() == same
    for other in ({"noise_multiplier": 2.0}, {"lr": 0.1}, {"epochs": 3}, {"batch_size": 31}, {"make": make_one_logit}):
        assert Recipe(train=recipe(**other)).fingerprint() != same, other


def test_it_travels_and_speaks():
    dp = pickle.loads(pickle.dumps(recipe()))
    assert dp == recipe()
    assert "noise multiplier 1" in Recipe(train=dp).describe()
