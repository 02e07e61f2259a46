"""Running a template: what goes in, what must come out, and what happens when it does not.

Whether an audit succeeded is read from its result file and from nothing else: notebooks that were
killed or timed out look complete to papermill.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat

from leakpro_nb.errors import AuditFailed, InputError
from leakpro_nb.notebooks.catalogue import Template, find, section
from leakpro_nb.notebooks.parameters import check
from leakpro_nb.results import Result, write_atomically

__all__ = ["PATH_PARAMETERS", "Audit", "audit", "execute"]

PATH_PARAMETERS = ("target", "threat", "out", "original", "control", "reference")
"""Parameters that name files, taken relative to the caller's working directory."""

_PRODUCTS = (
    "result.json",
    "scores.parquet",
    "report.pdf",
    "report.html",
    "report-INCOMPLETE.pdf",
    "report-INCOMPLETE.html",
)
_PREVIOUS = ".previous"  # hidden, so that a report on the folder passes it over
_UNFINISHED = "unfinished-audit"
_PAPERMILL_MARK = "papermill-error-cell-tag"
_BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"))


@dataclass(frozen=True)
class Audit:
    """A finished audit: its result, and where to read about it.

    Parameters
    ----------
    result
        What was found.
    folder, notebook
        Where everything is, and the executed notebook in it.
    reports
        The documents made from the notebook.
    """

    result: Result
    folder: Path
    notebook: Path
    reports: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = self.result.verdict
        files = (f"  {path}" for path in [*self.reports, self.notebook])
        return "\n".join([verdict.headline, verdict.sentence, "", *files])

    def _repr_markdown_(self) -> str:
        verdict = self.result.verdict
        files = "\n".join(f"* `{path}`" for path in [*self.reports, self.notebook])
        return f"**{verdict.headline}**\n\n{verdict.sentence}\n\n{files}"


def audit(
    target: str | os.PathLike[str],
    *,
    template: str | os.PathLike[str] = "membership",
    threat: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] = "audit",
    report: bool = True,
    timeout: float | None = None,
    progress: bool = True,
    **parameters: Any,
) -> Audit:
    """Audit a target: check the input, run the template's notebook, write the report.

    Parameters
    ----------
    target
        A ``target.py``, or a table (``.csv``, ``.parquet``).
    template
        Which audit to run: a template's name, or the path of a notebook.
    threat
        A threat model's YAML file; by default the template's own.
    out
        Folder for everything the audit writes.
    report
        Whether to make the documents from the notebook too.
    timeout
        Seconds that the notebook may take; unlimited by default.
    progress
        Whether to show a progress bar where there is somebody to see it.
    **parameters
        The template's other parameters.

    Raises
    ------
    InputError
        The input is wrong; nothing was written.
    AuditFailed
        The audit did not reach its end.
    """
    chosen = find(template)
    given: dict[str, Any] = {"target": target, **parameters, "out": out}
    if threat is not None:
        given["threat"] = threat
    _preflight(chosen, _checked(chosen, given))
    notebook = execute(chosen, given, Path(out), timeout=timeout, progress=progress)
    folder = notebook.parent
    reports = import_module("leakpro_nb.report").build_report(folder) if report else []
    return Audit(Result.load(folder / "result.json"), folder, notebook, list(reports))


def execute(
    template: Template | str | os.PathLike[str],
    parameters: Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    timeout: float | None = None,
    progress: bool = True,
) -> Path:
    """Run a template's notebook into the folder ``out`` and return the executed notebook's path.

    A finished audit that is already in ``out`` is moved to its subfolder ``.previous``.

    Raises
    ------
    InputError
        A parameter is wrong, here or in the notebook's eyes; ``out`` is as it was before.
    AuditFailed
        The notebook did not reach its end; it is in ``out``, marked as unfinished.
    KeyboardInterrupt
        The user stopped the run; the notebook is marked as unfinished.
    """
    template = template if isinstance(template, Template) else find(template)
    given = _checked(template, {**parameters, "out": out})
    if timeout is not None and not timeout > 0:
        raise InputError("timeout", timeout, "expects a positive number of seconds; for example timeout=3600")
    place = _Place(Path(given["out"]), template)
    place.clear()
    try:
        _papermill(template, place.notebook, given, timeout, progress)
        _require_every_cell(place.notebook)
        Result.load(place.result)
    except BaseException as error:
        problem = _problem(error, timeout)
        if isinstance(problem, InputError):
            place.restore()
            raise problem from None
        where = _mark_unfinished(place.notebook, problem)
        # An exception after the result was saved still leaves a notebook that nobody should report.
        place.result.unlink(missing_ok=True)
        if not isinstance(error, Exception):
            raise
        raise AuditFailed(_sentence(where, problem, place.notebook)) from error
    _set_status(place.notebook, "complete")
    return place.notebook


class _Place:
    """The folder of one run: what was there before, and what must not pass for this run's."""

    def __init__(self, folder: Path, template: Template) -> None:
        self.folder = folder
        self.notebook = folder / f"{template.name}.ipynb"
        self.result = folder / "result.json"
        self._created: list[Path] = []
        self._moved: list[Path] = []
        if self.notebook.exists() and self.notebook.samefile(template.path):
            raise InputError("out", str(folder), "is the template's own folder; name another one")

    def clear(self) -> None:
        """Make the folder ready, keeping the last finished run aside."""
        self._created = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError("it is read-only")
            self._refuse_foreign_files()
            finished = self.result.is_file()
            for path in self._products(self.folder / _PREVIOUS) if finished else []:
                path.unlink()
            for path in self._products(self.folder):
                self._set_aside(path) if finished else path.unlink()
        except OSError as error:
            raise InputError("out", str(self.folder), f"cannot be used ({error}); name another folder") from error

    def _refuse_foreign_files(self) -> None:
        """Touch nothing that another program or the user wrote under a name that an audit uses."""
        there = self._products(self.folder)
        if self.notebook in there and not _is_audit(self.notebook):
            there = [self.notebook]
        elif self.notebook in there or _is_result(self.result):
            return
        if there:
            names = ", ".join(path.name for path in there)
            raise InputError("out", str(self.folder), f"holds {names}, which no audit wrote; name another folder")

    def restore(self) -> None:
        """Leave the folder as it was before."""
        for path in self._products(self.folder):
            path.unlink()
        for path in self._moved:
            path.replace(self.folder / path.name)
        for folder in (self.folder / _PREVIOUS, *self._created):
            with suppress(OSError):  # not ours alone: something else is in it
                folder.rmdir()

    def _products(self, folder: Path) -> list[Path]:
        return [path for name in (*_PRODUCTS, self.notebook.name) if (path := folder / name).is_file()]

    def _set_aside(self, path: Path) -> None:
        aside = self.folder / _PREVIOUS / path.name
        aside.parent.mkdir(exist_ok=True)
        self._moved.append(path.replace(aside))


def _is_audit(notebook: Path) -> bool:
    """Whether the notebook was executed by us; a template, even edited, was not."""
    metadata = _json(notebook).get("metadata", {})
    return "papermill" in metadata and "leakpro" in metadata


def _is_result(path: Path) -> bool:
    return "schema_version" in _json(path) if path.is_file() else False


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _checked(template: Template, given: Mapping[str, Any]) -> dict[str, Any]:
    checked = check(template, given)
    for name in PATH_PARAMETERS:
        if checked.get(name) and "://" not in checked[name]:
            checked[name] = os.path.abspath(os.path.expanduser(checked[name]))  # noqa: PTH100, PTH111
    return checked


def _preflight(template: Template, given: Mapping[str, Any]) -> None:
    """Let the audit's own module refuse bad input before anything is written."""
    name = f"leakpro_nb.audits.{template.name.replace('-', '_')}"
    if not find_spec(name):
        return
    preflight = getattr(import_module(name), "preflight", None)
    if preflight is None:
        return
    everything = {parameter.name: parameter.default for parameter in template.parameters} | dict(given)
    wanted = inspect.signature(preflight).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in wanted):
        everything = {p.name: everything[p.name] for p in wanted if p.name in everything}
    preflight(**everything)


def _papermill(
    template: Template, notebook: Path, parameters: dict[str, Any], timeout: float | None, progress: bool
) -> None:
    # papermill takes a second to import, and listing templates does not need it
    import papermill

    from leakpro_nb.notebooks.engine import LeakproEngine

    # A source checkout that was never installed has no entry points.
    papermill.engines.papermill_engines.register("leakpro", LeakproEngine)
    talk = logging.getLogger("papermill")
    level = talk.level
    talk.setLevel(
        logging.ERROR
    )  # it warns of parameters with "|" in their type, which it cannot read; we have read them
    try:
        papermill.execute_notebook(
            _verbatim(template.path),
            _verbatim(notebook),
            parameters,
            engine_name="leakpro",
            kernel_name="python3",
            language="python",
            progress_bar=_bar(template) if progress else False,
            timeout=timeout,
        )
    finally:
        talk.setLevel(level)


def _verbatim(path: Path) -> str:
    """Escape a path, which papermill passes through ``str.format``."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _bar(template: Template) -> dict[str, Any]:
    from tqdm.auto import tqdm

    in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    # None lets tqdm look for a terminal, which a notebook's output never is.
    # No estimate of the time left: one cell takes nearly all of it, and relays its own.
    layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} cells, {elapsed}{postfix}"
    return {"desc": template.title, "bar_format": layout, "disable": False if in_notebook else None}


def _require_every_cell(notebook: Path) -> None:
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.metadata.get("papermill", {}).get("status") != "completed":
            # papermill takes this for the end of a successful run
            raise AuditFailed("SystemExit: a cell left the notebook before its end")


def _problem(error: BaseException, timeout: float | None) -> InputError | str:
    """Say in one line what went wrong, or give back the kernel's complaint about the input."""
    name = type(error).__name__
    if name == "PapermillExecutionError":
        name, message = error.ename, error.evalue  # type: ignore[attr-defined]
        if name == "InputError":
            return _input_error(message)
    elif name == "CellTimeoutError" and timeout and "IOPub" not in str(error):
        return f"the time limit of {timeout:g} seconds was reached"
    elif name == "DeadKernelError":
        words = "".join(getattr(error, "__notes__", [])[-1:])
        cause = ", most often because memory ran out" if words == "SIGKILL" else ""
        return f"the kernel died{f' ({words})' if words else ''}{cause}"
    elif not isinstance(error, Exception):
        return "it was interrupted"
    elif isinstance(error, AuditFailed):
        return _first_line(str(error))
    else:
        message = str(error)
    return f"{name}: {_first_line(message)}".rstrip(": ")


def _first_line(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text).strip().partition("\n")[0]


def _input_error(message: str) -> InputError:
    """Take the message of an `InputError` apart again; the kernel sends only its text."""
    name, _, rest = message.partition(" = ")
    ends = [match.start() for match in re.finditer(": ", rest)]
    if not ends:
        return InputError("notebook", message, "correct this and run again")
    # A value such as {'a': 1} has colons of its own.
    end = next((e for e in ends if all(rest[:e].count(o) == rest[:e].count(c) for o, c in _BRACKETS)), ends[0])
    return InputError(name, rest[:end], rest[end + 2 :])


def _mark_unfinished(notebook: Path, problem: str) -> str:
    """Say at the top of the notebook that it did not finish; return the section it stopped in."""
    with suppress(OSError, ValueError):
        nb = nbformat.read(notebook, as_version=4)
        nb.cells = [cell for cell in nb.cells if _PAPERMILL_MARK not in cell.metadata.get("tags", [])]
        states = [cell.metadata.get("papermill", {}).get("status") for cell in nb.cells]
        where = section(nb.cells, states.index("failed")) if "failed" in states else ""
        text = f"**This audit did not finish.** It stopped{_in(where)}: {_code(problem)}"
        metadata = {"tags": [_UNFINISHED]}
        nb.cells.insert(0, nbformat.v4.new_markdown_cell(text, metadata=metadata))
        nb.metadata["leakpro"] = {**nb.metadata.get("leakpro", {}), "status": "failed"}
        write_atomically(notebook, nbformat.writes(nb).encode())
        return where
    return ""


def _set_status(notebook: Path, status: str) -> None:
    nb = nbformat.read(notebook, as_version=4)
    nb.metadata["leakpro"]["status"] = status
    write_atomically(notebook, nbformat.writes(nb).encode())


def _sentence(where: str, problem: str, notebook: Path) -> str:
    return (
        f"The audit stopped{_in(where)}: {problem.rstrip('.')}. The notebook so far is {notebook}; "
        "running the same command again resumes from what is cached."
    )


def _in(where: str) -> str:
    return f' in the section "{where}"' if where else ""


def _code(text: str) -> str:
    return "`` " + text.replace("``", "'") + " ``"
