"""An executed notebook into one part of a report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import nbformat
from nbformat import NotebookNode
from pydantic import ValidationError

from leakpro_nb.report import figures, html, markdown, widgets
from leakpro_nb.report.document import (
    Block,
    Figure,
    Formula,
    Heading,
    Notice,
    Part,
    Table,
    Verbatim,
    plain,
)
from leakpro_nb.report.text import printable, shorten, terminal
from leakpro_nb.results import MIME_TYPE, Result

__all__ = ["NO_RESULT", "embedded_result", "read"]

NO_RESULT = "The notebook holds no valid audit result."
MAX_OUTPUTS = 2000

# ``repr`` of objects that only matter on screen: figures, axes, widgets, anything with an address.
_OBJECT = re.compile(r"^\[?<[^>]*>.*$|^\w+\(children=.*$|^Text\(.*\)$|.*\bat 0x[0-9a-fA-F]+.*", re.DOTALL)
_PRIORITY = (
    widgets.VIEW,
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/html",
    "text/markdown",
    "text/latex",
    "application/json",
    "text/plain",
)


def read(shown: NotebookNode, original: NotebookNode, name: str, *, audit: bool | None = None) -> Part:
    """Return the part of a report that a notebook makes.

    Parameters
    ----------
    shown
        The notebook without the cells that its tags hide.
    original
        The notebook as it was executed: its result or an error may stand in a hidden cell.
    name
        What to call the notebook in messages and attachments.
    audit
        Whether this must be an audit; by default the notebook itself says so.
    """
    result, found = embedded_result(original)
    reasons = _reasons(original, result)
    is_audit = _is_audit(original, found) if audit is None else audit
    status: Literal["complete", "incomplete", "plain"]
    status = "plain" if not is_audit else "incomplete" if reasons else "complete"
    blocks, title = _titled(_Reader(shown).blocks(), shown.metadata)
    complete = status == "complete"
    return Part(
        name=name,
        title=title or (result.question if result and complete else "") or "Report",
        blocks=tuple(blocks),
        status=status,
        reasons=tuple(reasons) if is_audit else (),
        result=result if complete else None,
        when=_when(original, result),
        language=_language(original),
        authors=_authors(original),
        notebook=nbformat.writes(original).encode() if name else None,
    )


def embedded_result(notebook: NotebookNode) -> tuple[Result | None, bool]:
    """Return the notebook's last result if it is valid, and whether there was any."""
    found = [data[MIME_TYPE] for data in _bundles(notebook) if MIME_TYPE in data]
    if not found:
        return None, False
    try:
        data = json.loads(found[-1]) if isinstance(found[-1], str) else found[-1]
        result = Result.model_validate(data)
        # What is attached must be readable again: NaN, say, would pass the first check only.
        return Result.model_validate_json(result.model_dump_json()), True
    except (ValidationError, ValueError, RecursionError):
        return None, True


def _outputs(notebook: NotebookNode) -> Iterator[Mapping[str, Any]]:
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


def _bundles(notebook: NotebookNode) -> Iterator[Mapping[str, Any]]:
    for output in _outputs(notebook):
        data = output.get("data")
        if isinstance(data, Mapping):
            yield data


def _tags(cell: Mapping[str, Any]) -> set[str]:
    tags = cell.get("metadata", {}).get("tags", ())
    return set(map(str, tags)) if isinstance(tags, (list, tuple)) else set()


def _is_audit(notebook: NotebookNode, found: bool) -> bool:
    return found or "leakpro" in notebook.metadata or any("parameters" in _tags(cell) for cell in notebook.cells)


def _reasons(notebook: NotebookNode, result: Result | None) -> list[str]:
    """Say why the notebook cannot be taken for a finished audit; nothing if it can."""
    reasons = []
    papermill = notebook.metadata.get("papermill")
    if isinstance(papermill, Mapping) and papermill.get("exception"):
        reasons.append("The run of the notebook was stopped by an error.")
    for number, cell in enumerate(notebook.cells, 1):
        names = [str(o.get("ename", "error")) for o in cell.get("outputs", ()) if o.get("output_type") == "error"]
        if names:
            reasons.append(f"Step {number} of the notebook stopped with {shorten(printable(names[0]), 60)}.")
    if result is None:
        reasons.append(NO_RESULT)
    return reasons


def _titled(blocks: list[Block], metadata: Mapping[str, Any]) -> tuple[list[Block], str]:
    """Take the title out of the body, and move the headings below it up so that no level is skipped."""
    title = metadata.get("title")
    title = _line(title) if isinstance(title, str) else ""
    first = next((i for i, b in enumerate(blocks) if isinstance(b, Heading) and b.level == 1), None)
    if first is not None:
        heading = blocks[first]
        words = _line(plain(heading.children)) if isinstance(heading, Heading) else ""
        is_only = sum(isinstance(b, Heading) and b.level == 1 for b in blocks) == 1
        if words and (not title or words == title or (is_only and first == 0)):
            title = title or words
            blocks = blocks[:first] + blocks[first + 1 :]
    return _levelled(blocks), title


def _levelled(blocks: list[Block]) -> list[Block]:
    levels = [block.level for block in blocks if isinstance(block, Heading)]
    lift = min(levels, default=1) - 1
    last, out = 0, []
    for block in blocks:
        if isinstance(block, Heading):
            last = min(block.level - lift, last + 1)
            block = replace(block, level=last)  # noqa: PLW2901
        out.append(block)
    return out


def _line(text: str) -> str:
    return shorten(" ".join(printable(text).split()), 200)


def _when(notebook: NotebookNode, result: Result | None) -> datetime | None:
    """Return when the audit ended; else when papermill started it."""
    papermill = notebook.metadata.get("papermill")
    started = papermill.get("start_time") if isinstance(papermill, Mapping) else None
    return _moment(result.finished if result else None) or _moment(started)


def _moment(value: object) -> datetime | None:
    try:
        when = datetime.fromisoformat(str(value or ""))
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return when.astimezone(UTC) if 1971 <= when.year <= 9000 else None
    except (ValueError, OverflowError):
        return None


def _language(notebook: NotebookNode) -> str:
    own = notebook.metadata.get("leakpro")
    value = own.get("language") if isinstance(own, Mapping) else notebook.metadata.get("language")
    return value if isinstance(value, str) and re.fullmatch(r"[a-z]{2,3}", value) else "en"


def _authors(notebook: NotebookNode) -> tuple[str, ...]:
    authors = notebook.metadata.get("authors")
    if not isinstance(authors, (list, tuple)):
        return ()
    names = [author.get("name") if isinstance(author, Mapping) else author for author in authors]
    return tuple(_line(name) for name in names[:20] if isinstance(name, str) and name.strip())


class _Reader:
    """Turns cells and their outputs into blocks."""

    def __init__(self, notebook: NotebookNode) -> None:
        self.notebook = notebook
        self.models = widgets.state(notebook.metadata)

    def blocks(self) -> list[Block]:
        return [block for cell in self.notebook.cells for block in self._cell(cell)]

    def _cell(self, cell: NotebookNode) -> list[Block]:
        if cell.cell_type == "markdown":
            return markdown.blocks(cell.source, cell.get("attachments"))
        if cell.cell_type == "code":
            metadata = cell.get("metadata", {})
            return self.outputs(cell.get("outputs", [])[:MAX_OUTPUTS], metadata)
        return []

    def outputs(self, outputs: list[Any], cell: Mapping[str, Any] | None = None) -> list[Block]:
        """Return the blocks of a cell's outputs, its printed lines gathered where they follow each other."""
        found: list[Block] = []
        printed: list[str] = []

        def flush() -> None:
            found.extend(_printed("".join(printed)))
            printed.clear()

        for output in outputs:
            kind = output.get("output_type") if isinstance(output, Mapping) else None
            if kind == "stream":
                if output.get("name") == "stdout":
                    printed.append(_joined(output.get("text", "")))
                continue
            flush()
            if kind == "error":
                found.append(_stopped(output))
            elif kind in {"display_data", "execute_result"}:
                found += self._bundle(output.get("data", {}), output.get("metadata", {}), cell or {})
        flush()
        return found

    def _bundle(self, data: Any, metadata: Any, cell: Mapping[str, Any]) -> list[Block]:
        """Return the first form of a display that yields anything, best form first."""
        data = data if isinstance(data, Mapping) else {}
        metadata = metadata if isinstance(metadata, Mapping) else {}
        if MIME_TYPE in data:
            # The cover says all that the result's plain text could say.
            data = {key: value for key, value in data.items() if key not in {MIME_TYPE, "text/plain"}}
        for mime in _PRIORITY:
            if mime in data:
                blocks = self._form(mime, data, metadata, cell)
                if blocks is not None:
                    return blocks
        return []

    def _form(  # noqa: PLR0911 - one line per form
        self, mime: str, data: Mapping[str, Any], metadata: Mapping[str, Any], cell: Mapping[str, Any]
    ) -> list[Block] | None:
        """Return the blocks of one form of a display, or ``None`` to try the next form."""
        value = data[mime]
        if mime == widgets.VIEW:
            return self._widget(value, data)
        if mime.startswith("image/"):
            figure = _figure(mime, value, metadata, cell)
            return [figure] if figure else None
        if mime == "application/json":
            return []
        text = _joined(value)
        if mime == "text/html":
            found = html.blocks(text)
            return [_captioned(block, cell) for block in found] or None
        if mime == "text/markdown":
            return markdown.blocks(text) or None
        if mime == "text/latex":
            return _latex(text)
        return [] if _OBJECT.match(text.strip()) else _printed(text)

    def _widget(self, view: object, data: Mapping[str, Any]) -> list[Block]:
        found = widgets.blocks(view, self.models, self.outputs)
        if found is not None:
            return found
        text = _joined(data.get("text/plain", "")).strip()
        if not text or _OBJECT.match(text):
            # A bar that was never finished leaves only its constructor; a gap there tells nobody anything.
            return [] if "Progress" in text else [widgets.MISSING]
        return _printed(text)


def _joined(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "".join(map(str, value))
    return value if isinstance(value, str) else ""


def _printed(text: str) -> list[Block]:
    lines, left_out = terminal(text)
    if not lines.strip():
        return []
    more = [Notice(f"{left_out:,} more printed lines are in the notebook.")] if left_out else []
    return [Verbatim(lines), *more]


def _latex(text: str) -> list[Block] | None:
    tex = text.strip().removeprefix("$$").removesuffix("$$").strip("$").strip()
    tex = tex.removeprefix(r"\displaystyle").strip()
    return [Formula(tex)] if tex else None


def _stopped(output: Mapping[str, Any]) -> Notice:
    name, value = (" ".join(printable(str(output.get(key, ""))).split()) for key in ("ename", "evalue"))
    return Notice(f"This step stopped with an error. {shorten(name, 80)}: {shorten(value, 300)}", serious=True)


def _figure(mime: str, data: Any, metadata: Mapping[str, Any], cell: Mapping[str, Any]) -> Figure | None:
    own = metadata.get(mime)
    places = [own if isinstance(own, Mapping) else {}, metadata, cell]
    # A figure that is saved as SVG may have been described under the name of its PNG twin.
    twins = [metadata.get(other) for other in ("image/png", "image/svg+xml")]
    places[1:1] = [twin for twin in twins if isinstance(twin, Mapping)]
    width = places[0].get("width")
    return figures.figure(
        mime,
        data if isinstance(data, (str, list)) else "",
        alt=_first(places, "alt"),
        caption=shorten(_line(_first(places, "caption")), 300),
        width=float(width) if isinstance(width, (int, float)) else None,
    )


def _first(places: list[Mapping[str, Any]], key: str) -> str:
    return next((v for place in places if isinstance(v := place.get(key), str) and v.strip()), "")


def _captioned(block: Block, cell: Mapping[str, Any]) -> Block:
    caption = cell.get("caption")
    if isinstance(block, Table) and not block.caption and isinstance(caption, str):
        return replace(block, caption=_line(caption))
    return block
