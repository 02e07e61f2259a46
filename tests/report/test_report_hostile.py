"""Notebooks that mean harm must come out as harmless words."""

from __future__ import annotations

import base64
import re

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_output
from report_samples import PNG_TEXT, check_inert, code, display, frame, markdown, notebook, result, result_cell

EVIL = '#read("/etc/passwd") #panic("x") $#eval("1")$ `raw` @ref <label> = head *b* _e_ // c /* d */ \\ "] #['
SVG_EVIL = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="100" height="50" '
    'onload="alert(1)"><script>alert(1)</script><foreignObject><body xmlns="http://www.w3.org/1999/xhtml">'
    '<iframe src="https://evil.example/"/></body></foreignObject>'
    '<image href="https://evil.example/x.png" width="9" height="9"/><image xlink:href="file:///etc/passwd"/>'
    '<a href="javascript:alert(1)"><text>click</text></a><style>@import url(https://evil.example/a.css);</style>'
    '<rect width="9" height="9" fill="url(https://evil.example/f)" onclick="alert(2)"/></svg>'
)
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    '<svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>'
)
USE_BOMB = (
    '<svg xmlns="http://www.w3.org/2000/svg"><g id="a"><path d="M0 0h1"/></g>'
    + "".join(f'<g id="x{i}"><use href="#{"a" if not i else f"x{i - 1}"}"/>' * 1 + "</g>" for i in range(40))
    + "</svg>"
)
HUGE_PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (200_000).to_bytes(4, "big") * 2 + b"\x08\x06\0\0\0aaaa"
).decode()


def evil_result():
    return result(
        question=EVIL,
        verdict={"level": "limited", "headline": EVIL, "sentence": EVIL},
        target={"name": f"../../{EVIL}", "kind": EVIL, "members": 1, "non_members": 1},
        package_version=EVIL,
    )


# name: (cells, metadata, words that must be readable in the PDF)
CASES = {
    "markdown": ([markdown(f"text {EVIL}")], {}, ["/etc/passwd"]),
    "markdown code": ([markdown(f"```typ\n{EVIL}\n```\n\n`` {EVIL} ``")], {}, ["#panic"]),
    "heading and title": ([markdown(f"# {EVIL}\n\n## {EVIL}\n\n[x](#{EVIL})")], {"title": EVIL}, ["#panic"]),
    "table cells": ([markdown('| #panic("a") | "] |\n|---|---|\n| #read("x") | \\"; #panic("c") |')], {}, ["#panic"]),
    "frame": ([code(display({"text/html": frame().assign(x=EVIL).to_html()}))], {}, ["#panic"]),
    "alt text": ([code(display({"image/png": PNG_TEXT}, {"alt": EVIL, "caption": EVIL}))], {}, ["#panic"]),
    "printed": ([code(new_output("stream", name="stdout", text=EVIL))], {}, ["#panic"]),
    "error": ([code(new_output("error", ename=EVIL, evalue=EVIL, traceback=[EVIL]))], {}, ["#panic"]),
    "verdict": ([result_cell(evil_result())], {}, ["#panic"]),
    "authors and language": (
        [markdown("words")],
        {"authors": [{"name": EVIL}, 3, EVIL], "language": '"); #panic("'},
        ["words"],
    ),
    "links": (
        [markdown('[a](javascript:alert(1)) [b](<https://x.example/") #panic("> "t") [c](file:///etc/passwd) '
                  "[d](#nowhere) [e](data:text/html,x) <javascript:alert(1)>")],
        {},
        ["a", "d"],
    ),
    "picture addresses": (
        [markdown("![local words](/etc/passwd) ![remote words](https://evil.example/x.png) ![up words](../x.png)"),
         code(display({"text/html": '<img src="https://evil.example/t.gif" alt="tracking words">'}))],
        {},
        ["local words", "remote words", "up words", "tracking words"],
    ),
    "attachment names": (
        [markdown("![attached words](attachment:../../etc/passwd)")],
        {},
        ["attached words"],
    ),
    "maths": (
        [markdown(r'$\text{#panic("1")}$ $\std.read("main.typ")$ $\read("main.typ")$ $ " $ $$x$#panic("2")$ y$$ '
                  r"$\text{]; #panic}$ $\text{@nowhere}$ $\style.report$ $\frac$ $\eval(x)$")],
        {},
        ["#panic"],
    ),
    "latex output": ([code(display({"text/latex": r'$#panic("x")$'}))], {}, ["#panic"]),
    "typst output": (
        [code(display({"text/vnd.typst": '#panic("x")', "text/plain": "plain words"}))], {}, ["plain words"]),
    "controls": (
        [markdown("nul \x00 rtl \u202eevil\u202c zero\u200b\ufeff bell \x07 esc \x1b[31m end \ue000 \U000e0041")],
        {},
        ["end"],
    ),
    "html script": (
        [code(display({"text/html": '<p onclick="alert(1)">seen words<script>alert(1)</script>'
                       '<style>body{display:none}</style><iframe src="https://evil.example"></iframe>'
                       '<a href="javascript:alert(1)">link words</a><object data="x"></object>'
                       "<!-- --><![CDATA[x]]></p>"}))],
        {},
        ["seen words", "link words"],
    ),
    "raw html in markdown": (
        [markdown("<script>alert(1)</script>\n\n<div onmouseover=alert(1)>kept words</div>\n\n"
                  "inline <img src=x onerror=alert(1)> <b>bold words</b>")],
        {},
        ["kept words", "bold words"],
    ),
    "spans": (
        [code(display({"text/html": "<table><tr><td colspan=999999999 rowspan=999999999>wide words</td></tr>"
                       "<tr><td colspan=-1>x</td><td rowspan=99>y</td></tr><tr></tr></table>"}))],
        {},
        ["wide words"],
    ),
    "deep html": ([code(display({"text/html": "<div>" * 3000 + "deep words" + "</div>" * 3000}))], {}, ["deep words"]),
    "html that never ends": (
        [code(display({"text/html": "<p>first words</p>" + "<a " * 30_000})),
         code(display({"text/html": "<p>second words</p>" + "<!--" * 30_000}))],
        {},
        ["first words", "second words"],
    ),
    "deep inline html": ([code(display({"text/html": "<b>" * 3000 + "deep words"}))], {}, ["deep words"]),
    "deep tables": (
        [code(display({"text/html": "<table><tr><td>" * 300 + "deep words"}))], {}, ["deep words"]),
    "deep markdown": (
        [markdown("> " * 500 + "deep words"), markdown("- " * 300 + "list words"), markdown("[" * 3000),
         markdown("*" * 3000 + "star"), markdown("end words")],
        {},
        ["end words"],
    ),
    "footnote to itself": ([markdown("a[^1]\n\n[^1]: note words[^1]")], {}, ["note words"]),
    "svg": ([code(display({"image/svg+xml": SVG_EVIL}, {"alt": "drawn words"}))], {}, ["drawn words"]),
    "svg entity bomb": ([code(display({"image/svg+xml": BOMB, "text/plain": "plain words"}))], {}, ["plain words"]),
    "svg use bomb": ([code(display({"image/svg+xml": USE_BOMB, "text/plain": "plain words"}))], {}, ["plain words"]),
    "pixel bomb": ([code(display({"image/png": HUGE_PNG, "text/plain": "plain words"}))], {}, ["plain words"]),
    "not a picture": (
        [code(display({"image/png": "@@@", "image/jpeg": PNG_TEXT, "text/plain": "plain words"}))],
        {},
        ["plain words"],
    ),
    "widgets": (
        [code(display({"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "x"}))],
        {"widgets": {"application/vnd.jupyter.widget-state+json": {"version_major": 2, "version_minor": 0, "state": {
            "a": {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_a", "IPY_MODEL_b", 4, "x"]}},
            "b": {"model_name": "TextModel", "state": {"description": EVIL, "value": EVIL}}}}}},
        ["#panic"],
    ),
    "metadata of the wrong kind": (
        [code(display({"text/plain": "words"}), alt=5, caption=["x"])],
        {"papermill": "yes", "leakpro": 7, "widgets": [1]},
        ["words"],
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def hostile(request):
    cells, metadata, words = CASES[request.param]
    nb = notebook(*cells, audit=False)
    nb.metadata.update(metadata)
    return nb, words


def test_pdf_is_made_and_says_the_words(pdf, hostile):
    nb, words = hostile
    made = pdf(nb)
    assert made.facts["standards"] == ["a-3a", "ua-1"]
    for word in words:
        assert (
            word in made.text
            or any(word in alt for alt in alts(made))
            or word.replace(" ", "") in "".join(made.text.split())
        )
    assert "root:" not in made.text
    uris = [uri for page in made.reader.pages for uri in links(page)]
    assert all(uri.startswith(("https://", "http://", "mailto:")) for uri in uris)


def alts(made):
    return re.findall(r"[ -~]+", " ".join(str(o.get_object().get("/Alt", "")) for o in elements(made)))


def elements(made):
    for number in range(1, made.reader.trailer["/Size"]):
        try:
            found = made.reader.get_object(number)
        except Exception:
            continue
        if hasattr(found, "get") and found.get("/Type") == "/StructElem":
            yield found


def links(page):
    for annotation in page.get("/Annots") or []:
        action = annotation.get_object().get("/A")
        if action and "/URI" in action:
            yield str(action["/URI"])


def test_html_is_inert_and_fetches_nothing(page, hostile):
    nb, words = hostile
    html = page(nb)
    check_inert(html)
    text = " ".join(BeautifulSoup(html, "html.parser").get_text().split())
    for word in words:
        assert word in text or word in html
