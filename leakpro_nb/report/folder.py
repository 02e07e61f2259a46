"""One report for an audit folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from leakpro_nb.errors import AuditFailed, InputError
from leakpro_nb.report import screen
from leakpro_nb.report.document import Part, Report
from leakpro_nb.report.exporter import PDFExporter
from leakpro_nb.report.reader import embedded_result
from leakpro_nb.report.text import printable, shorten
from leakpro_nb.results import Result, write_atomically

__all__ = ["build_report"]

FORMATS = ("pdf", "html")
_MARK = "-INCOMPLETE"


def build_report(
    folder: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Write one report about every executed notebook in an audit folder.

    A notebook counts as a finished audit only if the result file of its run says the same as the result
    inside it. That file is ``<notebook's stem>.result.json`` beside the notebook, else
    ``<notebook's stem>/result.json``, else ``result.json`` beside a notebook that is alone in its folder.
    Otherwise the report is stamped INCOMPLETE, its files are named ``report-INCOMPLETE.*``, and complete
    ones of an earlier run are removed.

    Parameters
    ----------
    folder
        The audit folder; notebooks in sub-folders belong to it, hidden ones and checkpoints do not.
    output
        Where to write: a folder (default: the audit folder), or a file whose name replaces ``report``.
    formats
        Any of ``pdf`` and ``html``.

    Returns
    -------
    list of Path
        The files written, in the order of ``formats``.

    Raises
    ------
    InputError
        The folder holds no notebook, or a format is unknown.
    """
    folder = Path(folder)
    formats = [formats] if isinstance(formats, str) else list(formats)
    for wanted in formats:
        if wanted not in FORMATS:
            raise InputError("formats", wanted, f"Use any of {', '.join(FORMATS)}.")
    notebooks = _notebooks(folder)
    exporter = PDFExporter()
    report = _report([_part(path, exporter, folder) for path in notebooks])
    home, stem = _home(folder, output)
    name = f"{stem}{_MARK}" if report.incomplete else stem
    stale = stem if report.incomplete else f"{stem}{_MARK}"
    # First away with what the new report contradicts: a kill in between must not leave it standing.
    for suffix in FORMATS:
        (home / f"{stale}.{suffix}").unlink(missing_ok=True)
    return [write_atomically(home / f"{name}.{kind}", _render(kind, report, exporter)) for kind in formats]


def _render(kind: str, report: Report, exporter: PDFExporter) -> bytes:
    if kind == "html":
        return screen.page(report).encode()
    return exporter.compile(report)[0]


def _home(folder: Path, output: str | os.PathLike[str] | None) -> tuple[Path, str]:
    if output is None:
        return folder, "report"
    path = Path(output)
    if path.suffix.lower().lstrip(".") in FORMATS:
        return path.parent, path.stem
    return path, "report"


def _notebooks(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError("folder", str(folder), "Give the folder that an audit was written to.")
    found = sorted(path for path in folder.rglob("*.ipynb") if path.is_file() and not _hidden(path, folder))
    if not found:
        remedy = "No executed notebook (*.ipynb) is in it. Run an audit with this folder as its output first."
        raise InputError("folder", str(folder), remedy)
    return found


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _part(path: Path, exporter: PDFExporter, folder: Path) -> Part:
    name = path.relative_to(folder).with_suffix("").as_posix()
    try:
        notebook = nbformat.read(path, as_version=4)
        part = exporter.part(notebook, name, audit=True)
    except Exception as error:  # noqa: BLE001 - a half-written notebook may fail in any way, and is reported
        reason = f"The notebook could not be read ({type(error).__name__})."
        return Part(name, name, (), "incomplete", (reason,))
    return _checked(part, path, notebook)


def _checked(part: Part, path: Path, notebook: NotebookNode) -> Part:
    """Hold the result inside the notebook against the file that the run wrote last."""
    reason = _contradiction(path, embedded_result(notebook)[0])
    if not reason:
        return part
    return replace(part, status="incomplete", result=None, reasons=(*part.reasons, reason))


def _contradiction(path: Path, embedded: Result | None) -> str:
    file = next((candidate for candidate in _candidates(path) if candidate.is_file()), None)
    if file is None:
        return "The run wrote no result.json."
    try:
        result = Result.load(file)
    except AuditFailed:
        return f"{file.name} is not a complete audit result."
    if embedded is not None and embedded != result:
        return f"{file.name} and the result inside the notebook differ."
    return ""


def _candidates(path: Path) -> Iterable[Path]:
    yield path.with_name(f"{path.stem}.result.json")
    yield path.parent / path.stem / "result.json"
    if sum(1 for other in path.parent.glob("*.ipynb") if not other.name.startswith(".")) == 1:
        yield path.parent / "result.json"


def _report(parts: list[Part]) -> Report:
    if len(parts) == 1:
        return Report(parts[0].title, (parts[0],))
    targets = {part.result.target.name for part in parts if part.result}
    title = f"Privacy audit of {targets.pop()}" if len(targets) == 1 else "Privacy audit"
    return Report(shorten(printable(title), 200), tuple(parts))
