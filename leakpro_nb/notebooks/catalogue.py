"""Which notebook templates there are, and what each one asks."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.paths import jupyter_path

from leakpro_nb.errors import InputError
from leakpro_nb.notebooks.parameters import Parameter, parse

__all__ = ["Template", "find", "section", "templates"]


@dataclass(frozen=True)
class Template:
    """A notebook that answers one question, with parameters to set.

    Parameters
    ----------
    name
        What a user calls it; the file's name without its suffix.
    path
        Where the notebook is.
    """

    name: str
    path: Path

    @cached_property
    def notebook(self) -> Any:
        """The notebook itself, as stored."""
        try:
            return nbformat.read(self.path, as_version=4)
        except (OSError, ValueError, nbformat.ValidationError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError("template", str(self.path), f"is not a readable notebook ({reason})") from error

    @cached_property
    def title(self) -> str:
        """The notebook's title: its metadata's, else its first top-level heading."""
        declared = self.notebook.metadata.get("title")
        headings = (text for level, text in self._headings() if level == 1)
        return declared or next(headings, self.name)

    @cached_property
    def question(self) -> str:
        """The question it answers, in one sentence."""
        declared = self.notebook.metadata.get("leakpro", {}).get("question")
        return declared or _first_sentence(self._text_under("The question"))

    @cached_property
    def parameters(self) -> list[Parameter]:
        """What can be set, in the order of the notebook."""
        for cell in self.notebook.cells:
            if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", []):
                return parse(cell.source, self.name)
        return []

    def _headings(self) -> Iterator[tuple[int, str]]:
        for cell in self.notebook.cells:
            yield from _headings(cell)

    def _text_under(self, heading: str) -> str:
        text = "\n\n".join(cell.source for cell in self.notebook.cells if cell.cell_type == "markdown")
        text = re.sub(r"(?m)^#{1,6}\s.*$", r"\n\g<0>\n", text)  # text may follow its heading at once
        paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
        titles = [_heading(part) for part in paragraphs]
        if heading not in titles:
            return ""
        below = titles.index(heading) + 1
        return next((part for part in paragraphs[below:] if not _heading(part)), "")


def templates() -> dict[str, Template]:
    """Return every template by name, a source checkout's before the installed ones."""
    found: dict[str, Template] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.ipynb")):
            found.setdefault(path.stem, Template(path.stem, path))
    return found


def find(name_or_path: str | os.PathLike[str]) -> Template:
    """Return the template of that name, or the one in that file.

    Raises
    ------
    InputError
        There is no such template.
    """
    wanted = os.fspath(name_or_path)
    known = templates()
    if wanted in known:
        return known[wanted]
    path = Path(wanted).expanduser().absolute()
    if path.suffix == ".ipynb":
        if path.is_file():
            return Template(path.stem, path)
        raise InputError("template", wanted, "there is no such file")
    near = get_close_matches(wanted, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    names = ", ".join(known) or "none is installed"
    raise InputError("template", wanted, f"{hint}name one of: {names}; or the path of a notebook")


def section(cells: Sequence[Any], index: int) -> str:
    """Return the heading that the cell at ``index`` stands under."""
    for cell in reversed(cells[: index + 1]):
        headings = list(_headings(cell))
        if headings:
            return headings[-1][1]
    return ""


def _folders() -> list[Path]:
    root = Path(__file__).parents[2]
    # An installed package lies in site-packages, where a folder called templates would be somebody else's.
    if (root / "pyproject.toml").is_file() and (root / "templates").is_dir():
        return [root / "templates"]
    shared = [Path(folder) / "leakpro" for folder in jupyter_path("notebook_templates")]
    return [*shared, Path(sys.prefix, "share", "jupyter", "notebook_templates", "leakpro")]


def _headings(cell: Any) -> Iterator[tuple[int, str]]:
    if cell.cell_type != "markdown":
        return
    fenced = False
    for line in cell.source.splitlines():
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        text = "" if fenced else _heading(line)
        if text:
            yield len(line) - len(line.lstrip("#")), text


def _heading(line: str) -> str:
    match = re.match(r"#{1,6}\s+(.*?)\s*#*\s*$", line)
    return match[1] if match else ""


def _first_sentence(text: str) -> str:
    flat = re.sub(r"[*_`>]", "", " ".join(text.split()))
    match = re.match(r".+?[.?!](?=\s|$)", flat)
    return match[0].strip() if match else flat.strip()
