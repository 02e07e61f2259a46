from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("anywidget")

import nbformat
import traitlets

from leakpro_nb.attacks import available, title_of
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import ACCESS_IN_WORDS, KNOWLEDGE_IN_WORDS, RELEASE_IN_WORDS, ThreatModel
from leakpro_nb.widgets import ThreatChooser, choose_threat
from leakpro_nb.widgets import threat_chooser as module
from leakpro_nb.widgets.threat_chooser import CHANGED

CHOICES = {"release", "access", "knowledge", "prior"}


@pytest.fixture
def chooser():
    return choose_threat()


def browser_sends(chooser, **state):
    chooser.set_state(state)


def test_importing_costs_nothing_heavy():
    code = "import sys; from leakpro_nb import widgets; print(*sys.modules); widgets.ThreatChooser; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = (set(line.split()) for line in done.stdout.splitlines())
    assert not {"torch", "matplotlib", "anywidget"} & before
    assert not {"torch", "matplotlib", "sklearn"} & after


def test_unknown_names_are_no_widgets():
    import leakpro_nb.widgets

    assert dir(leakpro_nb.widgets) == ["ThreatChooser", "choose_threat"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = leakpro_nb.widgets.nothing


def test_untouched_the_parameter_stands(chooser, tmp_path):
    assert chooser.threat == ThreatModel()
    given = ThreatModel(access="labels", knowledge=("recipe", "labels"), prior=0.01, note="Nurses")
    (tmp_path / "threat.yaml").write_text("access: labels\nknowledge: [recipe, labels]\nprior: 0.01\nnote: Nurses\n")
    for source in (given, given.model_dump(), tmp_path / "threat.yaml"):
        read = choose_threat(source).threat
        assert read.model_dump(exclude={"knowledge"}) == given.model_dump(exclude={"knowledge"})
        assert set(read.knowledge) == set(given.knowledge)


@pytest.mark.parametrize("bad", [{"access": "telepathy"}, "no/such.yaml", {"acess": "labels"}, {"prior": 1}])
def test_a_bad_threat_model_is_refused_as_everywhere(bad):
    with pytest.raises(InputError, match="threat"):
        choose_threat(bad)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("release", "usb stick", "release = usb stick: choose one of prediction_api, open_weights"),
        ("access", "", "choose one of labels, scores, white_box"),
        ("knowledge", ["labels", "all"], "knowledge = all: choose any of labels, candidates, population, recipe"),
        ("prior", 0.0, "0 % is not possible: enter more than 0 % and less than 100 %"),
        ("prior", 1.5, "150 % is not possible"),
        ("prior", float("nan"), "not possible"),
        ("prior", "half", "expected a float"),
        ("access", None, "expected a unicode string"),
    ],
)
def test_what_a_threat_model_does_not_admit(chooser, name, value, sentence):
    before = chooser.threat
    with pytest.raises(traitlets.TraitError, match=sentence):
        setattr(chooser, name, value)
    # The browser cannot be told by an exception.
    browser_sends(chooser, **{name: value})
    assert sentence in chooser._problem
    assert chooser.threat == before
    browser_sends(chooser, access="labels")
    assert (chooser._problem, chooser.threat.access) == ("", "labels")


def test_every_value_of_a_threat_model_can_be_chosen(chooser):
    for name, values in (("release", RELEASE_IN_WORDS), ("access", ACCESS_IN_WORDS)):
        for value in values:
            setattr(chooser, name, value)
            assert getattr(chooser.threat, name) == value
    chooser.knowledge = []
    assert chooser.threat.knowledge == ()
    chooser.knowledge = ["recipe", "labels", "recipe"]
    assert chooser.threat.knowledge == ("labels", "recipe")
    chooser.prior = 0.001
    assert chooser.threat.prior == 0.001


def test_labels_are_those_of_the_threat_model(chooser):
    groups = {group["name"]: group for group in chooser._form}
    for name, words in (("release", RELEASE_IN_WORDS), ("access", ACCESS_IN_WORDS), ("knowledge", KNOWLEDGE_IN_WORDS)):
        assert dict(groups[name]["options"]) == words
    questions = [question for question, _ in ThreatModel().in_words()]
    assert [questions.index(group["question"]) for group in chooser._form] == [0, 1, 2, 4]
    ((_, label),) = groups["prior"]["options"]
    assert label.endswith("with probability")


@pytest.mark.parametrize("access", ACCESS_IN_WORDS)
@pytest.mark.parametrize("knowledge", [[], ["labels"], ["labels", "recipe"], list(KNOWLEDGE_IN_WORDS)])
def test_attacks_are_admitted_as_the_threat_model_says(chooser, access, knowledge):
    browser_sends(chooser, access=access, knowledge=knowledge)
    threat = ThreatModel(access=access, knowledge=tuple(knowledge))
    every = [make() for make in available().values()]
    assert chooser.attacks == [(title_of(attack), threat.refusal(attack)) for attack in every]
    assert len(chooser.attacks) == len(available())


def test_yaml_comes_back_as_the_same_threat_model(chooser, tmp_path):
    chooser.access, chooser.knowledge, chooser.prior = "white_box", ["labels"], 0.07
    path = chooser.save(tmp_path / "threat.yaml")
    assert path.read_text(encoding="utf-8") == chooser.yaml()
    assert ThreatModel.load(path) == chooser.threat
    noted = choose_threat({"note": "Krankenhäuser: alle"})
    noted.save(path)
    assert "Krankenhäuser" in path.read_text(encoding="utf-8")
    assert ThreatModel.load(path) == noted.threat


def test_a_notice_stands_while_the_notebook_lags_behind(chooser):
    assert chooser._notice == ""
    browser_sends(chooser, access="labels")
    assert chooser._notice == CHANGED
    chooser.yaml()
    assert chooser._notice == CHANGED, "only reading .threat brings the notebook up to date"
    browser_sends(chooser, access="scores")
    assert chooser._notice == "", "taken back"
    browser_sends(chooser, knowledge=["recipe", "labels", "population"])
    assert chooser._notice == CHANGED
    assert chooser.threat.knowledge == ("labels", "population", "recipe")
    assert chooser._notice == ""
    browser_sends(chooser, prior=0)
    assert chooser._notice == "", "a refused value is no change"


def test_without_a_browser_it_says_what_was_chosen():
    chooser = choose_threat({"access": "labels", "knowledge": [], "prior": 0.005, "note": "<b>&"})
    data, _ = chooser._repr_mimebundle_()
    expected = "Threat model: release prediction_api; access labels; knowledge nothing; prior 0.5 %"
    assert data["text/plain"] == repr(chooser) == expected
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == chooser.model_id
    table = data["text/html"]
    assert ACCESS_IN_WORDS["labels"] in table
    assert "&lt;b&gt;&amp;" in table
    assert "<script" not in table
    full = ThreatChooser()
    assert full._table().count("<tr>") == len(ThreatModel().in_words()) + 2  # within reach, and out of it
    assert all(title in full._table() for title, _ in full.attacks)


def test_what_is_saved_is_small_and_holds_choices_alone(chooser):
    state = chooser.get_state()
    own = {name for name in state if name in ThreatChooser.class_own_traits()}
    assert own == CHOICES | {"attacks", "_form", "_notice", "_problem"}
    words = {name: state[name] for name in own}
    chooser.knowledge = []
    assert len(json.dumps(words)) < 8_000
    assert len(json.dumps(chooser.get_state())) < 24_000


class Shell:
    """Stands for the kernel's shell, which knows the cell that is running."""

    def __init__(self):
        self.execution_count, self.cell = 1, "one"

    def run(self, cell):
        self.cell, self.execution_count = cell, self.execution_count + 1

    def get_parent(self):
        return {"metadata": {"cellId": self.cell}}


@pytest.fixture
def shell(monkeypatch):
    shell = Shell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr(module, "_MADE", {})
    return shell


def test_choices_outlive_the_cell_run_again(shell):
    chooser = choose_threat()
    browser_sends(chooser, access="labels")
    shell.run("one")
    assert choose_threat() is chooser
    assert chooser._notice == CHANGED
    shell.run("two")
    assert choose_threat().access == "scores", "another cell has its own"
    shell.run("one")
    assert choose_threat({"prior": 0.1}).access == "scores", "the parameter has changed, and goes before a click"


def test_two_choosers_in_one_cell_are_two(shell):
    first, second = choose_threat(), choose_threat()
    assert first is not second


def test_a_closed_chooser_is_not_shown_again(shell):
    chooser = choose_threat()
    chooser.close()
    shell.run("one")
    assert choose_threat() is not chooser


def test_outside_a_notebook_every_chooser_is_new():
    assert choose_threat() is not choose_threat()


def test_executed_notebook_without_a_browser(tmp_path):
    from nbclient import NotebookClient

    cells = [
        nbformat.v4.new_code_cell("from leakpro_nb import widgets\nc = widgets.choose_threat({'access': 'labels'})\nc"),
        nbformat.v4.new_code_cell("print(c.threat.access)"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, kernel_name="python3", timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    output = notebook.cells[0].outputs[0].data
    assert output["text/plain"].startswith("Threat model: release prediction_api; access labels")
    assert ACCESS_IN_WORDS["labels"] in output["text/html"]
    assert notebook.cells[1].outputs[0].text == "labels\n"
    state = json.dumps(notebook.metadata.widgets)
    assert len(state) < 30_000
