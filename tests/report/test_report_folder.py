from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import nbformat
import pypdf
import pytest
from report_samples import markdown, notebook, result, result_cell, sample

from leakpro_nb.errors import InputError
from leakpro_nb.report import build_report


def write(path: Path, nb: Any, data: Any = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    if data is not None:
        path.with_name("result.json").write_text(json.dumps(data))


def words(path: Path) -> str:
    reader = pypdf.PdfReader(io.BytesIO(path.read_bytes()))
    return " ".join(" ".join(page.extract_text().split()) for page in reader.pages)


def test_single_notebook(tmp_path):
    write(tmp_path / "membership.ipynb", sample(), result())
    write(tmp_path / ".ipynb_checkpoints" / "membership.ipynb", notebook())
    paths = build_report(tmp_path)
    assert paths == [tmp_path / "report.pdf", tmp_path / "report.html"]
    assert "Membership can be inferred" in words(paths[0])
    assert "Membership can be inferred" in paths[1].read_text()
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "wrote no result.json"),
        ({"verdict": 1}, "not a complete audit result"),
        (result(level="not_found"), "differ"),
    ],
)
def test_without_the_matching_result_file_the_report_is_stamped(tmp_path, data, reason):
    write(tmp_path / "membership.ipynb", sample(), data)
    (tmp_path / "report.pdf").write_bytes(b"an earlier, complete report")
    paths = build_report(tmp_path)
    assert [path.name for path in paths] == ["report-INCOMPLETE.pdf", "report-INCOMPLETE.html"]
    assert not (tmp_path / "report.pdf").exists()
    text = words(paths[0])
    assert "INCOMPLETE: this audit did not finish" in text
    assert reason in text
    assert "Membership can be inferred" not in text


def test_a_complete_report_removes_the_stamped_one(tmp_path):
    write(tmp_path / "a.ipynb", sample())
    build_report(tmp_path, formats=("html",))
    assert (tmp_path / "report-INCOMPLETE.html").exists()
    write(tmp_path / "a.ipynb", sample(), result())
    assert build_report(tmp_path, formats=("html",)) == [tmp_path / "report.html"]
    assert not (tmp_path / "report-INCOMPLETE.html").exists()


def several(folder: Path) -> None:
    other = result(level="not_found", question="Does the table give anyone away?", template="synthetic")
    other["verdict"]["headline"] = "No leak was found"
    write(folder / "membership" / "membership.ipynb", sample(), result())
    write(folder / "synthetic.ipynb", notebook(markdown("# The synthetic table\n\n## In one minute"),
                                               result_cell(other)))  # fmt: skip
    (folder / "synthetic.result.json").write_text(json.dumps(other))


def test_several_notebooks_make_one_report(tmp_path):
    several(tmp_path)
    pdf, html = build_report(tmp_path)
    reader = pypdf.PdfReader(pdf)
    cover = " ".join(reader.pages[0].extract_text().split())
    for expected in ["Privacy audit of Length of stay, ward 7", "Membership can be inferred", "No leak was found",
                     "Does the table give anyone away?"]:  # fmt: skip
        assert expected in cover
    assert sorted(reader.attachments) == ["01-membership-membership.result.json", "02-synthetic.result.json"]
    titles = [item.title for item in reader.outline if not isinstance(item, list)]
    assert titles == ["Can membership be inferred from the ward model?", "The synthetic table"]
    assert html.read_text().count('type="application/json"') == 2


def test_one_unfinished_part_stamps_the_whole(tmp_path):
    several(tmp_path)
    (tmp_path / "half.ipynb").write_text('{"cells": [{"cell_ty')
    pdf, html = build_report(tmp_path)
    assert pdf.name == "report-INCOMPLETE.pdf"
    assert "INCOMPLETE: 1 of 3 audits did not finish" in words(pdf)
    assert "could not be read" in words(pdf)
    assert "INCOMPLETE" in html.read_text()


def test_nothing_to_report(tmp_path):
    with pytest.raises(InputError, match="Run an audit") as caught:
        build_report(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(InputError, match="folder"):
        build_report(tmp_path / "none")
    write(tmp_path / "a.ipynb", sample(), result())
    with pytest.raises(InputError, match="formats = docx"):
        build_report(tmp_path, formats=("docx",))


def test_output_names_a_folder_or_a_file(tmp_path):
    write(tmp_path / "a.ipynb", sample(), result())
    out = tmp_path / "out"
    assert build_report(tmp_path, output=out, formats=["html"]) == [out / "report.html"]
    assert build_report(tmp_path, output=out / "board.pdf", formats=["html"]) == [out / "board.html"]
