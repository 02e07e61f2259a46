"""What the report's tests share."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

pypdf = pytest.importorskip("pypdf")


class Pdf:
    """A compiled report, read back."""

    def __init__(self, data: bytes, facts: dict[str, Any]) -> None:
        self.data, self.facts = data, facts
        self.reader = pypdf.PdfReader(io.BytesIO(data))

    @property
    def pages(self) -> list[str]:
        return [" ".join(page.extract_text().split()) for page in self.reader.pages]

    @property
    def text(self) -> str:
        return " ".join(self.pages)

    @property
    def xmp(self) -> str:
        return str(self.reader.trailer["/Root"]["/Metadata"].get_object().get_data().decode())


@pytest.fixture
def pdf() -> Callable[..., Pdf]:
    from leakpro_nb.report import PDFExporter

    def compiled(nb: Any, **traits: Any) -> Pdf:
        data, resources = PDFExporter(**traits).from_notebook_node(nb)
        return Pdf(data, resources["leakpro"])

    return compiled


@pytest.fixture
def typ() -> Callable[[Any], str]:
    from leakpro_nb.report import TypstExporter

    return lambda nb: TypstExporter().from_notebook_node(nb)[0]


@pytest.fixture
def page() -> Callable[[Any], str]:
    from leakpro_nb.report import HTMLReportExporter

    return lambda nb: HTMLReportExporter().from_notebook_node(nb)[0]
