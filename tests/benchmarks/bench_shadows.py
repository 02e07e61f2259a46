"""How much cheaper is stacked training? CPU seconds and ratios, one thread, Adult with a leaky network.

    python tests/benchmarks/bench_shadows.py [--epochs 60] [--models 8] [--groups] [--profile]

Three ways to train the same shadow models on the same records: a plain PyTorch loop over a DataLoader, the loop
over slices of ``Recipe.fit``, and ``train_stacked``. They take turns, and the machine's speed of multiplying
matrices is measured between the turns, so that ratios hold on a busy machine too; absolute seconds do not.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from leakpro_nb.game.recipes import Recipe
from leakpro_nb.shadows.stacked import train_stacked

WIDTHS = (104, 256, 256, 2)
BATCH = 128
CASE = ROOT.parent / "shared" / "cases" / "adult" / "adult_overfit_h2_n8.npz"


def make_net() -> nn.Module:
    return nn.Sequential(
        nn.Linear(WIDTHS[0], WIDTHS[1]),
        nn.ReLU(),
        nn.Linear(WIDTHS[1], WIDTHS[2]),
        nn.ReLU(),
        nn.Linear(WIDTHS[2], WIDTHS[3]),
    )


def load(models: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Return X, y, members (models, N) and the name of the data."""
    if CASE.exists():
        case = np.load(CASE)
        return case["X"], case["y"], np.resize(case["shadow_in_mask"], (models, len(case["y"]))), CASE.name
    rng = np.random.default_rng(0)
    X = (rng.random((12_000, WIDTHS[0])) < 0.12).astype(np.float32)
    y = (X @ rng.normal(size=WIDTHS[0]) + rng.normal(size=len(X)) > 0).astype(np.int64)
    members = np.argsort(rng.random((models, len(X))), axis=1) < len(X) // 2
    return X, y, members, "synthetic stand-in for Adult (case file not found)"


def train_with_loader(recipe: Recipe, X: np.ndarray, y: np.ndarray, seed: int) -> nn.Module:
    """Train one model the way most people would write it down."""
    torch.manual_seed(seed)
    net = make_net()
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    loader = torch.utils.data.DataLoader(data, batch_size=recipe.batch_size, shuffle=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.lr)
    criterion = nn.CrossEntropyLoss()
    net.train()
    for _ in range(recipe.epochs):
        for inputs, labels in loader:
            optimizer.zero_grad()
            criterion(net(inputs), labels).backward()
            optimizer.step()
    return net


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def training_flops(records: int) -> float:
    """Return the floating-point operations of training on so many records: products alone."""
    pairs = [a * b for a, b in itertools.pairwise(WIDTHS)]
    return 2.0 * records * (2 * sum(pairs) + sum(pairs[1:]))  # forward, weights; inputs but of the first layer


def mm_speed() -> float:
    """Return GFLOP/s of one big float32 product."""
    a = torch.randn(1024, 1024)
    torch.mm(a, a)
    return 2 * 1024**3 / min(cpu_seconds(lambda: torch.mm(a, a)) for _ in range(10)) / 1e9


def bmm_speed(models: int) -> float:
    """Return GFLOP/s of the batched products that one training step is made of, and nothing else."""
    seconds = 0.0
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(WIDTHS)):
        x, w = torch.randn(models, BATCH, fan_in), torch.randn(models, fan_in, fan_out)
        g = torch.randn(models, BATCH, fan_out)
        pairs = [(x, w), (x.mT, g), *([(g, w.mT)] if layer else [])]
        for a, b in pairs:
            torch.bmm(a, b)
            seconds += min(cpu_seconds(lambda a=a, b=b: torch.bmm(a, b)) for _ in range(20))
    return training_flops(models * BATCH) / seconds / 1e9


def warm_up(recipe: Recipe, X: np.ndarray, y: np.ndarray) -> None:
    """Let torch import and set up what it does only once."""
    brief = dataclasses.replace(recipe, epochs=1)
    train_with_loader(brief, X[:500], y[:500], 0)
    brief.fit(X[:500], y[:500], 0)
    train_stacked(brief, X[:500], y[:500], np.ones((2, 500), dtype=bool), [0, 1])


def compare(recipe: Recipe, models: int, rounds: int) -> None:
    X, y, members, name = load(models)
    seeds = list(range(models))
    ways = {
        "a  DataLoader loop, one by one": lambda: [
            train_with_loader(recipe, X[m], y[m], s) for m, s in zip(members, seeds, strict=True)
        ],
        "b  Recipe.fit, one by one": lambda: [recipe.fit(X[m], y[m], s) for m, s in zip(members, seeds, strict=True)],
        "c  train_stacked": lambda: train_stacked(recipe, X, y, members, seeds),
    }
    print(f"{name}: {models} models, {int(members[0].sum())} records each; {recipe.describe()}; {rounds} rounds")
    warm_up(recipe, X, y)
    spent = {way: [] for way in ways}
    big, same = [], []
    for _ in range(rounds):
        for way, work in ways.items():
            big.append(mm_speed())
            same.append(bmm_speed(models))
            spent[way].append(cpu_seconds(work))
    (a, b, c) = (np.array(spent[way]) for way in ways)
    for way, seconds in spent.items():
        total = sum(seconds)
        print(f"  {way:32s} {total:8.2f} CPU s, {total / models / rounds / recipe.epochs * 1e3:7.1f} ms/model/epoch")
    for label, ratio in (("a/c", a / c), ("b/c", b / c)):
        print(f"  {label}  {np.median(ratio):.2f}  (rounds {ratio.min():.2f} to {ratio.max():.2f})")
    speed = training_flops(int(members.sum()) * recipe.epochs) / c / 1e9
    print(f"  stacked training        {np.median(speed):6.1f} GFLOP/s")
    print(
        f"  one 1024³ product       {np.median(big):6.1f} GFLOP/s -> fraction {np.median(speed) / np.median(big):.2f}"
    )
    print(
        f"  the step's own products {np.median(same):6.1f} GFLOP/s -> fraction {np.median(speed) / np.median(same):.2f}"
    )


def compare_groups(recipe: Recipe, rounds: int) -> None:
    """Print the cost per model for several numbers of models in a stack."""
    sizes = (1, 2, 4, 8, 16, 32)
    X, y, members, _ = load(max(sizes))
    spent = {
        size: np.median(
            [
                cpu_seconds(lambda s=size: train_stacked(recipe, X, y, members[:s], list(range(s)))) / size
                for _ in range(rounds)
            ]
        )
        for size in sizes
    }
    for size, seconds in spent.items():
        print(
            f"  {size:3d} models a stack: {seconds / recipe.epochs * 1e3:7.1f} ms/model/epoch, {seconds / spent[8]:.2f} of 8"
        )


def profile(recipe: Recipe, models: int) -> None:
    X, y, members, _ = load(models)
    with torch.profiler.profile() as profiler:
        train_stacked(recipe, X, y, members, list(range(models)))
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=40))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2, help="epochs in a round; 60 is the whole case (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way takes its turn (default 3)")
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--groups", action="store_true", help="compare numbers of models in a stack")
    parser.add_argument("--profile", action="store_true", help="show where stacked training spends its time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(make_net, epochs=options.epochs, batch_size=BATCH)
    compare(recipe, options.models, options.rounds)
    if options.groups:
        compare_groups(recipe, options.rounds)
    if options.profile:
        profile(recipe, options.models)


if __name__ == "__main__":
    main()
