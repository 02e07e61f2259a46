"""Rules of the house: what importing costs, which way data flows, what stands in the repository."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import leakpro_nb

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "leakpro_nb"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_loads_no_heavy_library():
    loaded = python("import sys, leakpro_nb; print(' '.join(sys.modules))").split()
    assert not {"torch", "matplotlib", "sdmetrics", "pandas", "sklearn", "numpy", "papermill"} & set(loaded)


def test_import_takes_under_half_a_second():
    """CPU time, so that a busy machine does not decide; two orders of magnitude below the bound when written."""
    seconds = "import time; t = time.process_time(); import leakpro_nb; print(time.process_time() - t)"
    assert min(float(python(seconds)) for _ in range(3)) < 0.5


def test_every_public_name_loads():
    for name in leakpro_nb.__all__:
        assert getattr(leakpro_nb, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = leakpro_nb.nothing


def test_floors():
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_reads_a_users_file_with_code_in_it():
    """Pickles run code: none is read here, nor loaded through libraries that would."""
    forbidden = re.compile(
        r"\bpickle\.loads?\b|import pickle|joblib\.load|allow_pickle=True|read_pickle|weights_only=False|torch\.load\("
    )
    for source in SOURCES:
        assert not forbidden.search(source.read_text(encoding="utf-8")), source


def test_templates_are_stored_without_outputs():
    templates = sorted((ROOT / "templates").glob("*.ipynb"))
    assert templates
    for path in templates:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == []
                assert cell["execution_count"] is None
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"


HEADINGS = [
    "In one minute", "The question", "Who attacks", "The target", "The attack", "What the attacker got",
    "Who is exposed", "How sure we are", "What it means", "What to do", "How to repeat this",
]  # fmt: skip


def test_templates_tell_the_same_story():
    for path in sorted((ROOT / "templates").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        text = "\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
        found = [line[3:] for line in text.splitlines() if line.startswith("## ")]
        assert [each for each in found if each in HEADINGS] == HEADINGS, path.name


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "templates").glob("*.ipynb")))
def test_template_defaults_are_those_of_the_audit(name):
    import importlib
    import inspect

    from leakpro_nb.notebooks import find

    signature = inspect.signature(importlib.import_module(f"leakpro_nb.audits.{name}").prepare).parameters
    for parameter in find(name).parameters:
        wanted = signature[parameter.name].default
        if parameter.name == "target":
            continue
        written = {"attack_options": {}}.get(parameter.name, list(wanted) if isinstance(wanted, tuple) else wanted)
        assert parameter.default == written, parameter.name
    assert {p.name for p in find(name).parameters} == set(signature)


def test_words_that_no_report_may_use():
    """A report that calls data anonymous or safe claims what no audit can show."""
    claim = re.compile(r"\bis (anonymous|safe|compliant)\b", re.IGNORECASE)
    for path in [
        *sorted((PACKAGE / "story").glob("*.py")),
        PACKAGE / "risk" / "verdict.py",
        *sorted((ROOT / "templates").glob("*.ipynb")),
    ]:
        assert not claim.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_tools_find_nothing(command):
    tool = Path(sys.executable).with_name(command[0])
    if not tool.exists():
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
