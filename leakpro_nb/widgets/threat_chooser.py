"""Threat-model chooser: who attacks, what they see, what they know, by click."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
import yaml

from leakpro_nb.attacks import available, title_of
from leakpro_nb.game.threat import ACCESS_IN_WORDS, KNOWLEDGE_IN_WORDS, RELEASE_IN_WORDS, Goal, ThreatModel

__all__ = ["CHANGED", "ThreatChooser", "choose_threat"]

CHANGED = "Choices changed: run the notebook from here on."

_CHOICES = ("release", "access", "knowledge", "prior")
_OPTIONS = {"release": RELEASE_IN_WORDS, "access": ACCESS_IN_WORDS, "knowledge": KNOWLEDGE_IN_WORDS}
_KINDS = {"release": "radio", "access": "radio", "knowledge": "checkbox", "prior": "percent"}
_HINTS = {
    "release": "This is for the report. What the attacker can do follows from the answers below.",
    "access": "",
    "knowledge": "Tick everything that applies.",
    "prior": (
        "50 % is a coin toss. Enter less if only few of the people they ask about were used. This changes no attack, "
        "only how much the report makes of an accusation."
    ),
}

_HERE = Path(__file__)


class ThreatChooser(anywidget.AnyWidget):
    """A form for a threat model, which shows at once the attacks that the choices admit.

    ``release``, ``access``, ``knowledge`` and ``prior`` can also be set from Python; what a threat model does not admit
    raises ``TraitError``.

    Parameters
    ----------
    threat
        What is chosen at first: a threat model, the path of its YAML file, a dict, or ``None`` for the default one.
    catalogue
        Attacks that the form lists, each with ``access`` and ``knowledge``; every membership attack by default.

    Attributes
    ----------
    attacks
        (title, reason) of every attack; the reason is empty where the choices admit the attack.
    """

    # As text: given a path, anywidget would watch the file from a thread in a development checkout.
    _esm = _HERE.with_suffix(".js").read_text(encoding="utf-8")
    _css = _HERE.with_suffix(".css").read_text(encoding="utf-8")

    release = traitlets.Unicode().tag(sync=True)
    access = traitlets.Unicode().tag(sync=True)
    knowledge = traitlets.List(traitlets.Unicode()).tag(sync=True)
    prior = traitlets.Float().tag(sync=True)
    attacks = traitlets.List().tag(sync=True)
    _form = traitlets.List().tag(sync=True)
    _notice = traitlets.Unicode().tag(sync=True)
    _problem = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        threat: ThreatModel | dict[str, Any] | str | os.PathLike[str] | None = None,
        catalogue: Sequence[Any] | None = None,
    ) -> None:
        self._start = self._read = ThreatModel.load(threat)
        self._catalogue = [make() for make in available().values()] if catalogue is None else list(catalogue)
        super().__init__(_form=_form(), **{name: getattr(self._start, name) for name in _CHOICES})

    @property
    def threat(self) -> ThreatModel:
        """The threat model as chosen; reading it takes the notice about changed choices away."""
        self._read = self._chosen()
        self._notice = ""
        return self._read

    def yaml(self) -> str:
        """Return the threat model as the YAML that ``ThreatModel.load`` reads."""
        return yaml.safe_dump(self._chosen().model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the threat model to a YAML file, for the parameter ``threat`` of the next audit."""
        path = Path(path)
        path.write_text(self.yaml(), encoding="utf-8")
        return path

    def _chosen(self) -> ThreatModel:
        return ThreatModel.load(self._start.model_dump() | {name: getattr(self, name) for name in _CHOICES})

    @traitlets.validate("release", "access")
    def _one_of(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        if value not in _OPTIONS[name]:
            raise traitlets.TraitError(f"{name} = {value}: choose one of {', '.join(_OPTIONS[name])}.")
        return value

    @traitlets.validate("knowledge")
    def _some_of(self, proposal: Any) -> list[str]:
        known = KNOWLEDGE_IN_WORDS
        for value in proposal["value"]:
            if value not in known:
                raise traitlets.TraitError(f"knowledge = {value}: choose any of {', '.join(known)}.")
        # One order, so that ticking a box and taking the tick away again is no change.
        return [value for value in known if value in proposal["value"]]

    @traitlets.validate("prior")
    def _inside(self, proposal: Any) -> float:
        prior = proposal["value"]
        if not 0 < prior < 1:
            raise traitlets.TraitError(f"{_percent(prior)} is not possible: enter more than 0 % and less than 100 %.")
        return prior

    @traitlets.observe(*_CHOICES)
    def _answer(self, _change: Any) -> None:
        chosen = self._chosen()
        self.attacks = [(title_of(attack), chosen.refusal(attack)) for attack in self._catalogue]
        self._notice = CHANGED if _choices(chosen) != _choices(self._read) else ""
        self._problem = ""

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what the browser sends; where it is not admitted, say why and show again what stands."""
        try:
            super().set_state(sync_data)
        except traitlets.TraitError as error:
            self._problem = str(error)
            self.send_state([name for name in sync_data if name in _CHOICES])

    def __repr__(self) -> str:
        """Return the choices in one line."""
        knowledge = ", ".join(self.knowledge) or "nothing"
        choices = f"release {self.release}; access {self.access}; knowledge {knowledge}; prior {_percent(self.prior)}"
        return f"Threat model: {choices}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Add a static table to the live view, for whatever shows the notebook without running it."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "text/html": self._table()}, metadata

    def _table(self) -> str:
        admitted = [title for title, reason in self.attacks if not reason]
        refused = [title for title, reason in self.attacks if reason]
        rows = [
            *self._chosen().in_words(),
            ("Which attacks could they try?", ", ".join(admitted) or "none"),
            *([("Which are out of their reach?", ", ".join(refused))] if refused else []),
        ]
        body = "".join(
            f'<tr><th scope="row" style="text-align:left">{html.escape(question)}</th>'
            f'<td style="text-align:left">{html.escape(answer)}</td></tr>'
            for question, answer in rows
        )
        # A later click changes the view alone, so the table says of when it is.
        return f"<table><caption>The attacker when this cell was run</caption><tbody>{body}</tbody></table>"


def choose_threat(
    threat: ThreatModel | dict[str, Any] | str | os.PathLike[str] | None = None,
    *,
    goal: Goal = "membership",
    attacks: Sequence[Any] | None = None,
) -> ThreatChooser:
    """Return a form for a threat model, with ``threat`` chosen at first.

    A cell that is run again with the same ``threat`` gets its chooser back with the choices made since: a click selects
    that cell, so "run from here on" begins with it and must not undo the click.

    Parameters
    ----------
    threat
        A threat model, the path of its YAML file, a dict, or ``None`` for the default one.
    goal
        What the attacker of this template wants.
    attacks
        What the form shows as admitted or left out; every membership attack by default.

    Raises
    ------
    InputError
        Missing file, a line that is not part of a threat model, or a value that is not admitted.
    """
    start = ThreatModel.load(threat).model_copy(update={"goal": goal})
    cell, run = _running_cell()
    if not cell:
        return ThreatChooser(start, attacks)
    made_in, chooser = _MADE.get((cell, start), (run, None))
    # Made in this very run: the cell asks for two choosers, which are not one. No comm: it was closed.
    if chooser is None or chooser.comm is None or made_in == run:
        chooser = ThreatChooser(start, attacks)
    _MADE[cell, start] = (run, chooser)
    return chooser


_MADE: dict[tuple[str, ThreatModel], tuple[int, ThreatChooser]] = {}
"""By cell and starting point: the run that last asked for the chooser, and the chooser."""


def _running_cell() -> tuple[str, int]:
    """Return the id of the cell that is running, empty outside a notebook, and the number of its run."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "get_parent"):
        return "", 0
    return str(shell.get_parent().get("metadata", {}).get("cellId") or ""), shell.execution_count


def _form() -> list[dict[str, Any]]:
    """Return the groups of the form: what they ask, and what there is to choose."""
    rows = ThreatModel(prior=0.5).in_words()
    answers = dict(zip(("release", "access", "knowledge", "goal", "prior"), rows, strict=True))
    groups = []
    for name in _CHOICES:
        question, answer = answers[name]
        # The report's sentence about the prior ends with the number, which here is for the user to enter.
        options = (
            list(_OPTIONS[name].items()) if name in _OPTIONS else [("prior", answer.removesuffix("50 %").rstrip())]
        )
        groups.append(
            {"name": name, "kind": _KINDS[name], "question": question, "hint": _HINTS[name], "options": options}
        )
    return groups


def _choices(threat: ThreatModel) -> tuple[Any, ...]:
    return threat.release, threat.access, frozenset(threat.knowledge), threat.prior


def _percent(share: float) -> str:
    return f"{100 * share:.6g} %"
