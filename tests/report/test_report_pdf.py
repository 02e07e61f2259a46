from __future__ import annotations

import json
import logging

import pytest
from nbformat.v4 import new_output
from report_samples import code, display, markdown, notebook, result, result_cell, sample

from leakpro_nb.results import Result


def test_archival_and_accessible(pdf):
    made = pdf(sample())
    assert made.facts["standards"] == ["a-3a", "ua-1"]
    assert made.facts["status"] == "complete"
    assert "<pdfaid:part>3</pdfaid:part>" in made.xmp
    assert "<pdfaid:conformance>A</pdfaid:conformance>" in made.xmp
    assert "<pdfuaid:part>1</pdfuaid:part>" in made.xmp
    root = made.reader.trailer["/Root"]
    assert root["/Lang"] == "en"
    assert root["/MarkInfo"]["/Marked"]
    assert made.reader.metadata.title == "Can membership be inferred from the ward model?"


def test_outline_cover_and_page_numbers(pdf):
    made = pdf(sample())
    titles = [item.title for item in made.reader.outline if not isinstance(item, list)]
    assert titles[:3] == ["In one minute", "The question", "Who attacks"]
    cover = made.pages[0]
    for words in ["Membership can be inferred", "14 % of the patients who trained", "Length of stay, ward 7",
                  "12 November 2026", "leakpro_nb 0.1.0", "Can someone who only queries"]:  # fmt: skip
        assert words in cover
    assert f"Page 2 of {len(made.pages)}" in made.pages[1]
    assert "INCOMPLETE" not in made.text


def test_result_is_attached_and_the_notebook_only_on_demand(pdf):
    made = pdf(sample())
    assert list(made.reader.attachments) == ["result.json"]
    (content,) = made.reader.attachments["result.json"]
    assert content == Result.model_validate(result()).model_dump_json(indent=1).encode()
    more = pdf(sample(), attach_notebook=True)
    assert sorted(more.reader.attachments) == ["notebook.ipynb", "result.json"]
    assert "alice" in json.loads(more.reader.attachments["notebook.ipynb"][0])["cells"][2]["source"][0]


def test_same_notebook_same_bytes(pdf):
    assert pdf(sample()).data == pdf(sample()).data
    undated = notebook(markdown("# Plain"), audit=False)
    assert pdf(undated).data == pdf(undated).data


@pytest.mark.parametrize("level", ["demonstrated", "limited", "inconclusive", "not_found"])
def test_every_verdict_says_in_words_what_its_colour_says(pdf, level):
    verdict = {"level": level, "headline": f"Headline {level}", "sentence": "Because."}
    made = pdf(notebook(markdown("# T"), result_cell(result(verdict=verdict))))
    assert f"Headline {level}" in made.pages[0]


def test_last_result_wins_even_if_it_is_broken(pdf):
    first = result(verdict={"level": "limited", "headline": "First", "sentence": "s"})
    second = result(verdict={"level": "limited", "headline": "Second", "sentence": "s"})
    assert "Second" in pdf(notebook(result_cell(first), result_cell(second))).pages[0]
    made = pdf(notebook(result_cell(first), result_cell({"schema_version": "1.0"})))
    assert made.facts["status"] == "incomplete"
    assert "First" not in made.text


ERROR = new_output("error", ename="ValueError", evalue="bad", traceback=["line 1"])
UNFINISHED = {
    "no result": notebook(markdown("# T\n\n## A"), code()),
    "invalid result": notebook(markdown("# T"), result_cell({"verdict": "fine"})),
    "result with a field too many": notebook(result_cell({**result(), "extra": 1})),
    "papermill exception": notebook(result_cell(), papermill={"exception": True}),
    "error in a cell": notebook(code(ERROR), result_cell()),
    "error in a hidden cell": notebook(code(ERROR, tags=("remove-cell",)), result_cell()),
    "only a parameters cell": notebook(code(tags=("parameters",)), audit=False),
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_unfinished_audits_are_stamped_on_every_page(pdf, page, name, caplog):
    with caplog.at_level(logging.WARNING):
        made = pdf(UNFINISHED[name])
    assert made.facts["status"] == "incomplete"
    assert made.facts["reasons"]
    assert "INCOMPLETE: this audit did not finish; nothing below may be used as a result" in made.pages[0]
    assert all("INCOMPLETE" in text for text in made.pages)
    assert "Membership can be inferred" not in made.text
    assert not made.reader.attachments
    assert made.facts["standards"] == ["a-3a", "ua-1"]
    html = page(UNFINISHED[name])
    assert "INCOMPLETE: this audit did not finish; nothing below may be used as a result" in html
    assert "Membership can be inferred" not in html
    assert "leakpro-result" not in html


def test_any_other_notebook_is_a_plain_report(pdf):
    made = pdf(notebook(markdown("# Notes\n\n## One\n\ntext"), code(ERROR), audit=False))
    assert made.facts["status"] == "plain"
    assert "INCOMPLETE" not in made.text
    assert "ValueError: bad" in made.text


def test_missing_glyphs_are_named_not_lost(pdf, caplog):
    with caplog.at_level(logging.WARNING):
        made = pdf(notebook(markdown("# T 😀\n\nhanzi 麻 and `emoji 🙂`, thai ก, ελληνικά, ✓")))
    assert made.facts["standards"] == ["a-3a", "ua-1"]
    assert made.facts["substituted"] == sorted("😀麻🙂ก")
    for code_point in ["[U+1F600]", "[U+9EBB]", "[U+1F642]", "[U+0E01]"]:
        assert code_point in made.text
    assert "ελληνικά" in made.text


def test_the_standard_really_met_is_the_one_reported(pdf, monkeypatch, caplog):
    import typst

    from leakpro_nb.report import exporter

    real = typst.compile

    def refuses_pdf_a(*args, **options):
        if "a-3a" in options["pdf_standards"]:
            raise RuntimeError("error: not today")
        return real(*args, **options)

    monkeypatch.setattr(exporter.typst, "compile", refuses_pdf_a)
    with caplog.at_level(logging.WARNING):
        made = pdf(sample())
    assert made.facts["standards"] == ["ua-1"]
    assert "pdfaid" not in made.xmp
    assert "does not meet a-3a + ua-1: error: not today" in caplog.text


def test_unreadable_picture_is_replaced_by_its_description(pdf):
    import base64

    from report_samples import PNG

    cut = base64.b64encode(PNG[:33] + b"\0\0\0\0rubbish").decode()
    made = pdf(notebook(code(display({"image/png": cut}, {"alt": "A cut picture"})), result_cell()))
    assert made.facts["standards"] == ["a-3a", "ua-1"]
    assert "A cut picture" in made.text
