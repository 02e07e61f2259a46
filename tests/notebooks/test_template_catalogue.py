from __future__ import annotations

from pathlib import Path

import pytest

from leakpro_nb.errors import InputError
from leakpro_nb.notebooks import catalogue
from leakpro_nb.notebooks.catalogue import find, section, templates
from leakpro_nb.notebooks.parameters import check


@pytest.fixture
def elsewhere(monkeypatch, toy):
    """Only toys are installed."""
    folder = toy().parent
    monkeypatch.setattr(catalogue, "_folders", lambda: [folder])
    return folder


def test_what_a_template_says_of_itself(elsewhere):
    template = find("toy")
    assert template.title == "Can a toy leak?"
    assert template.question == "Does a toy leak?"
    assert [parameter.name for parameter in template.parameters] == ["target", "out", "num_shadows", "note"]


@pytest.mark.parametrize("gap", ["\n", "\n\n\n"])
def test_question_may_follow_its_heading_at_once(elsewhere, gap):
    template = find("toy")
    template.notebook.cells[2].source = f"## The question{gap}Who?\nMore."
    assert template.question == "Who?"


def test_metadata_goes_before_text(elsewhere):
    template = find("toy")
    template.notebook.metadata["title"] = "Declared"
    template.notebook.metadata["leakpro"] = {"question": "Declared?"}
    assert (template.title, template.question) == ("Declared", "Declared?")


def test_section_is_the_last_heading_above_the_cell(elsewhere):
    cells = find("toy").notebook.cells
    cells[4].source = "## The attack\n```python\n# a comment, no heading\n```"
    assert [section(cells, index) for index in (1, 3, 5)] == ["Can a toy leak?", "The question", "The attack"]


def test_a_path_needs_no_installation(toy, monkeypatch):
    path = toy(name="mine")
    monkeypatch.chdir(path.parent)
    assert find("mine.ipynb").path == find(path).path == path


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("tyo", "did you mean toy"), ("zzz", "name one of: toy"), ("no/such.ipynb", "no such file")],
)
def test_unknown_template(elsewhere, name, remedy):
    with pytest.raises(InputError, match=remedy):
        find(name)


def test_a_notebook_that_is_none(tmp_path):
    path = tmp_path / "bad.ipynb"
    path.write_text("not json")
    with pytest.raises(InputError, match="not a readable notebook"):
        _ = find(path).parameters


def test_an_installed_package_looks_in_jupyter_data_folders(monkeypatch, tmp_path, toy):
    shared = tmp_path / "share" / "notebook_templates" / "leakpro"
    shared.mkdir(parents=True)
    toy(name="shared").rename(shared / "shared.ipynb")
    installed = tmp_path / "site-packages" / "leakpro_nb" / "notebooks" / "catalogue.py"
    (tmp_path / "site-packages" / "templates").mkdir(parents=True)
    monkeypatch.setattr(catalogue, "__file__", str(installed))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    assert templates()["shared"].path == shared / "shared.ipynb"


@pytest.mark.parametrize("template", templates().values(), ids=lambda template: template.name)
def test_shipped_templates_accept_their_own_defaults(template):
    defaults = {parameter.name: parameter.default for parameter in template.parameters}
    assert check(template, defaults) == defaults
    assert {"target", "out"} <= set(defaults)
    cell = next(c.source for c in template.notebook.cells if "parameters" in c.metadata.get("tags", []))
    in_a_kernel: dict[str, object] = {}
    exec(compile(cell, template.name, "exec", dont_inherit=True), in_a_kernel)
    assert defaults.items() <= in_a_kernel.items()
    assert template.title
    assert template.question
    assert Path(template.path).is_file()
