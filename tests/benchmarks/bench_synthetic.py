"""Cost of the attacks on synthetic tables; run ``python tests/benchmarks/bench_synthetic.py``.

Adult with a CTGAN release: 39,032 original, 9,758 control, 39,040 synthetic records of 15 columns. With ``--anonymeter
PYTHON``, the interpreter of an environment that has anonymeter 1.1 (never a dependency: it pins numpy below 2), the same
work is done by it in the same run, and ratios are printed. Ratios travel, seconds belong to one machine and thread.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from leakpro_nb.attacks.synthetic.inference import infer_by_neighbour
from leakpro_nb.attacks.synthetic.linkability import link
from leakpro_nb.attacks.synthetic.neighbours import nearest_distance
from leakpro_nb.attacks.synthetic.singling_out import single_out
from leakpro_nb.game.tables import encode

CASES = Path(__file__).parents[3] / "shared" / "cases" / "synthetic" / "adults"
LINKS = (
    ["type_employer", "education", "hr_per_week", "capital_loss", "capital_gain"],
    ["race", "sex", "fnlwgt", "age", "country"],
)
TARGETS = 2000
ROWS = 30_000

PEER = """
import json, os, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
from anonymeter.evaluators import SinglingOutEvaluator, LinkabilityEvaluator, InferenceEvaluator
folder, targets, rows, links = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
o, c, s = (pd.read_parquet(f"{folder}/{n}.parquet") for n in ("train", "control", "synthetic"))
def cost(f):
    start = time.process_time(); f(); return time.process_time() - start
LinkabilityEvaluator(o[:50], s[:50], aux_cols=links, n_attacks=20, n_neighbors=1).evaluate(n_jobs=1)  # compiles
out = {}
out["singling out"] = cost(lambda: SinglingOutEvaluator(o, s, n_attacks=targets, n_cols=3, max_attempts=200_000, seed=0).evaluate("multivariate"))
s, o = s[:rows], o[:rows]
out["linkability"] = cost(lambda: LinkabilityEvaluator(o, s, aux_cols=links, n_attacks=targets, n_neighbors=10).evaluate(n_jobs=1))
known = [x for x in o.columns if x != "income"]
out["inference, one secret"] = cost(lambda: InferenceEvaluator(o, s, aux_cols=known, secret="income", n_attacks=targets).evaluate(n_jobs=1))
print(json.dumps(out))
"""


def cost(function: Callable[[], object]) -> float:
    """Return the CPU seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anonymeter", help="interpreter of an environment with anonymeter 1.1")
    parser.add_argument("--large", action="store_true", help="also 100,000 x 100,000 records of 15 columns (minutes)")
    asked = parser.parse_args()
    if not CASES.exists():
        print("the Adult case is not at hand")
        return
    import torch

    torch.set_num_threads(1)
    frames = [pd.read_parquet(CASES / f"{name}.parquet") for name in ("train", "control", "synthetic")]
    o, _, s = encode(*frames)
    some, rows = o.take(np.arange(TARGETS)), s.take(np.arange(ROWS))
    every = [column.name for column in o.columns]
    ours = {
        "singling out": cost(lambda: single_out(o, s, queries=TARGETS, columns=3)),
        "linkability": cost(lambda: link(some, rows, links=LINKS, ks=(10,))),
        "inference, one secret": cost(lambda: infer_by_neighbour(some, rows, ["income"])),
        "inference, all 15 secrets": cost(lambda: infer_by_neighbour(some, rows, every)),
        "one pass over the distances": cost(lambda: nearest_distance(some, rows)),
    }
    peer: dict[str, float] = {}
    if asked.anonymeter:
        command = [asked.anonymeter, "-c", PEER, str(CASES), str(TARGETS), str(ROWS), json.dumps(LINKS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peer = json.loads(done.stdout.splitlines()[-1])
    print(f"{'':30} {'CPU s':>8} {'anonymeter':>11} {'ratio':>7}")
    for name, seconds in ours.items():
        theirs = f"{peer[name]:11.2f} {peer[name] / seconds:7.1f}" if name in peer else ""
        print(f"{name:30} {seconds:8.2f} {theirs}")
    if asked.large:
        big = pd.concat([*frames] * 2, ignore_index=True)[:100_000]
        a, b = encode(big, big.sample(frac=1, random_state=0))
        print(f"{'100,000 x 100,000':30} {cost(lambda: nearest_distance(a, b)):8.2f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
