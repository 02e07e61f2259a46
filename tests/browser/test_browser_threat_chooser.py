"""The chooser and the shipped template, as a user meets them in JupyterLab."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest

from leakpro_nb.attacks import available
from leakpro_nb.game.threat import ACCESS_IN_WORDS, KNOWLEDGE_IN_WORDS, ThreatModel

pytestmark = pytest.mark.browser

TEMPLATE = Path(__file__).parents[2] / "templates" / "membership.ipynb"
NOTICE = "Choices changed: run the notebook from here on."

CHOOSE = """\
from leakpro_nb import widgets

chooser = widgets.choose_threat()
chooser"""
READ = """\
threat = chooser.threat
print(threat.access, threat.prior, *threat.knowledge)"""

TARGET = """\
import numpy as np
from sklearn.ensemble import RandomForestClassifier

import leakpro_nb as lp


def target():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 2, 60)
    members = np.arange(60) < 30
    model = RandomForestClassifier(n_estimators=10, random_state=0).fit(X[members], y[members])
    return lp.Target(model=model, records=lp.Records(X, y, members=members), name="Tiny forest")
"""


def screenshot(page, name: str) -> None:
    """Keep a picture for whoever wants to look: only where LEAKPRO_SCREENSHOTS names a folder."""
    folder = os.environ.get("LEAKPRO_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.fixture
def chooser_notebook(open_notebook):
    cells = [nbformat.v4.new_code_cell(CHOOSE), nbformat.v4.new_code_cell(READ)]
    notebook = open_notebook(nbformat.v4.new_notebook(cells=cells), "chooser.ipynb")
    notebook.command("notebook:run-all-cells")
    notebook.page.get_by_role("group", name="What does the attacker see?").wait_for()
    notebook.wait("() => document.body.textContent.includes('scores 0.5 labels candidates population recipe')")
    return notebook


def reasons_against(threat: ThreatModel) -> list[str]:
    """Every reason why an attack is out, once."""
    reasons = [threat.refusal(make()) for make in available().values()]
    return [reason for reason in dict.fromkeys(reasons) if reason]


def run_from(notebook, index: int, until: str) -> None:
    notebook.select(index)
    notebook.command("notebook:run-all-below")
    notebook.wait("words => document.querySelectorAll('.jp-Cell')[1].textContent.includes(words)", until)


def test_click_changes_attacks_and_the_next_cell(chooser_notebook):
    from playwright.sync_api import expect

    page = chooser_notebook.page
    notice = page.get_by_role("status").filter(has_text=NOTICE)
    reach = page.get_by_text("Attacks out of their reach")
    expect(page.get_by_label(ACCESS_IN_WORDS["scores"])).to_be_checked()
    expect(notice).to_have_count(0)
    expect(reach).to_be_visible()
    expect(page.locator(".leakpro-threat-chooser .reason")).to_have_text(reasons_against(ThreatModel()))
    screenshot(page, "light")

    page.get_by_label(ACCESS_IN_WORDS["labels"]).check()
    expect(notice).to_be_visible()
    expect(reach).to_be_visible()
    expect(page.locator(".leakpro-threat-chooser .reason")).to_have_text(reasons_against(ThreatModel(access="labels")))
    # a click runs nothing
    assert chooser_notebook.text(1).startswith("scores")
    screenshot(page, "light-changed")

    # from the cell of the chooser, which a click selects: its choices must outlive its running again
    run_from(chooser_notebook, 0, "labels 0.5")
    expect(page.get_by_label(ACCESS_IN_WORDS["labels"])).to_be_checked()
    expect(notice).to_have_count(0)

    # a number that makes no sense is refused in words, and what stood stands
    prior = page.get_by_label("with probability")
    prior.fill("150")
    prior.press("Tab")
    expect(page.get_by_role("alert").filter(has_text="150 % is not possible")).to_be_visible()
    expect(prior).to_have_value("50")
    screenshot(page, "light-refused")
    if "LEAKPRO_SCREENSHOTS" in os.environ:
        for theme in ("JupyterLab Dark", "JupyterLab Dark High Contrast", "JupyterLab Light"):
            chooser_notebook.command("apputils:change-theme", theme=theme)
            page.wait_for_timeout(2000)
            screenshot(page, theme.replace(" ", "-"))


def test_keyboard_alone_is_enough(chooser_notebook):
    from playwright.sync_api import expect

    page = chooser_notebook.page
    chooser_notebook.select(0)
    page.get_by_label(ACCESS_IN_WORDS["scores"]).focus()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label(ACCESS_IN_WORDS["labels"])).to_be_checked()
    page.keyboard.press("Tab")
    expect(page.get_by_label(KNOWLEDGE_IN_WORDS["labels"])).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_label(KNOWLEDGE_IN_WORDS["candidates"])).not_to_be_checked()
    for _ in list(KNOWLEDGE_IN_WORDS)[1:]:  # past the boxes that follow, to the number
        page.keyboard.press("Tab")
    expect(page.get_by_label("with probability")).to_be_focused()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("12.5")
    screenshot(page, "focus")
    page.keyboard.press("Tab")
    expect(page.get_by_role("status").filter(has_text=NOTICE)).to_be_visible()
    run_from(chooser_notebook, 1, "labels 0.125 labels population recipe")


def test_shipped_template_runs_to_its_verdict(lab, open_notebook):
    from playwright.sync_api import expect

    (lab.folder / "target.py").write_text(TARGET)
    template = nbformat.read(TEMPLATE, as_version=4)
    parameters = next(cell for cell in template.cells if "parameters" in cell.metadata.get("tags", []))
    for old, new in [
        ("num_shadows: int = 16", "num_shadows: int = 2"),
        ("workers: int | None = None", "workers: int = 1"),
    ]:
        assert old in parameters.source
        parameters.source = parameters.source.replace(old, new)
    notebook = open_notebook(template, "membership.ipynb")
    notebook.command("notebook:run-all-cells")
    notebook.wait(
        "() => { const { content, sessionContext } = window.jupyterapp.shell.currentWidget;"
        " const cells = [...content.model.cells].filter(cell => cell.type === 'code');"
        " return cells.every(cell => cell.executionCount) && sessionContext.session.kernel.status === 'idle' }"
    )
    problems = [o for outputs in notebook.outputs() for o in outputs if o["output_type"] == "error"]
    assert not problems, problems[0]["ename"] + problems[0]["evalue"]
    page = notebook.page
    expect(page.get_by_label(ACCESS_IN_WORDS["scores"])).to_be_checked()
    page.get_by_role("heading", name="In one minute").scroll_into_view_if_needed()
    verdict = notebook.outputs()[1][0]["data"]["text/markdown"]
    assert "has not finished" not in "".join(verdict)
    expect(page.get_by_text("Validity:")).to_be_visible()
    screenshot(page, "template-top")
    page.get_by_role("heading", name="Who attacks").scroll_into_view_if_needed()
    screenshot(page, "template-chooser")
