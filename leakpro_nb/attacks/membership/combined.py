"""Combined attack: what the other attacks say, weighed as the attacker's own models teach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.bavaria import student_online
from leakpro_nb.attacks.membership.calibration import calibrated_loss
from leakpro_nb.attacks.membership.lira import lira_offline, lira_online
from leakpro_nb.attacks.membership.rehearsal import Game, games
from leakpro_nb.attacks.membership.rmia import DEFAULT_A, reference_probability, rmia_ratio
from leakpro_nb.attacks.membership.sides import side_mean
from leakpro_nb.attacks.signals import TINY, log_odds
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Observed, References, View

__all__ = ["SCORES", "Combined", "fit", "normal_scores", "rank_average"]

FEWEST_REFERENCES = 4
"""Below this there is too little to learn from, and ranks are averaged."""

MOST_ROWS = 200_000
"""Rows to which the training data is thinned; more change nothing that could be measured."""

MOST_PANELS = 8
"""Panels of references by which the target is scored."""

Learner = Literal["blend", "boosting", "logistic", "ranks"]


@dataclass(frozen=True)
class Combined:
    """Learn from the attacker's own models how to weigh the scores of the other attacks.

    Every reference model plays the target in turn, judged by the others but its complement, and a classifier learns
    to tell its members from the rest. The target is then judged by panels of the same size, each without one pair of
    references, and the log-odds of the panels are averaged. The audited membership is used nowhere.

    Source: shadow models that train an attack model, Shokri et al., S&P 2017 (1610.05820), on the scores of later
    attacks.

    Parameters
    ----------
    learner
        ``"logistic"``: logistic regression on the normal scores of seven attacks. ``"boosting"``: boosted trees on
        two of them (RMIA and Student-t LiRA), the log-odds, and its IN and OUT means. ``"blend"`` (default): the
        mean of the two log-odds. ``"ranks"``: mean of the normal scores of RMIA and Student-t LiRA, nothing learnt;
        also used with fewer than four references.
    """

    title: ClassVar[str] = "Combined"
    paper: ClassVar[str] = "after Shokri et al., S&P 2017"
    idea: ClassVar[str] = (
        "The attacker practises on look-alike models, whose training records they know, how much to trust each of "
        "the other attacks, and then attacks the real model with the mixture."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 2

    learner: Learner = "blend"

    def __post_init__(self) -> None:
        options.check_choice("combined.learner", self.learner, get_args(Learner))

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels, recipe and the candidates' records beforehand."""
        return options.mode_knowledge("online")

    def run(self, view: View) -> Scores:
        """Score every record of ``view`` with log-odds of membership (``ranks``: a mean normal score).

        Records that lack a model on one side get NaN.

        Raises
        ------
        NotApplicable
            No suitable reference models.
        """
        references = options.mode_references(view, "online")
        seen = view.signal(log_odds).audit
        if self.learner == "ranks" or len(references) < FEWEST_REFERENCES:
            return Scores(rank_average(seen), {"learner": "ranks"})
        practice = _practice(references, seen)
        if not practice:
            return Scores(
                rank_average(seen), {"learner": "ranks", "because": "no reference model could play the target"}
            )
        try:
            model = fit(practice, self.learner)
        except ValueError:  # scikit-learn's word for records of one kind only, or none, that can be scored
            return Scores(rank_average(seen), {"learner": "ranks", "because": "too few records to practise on"})
        panels = _panels(references)
        with np.errstate(invalid="ignore"):
            each = np.stack([model(Observed(seen.target, seen.references[p], seen.trained_on[p])) for p in panels])
        known = ~np.isnan(each)
        notes = {"learner": self.learner, "practised on": len(practice), "references per game": len(panels[0])}
        return Scores(side_mean(np.where(known, each, 0.0), known), notes)


def _practice(references: References, seen: Observed) -> list[Game]:
    """Return the games, thinned evenly where there are far more rows than a classifier needs."""
    every = list(games(references, seen))
    wanted = max(FEWEST_REFERENCES, MOST_ROWS // max(1, len(seen.target)))
    if len(every) <= wanted:
        return every
    return [every[i] for i in np.linspace(0, len(every) - 1, wanted).astype(int)]


def _panels(references: References) -> list[np.ndarray]:
    """Return sets of references of the size that judged in the games: all but one pair, each pair in turn."""
    panels = {tuple(references.without(k).tolist()) for k in range(len(references))}
    ordered = [np.array(panel) for panel in sorted(panels) if panel]
    if len(ordered) <= MOST_PANELS:
        return ordered
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, MOST_PANELS).astype(int)]


def _log_ratio(seen: Observed, a: float | None) -> np.ndarray:
    p = _probability(seen.target)
    return np.log(rmia_ratio(p, reference_probability(_probability(seen.references), seen.trained_on, a)))


def _probability(phi: np.ndarray) -> np.ndarray:
    return np.maximum(np.exp(-np.logaddexp(0.0, -phi)), TINY)


def _calibrated(seen: Observed) -> np.ndarray:
    return calibrated_loss(-np.logaddexp(0.0, -seen.target), -np.logaddexp(0.0, -seen.references), seen.trained_on)


SCORES: dict[str, Callable[[Observed], np.ndarray]] = {
    "rmia": lambda seen: _log_ratio(seen, None),
    "rmia_offline": lambda seen: _log_ratio(seen, DEFAULT_A),
    "bavaria": lambda seen: student_online(*seen),
    "lira_global": lambda seen: lira_online(*seen, "global"),
    "lira": lambda seen: lira_online(*seen, "shrunken"),
    "lira_offline": lambda seen: lira_offline(*seen, "shrunken"),
    "calibration": _calibrated,
}
"""The attacks that are combined, from the log-odds of target and references to scores ``(N,)``."""


def rank_average(seen: Observed) -> np.ndarray:
    """Return the mean of the normal scores of RMIA and Student-t LiRA per record ``(N,)``; nothing is learnt."""
    return (normal_scores(SCORES["rmia"](seen)) + normal_scores(SCORES["bavaria"](seen))) / 2


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Return the standard normal quantile of each value's rank, NaN where it is NaN.

    Ranks make scores of different attacks, and of different targets, comparable.

    >>> normal_scores(np.array([5.0, np.nan, 7.0, 9.0])).round(2).tolist()
    [-0.97, nan, 0.0, 0.97]
    """
    known = ~np.isnan(values)
    out = np.full(len(values), np.nan)
    out[known] = ndtri((rankdata(values[known]) - 0.5) / max(1, known.sum()))
    return out


class Features(NamedTuple):
    """What the two learners look at: ``(N, 7)`` normal scores and ``(N, 5)`` raw numbers in float32."""

    ranks: np.ndarray
    raw: np.ndarray


def _features(seen: Observed) -> Features:
    # float32: rounding that depends on the order of records must not move a record to another leaf
    scores = {name: score(seen).astype(np.float32) for name, score in SCORES.items()}
    ranks = np.stack([normal_scores(values) for values in scores.values()], axis=1)
    sides = [side_mean(seen.references, side) for side in (seen.trained_on, ~seen.trained_on)]
    raw = np.stack([scores["rmia"], scores["bavaria"], seen.target, *sides], axis=1).astype(np.float32)
    return Features(ranks, raw)


def fit(practice: Sequence[Game], learner: Learner = "blend") -> Callable[[Observed], np.ndarray]:
    """Learn from games; return the function from what is seen of a target to log-odds of membership ``(N,)``.

    Parameters
    ----------
    practice
        Games whose ``seen`` holds log-odds.
    learner
        See ``Combined``.
    """
    every = [_features(game.seen) for game in practice]
    member = np.concatenate([game.member for game in practice])
    models: list[tuple[int, Any]] = []
    if learner in ("blend", "logistic"):
        models.append((0, _fitted(_logistic(), np.concatenate([each.ranks for each in every]), member)))
    if learner in ("blend", "boosting"):
        models.append((1, _fitted(_boosting(), np.concatenate([each.raw for each in every]), member)))

    def score(seen: Observed) -> np.ndarray:
        features = _features(seen)
        known = ~np.isnan(features.ranks).any(axis=1) & ~np.isnan(features.raw).any(axis=1)
        out = np.full(len(known), np.nan)
        if known.any():
            out[known] = np.mean([model.decision_function(features[i][known]) for i, model in models], axis=0)
        return out

    return score


def _fitted(model: Any, features: np.ndarray, member: np.ndarray) -> Any:
    known = ~np.isnan(features).any(axis=1)
    features, member = features[known], member[known]
    # one order of rows, whatever that of the records, so that sums over rows are the same to the last bit
    order = np.lexsort([member, *features.T])
    order = order[:: max(1, -(-len(order) // MOST_ROWS))]
    return model.fit(features[order], member[order])


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0, max_iter=500)


def _boosting() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=0.06,
        max_iter=150,
        max_leaf_nodes=15,
        min_samples_leaf=200,
        # a higher score of either attack must not lower the suspicion; how the raw numbers act is left open
        monotonic_cst=[1, 1, 0, 0, 0],
        early_stopping=False,  # its random split would depend on the order of records
        random_state=0,
    )
