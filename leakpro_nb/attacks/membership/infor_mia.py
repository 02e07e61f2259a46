"""InfoRMIA: RMIA's comparison with a population as one continuous number, in nats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from leakpro_nb.attacks.base import Scores
from leakpro_nb.attacks.membership import options
from leakpro_nb.attacks.membership.rehearsal import settle
from leakpro_nb.attacks.membership.rmia import DEFAULT_A, reference_probability, tune_offline_a
from leakpro_nb.attacks.signals import Confidence, confidence
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Observed, View

__all__ = ["InforMia", "information_gain", "population_divergence"]


@dataclass(frozen=True)
class InforMia:
    """Information-theoretic RMIA: the mean log likelihood ratio against a population instead of a count.

    Source: Tao and Shokri, ICLR 2026. The term that the population adds is one number per target: it changes no
    ranking, and makes scores of different targets comparable. Without population records it is left out.

    Parameters
    ----------
    mode, a
        See ``Rmia``.
    temperature
        Divides the logits.
    """

    title: ClassVar[str] = "InfoRMIA"
    paper: ClassVar[str] = "Tao and Shokri, ICLR 2026"
    idea: ClassVar[str] = (
        "The attacker measures how much more the real model knows about a person than look-alike models do, beyond "
        "what it knows about people in general."
    )
    access: ClassVar[Access] = "scores"
    references: ClassVar[int] = 1

    mode: options.Mode = "online"
    a: float | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        options.check_mode("infor_mia.mode", self.mode)
        options.check_share("infor_mia.a", self.a)
        options.check_positive("infor_mia.temperature", self.temperature, 1)

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """Labels and recipe; online also the candidates' records beforehand."""
        return options.mode_knowledge(self.mode)

    def run(self, view: View) -> Scores:
        """Score every record of ``view``; records without a model on a needed side get NaN.

        Raises
        ------
        NotApplicable
            No suitable reference models.
        """
        options.mode_references(view, self.mode)
        function = confidence(Confidence(temperature=self.temperature))
        notes: dict[str, object] = {}
        a = None
        if self.mode == "offline":
            a, notes = settle("a", self.a, lambda: tune_offline_a(view, signal=function), DEFAULT_A)
        signal = view.signal(function)
        divergence = np.nan
        if signal.population is not None:
            divergence = population_divergence(signal.population.target, _prior(signal.population, a, population=True))
        notes["population term"] = "left out: no population" if np.isnan(divergence) else divergence
        prior = _prior(signal.audit, a, population=False)
        return Scores(information_gain(signal.audit.target, prior, np.nan_to_num(divergence)), notes)


def _prior(seen: Observed, a: float | None, *, population: bool) -> np.ndarray:
    return reference_probability(seen.references, seen.trained_on, a, population=population)


def information_gain(target: np.ndarray, prior: np.ndarray, divergence: float = 0.0) -> np.ndarray:
    """Return ``log(p(x | target) / p(x)) + divergence`` per record.

    Parameters
    ----------
    target, prior
        (N,) probabilities of the true class under the target and on average over models.
    divergence
        See ``population_divergence``.
    """
    return np.log(target) - np.log(prior) + divergence


def population_divergence(target: np.ndarray, prior: np.ndarray) -> float:
    """Return ``mean_z log(p(z) / p(z | target))`` over population records ``(Z,)``, NaN when there are none.

    With z drawn from ``p(z)`` this estimates the divergence KL(p(z) || p(z | target)).

    >>> population_divergence(np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    0.0
    """
    terms = np.log(prior) - np.log(target)
    known = terms[~np.isnan(terms)]
    return float(known.mean()) if len(known) else float("nan")
