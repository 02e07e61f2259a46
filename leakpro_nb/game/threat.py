"""Threat model: who attacks, what they see, what they know.

A threat model is enforced, not described: ``reveal`` hands out a view that holds what its lines grant.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from leakpro_nb.errors import InputError
from leakpro_nb.game.oracle import Access, one_hot
from leakpro_nb.game.records import take
from leakpro_nb.game.views import _RANK, References, View, apply_floor, floor_of
from leakpro_nb.words import share

if TYPE_CHECKING:
    from leakpro_nb.game.target import Target

__all__ = [
    "ACCESS_IN_WORDS",
    "GOAL_IN_WORDS",
    "KNOWLEDGE_IN_WORDS",
    "RELEASE_IN_WORDS",
    "TABLE_IN_WORDS",
    "Goal",
    "Knowledge",
    "ThreatModel",
]

Knowledge = Literal["labels", "candidates", "population", "recipe", "known_members"]
Goal = Literal["membership", "range_membership", "dataset_usage", "privacy_budget", "synthetic_data"]

RELEASE_IN_WORDS = {
    "prediction_api": "the model answers queries over an interface",
    "open_weights": "the model file itself is handed out",
}
ACCESS_IN_WORDS = {
    "labels": "only the answer for any record they ask about, not how sure the model is of it",
    "scores": "how sure the model is of every possible answer, for any record they ask about",
    "white_box": "everything: how sure the model is of every possible answer, and its inner parameters",
}
TABLE_IN_WORDS = {
    "synthetic_table": "a synthetic table, made to resemble the original one; the original stays where it is",
    "table": "the whole synthetic table, and nothing of the generator that made it",
}
"""What is released, and seen, where it is no model; forms that choose between models leave it out."""
KNOWLEDGE_IN_WORDS = {
    "labels": "the right answer (label) for each person they ask about",
    "candidates": "the full record of each person they ask about, before they prepare the attack",
    "population": "records of other, similar people who did not train the model",
    "recipe": "how the model was trained, so that they can train look-alikes (shadow models)",
    "known_members": "for a random half of the people they ask about, whether the record was used",
}
GOAL_IN_WORDS = {
    "membership": "to tell whether a given person's record was used to train the model",
    "range_membership": "to tell whether the record of anyone like a given person was used to train the model",
    "dataset_usage": "to tell how much of a given collection of records was used to train the model",
    "synthetic_data": "to single out, link or recognise the people behind a synthetic table, or to infer their secrets",
    "privacy_budget": "to tell which of two possible training sets the model was trained on",
}

KNOWN_SHARE = 0.5
"""Share of the audited records whose membership a ``known_members`` attacker knows."""


class ThreatModel(BaseModel):
    """Who attacks, what they see, what they know.

    The defaults are the strong attacker that an audit should start from: confidence scores, similar data, and the
    recipe of the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    release: Literal["prediction_api", "open_weights", "synthetic_table"] = "prediction_api"
    access: Access = "scores"
    knowledge: tuple[Knowledge, ...] = ("labels", "candidates", "population", "recipe")
    goal: Goal = "membership"
    prior: float = Field(default=0.5, gt=0, lt=1)
    note: str = ""

    @classmethod
    def load(cls, source: ThreatModel | dict[str, Any] | str | os.PathLike[str] | None) -> ThreatModel:
        """Return a threat model from a YAML file, a dict, or the default one from ``None``.

        Raises
        ------
        InputError
            Missing file, a line that is not part of a threat model, or a value that is not admitted.
        """
        if isinstance(source, ThreatModel):
            return source
        if source is None:
            return cls()
        if isinstance(source, dict):
            values: Any = source
        else:
            path = Path(source)
            if not path.is_file():
                raise InputError("threat", str(path), "no such file; give the path of a YAML threat model")
            try:
                values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise InputError(
                    "threat", str(path), f"not readable as YAML: {' '.join(str(error).split())}"
                ) from error
        if not isinstance(values, dict):
            raise InputError("threat", type(values).__name__, "a threat model is a mapping such as 'access: scores'")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "threat"
            remedy = first["msg"].replace("Input should", "it should")
            if first["type"] in ("extra_forbidden", "invalid_key"):
                remedy = f"not a line of a threat model; it has {', '.join(cls.model_fields)}"
            elif first["type"] == "tuple_type":
                remedy = f"give a list of any of {', '.join(KNOWLEDGE_IN_WORDS)}, or [] for none"
            raise InputError(f"threat.{field}", first.get("input"), remedy) from error

    def refusal(self, attack: Any) -> str:
        """Return why ``attack`` is out under this threat model, or an empty string when it is admitted.

        ``attack`` states its ``access`` and its ``knowledge``.
        """
        if _RANK[self.access] < _RANK[attack.access]:
            return f"it needs {ACCESS_IN_WORDS[attack.access]}; the threat model grants 'access: {self.access}'"
        missing = [need for need in attack.knowledge if need not in self.knowledge]
        if missing:
            needs = "; ".join(KNOWLEDGE_IN_WORDS[need] for need in missing)
            return f"it needs an attacker who knows {needs}; the threat model's knowledge lacks {', '.join(missing)}"
        return ""

    def reveal(self, target: Target, shadows: References | None = None, *, seed: int = 0) -> View:
        """Return what this attacker sees of ``target``, and of their own shadow models.

        Shadow models are withheld from an attacker who does not know the recipe, the population from one who has no
        such records. ``seed`` decides whose membership an attacker with ``known_members`` knows.
        """
        audited = target.records.audited
        population = ~audited
        knows_recipe = "recipe" in self.knowledge
        logits, references = target.logits, shadows if knows_recipe else None
        seen = [] if references is None else [references.logits]
        # the floor is part of the view: under labels it must say nothing of how sure the target is
        floor = floor_of(*(seen if seen and self.access == "labels" else [logits, *seen]))
        logits = apply_floor(logits, floor)
        if references is not None:
            references = References(
                apply_floor(references.logits, floor), references.trained_on, references.pair, references.models
            )
        if self.access == "labels":
            logits = one_hot(logits)
        grants_population = "population" in self.knowledge and bool(population.any())
        inputs = target.records.X if target.oracle is not None or np.prod(np.shape(target.records.X)[1:]) else None
        known, known_members = self._known(target, seed)
        return View(
            access=self.access,
            labels=target.records.y[audited],
            logits=logits[audited],
            references=references.select(slice(None), audited) if references else None,
            population=logits[population] if grants_population else None,
            population_labels=target.records.y[population] if grants_population else None,
            population_references=(
                references.select(slice(None), population) if references and grants_population else None
            ),
            knows_candidates="candidates" in self.knowledge,
            inputs=None if inputs is None else take(inputs, audited),
            population_inputs=take(inputs, population) if inputs is not None and grants_population else None,
            oracle=target.oracle.behind(self.access) if target.oracle is not None else None,
            recipe=target.recipe if knows_recipe else None,
            known=known,
            known_members=known_members,
            floor=floor,
        )

    def _known(self, target: Target, seed: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        if "known_members" not in self.knowledge or target.records.members is None:
            return None, None
        audited = target.records.audited
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(5,)))
        known = np.zeros(len(audited), dtype=bool)
        rows = np.flatnonzero(audited)
        known[rng.permutation(rows)[: round(KNOWN_SHARE * len(rows))]] = True
        return known[audited], (known & target.records.members)[audited]

    def in_words(self) -> list[tuple[str, str]]:
        """Return (question, answer) rows for the report."""
        knows = "; ".join(KNOWLEDGE_IN_WORDS[item] for item in self.knowledge) or "nothing beyond that"
        rows = [
            ("What is released?", (RELEASE_IN_WORDS | TABLE_IN_WORDS)[self.release]),
            ("What does the attacker see?", (ACCESS_IN_WORDS | TABLE_IN_WORDS)[self.access]),
            ("What does the attacker know already?", knows),
            ("What do they want?", GOAL_IN_WORDS[self.goal]),
        ]
        if self.goal in ("membership", "range_membership"):
            belief = f"that the record of a person in question was used, with probability {share(self.prior)}"
            rows.append(("What do they believe before the attack?", belief))
        if self.release == "open_weights" and self.access != "white_box":
            rows.append(("Beware", "whoever holds the model file sees more than this attacker: set access: white_box"))
        return [*rows, ("Note", self.note)] if self.note else rows
