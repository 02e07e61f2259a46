"""What saving costs: figures, report output and result of 16 attacks on 10,000 records.

Run ``python tests/benchmarks/bench_saving.py``. Memory is what the process peaks at above its size before saving, with
all libraries loaded and a small audit saved already; the bound of the project is 30 MB and 0.5 CPU s per attack.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

import leakpro_nb as lp
from leakpro_nb import plots, story
from leakpro_nb.attacks import Scores, create
from leakpro_nb.audits import membership

ATTACKS = (
    "population", "lira", "lira_offline", "rmia", "rmia_offline", "base", "base_offline", "infor_mia", "infor_mia_offline",
    "bavaria", "bavaria_offline", "multi_signal", "multi_signal_offline", "reference", "calibration", "combined",
)  # fmt: skip


def finished(records: int, out: Path):
    """Return an audit of made-up scores, all distinct, that only has to be saved."""
    rng = np.random.default_rng(0)
    member = np.arange(records) % 2 == 0
    logits, y = rng.normal(size=(records, 2)), rng.integers(2, size=records)
    shadows = rng.normal(size=(4, records, 2))
    trained_on = rng.random((4, records)) < 0.5
    target = lp.Target.from_predictions(logits, y, member, shadow_predictions=shadows, shadow_members=trained_on)
    plan = membership.prepare(target, out=out, attacks=ATTACKS)
    models = membership.train(plan)
    view = membership.observe(plan, models)
    outcomes = {
        name: membership.Outcome(name, "ok", Scores(rng.normal(size=records) + member), attack=create(name))
        for name in ATTACKS
    }
    return plan, membership.measure(plan, view, models, outcomes), outcomes


def save(plan, result, outcomes) -> int:
    """Do what the end of the notebook does; return the bytes of figures and files."""
    member = plan.target.records.members
    figures = [plots.roc(result), plots.scores(result, membership.values(outcomes), member), plots.exposures(result)]
    size = sum(len(figure.svg()) for figure in figures if figure is not None)
    tables = [story.tpr_table(result), story.attack_table(result), story.most_exposed(result), story.checks(result)]
    size += sum(len(table.data) for table in tables)
    membership.save(plan, result, outcomes)
    return size + sum(path.stat().st_size for path in plan.out.glob("*.*"))


def peak_above(function, *arguments) -> tuple[float, float, int]:
    """Return peak memory above the start in MB, CPU seconds, and what the function returned."""
    process, done, peak = psutil.Process(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    start, clock = process.memory_info().rss, time.process_time()
    watcher = threading.Thread(target=watch)
    watcher.start()
    found = function(*arguments)
    seconds = time.process_time() - clock
    done.set()
    watcher.join()
    return max(0, max(peak[0], process.memory_info().rss) - start) / 1e6, seconds, found


def main() -> None:
    """Print the cost of saving."""
    with tempfile.TemporaryDirectory() as folder:
        save(*finished(300, Path(folder) / "small"))  # imports and fonts are nobody's cost
        audit = finished(10_000, Path(folder) / "large")
        memory, seconds, size = peak_above(save, *audit)
    n = len(ATTACKS)
    print(
        f"{n} attacks, 10,000 records: {memory:.1f} MB above the start, {seconds:.2f} CPU s, {size / 1e6:.2f} MB written"
    )
    print(f"per attack: {memory / n:.2f} MB (bound 30), {seconds / n:.3f} CPU s (bound 0.5)")


if __name__ == "__main__":
    main()
