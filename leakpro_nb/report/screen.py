"""A report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import cache
from importlib.resources import files as package_files
from typing import Any

import jinja2
from markupsafe import Markup, escape

from leakpro_nb.report import cover, formula, tables
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
    Row,
    Rule,
    Styled,
    Table,
    Text,
    Verbatim,
    plain,
    slug,
)
from leakpro_nb.report.text import numeric, printable

__all__ = ["page"]

MAX_DEPTH = 24
_STYLES = {"strong": "strong", "emph": "em", "strike": "s", "sub": "sub", "super": "sup"}


@cache
def _template() -> jinja2.Template:
    folder = package_files(__package__) / "templates"
    source = (folder / "page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals["css"] = Markup((folder / "style.css").read_text(encoding="utf-8"))  # noqa: S704
    return environment.from_string(source)


def page(report: Report, *, notebooks: bool = False) -> str:
    """Return the whole page.

    Parameters
    ----------
    notebooks
        Whether to carry the executed notebooks along, as inert JSON.
    """
    writer = _Screen(report)
    parts = [writer.part(part, number) for number, part in enumerate(report.parts)]
    return _template().render(
        report=report,
        title=printable(report.title),
        language=report.parts[0].language,
        stamp=cover.incomplete(report),
        incomplete=cover.INCOMPLETE,
        single=report.parts[0] if len(report.parts) == 1 else None,
        facts=cover.facts(report.parts[0]) if len(report.parts) == 1 else [],
        date=cover.date(report.when),
        kicker="Report" if all(part.status == "plain" for part in report.parts) else "Privacy audit",
        contents=writer.contents,
        parts=parts,
        notes=writer.notes,
        data=[_data(attachment) for attachment in cover.attachments(report, notebooks=notebooks)],
        clean=printable,
    )


def _data(attachment: cover.Attachment) -> dict[str, Any]:
    """Return an attachment as JSON that cannot end the element it stands in."""
    inert = attachment.data.decode().replace("<", "\\u003c").replace("\u2028", "\\u2028")
    name = attachment.name.rpartition(".")[0].replace(".", "-")
    return {"id": f"leakpro-{name}", "json": Markup(inert)}  # noqa: S704


class _Screen:
    """Writes blocks as HTML; every word of the notebook goes through ``escape``."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.notes: list[Markup] = []
        self.contents: list[tuple[int, str, str]] = []
        self.anchors: dict[str, str] = {}
        self.number = 0
        self.depth = 0
        self.figures = 0
        self.tables = 0
        count = 0
        for number, part in enumerate(report.parts):
            for block in part.blocks:
                if isinstance(block, Heading) and plain(block.children).strip():
                    count += 1
                    self.anchors.setdefault(f"{number}#{slug(block.children)}", f"s{count}")

    def part(self, part: Part, number: int) -> dict[str, Any]:
        """Return one notebook's body."""
        self.number = number
        several = len(self.report.parts) > 1
        if several:
            self.contents.append((1, f"part{number + 1}", printable(part.title)))
        used: set[str] = set()
        body: list[Markup] = []
        for block in part.blocks:
            if isinstance(block, Heading):
                body.append(self._heading(block, used, deeper=several))
            else:
                body.append(self._block(block))
        return {
            "id": f"part{number + 1}",
            "part": part,
            "facts": cover.facts(part),
            "body": Markup("\n").join(body),
        }

    def _heading(self, block: Heading, used: set[str], *, deeper: bool) -> Markup:
        words = plain(block.children).strip()
        if not words:
            return Markup()
        anchor = self.anchors.get(f"{self.number}#{slug(block.children)}", "")
        # The page's own title is the one h1.
        level = min(block.level + 1 + deeper, 6)
        tag = Markup("h{}").format(level)
        inner = self._inlines(block.children)
        if anchor in used:
            return Markup("<{0}>{1}</{0}>").format(tag, inner)
        used.add(anchor)
        if level <= 3:
            self.contents.append((level - 1, anchor, printable(words)))
        return Markup('<{0} id="{1}">{2}</{0}>').format(tag, anchor, inner)

    def _blocks(self, blocks: Iterable[Block]) -> Markup:
        self.depth += 1
        try:
            if self.depth > MAX_DEPTH:
                return Markup("…")
            return Markup("\n").join(self._block(block) for block in blocks)
        finally:
            self.depth -= 1

    def _block(self, block: Block) -> Markup:  # noqa: PLR0911 - one line per kind of block
        match block:
            case Heading(_, children):
                return Markup("<p><strong>{}</strong></p>").format(self._inlines(children))
            case Paragraph(children):
                return Markup("<p>{}</p>").format(self._inlines(children))
            case Quote(blocks):
                return Markup("<blockquote>{}</blockquote>").format(self._blocks(blocks))
            case Listing(items, start):
                return self._listing(items, start)
            case Verbatim(words):
                return Markup('<pre tabindex="0">{}</pre>').format(printable(words))
            case Formula(tex):
                return Markup('<div class="formula">{}</div>').format(_formula(tex, block=True))
            case Rule():
                return Markup("<hr>")
            case Notice(words, serious):
                kind = "notice serious" if serious else "notice"
                return Markup('<p class="{}">{}</p>').format(kind, printable(words))
            case Figure():
                return self._figure(block)
            case Table():
                return self._table(block)

    def _listing(self, items: tuple[tuple[Block, ...], ...], start: int | None) -> Markup:
        inner = Markup("").join(Markup("<li>{}</li>").format(self._item(item)) for item in items)
        if start is None:
            return Markup("<ul>{}</ul>").format(inner)
        return Markup('<ol start="{}">{}</ol>').format(start, inner)

    def _item(self, item: tuple[Block, ...]) -> Markup:
        if item and isinstance(item[0], Paragraph):
            return self._inlines(item[0].children) + self._blocks(item[1:])
        return self._blocks(item)

    def _figure(self, figure: Figure) -> Markup:
        # A drawing inside an image element runs no script and fetches nothing, whatever it holds.
        source = f"data:{figure.mime};base64,{base64.b64encode(figure.data).decode()}"
        caption = Markup("")
        if figure.caption:
            self.figures += 1
            caption = Markup("<figcaption><b>Figure {}.</b> {}</figcaption>").format(
                self.figures, printable(figure.caption)
            )
        return Markup('<figure><img src="{}" alt="{}" width="{}">{}</figure>').format(
            source, printable(figure.alt), round(figure.width / 0.75), caption
        )

    def _table(self, table: Table) -> Markup:
        aligned = tables.alignments(table)
        caption = Markup("")
        if table.caption:
            self.tables += 1
            caption = Markup("<caption><b>Table {}.</b> {}</caption>").format(self.tables, printable(table.caption))
        head = Markup("<thead>{}</thead>").format(self._rows(table.head, aligned)) if table.head else Markup("")
        note = Markup('<p class="notice">{}</p>').format(printable(table.note)) if table.note else Markup("")
        return Markup('<div class="scroll" tabindex="0"><table>{}{}<tbody>{}</tbody></table></div>{}').format(
            caption, head, self._rows(table.body, aligned), note
        )

    def _rows(self, rows: tuple[Row, ...], aligned: list[str]) -> Markup:
        covered = [0] * len(aligned)
        out = []
        for row in rows:
            waiting = list(reversed(row))
            cells = []
            x = 0
            while x < len(aligned):
                if covered[x]:
                    covered[x] -= 1
                    x += 1
                    continue
                cell = waiting.pop()
                cells.append(self._cell(cell, aligned[x]))
                covered[x : x + cell.colspan] = [cell.rowspan - 1] * cell.colspan
                x += cell.colspan
            out.append(Markup("<tr>{}</tr>").format(Markup("").join(cells)))
        return Markup("\n").join(out)

    def _cell(self, cell: Cell, align: str) -> Markup:
        words = plain(cell.children)
        styles = [f"background:{cell.background}"] if cell.background else []
        styles += [f"color:{cell.colour}"] if cell.colour else []
        styles += ["font-weight:bold"] if cell.bold else []
        classes = [(cell.align or align)[0]] + (["n"] if numeric(words) and len(words) <= 24 else [])
        attributes = Markup(' class="{}"').format(" ".join(classes))
        if styles:
            attributes += Markup(' style="{}"').format(";".join(styles))
        if cell.colspan > 1:
            attributes += Markup(' colspan="{}"').format(cell.colspan)
        if cell.rowspan > 1:
            attributes += Markup(' rowspan="{}"').format(cell.rowspan)
        tag = "th" if cell.header else "td"
        return Markup("<{0}{1}>{2}</{0}>").format(tag, attributes, self._inlines(cell.children))

    def _inlines(self, children: Iterable[Inline]) -> Markup:
        self.depth += 1
        try:
            if self.depth > 2 * MAX_DEPTH:
                return Markup("")
            return Markup("").join(self._inline(child) for child in children)
        finally:
            self.depth -= 1

    def _inline(self, child: Inline) -> Markup:  # noqa: PLR0911 - as above
        match child:
            case Text(words):
                return escape(printable(words))
            case Code(words):
                return Markup("<code>{}</code>").format(printable(words))
            case Math(tex):
                return _formula(tex, block=False)
            case Break():
                return Markup("<br>")
            case Styled(name, inner):
                return Markup("<{0}>{1}</{0}>").format(_STYLES[name], self._inlines(inner))
            case Link(target, inner):
                return self._link(target, inner)
            case Note(inner):
                self.notes.append(self._inlines(inner))
                key = len(self.notes)
                return Markup('<sup><a id="r{0}" href="#n{0}">{0}</a></sup>').format(key)

    def _link(self, target: str, inner: tuple[Inline, ...]) -> Markup:
        words = self._inlines(inner)
        if target.startswith("#"):
            anchor = self.anchors.get(f"{self.number}#{target[1:]}")
            return Markup('<a href="#{}">{}</a>').format(anchor, words) if anchor else words
        return Markup('<a href="{}" rel="noopener noreferrer nofollow">{}</a>').format(target, words)


def _formula(tex: str, *, block: bool) -> Markup:
    """Return a formula as a drawing with its LaTeX source as description, or as that source."""
    drawn = formula.picture(tex, block=block)
    if drawn is None:
        return Markup("<code>{}</code>").format(printable(tex))
    svg, width = drawn
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    return Markup('<img class="math" src="{}" alt="{}" style="width:{:.2f}em">').format(
        source, printable(tex), width / 11
    )
