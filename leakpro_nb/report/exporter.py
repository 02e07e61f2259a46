"""The exporters that ``jupyter nbconvert`` and JupyterLab find by their entry points."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import typst
from nbconvert.exporters import Exporter
from nbformat import NotebookNode
from traitlets import Bool, Unicode, default
from traitlets.config import Config

from leakpro_nb.errors import AuditFailed, InputError
from leakpro_nb.report import screen
from leakpro_nb.report.document import Part, Report
from leakpro_nb.report.paper import Paper
from leakpro_nb.report.reader import read
from leakpro_nb.report.text import shorten
from leakpro_nb.report.typ import FONTS, string

__all__ = ["HTMLReportExporter", "PDFExporter", "ReportExporter", "TypstExporter"]

STANDARDS: tuple[tuple[str, ...], ...] = (("a-3a", "ua-1"), ("ua-1",), ())
_MISSING_GLYPH = re.compile(r'the text `"((?:[^"\\]|\\.)*)"` could not be displayed')


class ReportExporter(Exporter):
    """What all three exporters share: reading the notebook."""

    attach_notebook = Bool(
        False, help="Attach the executed notebook. Off by default: a notebook holds paths of its author."
    ).tag(config=True)

    @property
    def default_config(self) -> Config:
        """Hide by tag what is no matter for a reader, on top of nbconvert's own defaults."""
        config = Config(
            {
                "TagRemovePreprocessor": {
                    "enabled": True,
                    "remove_cell_tags": {
                        "remove-cell",
                        "remove_cell",
                        "injected-parameters",
                        "parameters",
                        "papermill-error-cell-tag",
                    },
                    "remove_all_outputs_tags": {"remove-output", "remove_output"},
                    "remove_single_output_tags": {"remove-output", "remove_output"},
                },
                "NbConvertBase": {"display_data_priority": []},
            }
        )
        config.merge(super().default_config)
        return config

    def part(self, nb: NotebookNode, name: str = "", *, audit: bool | None = None) -> Part:
        """Return the part of a report that ``nb`` makes."""
        original = deepcopy(nb)
        shown, _ = super().from_notebook_node(nb, {"metadata": {"name": name}})
        return read(shown, original, name or "notebook", audit=audit)

    def report(self, nb: NotebookNode, resources: Mapping[str, Any] | None) -> Report:
        """Return the report that a single notebook makes."""
        name = str((resources or {}).get("metadata", {}).get("name", ""))
        part = self.part(nb, name)
        return Report(part.title, (part,))

    def _resources(self, resources: dict[str, Any] | None, report: Report, **more: Any) -> dict[str, Any]:
        out = self._init_resources(resources)
        status = "incomplete" if report.incomplete else report.parts[0].status
        reasons = [reason for part in report.parts for reason in part.reasons]
        if report.incomplete:
            self.log.warning("The report is stamped INCOMPLETE: %s", " ".join(reasons))
        out["leakpro"] = {"status": status, "reasons": reasons, **more}
        return out


class TypstExporter(ReportExporter):
    """Notebook to Typst source, with pictures and attachments beside it."""

    output_mimetype = "text/vnd.typst"

    style = Unicode("", help="A Typst file to use instead of the package's own style.typ.").tag(config=True)

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".typ"

    def from_notebook_node(
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **_: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the Typst source; its files are in ``resources["outputs"]``."""
        report = self.report(nb, resources)
        out = self._resources(resources, report)
        folder = f"{out.get('output_files_dir') or 'report_files'}/"
        paper = self.paper(report, folder=folder)
        outputs = {f"{folder}{name}": data for name, data in paper.files.items()}
        out["outputs"] = {**out.get("outputs", {}), **outputs}
        return paper.source, out

    def paper(self, report: Report, **options: Any) -> Paper:
        """Lay ``report`` out."""
        return Paper(report, notebooks=self.attach_notebook, style=self._own_style(), **options)

    def _own_style(self) -> bytes | None:
        if not self.style:
            return None
        try:
            return Path(self.style).read_bytes()
        except OSError as error:
            raise InputError("style", self.style, f"Give a readable Typst file ({error.strerror}).") from error


class PDFExporter(TypstExporter):
    """Notebook to PDF/A-3a and PDF/UA-1, compiled in this process."""

    export_from_notebook = "Privacy report (PDF)"
    output_mimetype = "application/pdf"

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".pdf"

    def from_notebook_node(
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **_: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the PDF; ``resources["leakpro"]["standards"]`` says which standards it really meets."""
        report = self.report(nb, resources)
        pdf, standards, missing = self.compile(report)
        out = self._resources(resources, report, standards=list(standards), substituted=sorted(missing))
        return pdf, out

    def compile(self, report: Report) -> tuple[bytes, tuple[str, ...], frozenset[str]]:
        """Return the PDF, the standards it meets and the characters that had to be replaced.

        Raises
        ------
        AuditFailed
            The compiler refused the report even without any standard.
        """
        missing: frozenset[str] = frozenset()
        broken: frozenset[str] = frozenset()
        message = ""
        for standards in STANDARDS:
            # Each round removes characters or pictures named by the compiler, so the loop ends.
            while True:
                paper = self.paper(report, missing=missing, broken=broken)
                try:
                    pdf = _compile(paper.files, paper.source, standards, report.when)
                except Exception as error:  # noqa: BLE001 - also the compiler's own panics
                    message = str(getattr(error, "diagnostic", None) or error)
                    lacking = frozenset(_lacking(message)) - missing
                    unreadable = frozenset() if lacking else _unreadable(paper) - broken
                    if not lacking and not unreadable:
                        break
                    missing, broken = missing | lacking, broken | unreadable
                else:
                    self._log_outcome(standards, missing, broken)
                    return pdf, standards, missing
            self.log.warning("The PDF does not meet %s: %s", " + ".join(standards) or "anything", _errors(message))
        raise AuditFailed(f"The report could not be typeset: {_errors(message)}")

    def _log_outcome(self, standards: tuple[str, ...], missing: frozenset[str], broken: frozenset[str]) -> None:
        self.log.info("PDF standards met: %s", ", ".join(standards) or "none")
        if missing:
            codes = ", ".join(f"U+{ord(char):04X}" for char in sorted(missing))
            self.log.warning("No font has these characters, replaced by their code points: %s", codes)
        if broken:
            self.log.warning("%d figures could not be read and were left out", len(broken))


def _errors(message: str) -> str:
    """Return the compiler's complaints without the source lines it quotes, which may be very long."""
    lines = [line for line in message.splitlines() if line.startswith("error")] or message.splitlines()
    return shorten(" ".join(lines), 600)


def _lacking(message: str) -> set[str]:
    """Read the characters that no font has out of the compiler's message."""
    found: set[str] = set()
    for cluster in _MISSING_GLYPH.findall(message):
        found.update(re.sub(r"\\u\{([0-9a-fA-F]+)\}", lambda match: chr(int(match[1], 16)), cluster))
    # A cluster may hold ordinary letters beside the one that is missing.
    return {char for char in found if not char.isascii()}


def _unreadable(paper: Paper) -> frozenset[str]:
    """Return the names of the pictures that do not compile even alone; the compiler's message names none."""
    found = set()
    for name in sorted(paper.pictures):
        source = f"#image({string(name)}, alt: {string(name)})"
        try:
            _compile({name: paper.files[name]}, source, (), None)
        except Exception:  # noqa: BLE001 - also the compiler's own panics
            found.add(name)
    return frozenset(found)


def _compile(files: Mapping[str, bytes], source: str, standards: tuple[str, ...], when: datetime | None) -> bytes:
    """Compile ``source`` in a folder of its own, which is all that the compiler can read."""
    with tempfile.TemporaryDirectory(prefix="leakpro-report-") as name:
        folder = Path(name)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        (folder / "main.typ").write_text(source, encoding="utf-8")
        pdf = typst.compile(
            str(folder / "main.typ"),
            root=name,
            font_paths=FONTS(),
            pdf_standards=list(standards),  # type: ignore[arg-type]
            # A fixed date where the notebook names none: same notebook, same bytes.
            timestamp=int(when.timestamp()) if when else 0,
        )
        return bytes(pdf)


class HTMLReportExporter(ReportExporter):
    """Notebook to one self-contained HTML file that never reaches for the network."""

    export_from_notebook = "Privacy report (HTML)"
    output_mimetype = "text/html"

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".html"

    def from_notebook_node(
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **_: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the page."""
        report = self.report(nb, resources)
        return screen.page(report, notebooks=self.attach_notebook), self._resources(resources, report)
