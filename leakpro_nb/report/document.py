"""What a report is made of, before anyone decides how it looks.

Both writers (Typst and HTML) see nothing but these blocks. Untrusted markup of a notebook is turned into
blocks first, so that neither writer ever has markup in hand that it did not write itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from leakpro_nb.results import Result

__all__ = [
    "Block",
    "Break",
    "Cell",
    "Code",
    "Figure",
    "Formula",
    "Heading",
    "Inline",
    "Link",
    "Listing",
    "Math",
    "Note",
    "Notice",
    "Paragraph",
    "Part",
    "Quote",
    "Report",
    "Row",
    "Rule",
    "Styled",
    "Table",
    "Text",
    "Verbatim",
    "plain",
    "slug",
]


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """A short piece of code within a sentence."""

    text: str


@dataclass(frozen=True, slots=True)
class Math:
    """A LaTeX formula within a sentence."""

    tex: str


@dataclass(frozen=True, slots=True)
class Break:
    """A line break that the author asked for."""


@dataclass(frozen=True, slots=True)
class Styled:
    """Words with emphasis."""

    style: Literal["strong", "emph", "strike", "sub", "super"]
    children: tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """Words that lead elsewhere: ``target`` is a vetted URL, or ``#slug`` of a heading."""

    target: str
    children: tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A footnote."""

    children: tuple[Inline, ...]


Inline: TypeAlias = Text | Code | Math | Break | Styled | Link | Note


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 or deeper."""

    level: int
    children: tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph."""

    children: tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """A shaded box."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A bulleted (``start`` is None) or numbered list."""

    items: tuple[tuple[Block, ...], ...]
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Lines to be kept as they are: terminal output, or a command to type."""

    text: str


@dataclass(frozen=True, slots=True)
class Formula:
    """A displayed LaTeX formula."""

    tex: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal line."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A remark of the report itself, not of the notebook's author."""

    text: str
    serious: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture; ``width`` is its natural width in points, ``height`` likewise."""

    mime: Literal["image/png", "image/jpeg", "image/svg+xml"]
    data: bytes
    alt: str
    width: float
    height: float
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    children: tuple[Inline, ...] = ()
    header: bool = False
    colspan: int = 1
    rowspan: int = 1
    align: Literal["left", "center", "right"] | None = None
    background: str | None = None
    colour: str | None = None
    bold: bool = False


Row: TypeAlias = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; spans are already within bounds and every row is full (see ``tables``)."""

    head: tuple[Row, ...]
    body: tuple[Row, ...]
    columns: int
    caption: str = ""
    note: str = ""


Block: TypeAlias = Heading | Paragraph | Quote | Listing | Verbatim | Formula | Rule | Notice | Figure | Table


@dataclass(frozen=True, slots=True)
class Part:
    """One notebook as the report sees it.

    ``status`` is ``complete`` only when a valid result stands in ``result``; ``plain`` marks a notebook that
    never was an audit; ``reasons`` say what an incomplete one lacks.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    status: Literal["complete", "incomplete", "plain"]
    reasons: tuple[str, ...] = ()
    result: Result | None = None
    when: datetime | None = None
    language: str = "en"
    authors: tuple[str, ...] = ()
    notebook: bytes | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One or several notebooks under one cover."""

    title: str
    parts: tuple[Part, ...]

    @property
    def incomplete(self) -> bool:
        """Whether any part lacks a valid result."""
        return any(part.status == "incomplete" for part in self.parts)

    @property
    def when(self) -> datetime | None:
        """The latest moment that any part names."""
        return max((part.when for part in self.parts if part.when), default=None)


def plain(children: tuple[Inline, ...]) -> str:
    """Return the words of ``children`` without any styling.

    Examples
    --------
    >>> plain((Text("a "), Styled("strong", (Text("b"),))))
    'a b'
    """
    return "".join(_words(child) for child in children)


def _words(child: Inline) -> str:
    match child:
        case Text(text) | Code(text):
            return text
        case Math(tex):
            return tex
        case Styled(_, inner) | Link(_, inner):
            return plain(inner)
        case Break():
            return " "
        case _:
            return ""


def slug(children: tuple[Inline, ...]) -> str:
    """Return the anchor that Jupyter gives to a heading with these words.

    Examples
    --------
    >>> slug((Text("How sure we are"),))
    'How-sure-we-are'
    """
    return plain(children).strip().replace(" ", "-")
