"""Linkability: does the synthetic table tie together two sets of columns that two sources hold?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

from leakpro_nb.attacks.synthetic.base import Attempts, Contest
from leakpro_nb.attacks.synthetic.neighbours import TIE, near_pairs
from leakpro_nb.errors import InputError
from leakpro_nb.game.tables import Coded

__all__ = ["link", "linked", "linked_by_chance"]


def link(
    original: Coded,
    synthetic: Coded,
    control: Coded | None = None,
    *,
    links: tuple[Sequence[str], Sequence[str]],
    ks: Sequence[int] = (1, 5, 10),
    seed: int = 0,
) -> dict[int, Contest]:
    """Return, for each k, how often both halves of a record lead to the same synthetic record.

    Parameters
    ----------
    original, synthetic, control
        Tables that were encoded together; every record of ``original`` and ``control`` is attacked.
    links
        Two lists of columns without a common one.
    ks
        Numbers of nearest records that the attacker looks at on either side; one search serves all.
    seed
        Decides which of several tied records count as nearest.

    Source: Giomi et al., PoPETs 2023 (2211.10459), section 4.2.
    """
    first, second = (list(side) for side in links)
    if not first or not second:
        raise InputError("links", links, "give two lists of columns, neither of them empty")
    both = [name for name in first if name in second]
    if both:
        raise InputError("links", ", ".join(both), "no column may stand in both lists")
    tables = {"attack": original, **({"control": control} if control is not None and len(control) else {})}
    found = {side: linked(table, synthetic, (first, second), ks, seed) for side, table in tables.items()}
    return {
        k: Contest(
            Attempts(found["attack"][0][k], np.arange(len(original))),
            Attempts(found["control"][0][k], np.arange(len(tables["control"]))) if "control" in found else None,
            Attempts(np.full(len(original), linked_by_chance(k, len(synthetic))), np.arange(len(original))),
            {"tied": {side: float(share) for side, (_, share) in found.items()}},
        )
        for k in ks
    }


def linked(
    targets: Coded, synthetic: Coded, links: tuple[Sequence[str], Sequence[str]], ks: Sequence[int], seed: int
) -> tuple[dict[int, np.ndarray], float]:
    """Return per k the success ``(n,)``, and the share of targets whose nearest records are tied on either side.

    For k = 1 the success is the exact chance over ties, ``|T0 and T1| / (|T0| |T1|)`` for the tied nearest sets; for
    more, ties at the edge are broken at random, independently on the two sides.
    """
    n, deepest = len(targets), max(ks)
    lists = [_ranked(targets.select(side), synthetic.select(side), deepest, (seed, i)) for i, side in enumerate(links)]
    success = {k: np.zeros(n) for k in ks}
    for i, ((rows0, ties0), (rows1, ties1)) in enumerate(zip(*lists, strict=True)):
        for k in ks:
            if k == 1:
                success[k][i] = len(np.intersect1d(rows0[:ties0], rows1[:ties1])) / (ties0 * ties1)
            else:
                success[k][i] = bool(set(rows0[:k].tolist()) & set(rows1[:k].tolist()))
    tied = np.mean([a[1] > 1 or b[1] > 1 for a, b in zip(*lists, strict=True)]) if n else 0.0
    return success, float(tied)


def _ranked(queries: Coded, rows: Coded, k: int, seed: tuple[int, int]) -> list[tuple[np.ndarray, int]]:
    """Return per query its nearest rows in order, ties shuffled, and how many share the first place."""
    rng = np.random.default_rng(seed)
    found = []
    for pairs in near_pairs(queries, rows, k=k):
        distance = np.round(pairs.parts.sum(axis=1) / TIE)  # tied distances become equal
        order = np.lexsort([rng.random(len(distance)), distance, pairs.query])
        row, distance = pairs.row[order], distance[order]
        for start, end in zip(pairs.starts, [*pairs.starts[1:], len(row)], strict=True):
            ties = int(np.searchsorted(distance[start:end], distance[start] + 1, side="right"))
            found.append((row[start:end], ties))
    return found


def linked_by_chance(k: int, rows: int) -> float:
    """Return the chance that two random sets of ``k`` of ``rows`` records meet.

    >>> round(linked_by_chance(1, 50), 12)
    0.02
    """
    if 2 * k > rows:
        return 1.0
    return float(-np.expm1(2 * gammaln(rows - k + 1) - gammaln(rows + 1) - gammaln(rows - 2 * k + 1)))
