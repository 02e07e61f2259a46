"""The one schema that every attack family's result has.

A result is written last and atomically: a run without it has failed, whatever its notebook says.
Undefined numbers are ``None``, never NaN, so that the file is strict JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from leakpro_nb.errors import AuditFailed

__all__ = [
    "MIME_TYPE",
    "SCHEMA_VERSION",
    "AttackResult",
    "Check",
    "Curve",
    "Exposure",
    "Interval",
    "Measure",
    "Result",
    "TargetCard",
    "TprAtFpr",
    "Verdict",
    "write_atomically",
]

SCHEMA_VERSION = "1.1"
MIME_TYPE = "application/vnd.leakpro.result+json"
"""MIME type under which a finished notebook carries its own result (its last output)."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Model):
    """A measured value with its confidence interval."""

    value: float
    low: float
    high: float
    level: float = 0.95
    method: str = ""


class Measure(_Model):
    """One figure of merit of one attack, beside the value that a random guess reaches."""

    name: str
    label: str
    interval: Interval
    baseline: float | None = None


class TprAtFpr(_Model):
    """True-positive rate at a false-positive rate fixed beforehand.

    ``tpr`` is ``None`` when the sample has too few non-members to resolve ``fpr``; ``reason`` then says so.
    """

    fpr: float
    resolvable: bool
    tpr: Interval | None = None
    realised_fpr: Interval | None = None
    threshold: float | None = None
    reason: str = ""


class Curve(_Model):
    """ROC curve, thinned for plotting, with a point-wise confidence band on the TPR."""

    fpr: list[float]
    tpr: list[float]
    low: list[float]
    high: list[float]


class AttackResult(_Model):
    """What one attack got, or why it did not run."""

    name: str
    title: str
    paper: str = ""
    family: str = "membership"
    status: Literal["ok", "skipped", "failed"] = "ok"
    reason: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    measures: list[Measure] = Field(default_factory=list)
    tpr_at_fpr: list[TprAtFpr] = Field(default_factory=list)
    curve: Curve | None = None
    records_scored: int = 0
    records_unscored: int = 0
    distinct_scores: int = 0
    largest_tie: int = 0
    cpu_seconds: float = 0.0

    def measure(self, name: str) -> Interval | None:
        """Return the interval of the measure called ``name``, or ``None`` when it was not measured."""
        return next((m.interval for m in self.measures if m.name == name), None)


class Check(_Model):
    """One validity gate: can the figures above be believed?"""

    name: str
    title: str
    passed: bool | None
    sentence: str
    values: dict[str, Any] = Field(default_factory=dict)


class Exposure(_Model):
    """How exposed one subgroup is; numbers of members are ``None`` where nobody said who they are."""

    column: str
    group: str
    members: int | None
    non_members: int | None
    auc: Interval | None = None
    tpr: Interval | None = None
    usage: Interval | None = None


class TargetCard(_Model):
    """What was audited; ``tested`` says in words what was, where it is not simply members and non-members."""

    name: str
    kind: str
    subjects: str = "people"
    tested: str = ""
    members: int | None
    non_members: int | None
    population: int = 0
    classes: int | None = None
    features: int | None = None
    train_accuracy: float | None = None
    test_accuracy: float | None = None
    sensitive: list[str] = Field(default_factory=list)
    recipe: str = ""
    fingerprint: str = ""


class Verdict(_Model):
    """The answer in words, with the rule that produced it.

    ``level``: ``demonstrated`` | ``limited`` | ``not_found`` | ``inconclusive``.
    """

    level: Literal["demonstrated", "limited", "not_found", "inconclusive"]
    headline: str
    sentence: str
    rule: str = ""
    values: dict[str, Any] = Field(default_factory=dict)


class Result(_Model):
    """Everything one audit found out; ``result.json`` is this, and nothing else.

    ``extras`` holds what only one template has, by name, as plain JSON.
    """

    schema_version: str = SCHEMA_VERSION
    package_version: str
    template: str
    question: str
    target: TargetCard
    threat_model: dict[str, Any]
    parameters: dict[str, Any]
    attacks: list[AttackResult]
    checks: list[Check] = Field(default_factory=list)
    exposures: list[Exposure] = Field(default_factory=list)
    most_exposed: list[dict[str, Any]] = Field(default_factory=list)
    extras: dict[str, Any] = Field(default_factory=dict)
    verdict: Verdict
    warnings: list[str] = Field(default_factory=list)
    environment: dict[str, Any] = Field(default_factory=dict)
    started: str = ""
    finished: str = ""

    def attack(self, name: str) -> AttackResult:
        """Return the result of the attack called ``name``.

        Raises
        ------
        KeyError
            No attack of that name is part of this result.
        """
        for attack in self.attacks:
            if attack.name == name:
                return attack
        raise KeyError(name)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write ``path`` atomically; a reader sees the whole file or none."""
        return write_atomically(path, self.model_dump_json(indent=1).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Result:
        """Read a result file.

        Raises
        ------
        AuditFailed
            The file is missing or is not a complete result of this schema.
        """
        try:
            return cls.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise AuditFailed(f"{path} is not a complete audit result: {error}") from error


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write ``content`` to ``path`` so that a kill at any moment leaves the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
    return path
