"""LiRA: compare the target with models that did, and models that did not, train on the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.rehearsal import choose_queries
from leakpro_nb.attacks.membership.sides import side_stats
from leakpro_nb.attacks.queries import queried
from leakpro_nb.attacks.signals import log_odds
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Observed, View

__all__ = ["Lira", "Variance", "gaussian_sides", "lira_offline", "lira_online"]

Variance = Literal["shrunken", "global", "fixed", "per_record"]

SHRINKAGE = 4.0
"""Weight of the global variance, in models, in the shrunken one (k0 in the formula)."""

FLOOR = 1e-12
"""Added to every standard deviation, so that models that agree exactly still give finite scores."""


@dataclass(frozen=True)
class Lira:
    """Likelihood-ratio attack with Gaussians on the log-odds of the true class.

    Source: Carlini et al., S&P 2022 (2112.03570), algorithms 1 and 2.

    Parameters
    ----------
    mode
        ``"online"``: ratio of the IN and OUT likelihoods. ``"offline"``: OUT models only, the one-sided test
        ``(phi - mean_out) / sd_out``, which ranks as the paper's ``Pr[Z <= phi]`` does without saturating at 1.
    variance
        ``"per_record"``: the paper's with many models. ``"global"``: one within-record variance per side.
        ``"fixed"``: the authors' code with few models, one variance of all values of a side pooled, which includes
        the spread between records. ``"shrunken"`` (default): per-record variances drawn towards the global one with
        the weight of four models; it turns into ``"per_record"`` by itself as models are added. Where no record has
        two models on a side, ``"global"`` and ``"shrunken"`` are ``"fixed"``.
    queries
        How often each model is asked about a record, every time changed a little (see ``queries_for``); the scores of
        the queries are averaged, as in the paper's section VI-C. ``None``: as many as tell most on shadow models.
    """

    title: ClassVar[str] = "LiRA"
    paper: ClassVar[str] = "Carlini et al., S&P 2022"
    idea: ClassVar[str] = (
        "The attacker trains look-alike models without a person's record (online: others with it, too), and asks "
        "whether the real model behaves like one that never saw the record."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 1

    mode: options.Mode = "online"
    variance: Variance = "shrunken"
    queries: int | None = 1

    def __post_init__(self) -> None:
        options.check_mode("lira.mode", self.mode)
        options.check_choice("lira.variance", self.variance, get_args(Variance))
        options.check_queries("lira.queries", self.queries)

    @property
    def asks(self) -> bool:
        """Whether stored predictions are not enough: with more than one query per record."""
        return self.queries != 1

    @property
    def variant(self) -> str:
        """What the report adds to the title."""
        return "several queries" if self.asks else ""

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels and recipe; online also the candidates' records beforehand."""
        return options.mode_knowledge(self.mode)

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records without a model on a needed side get NaN.

        Raises
        ------
        NotApplicable
            No suitable reference models, or records about which no such number of queries can be asked.
        AccessDenied
            Several queries, and only predictions are known.
        """
        options.mode_references(view, self.mode)

        def score(seen: Observed) -> np.ndarray:
            return (lira_online if self.mode == "online" else lira_offline)(*seen, self.variance)

        queries = self.queries or choose_queries(view, log_odds, score)
        each = [score(query.signal(log_odds).audit) for query in queried(view, queries)]
        return Scores(np.mean(each, axis=0), {"queries per record": queries} if self.asks else {})


class Sides(NamedTuple):
    """Mean and standard deviation per record ``(N,)`` of the models that trained on it (in) and did not (out)."""

    mean_in: np.ndarray
    sd_in: np.ndarray
    mean_out: np.ndarray
    sd_out: np.ndarray


def lira_online(
    target: np.ndarray, references: np.ndarray, trained_on: np.ndarray, variance: Variance = "shrunken"
) -> np.ndarray:
    """Return ``log N(phi; mean_in, sd_in) - log N(phi; mean_out, sd_out)`` per record.

    Parameters
    ----------
    target, references, trained_on
        Log-odds (N,) of the target and (K, N) of the references, and the references' membership (K, N) bool.
    variance
        See ``Lira``.

    Returns
    -------
    (N,) float64, NaN for records that lack a model on one side.
    """
    sides = gaussian_sides(references, trained_on, variance)
    z_in = (target - sides.mean_in) / sides.sd_in
    z_out = (target - sides.mean_out) / sides.sd_out
    return 0.5 * (z_out**2 - z_in**2) + np.log(sides.sd_out / sides.sd_in)


def lira_offline(
    target: np.ndarray, references: np.ndarray, trained_on: np.ndarray, variance: Variance = "shrunken"
) -> np.ndarray:
    """Return ``(phi - mean_out) / sd_out`` per record ``(N,)``; ``scipy.stats.norm.logcdf`` of it is the paper's score."""
    sides = gaussian_sides(references, trained_on, variance)
    return (target - sides.mean_out) / sides.sd_out


def gaussian_sides(references: np.ndarray, trained_on: np.ndarray, variance: Variance) -> Sides:
    """Fit one Gaussian per record and side to log-odds ``(K, N)``; see ``Lira`` for the variances."""
    mean_in, sd_in = _side(references, trained_on, variance)
    mean_out, sd_out = _side(references, ~trained_on, variance)
    return Sides(mean_in, sd_in, mean_out, sd_out)


def _side(values: np.ndarray, chosen: np.ndarray, variance: Variance) -> tuple[np.ndarray, np.ndarray]:
    count, mean, squares = side_stats(values, chosen)
    alone = variance != "per_record" and count.max(initial=0) < 2  # one model cannot show how much models vary
    with np.errstate(invalid="ignore"):
        if variance == "fixed" or alone:
            pooled = values[chosen]
            spread = np.full(len(mean), pooled.std() if pooled.size else np.nan)
        elif variance == "per_record":
            spread = np.sqrt(squares / count)
        else:
            total = squares.sum() / max(count.sum(), 1.0)
            if variance == "global":
                spread = np.full(len(mean), np.sqrt(total))
            else:
                spread = np.sqrt((SHRINKAGE * total + squares) / (SHRINKAGE + count))
    return mean, spread + FLOOR
