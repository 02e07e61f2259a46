"""The only place that emits Typst syntax."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache

import typst

from leakpro_nb.report.text import printable

_LONG_WORD = re.compile(r"\S{60,}")

__all__ = ["FONTS", "call", "colour", "content", "equation", "moment", "string", "text", "words"]


@cache
def FONTS() -> typst.Fonts:  # noqa: N802 - a constant that is built on first use
    """Return the fonts inside the compiler and no others: the same pages, byte for byte, on every machine."""
    return typst.Fonts(include_system_fonts=False)


def string(value: str) -> str:
    r"""Return ``value`` as a Typst string literal.

    Examples
    --------
    >>> string('a "quoted" \\ word')
    '"a \\"quoted\\" \\\\ word"'
    """
    return _quoted(printable(value))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'


def words(value: str) -> str:
    """Return ``value`` as a literal that is meant to be read: its longest words can be broken."""
    return _quoted(breakable(printable(value)))


def text(value: str) -> str:
    """Return ``value`` as words in markup; the semicolon keeps what follows from continuing the expression.

    Examples
    --------
    >>> text("#read(1)")
    '#"#read(1)";'
    """
    return f"#{words(value)};" if value else ""


def breakable(value: str) -> str:
    """Let words that are longer than any line be broken: what runs off the page is lost.

    Examples
    --------
    >>> breakable("a" * 70).replace("\u200b", "|") == "a" * 40 + "|" + "a" * 30
    True
    """
    return _LONG_WORD.sub(lambda match: "\u200b".join(re.findall(r".{1,40}", match[0])), value)


def content(markup: str) -> str:
    """Return markup as a content block."""
    return f"[{markup}]"


def call(name: str, *arguments: str, body: str | None = None, **named: str | None) -> str:
    """Return a function call in markup; keyword arguments that are ``None`` are left out.

    Examples
    --------
    >>> call("link", string("https://a.b"), body=text("a"))
    '#link("https://a.b")[#"a";];'
    """
    given = [f"{key.replace('_', '-')}: {value}" for key, value in named.items() if value is not None]
    inner = ", ".join([*arguments, *given])
    parentheses = f"({inner})" if inner or body is None else ""
    return f"#{name}{parentheses}{content(body) if body is not None else ''};"


def equation(converted: str, alt: str, *, block: bool) -> str:
    """Return a formula, evaluated apart from this report's names and unable to end its own maths mode."""
    # The JSON escapes that ``string`` lacks are not needed: converted maths is printable text.
    formula = f'eval({string(converted)}, mode: "math")'
    return call("math.equation", formula, alt=string(alt), block=json.dumps(block))


def colour(value: str) -> str:
    """Return a vetted ``#rrggbb`` as a Typst colour."""
    if not re.fullmatch(r"#[0-9a-f]{6}", value):
        raise ValueError(value)
    return f'rgb("{value}")'


def moment(when: datetime | None) -> str:
    """Return a date for the document's metadata."""
    if when is None:
        # The compiler's clock, which the exporter sets: an archive must have a date.
        return "auto"
    return (
        f"datetime(year: {when.year}, month: {when.month}, day: {when.day}, "
        f"hour: {when.hour}, minute: {when.minute}, second: {when.second})"
    )
