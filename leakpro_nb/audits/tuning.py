"""Attack tuning: options chosen by practising on shadow models, never on the audited model.

Every shadow model plays the target in turn, judged by the others but its complement. The truth used is that of the
attacker's own models, so the audited model's figures are not optimistic however long one searches. Those of the practice
are: what tuning brings is therefore estimated on shadow models that were not searched on.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from leakpro_nb.attacks import Attack, NotApplicable
from leakpro_nb.audits.across import mean_of_groups
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.measures import auc_interval, threshold_at_fpr

if TYPE_CHECKING:
    from leakpro_nb.game.views import View

__all__ = ["SPACES", "Span", "Tuned", "require_optuna", "tune"]


class Span(NamedTuple):
    """Numbers from ``low`` to ``high``; ``log`` spaces them by ratio."""

    low: float
    high: float
    log: bool = False


_TEMPERATURE = Span(0.25, 8.0, log=True)
_SIGNALS = ("softmax", "taylor", "soft_margin", "soft_margin_taylor")
_VARIANCES = ("shrunken", "global", "fixed", "per_record")

SPACES: dict[str, dict[str, Span | tuple[str, ...]]] = {
    "rmia": {"signal": _SIGNALS, "temperature": _TEMPERATURE, "reference_mean": ("mean", "trimmed")},
    "rmia_offline": {"a": Span(0.0, 1.0), "signal": _SIGNALS, "temperature": _TEMPERATURE},
    "base": {"temperature": _TEMPERATURE},
    "base_offline": {"scale": Span(0.0, 1.0), "temperature": _TEMPERATURE},
    "bavaria": {"alpha0": Span(0.25, 64.0, log=True)},
    "bavaria_offline": {"alpha0": Span(0.25, 64.0, log=True)},
    "lira": {"variance": _VARIANCES},
    "lira_offline": {"variance": _VARIANCES},
    "multi_signal": {"variance": _VARIANCES, "covariance": ("pooled", "independent")},
}
"""What is tuned, by attack: option and the values that are tried. Attacks that are not here have nothing to tune."""

MOST_GAMES = 16
"""Shadow models that play the target."""

FEWEST_FALSE_ALARMS = 10
"""Below so many non-members at the headline rate, hits are too coarse to tune by, and the AUC is used."""


@dataclass(frozen=True)
class Tuned:
    """What tuning one attack chose, and what that brings.

    Parameters
    ----------
    options
        The chosen options; empty when nothing tried was better than the defaults, which then stay.
    measure
        ``"tpr"`` (hits at the headline rate) or ``"auc"``: what was made as large as possible.
    practice
        ``{"default", "tuned"}``: its mean over the games that were searched. Optimistic for ``tuned``.
    held_out
        ``{"default", "tuned", "gain", "low", "high"}``: the same on shadow models that were not searched on (two
        halves of the pairs in turn), and the gain with its interval across pairs.
    trials, games
        Options tried; shadow models that played.
    reason
        Why there was no tuning; everything else is then empty.
    """

    options: dict[str, Any] = field(default_factory=dict)
    measure: str = ""
    practice: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, float] = field(default_factory=dict)
    trials: int = 0
    games: int = 0
    reason: str = ""


def require_optuna(trials: int) -> None:
    """Raise ``InputError`` with the command to type unless Optuna is installed."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("tune", trials, "it needs Optuna: pip install 'leakpro-nb[tuning]', or use tune = 0")


def tune(
    view: View,
    name: str,
    attack: Attack,
    *,
    trials: int,
    fpr: float,
    seed: int = 0,
    level: float = 0.95,
    fixed: Mapping[str, Any] | None = None,
) -> Tuned | None:
    """Choose the options of ``attack`` on the shadow models.

    Parameters
    ----------
    view
        What the attacker sees; of the audited model, nothing is looked at.
    name
        The attack's name; decides the search space.
    attack
        With the options from which to start.
    trials
        Sets of options that are tried, by Optuna's tree-structured Parzen estimator.
    fpr
        Headline false-positive rate.
    seed
        Of the search.
    level
        Confidence level of the gain's interval.
    fixed
        Options that the user chose, which are left alone.

    Returns
    -------
    ``None`` for an attack that has nothing to tune.
    """
    space = {option: values for option, values in SPACES.get(name, {}).items() if option not in (fixed or {})}
    if not space:
        return None
    if view.rehearsal is None:
        return Tuned(reason="the attacker cannot practise: they have no shadow models trained on these records")
    games, groups = _games(view)
    folds = [games[groups % 2 == half] for half in (0, 1)]
    if not all(len(fold) for fold in folds):
        return Tuned(reason=f"it needs at least three shadow models to practise on; there are {len(view.rehearsal)}")
    measure = _measure(view, fpr)

    seen: dict[tuple[tuple[tuple[str, Any], ...], int], float] = {}

    def value(options: Mapping[str, Any], k: int) -> float:
        key = (tuple(sorted(options.items())), int(k))
        if key not in seen:  # the searches on halves and on all games try many of the same options
            changed = dataclasses.replace(attack, **options)  # type: ignore[type-var]
            seen[key] = _value(changed, view, int(k), fpr if measure == "tpr" else None)
        return seen[key]

    def search(rows: np.ndarray) -> dict[str, Any]:
        return _search(space, lambda options: float(np.mean([value(options, k) for k in rows])), trials, seed)

    try:
        default = np.array([value({}, k) for k in games])
        held_out = np.empty(len(games))
        for fold, other in (folds, folds[::-1]):
            options = search(other)
            held_out[np.isin(games, fold)] = [value(options, k) for k in fold]
        chosen = search(games)
        practice = np.array([value(chosen, k) for k in games])
    except (NotApplicable, AccessDenied) as reason:
        return Tuned(reason=str(reason))
    gain, half = mean_of_groups(held_out - default, groups, level)
    return Tuned(
        chosen,
        measure,
        {"default": float(default.mean()), "tuned": float(practice.mean())},
        {
            "default": float(default.mean()),
            "tuned": float(held_out.mean()),
            "gain": gain,
            "low": gain - half,
            "high": gain + half,
        },
        trials,
        len(games),
    )


def _games(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Return the models that play, and a running number for each pair (or single model) of them."""
    references = view.references
    assert references is not None
    playing = np.array(
        [
            k
            for k in range(min(len(references), MOST_GAMES))
            if len(references.without(k)) and references.trained_on[k].any() and not references.trained_on[k].all()
        ],
        dtype=int,
    )
    first = np.where(references.pair[playing] >= 0, np.minimum(playing, references.pair[playing]), playing)
    return playing, np.unique(first, return_inverse=True)[1]


def _measure(view: View, fpr: float) -> str:
    assert view.references is not None
    fewest = int((~view.references.trained_on).sum(axis=1).min())
    return "tpr" if fpr * fewest >= FEWEST_FALSE_ALARMS else "auc"


def _value(attack: Attack, view: View, k: int, fpr: float | None) -> float:
    assert view.references is not None
    scores = attack.run(view.as_target(k)).values
    known = ~np.isnan(scores)
    scores, member = scores[known], view.references.trained_on[k][known]
    if member.all() or not member.any():
        raise NotApplicable("a shadow model that plays the target has records of one kind only")
    found = auc_interval(scores, member)[0] if fpr is None else threshold_at_fpr(scores, member, fpr).tpr
    return round(found, 12)  # sums of floats depend on the order of records in the last digits; a choice must not


def _search(space: Mapping[str, Span | Sequence[str]], value: Any, trials: int, seed: int) -> dict[str, Any]:
    """Return the options of the best trial; empty if none is better than the defaults."""
    import optuna

    def objective(trial: Any) -> float:
        return value(
            {
                option: trial.suggest_float(option, values.low, values.high, log=values.log)
                if isinstance(values, Span)
                else trial.suggest_categorical(option, list(values))
                for option, values in space.items()
            }
        )

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        start = int(np.random.SeedSequence(seed, spawn_key=(6,)).generate_state(1)[0])
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=start))
        study.optimize(objective, n_trials=trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return dict(study.best_params) if study.best_value > value({}) else {}
