"""Audit the algorithm as well as the model: would another model, trained the same way, leak as much?

Every shadow model plays the target in turn, judged by the others but its complement. That takes no further training,
and gives what one audit of one model cannot: how much the leak varies between models, and whom of the records it
exposes again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from leakpro_nb.attacks import NotApplicable, available, create, title_of
from leakpro_nb.audits import exposure
from leakpro_nb.audits.across import across, jackknife
from leakpro_nb.errors import AccessDenied
from leakpro_nb.measures import auc_interval, threshold_at_fpr, ties

if TYPE_CHECKING:
    from leakpro_nb.game.target import Target
    from leakpro_nb.game.threat import ThreatModel
    from leakpro_nb.game.views import View

__all__ = [
    "Algorithm",
    "Games",
    "Vulnerability",
    "audit",
    "coin_flips",
    "flip_rate",
    "not_repeated",
    "operating_threshold",
    "play",
    "vulnerability",
]

CHEAP = (("rmia", "bavaria"), ("rmia_offline", "bavaria_offline"), ("population",), ("gap",))
"""Attacks that take milliseconds a model. The strongest of the first row that the threat model admits is used."""

MOST_TARGETS = 32
"""Shadow models that play the target; more would cost time and narrow the intervals little."""

FEWEST_GROUPS = 3
"""Pairs (or single models without a complement) below which nothing is said about other models."""

SHRINKAGE = 4.0
"""Weight of the pooled variance, in models, in each record's own; as in LiRA."""

COIN_LEVEL = 0.05
"""Level of the exact binomial test of "accused more often than not"."""


class Games(NamedTuple):
    """Scores of one attack with every shadow model as the target.

    ``scores (K, N)``, NaN where a record cannot be scored; ``member (K, N)`` bool, who trained model k;
    ``group (K,)`` models and their complements share a number; ``own (P, N)`` scores of the audited model, judged by
    panels of as many models as judged in the games.
    """

    attack: str
    title: str
    scores: np.ndarray
    member: np.ndarray
    group: np.ndarray
    own: np.ndarray


@dataclass(frozen=True)
class Vulnerability:
    """How exposed each record is to the algorithm, over models that did and did not train on it.

    Parameters
    ----------
    inside, outside
        (N,) models with and without the record that could be scored.
    accused_inside, accused_outside
        (N,) how many of them give the record away at the global threshold (for the latter: wrongly).
    low, high
        (N,) 95 % interval of the chance of being accused when in the training data: Beta posterior, Jeffreys' prior.
    separation
        (N,) distance of the mean scores with and without the record, in standard deviations, shrunk.
    predicted_tpr
        (N,) chance of being accused by an attacker who sets the record's own threshold at the headline FPR.
    """

    inside: np.ndarray
    outside: np.ndarray
    accused_inside: np.ndarray
    accused_outside: np.ndarray
    low: np.ndarray
    high: np.ndarray
    separation: np.ndarray
    predicted_tpr: np.ndarray

    @property
    def rate(self) -> np.ndarray:
        """(N,) share of the models with the record that give it away; NaN without any."""
        return _ratio(self.accused_inside, self.inside)


@dataclass(frozen=True)
class Algorithm:
    """What the shadow models as targets showed: plain JSON for the result, and one row per record for the file."""

    summary: dict[str, Any]
    records: Vulnerability | None = None


def audit(
    view: View, threat: ThreatModel, target: Target, member: np.ndarray, *, fpr: float, level: float
) -> Algorithm:
    """Play every shadow model as the target and say how the audited model compares with them.

    Parameters
    ----------
    view
        What the attacker sees of the audited model.
    threat
        Decides which attacks are admitted.
    target
        For its classes and sensitive columns.
    member
        (N,) bool truth about the audited model, which is compared with the others at the end.
    fpr
        Headline false-positive rate.
    level
        Confidence level of the intervals.

    Returns
    -------
    ``summary`` has ``"reason"`` and nothing else when there are too few shadow models.

    Source: leave-one-out over shadow models, Jebreel et al., PoPETs 2026 (2603.07567).
    """
    games = play(view, threat, fpr)
    if isinstance(games, str):
        return Algorithm({"reason": games})
    threshold, one_point = operating_threshold(games.scores, games.member, fpr)
    accused = games.scores >= threshold
    known = ~np.isnan(games.scores)
    each = vulnerability(games.scores, games.member, threshold, fpr)
    own = games.own >= threshold
    # the claims about real people: those whom an audit of this very model accuses, rightly
    claims = (own & member).sum(axis=0)

    def figure(measure: Callable[[np.ndarray, np.ndarray], float]) -> dict[str, Any]:
        values = np.array(
            [measure(*_scored(row, truth)) for row, truth in zip(games.scores, games.member, strict=True)]
        )
        audited = float(np.mean([measure(*_scored(row, member)) for row in games.own]))
        return {"values": values.tolist(), "audited": audited, **across(values, games.group, level)._asdict()}

    def share_not_repeated(chosen: np.ndarray) -> float:
        inside = known[chosen] & games.member[chosen]
        return not_repeated(claims, (accused[chosen] & inside).sum(axis=0), inside.sum(axis=0))

    rate = each.rate
    return Algorithm(
        {
            "attack": games.attack,
            "title": games.title,
            "models": len(games.scores),
            "level": level,
            "fpr": fpr,
            "threshold": threshold,
            "auc": figure(lambda scores, truth: auc_interval(scores, truth)[0]),
            "tpr": None if one_point else figure(lambda scores, truth: threshold_at_fpr(scores, truth, fpr).tpr),
            "not_repeated": jackknife(share_not_repeated, games.group, level),
            "claims": round(float(claims.sum()) / len(own)),
            "flip_rate": _mean(flip_rate(each.accused_inside, each.inside)),
            "coin_flips": coin_flips(claims, each.accused_inside, each.inside),
            "records": int(np.isfinite(rate).sum()),
            "never_accused": _mean(np.where(np.isfinite(rate), rate == 0, np.nan)),
            "mostly_accused": _mean(np.where(np.isfinite(rate), rate > 0.5, np.nan)),
            "groups": _groups(target, each, level),
        },
        each,
    )


def play(view: View, threat: ThreatModel, fpr: float) -> Games | str:
    """Return the games of the strongest cheap attack that the threat model admits, or why there are none.

    The attack is chosen by its mean true-positive rate at ``fpr`` over the games, then by its AUC.
    """
    if view.references is None or not len(view.references):
        return "there are no shadow models that could play the target"
    groups = _group(view)
    if len(np.unique(groups)) < FEWEST_GROUPS:
        return f"it needs at least {2 * FEWEST_GROUPS} shadow models; there are {len(view.references)}"
    for row in CHEAP:
        names = [name for name in row if name in available() and not threat.refusal(create(name))]
        played = [games for name in names if (games := _play(view, name, groups)) is not None]
        if played:
            return max(played, key=lambda games: _strength(games, fpr))
    return "the threat model admits none of the attacks that are quick enough to repeat on every shadow model"


def _group(view: View) -> np.ndarray:
    """Return a number for every pair of complementary models that may play, and for every single one."""
    assert view.references is not None
    pair = view.references.pair
    mine = np.arange(len(pair))
    return np.where(pair >= 0, np.minimum(mine, pair), mine)[:MOST_TARGETS]


def _play(view: View, name: str, groups: np.ndarray) -> Games | None:
    assert view.references is not None
    attack = create(name)
    rows = np.full((len(groups), len(view)), np.nan)
    try:
        for k in range(len(groups)):
            rows[k] = attack.run(view.as_target(k)).values
        panels = [view.references.without(int(k)) for k in np.unique(groups)]
        own = np.stack(
            [attack.run(replace(view, **_only(view, panel), _cache={})).values for panel in panels if len(panel)]
        )
    except (NotApplicable, AccessDenied):
        return None
    return Games(name, title_of(attack), rows, view.references.trained_on[: len(groups)], groups, own)


def _only(view: View, models: np.ndarray) -> dict[str, Any]:
    every = slice(None)
    assert view.references is not None
    population = view.population_references
    return {
        "references": view.references.select(models, every),
        "population_references": None if population is None else population.select(models, every),
    }


def _strength(games: Games, fpr: float) -> tuple[float, float]:
    pairs = [_scored(row, truth) for row, truth in zip(games.scores, games.member, strict=True)]
    tpr = np.mean([threshold_at_fpr(*pair, fpr).tpr for pair in pairs])
    return float(tpr), float(np.mean([auc_interval(*pair)[0] for pair in pairs]))


def _scored(scores: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(scores)
    return scores[known], member[known]


def operating_threshold(scores: np.ndarray, member: np.ndarray, fpr: float) -> tuple[float, bool]:
    """Return the score from which on at most ``fpr`` of all non-members ``(K, N)`` are accused, pooled over models.

    And whether the attack only says yes or no: then it has one operating point, which is returned whatever its rate.
    """
    values, truth = _scored(scores.ravel(), member.ravel())
    if ties(values)[0] == 2:
        return float(values.max()), True
    return threshold_at_fpr(values, truth, fpr).threshold, False


def vulnerability(scores: np.ndarray, member: np.ndarray, threshold: float, fpr: float) -> Vulnerability:
    """Return each record's exposure over models.

    Parameters
    ----------
    scores
        (K, N) of one attack, model k as the target; NaN where it gave none.
    member
        (K, N) bool: who trained model k.
    threshold
        From which on a record is accused, the same for all.
    fpr
        Rate at which ``predicted_tpr`` is stated.

    The separation is ``(mean_in - mean_out) / sd`` with each record's variance drawn towards the pooled one; since a
    few models overstate differences, it is then drawn towards the mean over records by its own sampling error
    (normal-normal empirical Bayes), and ``predicted_tpr = Phi((m - z) / sqrt(1 + v))`` allows for what remains unknown. That suits separations that
    vary smoothly; where there are two kinds of records and nothing between, the counts are closer to the truth.
    """
    known = ~np.isnan(scores)
    inside, outside = known & member, known & ~member
    n_in, n_out = inside.sum(axis=0), outside.sum(axis=0)
    accused = scores >= threshold
    hits = (accused & inside).sum(axis=0)
    separation, error = _separation(scores, inside, outside)
    mean, left = _shrunk(separation, error)
    z = stats.norm.ppf(1 - fpr)
    return Vulnerability(
        n_in,
        n_out,
        hits,
        (accused & outside).sum(axis=0),
        stats.beta.ppf(0.025, hits + 0.5, n_in - hits + 0.5),
        stats.beta.ppf(0.975, hits + 0.5, n_in - hits + 0.5),
        mean,
        stats.norm.cdf((mean - z) / np.sqrt(1 + left)),
    )


def _separation(scores: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each record's separation and its sampling variance ``(N,)``; NaN without models on both sides.

    Corrected for the bias of a few models, with the variance that dividing by an estimate adds: Hedges, 1981.
    """
    means, squares, counts = [], np.zeros(scores.shape[1]), []
    for side in (inside, outside):
        count = side.sum(axis=0)
        mean = _ratio(np.where(side, scores, 0.0).sum(axis=0), count)
        residual = np.where(side, scores - mean, 0.0)
        squares += np.einsum("kn,kn->n", residual, residual)
        means.append(mean)
        counts.append(count)
    freedom = np.maximum(counts[0] - 1, 0) + np.maximum(counts[1] - 1, 0)
    pooled = squares.sum() / max(int(freedom.sum()), 1)
    spread = np.sqrt((SHRINKAGE * pooled + squares) / (SHRINKAGE + freedom))
    # as many degrees of freedom as would make a variance as uncertain as the shrunken one is
    weight = (SHRINKAGE + freedom) ** 2 / np.maximum(freedom, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (means[0] - means[1]) / np.maximum(spread, 1e-12) * (1 - 3 / (4 * weight - 1))
        return found, 1 / counts[0] + 1 / counts[1] + found**2 / (2 * weight)


def _shrunk(values: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return posterior mean and variance ``(N,)`` of true values that were observed with variance ``error (N,)``."""
    known = np.isfinite(values)
    if known.sum() < 2:
        return values, np.where(known, error, np.nan)
    centre = float(values[known].mean())
    between = max(0.0, float(values[known].var(ddof=1) - error[known].mean()))
    weight = between / (between + np.where(known, error, np.nan))
    return centre + weight * (values - centre), weight * error


def flip_rate(accused: np.ndarray, models: np.ndarray) -> np.ndarray:
    """Return the chance ``(N,)`` that two models with the record disagree about it: ``2 q (1 - q) B / (B - 1)``.

    Parameters
    ----------
    accused, models
        (N,) of B models with the record, how many give it away; NaN below two models.

    >>> flip_rate(np.array([0, 1, 2]), np.array([2, 2, 2])).tolist()
    [0.0, 1.0, 0.0]
    """
    return _ratio(2 * accused * (models - accused), np.where(models > 1, models * (models - 1), 0))


def not_repeated(claims: np.ndarray, accused: np.ndarray, models: np.ndarray) -> float:
    """Return the share of claims that another model with the record would not repeat.

    Parameters
    ----------
    claims
        (N,) how often each record was claimed, by audits other than those counted in ``accused``.
    accused, models
        (N,) of other models with the record, how many give it away.

    >>> not_repeated(np.array([1, 1]), np.array([4, 1]), np.array([4, 4]))
    0.375
    """
    weight = np.where(models > 0, claims, 0)
    if not weight.any():
        return float("nan")
    return float((weight * (1 - accused / np.maximum(models, 1))).sum() / weight.sum())


def coin_flips(claims: np.ndarray, accused: np.ndarray, models: np.ndarray) -> float | None:
    """Return the share of claims about records that are not shown to be accused more often than not.

    An exact one-sided binomial test per record against 1/2, at 5 %; five models or more are needed to pass it.
    """
    weight = np.where(models > 0, claims, 0)
    if not weight.any():
        return None
    coin = stats.binom.sf(accused - 1, models, 0.5) > COIN_LEVEL
    return float((weight * coin).sum() / weight.sum())


def _groups(target: Target, each: Vulnerability, level: float) -> list[dict[str, Any]]:
    cuts = [(column, label, rows) for column, labels in exposure.subgroups(target) for label, rows in labels]
    joint = 1 - (1 - level) / max(1, len(cuts))
    rate, false = each.rate, _ratio(each.accused_outside, each.outside)
    found = []
    for column, label, rows in cuts:
        rates = rate[rows & np.isfinite(rate)]
        if len(rates) < 2 * exposure.SMALLEST_GROUP:
            continue
        half = stats.t.ppf((1 + joint) / 2, len(rates) - 1) * rates.std(ddof=1) / np.sqrt(len(rates))
        found.append(
            {
                "column": column,
                "group": label,
                "records": len(rates),
                "accused": float(rates.mean()),
                "low": max(0.0, float(rates.mean() - half)),
                "high": min(1.0, float(rates.mean() + half)),
                "wrongly_accused": _mean(false[rows]),
            }
        )
    return found


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
