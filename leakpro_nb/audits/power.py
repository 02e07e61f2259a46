"""Power against the number of shadow models: does it still pay to train more?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from leakpro_nb.attacks import Attack, NotApplicable, available, create, title_of
from leakpro_nb.errors import AccessDenied
from leakpro_nb.measures import auc_interval, ties, tpr_at_fpr

if TYPE_CHECKING:
    from leakpro_nb.game.threat import ThreatModel
    from leakpro_nb.game.views import View

__all__ = ["auc_gain", "best_at", "budgets", "curve", "tpr_gain", "with_models"]

BEST = {
    4: ("combined",),
    2: ("rmia", "base"),
    1: ("rmia_offline", "base_offline"),
    0: ("population", "gap"),
}
"""Which attack to trust from so many shadow models on; the first that the threat model admits, else a lower row.

Fixed before any audit. From the tests on over-fitted networks with 0 to 16 shadow models: with few of them, attacks that
estimate a spread (LiRA) lose to those that compare averages (RMIA), which lose to the mixture from four on.
"""

SMALL = 0.01
"""Gain, in AUC and in the hits at the headline rate, not worth twice the training; a rule of thumb of this project."""

REPEATS = 200
"""Bootstrap samples for the interval of a gain in hits."""


def budgets(models: int) -> list[int]:
    """Return 0, the powers of two up to ``models``, and ``models`` itself.

    >>> budgets(6)
    [0, 1, 2, 4, 6]
    """
    powers = [2**i for i in range(models.bit_length()) if 2**i <= models]
    return sorted({0, *powers, models})


def best_at(models: int, threat: ThreatModel) -> list[str]:
    """Return the attacks to try with so many shadow models, best first, that the threat model admits."""
    names = [name for least, row in BEST.items() if models >= least for name in row]
    return [name for name in names if name in available() and not threat.refusal(create(name))]


def with_models(view: View, models: int) -> View:
    """Return the view of an attacker who trained only the first ``models`` shadow models."""
    if view.references is None or models == len(view.references):
        return view
    first, every = np.arange(models), slice(None)
    population = view.population_references
    return replace(
        view,
        references=view.references.select(first, every) if models else None,
        population_references=population.select(first, every) if models and population is not None else None,
        _cache={},
    )


def curve(
    view: View,
    attacks: Mapping[str, Attack],
    scores: Mapping[str, np.ndarray],
    threat: ThreatModel,
    member: np.ndarray,
    *,
    fpr: float,
    level: float,
) -> dict[str, Any]:
    """Return what the attacks reach with the first 0, 1, 2, 4, … shadow models, as plain JSON.

    Parameters
    ----------
    view
        With all shadow models.
    attacks
        Those of the audit; those that ask models about other records are left out for their cost.
    scores
        ``{attack: (N,)}`` with all shadow models, where they are known already.
    threat
        Decides which attack is best at each number.
    member
        (N,) bool.
    fpr, level
        Headline false-positive rate; level of every (point-wise) interval.

    Returns
    -------
    ``points``: one row per attack and number of models; ``best``: one row per number, with the attack that the rule
    picks; ``gain``: what the last doubling added to AUC and hits, with intervals; ``reading``: ``"pays"`` if one of
    them surely rose, ``"stopped"`` if both surely rose by less than ``SMALL``, else ``"unsettled"``. ``{"reason"}``
    alone when there are no shadow models to vary.
    """
    total = 0 if view.references is None else len(view.references)
    if not total:
        return {"reason": "no shadow models were used"}
    quick = {name: each for name, each in attacks.items() if not getattr(each, "asks", False)}
    points, best, chosen = [], [], {}
    for models in budgets(total):
        part = with_models(view, models)
        ran = dict(scores) if models == total else {}
        for name, each in quick.items():
            # an attack without shadow models is the same at every number
            if name not in ran and models >= each.references and (each.references or not models):
                found = _run(each, part)
                ran |= {} if found is None else {name: found}
        for name in best_at(models, threat):
            found = ran[name] if name in ran else _run(create(name), part)
            if found is not None and (row := _point(name, create(name), models, found, member, fpr, level)):
                best.append(row)
                chosen[models] = found
                break
        points += [
            row
            for name, found in ran.items()
            if name in quick and (row := _point(name, quick[name], models, found, member, fpr, level))
        ]
    return {"points": points, "best": best, "fpr": fpr, "level": level, **_verdict(chosen, member, total, fpr, level)}


def _run(attack: Attack, view: View) -> np.ndarray | None:
    try:
        return attack.run(view).values
    except (NotApplicable, AccessDenied):
        return None


def _point(
    name: str, attack: Attack, models: int, scores: np.ndarray, member: np.ndarray, fpr: float, level: float
) -> dict[str, Any] | None:
    known = ~np.isnan(scores)
    scored, truth = scores[known], member[known]
    if truth.all() or not truth.any():
        return None
    auc, low, high = auc_interval(scored, truth, level)
    row: dict[str, Any] = {
        "attack": name, "title": title_of(attack), "models": models, "records": int(known.sum()),
        "auc": auc, "auc_low": low, "auc_high": high, "tpr": None, "tpr_low": None, "tpr_high": None,
    }  # fmt: skip
    if fpr * (~truth).sum() >= 1 and ties(scored)[0] > 2:
        point, (low, high), _ = tpr_at_fpr(scored, truth, fpr, level)
        row |= {"tpr": point.tpr, "tpr_low": low, "tpr_high": high}
    return row


def _verdict(
    chosen: Mapping[int, np.ndarray], member: np.ndarray, total: int, fpr: float, level: float
) -> dict[str, Any]:
    half = max((models for models in chosen if 0 < 2 * models <= total), default=None)
    if half is None or total not in chosen:
        return {"gain": None, "reading": "unsettled"}
    both = ~np.isnan(chosen[half]) & ~np.isnan(chosen[total])
    before, after, truth = chosen[half][both], chosen[total][both], member[both]
    gain: dict[str, Any] = {"from": half, "to": total, "auc": list(auc_gain(before, after, truth, level)), "tpr": None}
    if fpr * (~truth).sum() >= 1 and min(ties(before)[0], ties(after)[0]) > 2:
        gain["tpr"] = list(tpr_gain(before, after, truth, fpr, level))
    found = [each for each in (gain["auc"], gain["tpr"]) if each is not None]
    if any(low > 0 and high >= SMALL for _, low, high in found):
        return {"gain": gain, "reading": "pays"}
    return {"gain": gain, "reading": "stopped" if all(high < SMALL for *_, high in found) else "unsettled"}


def auc_gain(before: np.ndarray, after: np.ndarray, member: np.ndarray, level: float) -> tuple[float, float, float]:
    """Return how much larger the AUC of ``after`` is than that of ``before``, on the same records, with its interval.

    Source: DeLong et al., Biometrics 1988 (paired AUCs).

    Parameters
    ----------
    before, after
        (N,) scores without NaN.
    member
        (N,) bool.
    """
    n1, n0 = int(member.sum()), int((~member).sum())
    if min(n1, n0) < 2:
        return 0.0, -1.0, 1.0
    wins, losses = np.zeros(n1), np.zeros(n0)
    for scores, sign in ((after, 1), (before, -1)):
        pooled = stats.rankdata(scores)
        wins += sign * (pooled[member] - stats.rankdata(scores[member])) / n0
        losses += sign * (1 - (pooled[~member] - stats.rankdata(scores[~member])) / n1)
    error = np.sqrt(wins.var(ddof=1) / n1 + losses.var(ddof=1) / n0)
    half = float(stats.norm.ppf((1 + level) / 2) * error)
    gain = float(wins.mean())
    return gain, gain - half, gain + half


def tpr_gain(
    before: np.ndarray, after: np.ndarray, member: np.ndarray, fpr: float, level: float
) -> tuple[float, float, float]:
    """Return how much larger the TPR at ``fpr`` is with ``after`` than with ``before``, with its interval.

    A paired bootstrap over records, as the thresholds, which few non-members decide, vary too. Arguments as in
    ``auc_gain``.
    """
    # one order of records, whatever that of the input, so that the samples are the same
    order = np.lexsort([before, after])
    inside, outside = (np.stack([before, after])[:, order[side[order]]] for side in (member, ~member))
    allowed = int(fpr * outside.shape[1] + 1e-9)

    def difference(members: np.ndarray, others: np.ndarray) -> float:
        # accused are those above the first non-member too many
        limit = -np.partition(-others, allowed, axis=1)[:, allowed, None]
        hits = (members > limit).mean(axis=1)
        return float(hits[1] - hits[0])

    rng = np.random.default_rng(0)
    sampled = [
        difference(*(side[:, rng.integers(side.shape[1], size=side.shape[1])] for side in (inside, outside)))
        for _ in range(REPEATS)
    ]
    low, high = np.quantile(sampled, [(1 - level) / 2, (1 + level) / 2])
    return difference(inside, outside), float(low), float(high)
