"""What every report says in the same words, and how tables and sentences are made."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Protocol

from leakpro_nb.results import MIME_TYPE, Interval, Result

if TYPE_CHECKING:
    from leakpro_nb.audits.membership import Outcome
    from leakpro_nb.game.threat import ThreatModel

__all__ = [
    "as_html",
    "checks",
    "count",
    "finish",
    "interval",
    "level",
    "markdown",
    "placeholder",
    "repeat",
    "skipped",
    "table",
    "table_html",
    "threat_table",
]

_SUMMARY = "leakpro-summary"


class HasThreat(Protocol):
    """A plan of any audit."""

    @property
    def threat(self) -> ThreatModel:
        """Who attacks."""
        ...


def placeholder() -> None:
    """Hold the place of the summary at the top of the notebook; ``finish`` fills it when the audit has ended."""
    from IPython.display import Markdown, display

    display(
        Markdown("**This audit has not finished.** Its answer will stand here once the last cell has run."),
        display_id=_SUMMARY,
    )


def finish(result: Result, answer: Any) -> None:
    """Put the answer (the template's summary) at the top of the notebook, and the whole result where the report finds it."""
    from IPython.display import display, update_display

    update_display(answer, display_id=_SUMMARY)
    display(
        {
            MIME_TYPE: result.model_dump(mode="json"),
            "text/plain": f"{result.verdict.headline}. {result.verdict.sentence}",
        },
        raw=True,
    )


def threat_table(plan: HasThreat) -> Any:
    """Return the threat model as questions and answers."""
    return table(["Question", "Answer"], plan.threat.in_words())


def checks(result: Result) -> Any:
    """Return the validity checks."""
    words = {True: "passed", False: "failed", None: "not tested"}
    return table(["Check", "Outcome", "What was seen"], [(c.title, words[c.passed], c.sentence) for c in result.checks])


def repeat(result: Result) -> Any:
    """Return what it takes to get the same figures again."""
    packages = ", ".join(f"{name} {version}" for name, version in result.environment.get("packages", {}).items())
    rows = [
        ("leakpro_nb", result.package_version),
        ("Python", f"{result.environment.get('python')} on {result.environment.get('system')}"),
        ("Packages", packages),
        ("Seed", f"{result.parameters.get('seed')}"),
        *([("Shadow models", f"{result.parameters['shadows']}")] if "shadows" in result.parameters else []),
        ("Fingerprint of the records", result.target.fingerprint),
        ("Template", result.template),
        *[
            (f"Parameter {name}", ", ".join(map(str, value)) if isinstance(value, list) else f"{value}")
            for name, value in result.parameters.items()
            if name not in ("seed", "shadows", "strongest", "target") and value not in (None, {}, False, "")
        ],
        ("CPU seconds of the attacks", f"{sum(attack.cpu_seconds for attack in result.attacks):.2f}"),
        ("Started / finished (UTC)", f"{_clock(result.started)} / {_clock(result.finished)}"),
    ]
    return table(["Item", "Value"], rows)


def skipped(outcomes: dict[str, Outcome]) -> Any:
    """Return the attacks that did not run, and why; ``None`` when all did."""
    rows = [(outcome.title, outcome.reason) for outcome in outcomes.values() if outcome.status != "ok"]
    return table(["Did not run", "Because"], rows) if rows else None


def interval(interval: Interval) -> str:
    """Return a value with its interval, as text."""
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def level(result: Result) -> str:
    """Return the level of the result's intervals, as text."""
    return f"{result.parameters.get('confidence', 0.95):.0%}"


def count(n: int, noun: str) -> str:
    """Return a number with its noun in the right number."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def markdown(text: str) -> Any:
    """Return text that a notebook displays as Markdown."""
    from IPython.display import Markdown

    return Markdown(text)


def as_html(text: str) -> Any:
    """Return text that a notebook displays as HTML."""
    from IPython.display import HTML

    return HTML(text)


def table(heads: list[str], rows: Any) -> Any:
    """Return an HTML table that a notebook displays."""
    return as_html(table_html(heads, rows))


def table_html(heads: list[str], rows: Any) -> str:
    """Return an HTML table; every text is escaped, so that a column name cannot become markup."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{html.escape(str(cell))}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _clock(stamp: str) -> str:
    return stamp.replace("T", " ").removesuffix("+00:00")
