"""Markdown into blocks, with nbconvert's own parsers so that it reads as it does in Jupyter."""

from __future__ import annotations

import html as entities
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, cast

import mistune
from mistune.plugins import import_plugin
from nbconvert.filters.markdown_mistune import MathBlockParser, MathInlineParser

from leakpro_nb.report import figures, html, tables
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
    Paragraph,
    Quote,
    Rule,
    Styled,
    Text,
    Verbatim,
    plain,
)
from leakpro_nb.report.text import safe_url, shorten

__all__ = ["blocks"]

MAX_SOURCE = 500_000
MAX_DEPTH = 24
_PLUGINS = ("strikethrough", "table", "url", "task_lists", "footnotes")
_STYLES = {"strong": "strong", "emphasis": "emph", "strikethrough": "strike"}
_Token = dict[str, Any]


@cache
def _parser() -> mistune.Markdown:
    return mistune.Markdown(
        renderer=None,
        block=MathBlockParser(),
        inline=MathInlineParser(hard_wrap=False),
        plugins=[import_plugin(name) for name in _PLUGINS],
    )


def blocks(source: str, attachments: Mapping[str, Any] | None = None) -> list[Block]:
    """Return the blocks of a markdown text.

    Parameters
    ----------
    attachments
        The cell's attachments (``{name: {mime: base64}}``); they and ``data:`` addresses are the only
        pictures shown, every other address is replaced by the picture's alternative text.
    """
    source = source[:MAX_SOURCE]
    try:
        tokens = cast("list[_Token]", _parser()(source))
        return _Reader(attachments or {}, _footnotes(tokens)).blocks(tokens, 0)
    except RecursionError:
        return [Paragraph((Text(source),))]


def _footnotes(tokens: Iterable[_Token]) -> dict[str, _Token]:
    """Map each footnote's key to its text; mistune upper-cases keys where they are referred to."""
    return {
        str(item["attrs"]["key"]).upper(): item
        for token in tokens
        if token["type"] == "footnotes"
        for item in token["children"]
    }


class _Reader:
    """Turns mistune's tokens into blocks."""

    def __init__(self, attachments: Mapping[str, Any], footnotes: Mapping[str, _Token]) -> None:
        self.attachments, self.footnotes = attachments, footnotes

    def blocks(self, tokens: Iterable[_Token], depth: int) -> list[Block]:
        if depth > MAX_DEPTH:
            return []
        return [block for token in tokens for block in self._block(token, depth)]

    def _block(self, token: _Token, depth: int) -> list[Block]:  # noqa: PLR0911 - one line per kind of token
        match token["type"]:
            case "heading":
                return [Heading(token["attrs"]["level"], self.inlines(token["children"], depth))]
            case "paragraph" | "block_text":
                return self._paragraph(token["children"], depth)
            case "block_quote":
                return [Quote(tuple(self.blocks(token["children"], depth + 1)))]
            case "list":
                return [self._list(token, depth)]
            case "table":
                table = self._table(token, depth)
                return [table] if table else []
            case "block_code":
                return [Verbatim(token["raw"].rstrip("\n"))]
            case "block_html":
                return html.blocks(token["raw"])
            case "thematic_break":
                return [Rule()]
            case _:
                return []

    def _paragraph(self, tokens: list[_Token], depth: int) -> list[Block]:
        """Split a paragraph where a picture or a displayed formula interrupts it."""
        found: list[Block] = []
        run: list[_Token] = []

        def flush() -> None:
            children = self.inlines(run, depth)
            if plain(children).strip():
                found.append(Paragraph(children))
            run.clear()

        for token in tokens:
            block = self._display(token)
            if block is None:
                run.append(token)
            else:
                flush()
                found.append(block)
        flush()
        return found

    def _display(self, token: _Token) -> Block | None:
        match token["type"]:
            case "block_math":
                return Formula(token["raw"].strip())
            case "latex_environment":
                name, body = token["attrs"]["name"], token["attrs"]["body"]
                return Formula(f"\\begin{{{name}}}{body}\\end{{{name}}}")
            case "image":
                return self._figure(token)
            case _:
                return None

    def _figure(self, token: _Token) -> Figure | None:
        alt = plain(self.inlines(token.get("children", []), 0))
        url = str(token["attrs"].get("url", ""))
        caption = str(token["attrs"].get("title") or "")
        if url.startswith("attachment:"):
            bundle = self.attachments.get(url.removeprefix("attachment:"), {})
            made = (figures.figure(mime, data, alt, caption) for mime, data in dict(bundle).items())
            return next((figure for figure in made if figure), None)
        return figures.from_data_uri(url, alt)

    def _list(self, token: _Token, depth: int) -> Listing:
        items = []
        for item in token["children"]:
            content = self.blocks(item["children"], depth + 1)
            if item["type"] == "task_list_item":
                content = _ticked(content, done=bool(item["attrs"].get("checked")))
            items.append(tuple(content))
        attrs = token["attrs"]
        return Listing(tuple(items), int(attrs.get("start", 1)) if attrs.get("ordered") else None)

    def _table(self, token: _Token, depth: int) -> Block | None:
        head: list[list[Cell]] = []
        body: list[list[Cell]] = []
        for section in token["children"]:
            if section["type"] == "table_head":
                head.append([self._cell(cell, depth) for cell in section["children"]])
            else:
                body += [[self._cell(cell, depth) for cell in row["children"]] for row in section["children"]]
        return tables.make(head, body)

    def _cell(self, token: _Token, depth: int) -> Cell:
        attrs = token["attrs"]
        return Cell(self.inlines(token["children"], depth), header=bool(attrs.get("head")), align=attrs.get("align"))

    def inlines(self, tokens: Iterable[_Token], depth: int) -> tuple[Inline, ...]:
        if depth > MAX_DEPTH:
            return ()
        return tuple(child for token in tokens for child in self._inline(token, depth + 1))

    def _inline(self, token: _Token, depth: int) -> list[Inline]:  # noqa: PLR0911 - as above
        match token["type"]:
            case "text":
                return [Text(entities.unescape(token["raw"]))]
            case "softbreak":
                return [Text(" ")]
            case "linebreak":
                return [Break()]
            case "codespan":
                return [Code(entities.unescape(token["raw"]))]
            case "inline_math" | "block_math":
                return [Math(token["raw"].strip())]
            case "latex_environment":
                return [Math(token["attrs"]["body"].strip())]
            case "strong" | "emphasis" | "strikethrough" as kind:
                children = self.inlines(token["children"], depth)
                return [Styled(_STYLES[kind], children)]  # type: ignore[arg-type]
            case "link":
                return self._link(token, depth)
            case "image":
                alt = plain(self.inlines(token.get("children", []), depth))
                return [Text(f"[{shorten(alt, 500) or 'picture'}]")]
            case "footnote_ref":
                return self._note(token)
            case "inline_html":
                return [Break()] if re.match(r"<br\b", token["raw"], re.IGNORECASE) else []
            case _:
                return []

    def _link(self, token: _Token, depth: int) -> list[Inline]:
        children = self.inlines(token["children"], depth)
        url = entities.unescape(str(token["attrs"].get("url", "")))
        target = url if url.startswith("#") else safe_url(url)
        return [Link(target, children)] if target and plain(children).strip() else list(children)

    def _note(self, token: _Token) -> list[Inline]:
        # Taken out on first use: a footnote that refers to itself would otherwise never end.
        item = dict(self.footnotes).get(str(token["raw"]).upper())
        if item is None:
            return []
        without = {key: value for key, value in self.footnotes.items() if value is not item}
        inner = _Reader({}, without)
        children = [inner.inlines(block.get("children", []), 0) for block in item["children"]]
        return [Note(tuple(child for group in children for child in group))]


def _ticked(content: list[Block], *, done: bool) -> list[Block]:
    mark = Text("☑ " if done else "☐ ")
    if content and isinstance(content[0], Paragraph):
        return [Paragraph((mark, *content[0].children)), *content[1:]]
    return [Paragraph((mark,)), *content]
