"""CPU seconds of the lower bounds on epsilon; run ``python tests/benchmarks/bench_epsilon.py``.

The ratio compares one p-value at delta above 0 with the same sum written as a loop, as papers' code has it. Absolute
seconds belong to one machine; the ratio was measured in the same run.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import math
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from leakpro_nb.measures import epsilon
from leakpro_nb.measures.epsilon import epsilon_lower_bound, fdp_mu, one_run_epsilon, one_run_p_value


def seconds(work: Callable[[], object], repeats: int = 3) -> tuple[float, object]:
    """Return the best CPU seconds of several runs from cold caches, and what the work returned."""
    taken = []
    for _ in range(repeats):
        epsilon._one_run_epsilon.cache_clear()
        epsilon._fdp_mu.cache_clear()
        epsilon._ceiling.cache_clear()
        start = time.process_time()
        value = work()
        taken.append(time.process_time() - start)
    return min(taken), value


def p_value_by_loop(m: int, r: int, v: int, eps: float, delta: float) -> float:
    """Return the p-value with one call of the binomial a term."""
    q = 1 / (1 + math.exp(-eps))
    beta = stats.binom.sf(v - 1, r, q)
    alpha = max((stats.binom.sf(v - i - 1, r, q) - beta) / i for i in range(1, v + 1))
    return min(1.0, beta + 2 * m * delta * alpha)


def main() -> None:
    """Print the tables."""
    seconds(lambda: one_run_p_value(10, 5, 5, 1.0, 1e-5))  # imports and first calls
    print("\none-run p-value, every canary guessed, 70 % right, eps 1, delta 1e-5")
    print(f"{'m':>7} {'one call s':>11} {'loop s':>9} {'ratio':>7} {'bound s':>9} {'f-DP bound s':>13}")
    for m in (1_000, 5_000, 20_000):
        v = 7 * m // 10
        fast, ours = seconds(lambda m=m, v=v: one_run_p_value(m, m, v, 1.0, 1e-5), 20)
        slow, theirs = seconds(lambda m=m, v=v: p_value_by_loop(m, m, v, 1.0, 1e-5), 1)
        assert abs(ours - theirs) < 1e-12
        bound, _ = seconds(lambda m=m, v=v: one_run_epsilon(m, m, v, delta=1e-5))
        fdp, _ = seconds(lambda m=m, v=v: fdp_mu(m, m, v))
        print(f"{m:7,} {fast:11.5f} {slow:9.3f} {slow / fast:7.0f} {bound:9.4f} {fdp:13.4f}")

    print("\nfrom scores to bound, Gaussian mechanism mu 1, delta 1e-5")
    print(f"{'method and rule':32} {'m':>7} {'CPU s':>8} {'eps':>7} {'ceiling':>8}")
    for m in (1_000, 20_000):
        rng = np.random.default_rng(0)
        inserted = rng.random(m) < 0.5
        scores = rng.normal(size=m) + inserted
        for method in ("one_run", "fdp", "clopper_pearson", "gdp", "bayesian"):
            for rule in ("preregistered", "bonferroni", "split", "multisplit"):
                taken, bound = seconds(
                    lambda s=scores, i=inserted, how=method, rule=rule: epsilon_lower_bound(
                        s, i, method=how, plan=rule, delta=1e-5
                    )
                )
                print(f"{f'{method} {rule}':32} {m:7,} {taken:8.4f} {bound.eps:7.3f} {bound.ceiling:8.3f}")


if __name__ == "__main__":
    main()
