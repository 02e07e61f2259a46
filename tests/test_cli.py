"""The command line as a user meets it: what works, and the one sentence for what does not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from click.testing import CliRunner
from sklearn.ensemble import RandomForestClassifier

from leakpro_nb.cli import main
from leakpro_nb.results import Result

GOOD = """
import numpy as np
import leakpro_nb as lp
from sklearn.ensemble import RandomForestClassifier

def target():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 4)), rng.integers(2, size=200)
    members = np.arange(200) % 2 == 0
    {spoil}
    model = RandomForestClassifier(10, random_state=0).fit(X[members], y[members])
    return lp.Target(model, lp.Records(X, y, {mask}){more})
"""


def write(folder: Path, spoil: str = "", mask: str = "members", more: str = "") -> Path:
    path = folder / "target.py"
    path.write_text(GOOD.format(spoil=spoil or "pass", mask=mask, more=more))
    return path


def run(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ({}, ["-p", "num_shadow", "4"], "num_shadow.*num_shadows"),
        ({}, ["-p", "num_shadows", "many"], "num_shadows = many.*integer"),
        ({}, ["-p", "num_shadows", "-2"], "num_shadows"),
        ({}, ["-p", "attacks", "[lyra]"], "attacks = lyra.*did you mean lira"),
        ({}, ["--template", "membrship"], "membrship.*membership"),
        ({}, ["--threat", "nowhere.yaml"], "threat = .*nowhere.yaml.*no such file"),
        ({"mask": "members[:-1]"}, [], r"records.members = shape \(199,\).*200"),
        ({"mask": "np.ones(200, bool)"}, [], "0 non-members"),
        ({"mask": "np.zeros(200, bool)"}, [], "0 members"),
        ({"more": ', sensitive=["ward"]'}, [], "target.sensitive = ward"),
        ({"spoil": "y = y.astype(str)"}, [], "records.y"),
        ({"mask": "members, population=members"}, [], "100 records are members as well"),
        ({"spoil": "raise ValueError('no data here')"}, [], "no data here"),
        ({"more": ", recipe=lp.Recipe(train=lambda records, seed: 1 / 0)"}, [], "target.recipe.*ZeroDivisionError"),
        ({"more": ", outputs='odds'"}, [], "target.outputs = odds"),
    ],
)
def test_wrong_input_is_one_sentence_exit_2_and_nothing_written(kind, arguments, words, tmp_path):
    out = tmp_path / "audit"
    done = run("audit", write(tmp_path, **kind), "--out", out, *arguments)
    assert done.exit_code == 2, done.output
    assert re.search(words, done.output), done.output
    assert len(done.output.strip().splitlines()) == 1
    assert "Traceback" not in done.output
    assert not out.exists()


def test_labels_beyond_the_models_outputs(tmp_path):
    rows = pd.DataFrame({"label": [0, 1, 2, 1] * 10, "member": [True, False] * 20, "prob_0": 0.4, "prob_1": 0.6})
    rows.to_csv(tmp_path / "predictions.csv", index=False)
    done = run("audit", tmp_path / "predictions.csv", "--out", tmp_path / "audit")
    assert done.exit_code == 2
    assert "label 2 in row 2" in done.output
    assert "0 to 1" in done.output


def test_missing_target_or_table_arguments(tmp_path):
    for arguments, words in (
        (["audit"], "give either a target.py"),
        (["audit", tmp_path / "no.py"], "no such file"),
        (["audit", "--table", tmp_path / "no.csv"], "--model = missing"),
        (["report", tmp_path / "nowhere"], "nowhere"),
        (["new", "membership", write(tmp_path)], "exists already"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert words in done.output


def test_templates_lists_questions_and_parameters(tmp_path):
    assert "Can an attacker tell" in run("templates").output
    assert "num_shadows: int = 16" in run("templates", "membership").output
    assert run("new", "membership", tmp_path / "mine.ipynb").exit_code == 0
    assert (tmp_path / "mine.ipynb").exists()


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """Audit a table and a model file without a line of code."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(300, 3)), columns=["age", "bmi", "glucose"])
    rows["readmitted"] = rng.choice(["no", "yes"], 300)
    rows["in_train"] = rng.random(300) < 0.5
    rows.to_parquet(folder / "rows.parquet")
    inside = rows[rows.in_train]
    model = RandomForestClassifier(20, random_state=0).fit(inside[["age", "bmi", "glucose"]], inside.readmitted)
    skops.io.dump(model, folder / "model.skops")
    done = run(
        "audit", "--table", folder / "rows.parquet", "--model", folder / "model.skops", "--label", "readmitted",
        "--member", "in_train", "--sensitive", "age", "--out", folder / "audit", "-p", "num_shadows", "4", "--quiet",
    )  # fmt: skip
    return folder, done


def test_audit_of_a_table_without_code(audited):
    folder, done = audited
    assert done.exit_code == 0, done.output
    out = folder / "audit"
    result = Result.load(out / "result.json")
    assert result.verdict.headline in done.output
    assert result.attack("rmia").status == "ok"
    assert {p.name for p in out.iterdir() if not p.name.startswith(".")} == {
        "cache", "membership.ipynb", "report.html", "report.pdf", "result.json", "scores.parquet", "target.py",
    }  # fmt: skip
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")


def test_report_again_and_report_of_an_unfinished_audit(audited):
    folder, _ = audited
    assert run("report", folder / "audit").exit_code == 0
    result = folder / "audit" / "result.json"
    kept = result.read_bytes()
    result.unlink()
    done = run("report", folder / "audit")
    assert done.exit_code == 1
    assert "did not finish" in done.output
    assert not (folder / "audit" / "report.pdf").exists()
    result.write_bytes(kept)
    assert run("report", folder / "audit").exit_code == 0
    assert not list((folder / "audit").glob("*INCOMPLETE*"))


def test_table_with_wrong_column_writes_nothing(audited, tmp_path):
    folder, _ = audited
    done = run(
        "audit", "--table", folder / "rows.parquet", "--model", folder / "model.skops", "--label", "readmitted",
        "--member", "trained", "--out", tmp_path / "audit",
    )  # fmt: skip
    assert done.exit_code == 2
    assert "member = trained: not a column" in done.output
    assert not (tmp_path / "audit").exists()


def test_an_attack_that_breaks_gives_exit_1_and_a_readable_unfinished_notebook(tmp_path):
    """The model answers while it is checked and fails while shadow models are trained."""
    flag = tmp_path / "flag"
    spoil = (
        f"from pathlib import Path; flag = Path({str(flag)!r})\n"
        "    class Frail(RandomForestClassifier):\n"
        "        def fit(self, X, y):\n"
        "            if len(X) == 100 and flag.exists(): raise MemoryError('out of memory')\n"
        "            return super().fit(X, y)"
    )
    path = write(tmp_path, spoil=spoil, more="")
    text = path.read_text().replace("RandomForestClassifier(10,", "Frail(10,")
    path.write_text(text.replace("    return lp.Target", "    flag.touch()\n    return lp.Target"))
    done = run("audit", path, "--out", tmp_path / "audit", "-p", "workers", "1", "-p", "num_shadows", "2", "--quiet")
    flag.unlink(missing_ok=True)
    assert done.exit_code in (1, 2), done.output
    assert "out of memory" in done.output
    assert not (tmp_path / "audit" / "report.pdf").exists()
    assert not (tmp_path / "audit" / "result.json").exists()


def test_jupyter_finds_the_verbs():
    assert Path(sys.executable).with_name("jupyter-leakpro").exists()


def test_files_that_no_audit_wrote_are_never_touched(tmp_path):
    write(tmp_path)
    for name in ("report.md", "notes.txt"):
        (tmp_path / name).write_text("mine")
    assert run("new", "membership", tmp_path / "membership.ipynb").exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    done = run("audit", tmp_path / "target.py", "--out", tmp_path, "-p", "num_shadows", "0", "--quiet")
    assert done.exit_code == 2
    assert "membership.ipynb, which no audit wrote" in done.output
    (tmp_path / "membership.ipynb").unlink()
    (tmp_path / "report.pdf").write_bytes(b"mine")
    done = run("audit", tmp_path / "target.py", "--out", tmp_path, "-p", "num_shadows", "0", "--quiet")
    assert done.exit_code == 2
    assert "report.pdf, which no audit wrote" in done.output
    assert all((tmp_path / name).read_bytes() == before[name] for name in ("report.md", "notes.txt", "target.py"))


def test_a_target_file_of_ones_own_survives_an_audit_of_a_table(audited, tmp_path):
    folder, _ = audited
    mine = write(tmp_path)
    before = mine.read_bytes()
    done = run(
        "audit", "--table", folder / "rows.parquet", "--model", folder / "model.skops", "--label", "readmitted",
        "--member", "in_train", "--out", tmp_path,
    )  # fmt: skip
    assert done.exit_code == 2
    assert "exists and says something else" in done.output
    assert mine.read_bytes() == before


@pytest.mark.parametrize("name", ["timeout", "target", "report", "out"])
def test_what_has_an_option_of_its_own_is_not_a_parameter(name, tmp_path):
    for command in (["audit", write(tmp_path)], ["demo"]):
        done = run(*command, "--out", tmp_path / "audit", "-p", name, "5")
        assert done.exit_code == 2
        assert "is not given with -p" in done.output
    assert not (tmp_path / "audit").exists()
