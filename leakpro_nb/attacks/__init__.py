"""Attacks: arrays and views in, scores out.

A third party adds one from outside through the entry point group ``leakpro_nb.attacks``: a name and a class with the
attributes of ``Attack``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from leakpro_nb.attacks.base import Attack, NotApplicable, Scores
from leakpro_nb.attacks.membership import (
    ActivationGradient,
    Augmentation,
    Base,
    Bavaria,
    Boundary,
    Calibration,
    Combined,
    Gap,
    GradientNorm,
    InforMia,
    Lira,
    MultiSignal,
    Oslo,
    Population,
    Quantile,
    Reference,
    Rmia,
    Sequence,
    Trajectory,
    Yoqo,
)
from leakpro_nb.errors import InputError

__all__ = ["Attack", "NotApplicable", "Scores", "available", "create", "title_of"]

_BUILT_IN: dict[str, Callable[[], Any]] = {
    "gap": Gap,
    "population": Population,
    "quantile": Quantile,
    "lira": Lira,
    "lira_offline": lambda: Lira(mode="offline"),
    "lira_queries": lambda: Lira(queries=None),
    "rmia": Rmia,
    "rmia_offline": lambda: Rmia(mode="offline"),
    "rmia_queries": lambda: Rmia(queries=None),
    "base": Base,
    "base_offline": lambda: Base(mode="offline"),
    "infor_mia": InforMia,
    "infor_mia_offline": lambda: InforMia(mode="offline"),
    "bavaria": Bavaria,
    "bavaria_offline": lambda: Bavaria(mode="offline"),
    "multi_signal": MultiSignal,
    "multi_signal_offline": lambda: MultiSignal(mode="offline"),
    "reference": Reference,
    "calibration": Calibration,
    "trajectory": Trajectory,
    "sequence": Sequence,
    "combined": Combined,
    "augmentation": Augmentation,
    "augmentation_calibrated": lambda: Augmentation(mode="calibrated"),
    "boundary": Boundary,
    "boundary_calibrated": lambda: Boundary(mode="calibrated"),
    "yoqo": Yoqo,
    "yoqo_offline": lambda: Yoqo(mode="offline"),
    "oslo": Oslo,
    "gradient_norm": GradientNorm,
    "gradient_norm_offline": lambda: GradientNorm(mode="offline"),
    "gradient_norm_plain": lambda: GradientNorm(mode="plain"),
    "activation_gradient": ActivationGradient,
}


def available() -> dict[str, Callable[[], Attack]]:
    """Return the attacks by name: those built in, then those of installed packages."""
    outside = {point.name: point.load() for point in entry_points(group="leakpro_nb.attacks")}
    return {**outside, **_BUILT_IN}


def create(name: str, options: dict[str, Any] | None = None) -> Attack:
    """Return the attack called ``name`` with its defaults, changed by ``options``.

    Raises
    ------
    InputError
        No such attack, no such option, or a value that the attack refuses.
    """
    makers = available()
    if name not in makers:
        close = difflib.get_close_matches(name, makers, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError("attacks", name, f"{hint}there are {', '.join(makers)}")
    attack: Any = makers[name]()
    if not options:
        return attack
    known = [field.name for field in dataclasses.fields(attack)]
    for option in options:
        if option not in known:
            raise InputError(f"attack_options.{name}", option, f"its options are {', '.join(known) or 'none'}")
    try:
        return dataclasses.replace(attack, **options)
    except TypeError as error:
        raise InputError(f"attack_options.{name}", options, " ".join(str(error).split())) from error


def title_of(attack: Attack) -> str:
    """Return what the report calls the attack."""
    details = [getattr(attack, "mode", ""), getattr(attack, "variant", "")]
    shown = ", ".join(detail for detail in details if detail)
    return f"{attack.title} ({shown})" if shown else attack.title
