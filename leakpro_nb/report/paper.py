"""A report as Typst source and the files that belong to it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files as package_files

from leakpro_nb.report import cover, formula, tables, typ
from leakpro_nb.report.document import (
    Block,
    Break,
    Cell,
    Code,
    Figure,
    Formula,
    Heading,
    Inline,
    Link,
    Listing,
    Math,
    Note,
    Notice,
    Paragraph,
    Part,
    Quote,
    Report,
    Rule,
    Styled,
    Table,
    Text,
    Verbatim,
    plain,
    slug,
)
from leakpro_nb.report.text import numeric, printable
from leakpro_nb.report.typ import call, colour, content, moment, string, text

__all__ = ["Paper", "style"]

TEXT_WIDTH = 470.0
TEXT_HEIGHT = 560.0
MAX_DEPTH = 24
# Boxes within boxes leave no room for words; what is deeper stands without its own box.
MAX_BOXES = 5
_SUFFIX = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}
_STYLES = {"strong": "strong", "emph": "emph", "strike": "strike", "sub": "sub", "super": "super"}


@cache
def style() -> bytes:
    """Return the looks that the package ships."""
    return (package_files(__package__) / "templates" / "style.typ").read_bytes()


class Paper:
    """Writes one report; ``source`` is its Typst text, ``files`` what that text refers to.

    Parameters
    ----------
    missing
        Characters that no font has; each is replaced by its code point in brackets.
    broken
        Names of pictures that the compiler cannot read; each is replaced by its description.
    folder
        Where, seen from the source, the files will lie.
    notebooks
        Whether to attach the executed notebooks.
    """

    def __init__(
        self,
        report: Report,
        *,
        missing: frozenset[str] = frozenset(),
        broken: frozenset[str] = frozenset(),
        folder: str = "",
        notebooks: bool = False,
        style: bytes | None = None,
    ) -> None:
        self.report, self.folder = report, folder
        self.missing = {ord(char): f"[U+{ord(char):04X}]" for char in missing}
        self.broken = broken
        self.files: dict[str, bytes] = {"style.typ": _style() if style is None else style}
        self.pictures: set[str] = set()
        self.slugs: dict[str, str] = {}
        self.slugs_used: set[str] = set()
        self.number = 0
        self.depth = 0
        self.attached = cover.attachments(report, notebooks=notebooks)
        self._find_slugs()
        self.source = "\n\n".join(self._lines()) + "\n"

    # -- the whole ---------------------------------------------------------------------------------

    def _lines(self) -> Iterable[str]:
        report = self.report
        yield f"#import {string(self._path('style.typ'))} as style"
        yield call(
            "show: style.report.with",
            title=string(self._said(report.title)),
            authors=_array(string(self._said(name)) for name in self._authors()),
            language=string(report.parts[0].language),
            date=moment(report.when),
            incomplete=string(cover.incomplete(report)),
        )
        for attachment in self.attached:
            self.files[attachment.name] = attachment.data
            yield call(
                "pdf.attach",
                string(attachment.name),
                f"read({string(self._path(attachment.name))}, encoding: none)",
                relationship=string(attachment.relationship),
                mime_type=string(attachment.mime),
                description=string(attachment.description),
            )
        yield self._cover()
        if any(isinstance(block, Heading) for part in report.parts for block in part.blocks):
            yield call("style.contents", depth="2")
        for number, part in enumerate(report.parts):
            yield from self._part(part, number)

    def _authors(self) -> list[str]:
        return list(dict.fromkeys(name for part in self.report.parts for name in part.authors))

    def _cover(self) -> str:
        if len(self.report.parts) == 1:
            part = self.report.parts[0]
            question = content(self._text(part.result.question)) if part.result else None
            kicker = "Report" if part.status == "plain" else "Privacy audit"
            return call("style.cover", kicker=string(kicker), question=question, body=self._summary(part))
        stamp = cover.incomplete(self.report)
        lines = [call("style.stamp", content(text(stamp)), "()")] if stamp else []
        lines += [self._entry(part) for part in self.report.parts]
        when = cover.date(self.report.when)
        lines += [call("style.facts", f"({string('Date')}, {string(when)})")] if when else []
        return call("style.cover", kicker=string("Privacy audit"), body="\n".join(lines))

    def _summary(self, part: Part, size: str | None = None) -> str:
        """Verdict or stamp, and the facts."""
        lines = []
        if part.status == "incomplete":
            reasons = _array(content(self._text(reason)) for reason in part.reasons)
            lines.append(call("style.stamp", content(text(cover.INCOMPLETE)), reasons))
        if part.result is not None:
            verdict = part.result.verdict
            lines.append(
                call(
                    "style.verdict",
                    string(verdict.level),
                    content(self._text(verdict.headline)),
                    content(self._text(verdict.sentence)),
                    size=size,
                )
            )
        rows = [f"({content(self._text(a))}, {content(self._text(b))})" for a, b in cover.facts(part)]
        return "\n".join([*lines, *([call("style.facts", *rows)] if rows else [])])

    def _entry(self, part: Part) -> str:
        result = part.result
        level = result.verdict.level if result else "incomplete"
        return call(
            "style.entry",
            string(level),
            content(self._text(result.target.name if result else part.title)),
            content(self._text(result.question if result else "")),
            content(self._text(result.verdict.headline if result else "INCOMPLETE: this audit did not finish")),
        )

    def _part(self, part: Part, number: int) -> Iterable[str]:
        several = len(self.report.parts) > 1
        if several:
            yield call("pagebreak", weak="true")
            yield call("heading", level="1", body=self._text(part.title))
            if part.result:
                yield call("style.admonition", body=self._text(part.result.question))
            yield self._summary(part, size="15pt")
        for block in part.blocks:
            if isinstance(block, Heading):
                yield self._heading(block, number, deeper=several)
            else:
                yield self._block(block)

    # -- headings and links ------------------------------------------------------------------------

    def _find_slugs(self) -> None:
        """Give each heading a label of our own making; the author's words never become Typst labels."""
        count = 0
        for number, part in enumerate(self.report.parts):
            for block in part.blocks:
                if isinstance(block, Heading):
                    count += 1
                    self.slugs.setdefault(f"{number}#{slug(block.children)}", f"s{count}")

    def _heading(self, block: Heading, number: int, *, deeper: bool) -> str:
        self.number = number
        level = min(block.level + deeper, 6)
        words = self._inlines(block.children)
        if not plain(block.children).strip():
            return ""
        key = f"{number}#{slug(block.children)}"
        label = self.slugs.get(key, "")
        heading = call("heading", level=str(level), body=words)
        if not label or key in self.slugs_used:
            return heading
        self.slugs_used.add(key)
        return f"#[{heading.removesuffix(';')} #label({string(label)})];"

    # -- blocks ------------------------------------------------------------------------------------

    def _blocks(self, blocks: Iterable[Block]) -> str:
        self.depth += 1
        try:
            if self.depth > MAX_DEPTH:
                return text("…")
            return "\n\n".join(self._block(block) for block in blocks)
        finally:
            self.depth -= 1

    def _block(self, block: Block) -> str:  # noqa: PLR0911 - one line per kind of block
        match block:
            case Heading(_, children):
                return call("strong", body=self._inlines(children)) + "\n"
            case Paragraph(children):
                return call("par", body=self._inlines(children))
            case Quote(blocks) if self.depth >= MAX_BOXES:
                return self._blocks(blocks)
            case Listing(items, _) if self.depth >= MAX_BOXES:
                return self._blocks(inner for item in items for inner in item)
            case Quote(blocks):
                return call("style.admonition", body=self._blocks(blocks))
            case Listing(items, start):
                return self._listing(items, start)
            case Verbatim(words):
                return call("style.printed", typ.words(self._said(words)))
            case Formula(tex):
                return self._formula(tex, block=True)
            case Rule():
                return call("line", length="100%", stroke="0.5pt + style.hairline")
            case Notice(words, serious):
                return call("style.notice", serious=json.dumps(serious), body=self._text(words))
            case Figure():
                return self._figure(block)
            case Table():
                return "\n".join(self._table(part) for part in tables.fit(block))

    def _listing(self, items: tuple[tuple[Block, ...], ...], start: int | None) -> str:
        bodies = [content(self._blocks(item)) for item in items]
        if start is None:
            return call("list", *bodies)
        return call("enum", *bodies, start=str(min(max(start, 0), 10**6)))

    def _figure(self, figure: Figure) -> str:
        name = f"figure-{len(self.files)}.{_SUFFIX[figure.mime]}"
        data = figure.data
        if self.missing and figure.mime == "image/svg+xml":
            # Words inside a drawing are set by the same fonts, and are held to the same standard.
            data = data.decode().translate(dict.fromkeys(self.missing, "?")).encode()
        self.files[name] = data
        self.pictures.add(name)
        if name in self.broken:
            return self._block(Notice(f"A figure could not be read. Its description: {figure.alt}"))
        width = min(figure.width, TEXT_WIDTH, TEXT_HEIGHT * figure.width / max(figure.height, 0.1))
        return call(
            "style.picture",
            # Read by the style file, hence seen from where that lies.
            string(name),
            f"{max(width, 1):.2f}pt",
            string(figure.alt),
            caption=content(self._text(figure.caption)) if figure.caption else None,
        )

    def _table(self, table: Table) -> str:
        aligned = tables.alignments(table)
        return call(
            "style.tabular",
            columns=_array(_column(width) for width in _tracks(table)),
            align=_array(aligned),
            head=_array(_array(self._cell(cell) for cell in row) for row in table.head),
            caption=content(self._text(table.caption)) if table.caption else None,
            note=content(self._text(table.note)) if table.note else None,
            *("\n  " + ", ".join(self._cell(cell) for cell in row) for row in table.body if row),  # noqa: B026
        )

    def _cell(self, cell: Cell) -> str:
        words = self._inlines(cell.children)
        if cell.header or cell.bold:
            words = call("strong", body=words) if words else ""
        if numeric(plain(cell.children)) and len(plain(cell.children)) <= 24:
            words = call("style.number", body=words)
        if cell.colour:
            words = call("text", fill=colour(cell.colour), body=words)
        if cell.colspan == cell.rowspan == 1 and not cell.background and not cell.align:
            return content(words)
        return call(
            "table.cell",
            colspan=str(cell.colspan) if cell.colspan > 1 else None,
            rowspan=str(cell.rowspan) if cell.rowspan > 1 else None,
            fill=colour(cell.background) if cell.background else None,
            align=cell.align if not cell.header else None,
            body=words,
        )[1:-1]

    # -- words -------------------------------------------------------------------------------------

    def _said(self, words: str) -> str:
        words = printable(words)
        return words.translate(self.missing) if self.missing else words

    def _text(self, words: str) -> str:
        return text(self._said(words))

    def _inlines(self, children: Iterable[Inline]) -> str:
        self.depth += 1
        try:
            return "" if self.depth > 2 * MAX_DEPTH else "".join(self._inline(child) for child in children)
        finally:
            self.depth -= 1

    def _inline(self, child: Inline) -> str:  # noqa: PLR0911 - as above
        match child:
            case Text(words):
                return self._text(words)
            case Code(words):
                return call("raw", typ.words(self._said(words)))
            case Math(tex):
                return self._formula(tex, block=False)
            case Break():
                return "#linebreak();"
            case Styled(name, inner):
                return call(_STYLES[name], body=self._inlines(inner))
            case Link(target, inner):
                return self._link(target, inner)
            case Note(inner):
                return call("footnote", body=self._inlines(inner))

    def _link(self, target: str, inner: tuple[Inline, ...]) -> str:
        words = self._inlines(inner)
        if not target.startswith("#"):
            return call("link", string(target), body=words)
        label = self.slugs.get(f"{self.number}#{target[1:]}")
        # A link that leads nowhere is no reason to lose a report.
        return call("link", f"label({string(label)})", body=words) if label else words

    def _formula(self, tex: str, *, block: bool) -> str:
        converted = formula.convert(tex, block=block)
        if converted is not None:
            return formula.equation(converted, self._said(tex), block=block)
        source = typ.words(self._said(tex))
        return call("style.printed", source) if block else call("raw", source)

    def _path(self, name: str) -> str:
        return f"{self.folder}{name}"


def _style() -> bytes:
    return style()


def _array(items: Iterable[str]) -> str:
    listed = list(items)
    return f"({', '.join(listed)}{',' if listed else ''})"


def _tracks(table: Table) -> list[int]:
    """Return a weight per column that holds sentences, 0 for one that is as wide as its words."""
    widths = tables.widths(table)
    return [min(width, 120) if width > 36 else 0 for width in widths]


def _column(weight: int) -> str:
    return f"{weight}fr" if weight else "auto"
