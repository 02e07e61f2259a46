"""Toy templates: the smallest notebooks that can stand for an audit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from leakpro_nb.results import Result, TargetCard, Verdict

PARAMETERS = """\
target: str = "target.py"  # what to audit
out: str = "audit"  # where to write
num_shadows: int = 16  # number of shadow models [2..1024]
note: str = ""  # anything
"""

SAVE = """\
from pathlib import Path
from leakpro_nb.results import Result, TargetCard, Verdict
Result(
    package_version="0", template="toy", question="?", threat_model={}, attacks=[],
    target=TargetCard(name="t", kind="k", members=1, non_members=1),
    parameters={"num_shadows": num_shadows, "note": note, "target": target},
    verdict=Verdict(level="not_found", headline="Nothing found", sentence="Toys do not leak."),
).save(Path(out) / "result.json")
"""


@pytest.fixture
def save_cell() -> str:
    """The code with which a toy saves its result."""
    return SAVE


@pytest.fixture
def old_result() -> Result:
    """A finished audit of long ago."""
    return Result(
        package_version="0",
        template="toy",
        question="?",
        target=TargetCard(name="old", kind="k", members=1, non_members=1),
        threat_model={},
        parameters={},
        attacks=[],
        verdict=Verdict(level="demonstrated", headline="Old", sentence="Old."),
    )


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Path]:
    """Write a template whose attack is the given code; by default it saves its result at the end."""

    def write(attack: str = "", *, save: bool = True, name: str = "toy", parameters: str = PARAMETERS) -> Path:
        code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
        cells = [
            text("# Can a toy leak?\n\nIntroduction."),
            code(parameters, metadata={"tags": ["parameters"]}),
            text("## The question\n\nDoes a *toy* leak? It should not.\n\nMore."),
            code("import os, subprocess, sys, time"),
            text("## The attack"),
            code(attack),
            text("## How to repeat this"),
            *([code(SAVE)] if save else []),
        ]
        metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
        path = tmp_path / "templates" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
        return path

    return write
