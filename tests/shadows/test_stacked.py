"""Stacked training gives what Recipe.fit gives, whatever the network, the sizes and the interruptions."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.linear_model import LogisticRegression
from torch import nn

from leakpro_nb.errors import InputError
from leakpro_nb.game.recipes import Recipe
from leakpro_nb.shadows import stacked
from leakpro_nb.shadows.stacked import predict_stacked, train_stacked, why_not_stackable

N = 120
SEEDS = [5, 6, 7, 8]
_rng = np.random.default_rng(0)
TABLE = _rng.normal(size=(N, 10)).astype(np.float32)
IMAGES = _rng.normal(size=(N, 1, 8, 8)).astype(np.float32)
TOKENS = _rng.integers(0, 20, size=(N, 6))
BINARY = _rng.integers(0, 2, N)
TERNARY = _rng.integers(0, 3, N)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def members_of(*sizes: int) -> np.ndarray:
    rng = np.random.default_rng(sum(sizes))
    mask = np.zeros((len(sizes), N), dtype=bool)
    for row, size in zip(mask, sizes, strict=True):
        row[rng.permutation(N)[:size]] = True
    return mask


def mlp(outputs: int):
    return lambda: nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, outputs))


def with_dropout():
    return nn.Sequential(nn.Linear(10, 16), nn.Dropout(0.5), nn.Linear(16, 2))


def batch_norm():
    return nn.Sequential(nn.Linear(10, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def conv():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


class Squeezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 1)

    def forward(self, x):
        return self.linear(x).squeeze(-1)


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.norm, self.head = nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.norm(self.embedding(x)).mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.embedding(x).mean(1))[:, :2]


class OwnClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(10, 16), nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x):
        x = torch.tanh(self.second(F.relu(self.first(x))))
        return self.third(F.gelu(x)).squeeze(-1)


class Residual(OwnClass):
    def forward(self, x):
        x = F.relu(self.first(x))
        return self.third(x + F.relu(self.second(x)))


def flattened():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(inplace=True), nn.Linear(16, 3))


def dense_on_images():  # layers on the last of several dimensions
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))


def hooked():
    net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
    net[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return net


def weight_normed():
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(10, 8)), nn.ReLU(), nn.Linear(8, 2, bias=False)
    )


def one_layer_used_twice():
    layer = nn.Linear(10, 10)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(10, 2))


def frozen_first():
    return nn.Sequential(nn.Linear(10, 8).requires_grad_(False), nn.ReLU(), nn.Linear(8, 2))


NETWORKS = {
    "one_logit": (mlp(1), TABLE, BINARY),
    "one_logit_squeezed": (Squeezed, TABLE, BINARY),
    "two_logits": (mlp(2), TABLE, BINARY),
    "multi_class": (mlp(3), TABLE, TERNARY),
    "batch_norm": (batch_norm, TABLE, TERNARY),
    "conv_batch_norm_group_norm": (conv, IMAGES, TERNARY),
    "embedding_layer_norm": (Embedded, TOKENS, BINARY),
    "tied": (Tied, TOKENS, BINARY),
    "frozen": (frozen_first, TABLE, BINARY),
    "own_class": (OwnClass, TABLE, BINARY),
    "residual": (Residual, TABLE, BINARY),
    "flattened": (flattened, IMAGES, TERNARY),
    "dense_on_images": (dense_on_images, IMAGES, TERNARY),
    "hooked": (hooked, TABLE, BINARY),
    "weight_norm": (weight_normed, TABLE, BINARY),
    "one_layer_used_twice": (one_layer_used_twice, TABLE, BINARY),
}


@pytest.mark.parametrize("sizes", [(60, 60, 60, 60), (60, 61, 60, 61), (34, 100, 50, 82)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_recipe_fit(name, sizes):
    make, X, y = NETWORKS[name]
    # weight decay, so that a step too many shows even without gradient
    recipe = Recipe(make, lr=1e-2, epochs=3, batch_size=16, weight_decay=1e-2)
    members = members_of(*sizes)
    assert why_not_stackable(recipe, X, y, device="cuda") is None
    states = train_stacked(recipe, X, y, members, SEEDS)
    for mask, seed, state in zip(members, SEEDS, states, strict=True):
        alone = recipe.fit(X[mask], y[mask], seed).state_dict()
        assert list(state) == list(alone)
        for key, value in alone.items():
            assert state[key].dtype == value.dtype
            torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-2},
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "weight_decay": 1e-1},
    ],
    ids=str,
)
def test_equals_recipe_fit_with_every_optimiser(options):
    recipe = Recipe(mlp(2), lr=1e-2, epochs=4, batch_size=16, **options)
    members = members_of(17, 64, 33, 100)
    for mask, seed, state in zip(members, SEEDS, train_stacked(recipe, TABLE, BINARY, members, SEEDS), strict=True):
        alone = recipe.fit(TABLE[mask], BINARY[mask], seed).state_dict()
        for key, value in alone.items():
            torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [mlp(2), Squeezed, OwnClass, flattened, dense_on_images, with_dropout])
def test_dense_layers_in_a_row_do_without_vmap(make):
    assert stacked._as_chain(make().train()) is not None


@pytest.mark.parametrize("make", [batch_norm, conv, Embedded, Residual, hooked, weight_normed])
def test_other_networks_go_through_vmap(make):
    assert stacked._as_chain(make().train()) is None


def test_a_model_without_records_stays_as_built():
    recipe = Recipe(mlp(2), epochs=2, batch_size=16, weight_decay=0.1)
    states = train_stacked(recipe, TABLE, BINARY, members_of(40, 0), [1, 2])
    torch.testing.assert_close(states[1], dict(recipe.build(2).state_dict()), rtol=0, atol=0)


def test_one_model_and_batches_larger_than_the_records():
    recipe = Recipe(mlp(2), epochs=2, batch_size=1000)
    members = members_of(50)
    (state,) = train_stacked(recipe, TABLE, BINARY, members, [3])
    alone = recipe.fit(TABLE[members[0]], BINARY[members[0]], 3).state_dict()
    torch.testing.assert_close(state, dict(alone), rtol=1e-4, atol=1e-6)


def test_random_state_of_the_caller_is_left_alone():
    recipe = Recipe(with_dropout, epochs=1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert why_not_stackable(recipe, TABLE, BINARY) is None
    states = train_stacked(recipe, TABLE, BINARY, members_of(50, 50), [1, 2])
    predict_stacked(recipe, states, TABLE)
    assert torch.equal(before, torch.get_rng_state())


def test_denormals_are_as_before():
    train_stacked(Recipe(mlp(2), epochs=1), TABLE, BINARY, members_of(50), [1])
    assert (torch.tensor([1e-40]) * 1).item() > 0


def test_dropout_is_reproducible_and_independent_between_models():
    recipe = Recipe(with_dropout, lr=1e-2, epochs=3, batch_size=16)
    members = np.repeat(members_of(60), 2, axis=0)
    first = train_stacked(recipe, TABLE, BINARY, members, [4, 4])
    again = train_stacked(recipe, TABLE, BINARY, members, [4, 4])
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    # same start, same records, same order: only the masks can make a difference
    assert (first[0]["0.weight"] - first[1]["0.weight"]).abs().max() > 1e-3


class Interrupted(Exception):
    pass


def run_to_the_end(recipe, X, y, members, path, stop_after):
    """Train, killed after each of the given numbers of epochs, and return the states and epochs seen."""
    seen = []
    for stop in [*stop_after, None]:

        def on_epoch(done, stop=stop):
            seen.append(done)
            if done == stop:
                raise Interrupted

        try:
            return train_stacked(
                recipe, X, y, members, SEEDS, checkpoint=path, checkpoint_seconds=0, on_epoch=on_epoch
            ), seen
        except Interrupted:
            continue
    raise AssertionError


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "sgd"}], ids=["adam", "momentum", "sgd"]
)
@pytest.mark.parametrize("make", [with_dropout, batch_norm], ids=["dropout", "batch_norm"])
def test_resumes_bit_for_bit(tmp_path, make, options):
    recipe = Recipe(make, lr=1e-2, epochs=5, batch_size=16, **options)
    members, path = members_of(60, 34, 62, 60), tmp_path / "stack.safetensors"
    y = TERNARY if make is batch_norm else BINARY
    whole = train_stacked(recipe, TABLE, y, members, SEEDS)
    pieces, seen = run_to_the_end(recipe, TABLE, y, members, path, stop_after=[1, 3])
    assert seen == [1, 2, 3, 4, 5]
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["seeds", "members", "recipe", "labels", "garbage"])
def test_a_checkpoint_that_does_not_fit_is_ignored(tmp_path, change):
    path = tmp_path / "stack.safetensors"
    recipe, members, y, seeds = Recipe(mlp(2), epochs=3, batch_size=16), members_of(60, 60), BINARY, [1, 2]

    def stop(done):
        raise Interrupted

    with pytest.raises(Interrupted):
        train_stacked(recipe, TABLE, y, members, seeds, checkpoint=path, checkpoint_seconds=0, on_epoch=stop)
    assert path.exists()
    if change == "seeds":
        seeds = [1, 3]
    elif change == "members":
        members = ~members
    elif change == "recipe":
        recipe = Recipe(mlp(2), epochs=3, batch_size=16, lr=1e-2)
    elif change == "labels":
        y = 1 - y
    else:
        path.write_bytes(path.read_bytes()[:100])
    seen = []
    states = train_stacked(recipe, TABLE, y, members, seeds, checkpoint=path, on_epoch=seen.append)
    assert seen == [1, 2, 3]
    for one, other in zip(states, train_stacked(recipe, TABLE, y, members, seeds), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_checkpoints_no_more_often_than_asked(tmp_path):
    path, seen = tmp_path / "stack.safetensors", []
    train_stacked(
        Recipe(mlp(2), epochs=3),
        TABLE,
        BINARY,
        members_of(60, 60),
        [1, 2],
        checkpoint=path,
        checkpoint_seconds=3600,
        on_epoch=lambda done: seen.append(path.exists()),
    )
    assert seen == [False] * 3


KILLED = """
    import sys
    from pathlib import Path
    import numpy as np, torch
    from torch import nn
    from safetensors.torch import save_file
    from leakpro_nb.game.recipes import Recipe
    from leakpro_nb.shadows.stacked import train_stacked

    torch.set_num_threads(1)

    def make():
        return nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.Dropout(0.3), nn.Linear(64, 2))

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 10)).astype("f4"), rng.integers(0, 2, 600)
    members = np.stack([rng.permutation(600) < size for size in (300, 310, 295)])
    checkpoint = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    print("ready", flush=True)
    states = train_stacked(
        Recipe(make, epochs=30, batch_size=30), X, y, members, [1, 2, 3], checkpoint=checkpoint, checkpoint_seconds=0
    )
    save_file({f"{g}.{k}": v for g, state in enumerate(states) for k, v in state.items()}, sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_survives_sigkill_at_any_moment(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent(KILLED))
    root = Path(stacked.__file__).parents[2]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}

    def start(*arguments):
        process = subprocess.Popen([sys.executable, script, *arguments], env=env, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        return process

    begun = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    usual = time.monotonic() - begun
    moments, kills = random.Random(0), 0
    for _ in range(2):
        process = start(tmp_path / "pieces", tmp_path / "checkpoint")
        time.sleep(moments.uniform(0.1, 0.4) * usual)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert start(tmp_path / "pieces", tmp_path / "checkpoint").wait() == 0
    assert kills
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"job.py", "whole", "pieces"}


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embedding, self.memory, self.head = nn.Embedding(20, 8), kind(8, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.memory(self.embedding(x))[0].mean(1))


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 2)


class Deciding(Linear):
    def forward(self, x):
        out = self.linear(x)
        return 2 * out if out.sum() > 0 else out


class Peeking(Linear):
    def forward(self, x):
        return self.linear(x) * x.mean().item()


class Remembering(Linear):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(10))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return self.linear(x - self.mean)


class Secretive(Linear):
    def __init__(self):
        super().__init__()
        self.directions = torch.randn(10)

    def forward(self, x):
        return self.linear(x * self.directions)


class FunctionalDropout(Linear):
    def forward(self, x):
        return self.linear(F.dropout(x, 0.5, self.training))


def of_random_width():
    width = int(torch.randint(3, 1000, ()))
    return nn.Sequential(nn.Linear(10, width), nn.Linear(width, 2))


def cumulative_norm():
    return nn.Sequential(nn.Linear(10, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("recipe", "X", "words"),
    [
        (Recipe(lambda: Recurrent(nn.LSTM)), TOKENS, "operator lstm"),
        (Recipe(lambda: Recurrent(nn.GRU)), TOKENS, "operator gru"),
        (Recipe(Deciding), TABLE, "control flow"),
        (Recipe(Peeking), TABLE, "control flow"),
        (Recipe(cumulative_norm), TABLE, "control flow"),
        (Recipe(Remembering), TABLE, "state outside"),
        (Recipe(Secretive), TABLE, "state outside"),
        (Recipe(of_random_width), TABLE, "change shape"),
        (Recipe(lambda: nn.LazyLinear(2)), TABLE, "lazy"),
        (Recipe(mlp(2)), TABLE.astype(np.float64), "does not run"),
        (Recipe(lambda: "no network"), TABLE, "does not run"),
        (Recipe(LogisticRegression()), TABLE, "scikit-learn"),
        (Recipe(train=lambda records, seed: None), TABLE, "train="),
    ],
)
def test_says_why_a_network_cannot_be_stacked(recipe, X, words):
    reason = why_not_stackable(recipe, X, BINARY)
    assert reason is not None
    assert words in reason
    assert reason.endswith(".")


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)

    def forward(self, x):
        return self.head(self.layer(self.embedding(x)).mean(1))


@pytest.mark.parametrize(
    ("make", "X", "words"),
    [
        (conv, IMAGES, "convolutions"),
        (Attending, TOKENS, "attention"),
        (lambda: nn.Sequential(nn.Linear(10, 50_000), nn.Linear(50_000, 2)), TABLE, "parameters"),
    ],
)
def test_refuses_what_is_slower_stacked_on_a_processor_alone(make, X, words):
    reason = why_not_stackable(Recipe(make), X, BINARY)
    assert reason is not None
    assert words in reason
    assert why_not_stackable(Recipe(make), X, BINARY, device="cuda") is None


@pytest.mark.parametrize("make", [with_dropout, FunctionalDropout])
def test_dropout_of_any_kind_is_stackable(make):
    assert why_not_stackable(Recipe(make), TABLE, BINARY) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_equal_one_by_one(name):
    make, X, y = NETWORKS[name]
    recipe = Recipe(make, epochs=1, batch_size=16)
    states = train_stacked(recipe, X, y, members_of(60, 61), [1, 2])
    found = predict_stacked(recipe, states, X, batch_size=50)
    net = recipe.build(9).eval()
    assert found.dtype == np.float32
    assert found.shape[:2] == (2, N)
    for state, ours in zip(states, found, strict=True):
        net.load_state_dict(state)
        with torch.no_grad():
            theirs = net(torch.as_tensor(X)).reshape(N, -1).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_predicts_what_cannot_be_trained_stacked():
    recipe = Recipe(lambda: Recurrent(nn.GRU))
    states = [recipe.build(seed).state_dict() for seed in (0, 1)]
    assert predict_stacked(recipe, states, TOKENS).shape == (2, N, 2)


def test_bad_input_is_named():
    recipe = Recipe(mlp(2))
    with pytest.raises(InputError, match="members"):
        train_stacked(recipe, TABLE, BINARY, np.ones((2, N + 1), dtype=bool), [1, 2])
    with pytest.raises(InputError, match="seeds"):
        train_stacked(recipe, TABLE, BINARY, np.ones((2, N), dtype=bool), [1])
