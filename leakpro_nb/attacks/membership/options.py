"""Options that several attacks share: their checks, and what they ask of the attacker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from leakpro_nb.attacks.base import need_references
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import References, View

__all__ = [
    "Mode",
    "check_choice",
    "check_count",
    "check_mode",
    "check_positive",
    "check_queries",
    "check_share",
    "mode_knowledge",
    "mode_references",
]

Mode = Literal["online", "offline"]
"""Online: models that trained on the record and models that did not; offline: only the latter."""


def check_choice(field: str, value: Any, choices: Sequence[str]) -> None:
    """Raise ``InputError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise InputError(field, value, f"use {', '.join(choices[:-1])} or {choices[-1]}")


def check_mode(field: str, value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is a ``Mode``."""
    check_choice(field, value, ("online", "offline"))


def check_positive(field: str, value: Any, example: float) -> None:
    """Raise ``InputError`` unless ``value`` is above 0; the message gives an ``example``."""
    if value <= 0:
        raise InputError(field, value, f"use a positive number, for example {example:g}")


def check_share(field: str, value: Any) -> None:
    """Raise ``InputError`` unless ``value`` lies in [0, 1], or is None: to be chosen on shadow models."""
    if value is not None and not 0 <= value <= 1:
        raise InputError(field, value, "use a number from 0 to 1, or None to choose it on shadow models")


def check_count(field: str, value: Any, least: int, example: int) -> None:
    """Raise ``InputError`` unless ``value`` is an integer of at least ``least``; the message gives an ``example``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(field, value, f"use an integer of at least {least}, for example {example}")


def check_queries(field: str, value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is a number of queries per record, or None: to be chosen on shadow models."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(field, value, "use an integer of at least 1, or None to choose it on shadow models")


def mode_knowledge(mode: Mode) -> tuple[Knowledge, ...]:
    """Return labels and recipe; online also the candidates' records beforehand."""
    return ("labels", "recipe", "candidates") if mode == "online" else ("labels", "recipe")


def mode_references(view: View, mode: Mode) -> References:
    """Return the view's reference models; see ``need_references`` for when there are none that would do."""
    return need_references(view, online=mode == "online")
