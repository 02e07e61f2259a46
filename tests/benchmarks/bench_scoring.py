"""CPU seconds and memory of scoring; run ``python tests/benchmarks/bench_scoring.py``.

Absolute seconds belong to one machine; read them beside the matrix form of RMIA, measured in the same run.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from leakpro_nb.attacks.membership import Lira, Rmia
from leakpro_nb.attacks.membership.rmia import reference_probability, rmia_count, rmia_ratio
from leakpro_nb.game.views import References, View
from leakpro_nb.measures import auc_interval, tpr_at_fpr

CASE = Path(__file__).parents[3] / "shared" / "cases" / "adult" / "adult_overfit_h2_n8.npz"


def measured(work: Callable[[], Any], repeats: int = 3) -> tuple[float, float, Any]:
    """Return the best CPU seconds of several runs, the peak of newly allocated MB, and what the work returned."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        value = work()
        seconds.append(time.process_time() - start)
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return min(seconds), peak, value


def adult_view() -> tuple[View, np.ndarray]:
    """Return the view of 10,000 audited Adult records with 8 reference models, or a stand-in of the same shape."""
    if CASE.exists():
        data = np.load(CASE)
        rows = np.r_[data["train_idx"], data["test_idx"]]
        member = np.arange(len(rows)) < len(data["train_idx"])
        references = References(data["shadow_logits"][:, rows], data["shadow_in_mask"][:, rows], np.arange(8) ^ 1)
        return View("scores", data["y"][rows], data["target_logits"][rows], references), member
    print("the Adult case is not at hand: random numbers of the same shape")
    rng = np.random.default_rng(0)
    inside = np.repeat(rng.random((4, 10_000)) < 0.5, 2, axis=0)
    inside[1::2] = ~inside[1::2]
    references = References(rng.normal(size=(8, 10_000, 2)).astype(np.float32), inside, np.arange(8) ^ 1)
    view = View("scores", rng.integers(2, size=10_000), rng.normal(size=(10_000, 2)).astype(np.float32), references)
    return view, rng.random(10_000) < 0.5


def fresh(view: View) -> View:
    """Return the view without its cached signals, so that every run pays for the logits too."""
    return View(view.access, view.labels, view.logits, view.references)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also one million records and population records")
    large = parser.parse_args().large

    view, member = adult_view()
    print(f"\n{len(view):,} records, {len(view.references)} shadow models, from logits to scores")
    print(f"{'attack':34} {'CPU s':>8} {'MB':>6} {'AUC':>6} {'TPR at 1 %':>10}")
    for attack in (
        *[Lira(variance=v) for v in ("shrunken", "global", "fixed", "per_record")],
        Lira(mode="offline"), Rmia(), Rmia(mode="offline", a=0.3), Rmia(mode="offline"),
    ):  # fmt: skip
        seconds, peak, scores = measured(lambda attack=attack: attack.run(fresh(view)).values)
        name = f"{type(attack).__name__} " + " ".join(str(v) for v in vars(attack).values())
        auc, tpr = auc_interval(scores, member)[0], tpr_at_fpr(scores, member, 0.01)[0].tpr
        print(f"{name:34} {seconds:8.4f} {peak:6.1f} {auc:6.3f} {tpr:10.4f}")

    print("\nRMIA over all population records, by sorting and by the matrix of pairs (8 references)")
    print(f"{'records x population':24} {'sorting s':>10} {'MB':>7} {'matrix s':>10} {'ratio':>7}")
    for n in (1_000, 10_000, 50_000, *((1_000_000,) if large else ())):
        rng = np.random.default_rng(0)
        p, z = rng.random((9, n)), rng.random((9, n))
        inside = rng.random((8, n)) < 0.5

        def ratios(p: np.ndarray = p, z: np.ndarray = z, inside: np.ndarray = inside) -> tuple[np.ndarray, np.ndarray]:
            outside = np.zeros_like(inside)
            return (
                rmia_ratio(p[0], reference_probability(p[1:], inside, 0.3)),
                rmia_ratio(z[0], reference_probability(z[1:], outside, 0.3)),
            )

        seconds, peak, ours = measured(lambda ratios=ratios: rmia_count(*ratios()))
        if n > 10_000:
            print(f"{f'{n:,} x {n:,}':24} {seconds:10.4f} {peak:7.1f} {'–':>10} {'–':>7}")
            continue
        slow, _, theirs = measured(lambda ratios=ratios: matrix_form(*ratios()), repeats=1)
        assert np.array_equal(np.nan_to_num(ours), np.nan_to_num(theirs))
        print(f"{f'{n:,} x {n:,}':24} {seconds:10.4f} {peak:7.1f} {slow:10.4f} {slow / seconds:7.0f}")


def matrix_form(r_x: np.ndarray, r_z: np.ndarray) -> np.ndarray:
    """Return the same count from all pairs, as peers compute it."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(r_x), np.nan, (r_x[:, None] > r_z[None, :]).mean(axis=1))


if __name__ == "__main__":
    main()
