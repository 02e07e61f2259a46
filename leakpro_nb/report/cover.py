"""What stands on a report's first page, the same on paper and on screen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from leakpro_nb.report.document import Part, Report
from leakpro_nb.report.text import printable, shorten
from leakpro_nb.results import Result

__all__ = ["INCOMPLETE", "Attachment", "attachments", "date", "facts", "incomplete"]

INCOMPLETE = "INCOMPLETE: this audit did not finish; nothing below may be used as a result"

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that travels inside the report."""

    name: str
    data: bytes
    mime: str
    description: str
    relationship: str


def date(when: datetime | None) -> str:
    """Return a date in words, independent of the machine's locale.

    Examples
    --------
    >>> date(datetime(2026, 3, 1, 14, 5))
    '1 March 2026, 14:05 UTC'
    """
    if when is None:
        return ""
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}, {when:%H:%M} UTC"


def incomplete(report: Report) -> str:
    """Return the stamp's sentence, empty for a report that needs none."""
    if not report.incomplete:
        return ""
    if len(report.parts) == 1:
        return INCOMPLETE
    missing = sum(part.status == "incomplete" for part in report.parts)
    return (
        f"INCOMPLETE: {missing} of {len(report.parts)} audits did not finish; "
        "nothing below may be used as a result of the whole"
    )


def facts(part: Part) -> list[tuple[str, str]]:
    """Return what a reader must know to place a verdict: about whom, on what, when, with what."""
    result = part.result
    if result is None:
        return [("Date", date(part.when))] if part.when else []
    target = result.target
    records = f"{max((attack.records_scored for attack in result.attacks), default=0):,}"
    if target.tested:
        records = target.tested
    elif target.members is not None and target.non_members is not None:
        records = f"{target.members:,} members and {target.non_members:,} non-members"
    found = [
        ("Target", target.name),
        ("Kind of target", target.kind),
        ("Tested", records),
        ("Attacks", _attacks(result)),
        ("Validity checks", _checks(result)),
        ("Date of the audit", date(part.when)),
        ("Software", f"leakpro_nb {result.package_version}"),
    ]
    return [(label, shorten(printable(value), 400)) for label, value in found if value]


def _attacks(result: Result) -> str:
    counts = [(word, sum(a.status == status for a in result.attacks)) for word, status in _STATUS]
    return ", ".join(f"{count} {word}" for word, count in counts if count)


_STATUS = (("run", "ok"), ("skipped", "skipped"), ("failed", "failed"))


def _checks(result: Result) -> str:
    done = [check for check in result.checks if check.passed is not None]
    if not result.checks:
        return ""
    not_passed = [check.title for check in done if not check.passed]
    undecided = len(result.checks) - len(done)
    words = f"{len(done) - len(not_passed)} of {len(result.checks)} passed"
    if undecided:
        words += f", {undecided} could not be made"
    return words + (f"; not passed: {', '.join(not_passed)}" if not_passed else "")


def attachments(report: Report, *, notebooks: bool) -> list[Attachment]:
    """Return the files to put into the report; several parts get one numbered name each."""
    several = len(report.parts) > 1
    found = []
    for number, part in enumerate(report.parts, 1):
        prefix = f"{number:02d}-{_file_name(part.name)}." if several else ""
        if part.result is not None:
            data = part.result.model_dump_json(indent=1).encode()
            described = f"Result of the audit: {shorten(part.title, 100)}"
            found.append(Attachment(f"{prefix}result.json", data, "application/json", described, "data"))
        if notebooks and part.notebook:
            name = f"{prefix}notebook.ipynb"
            found.append(Attachment(name, part.notebook, "application/x-ipynb+json", "Executed notebook", "source"))
    return found


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "audit"
