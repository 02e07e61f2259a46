from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from leakpro_nb.errors import InputError
from leakpro_nb.notebooks.catalogue import Template, templates
from leakpro_nb.notebooks.parameters import check, parse

CELL = '''\
"""What can be set."""
from typing import Literal
target: str = "target.py"  # what to audit
num_shadows: int = 16  # number of shadow models [2..1024]
alpha: float = 0.01  # level of the test [0..1]
attacks: list[str] = ["lira"]  # which attacks
fprs: list[float] = [
    0.1, 0.01,
]  # false-positive rates [0..1]
limit: int | None = None  # at most so many records [1..]
threat: str | None = None  # a YAML file
verbose: bool = False
mode: Literal["auto", "none", "all"] = "auto"
kinds: list[Literal["a", "b"]] = ["a"]
options: dict = {}
url: "str" = "http://x # y"  # with a # in it
seed = 1  # no annotation
day: str = ""
'''


@pytest.fixture
def template(toy):
    return Template("toy", toy(parameters=CELL))


def test_cell_is_read_and_not_run(template):
    by_name = {parameter.name: parameter for parameter in template.parameters}
    shadows = by_name["num_shadows"]
    assert (shadows.annotation, shadows.default, shadows.help) == ("int", 16, "number of shadow models")
    assert (shadows.low, shadows.high) == (2, 1024)
    assert (by_name["limit"].low, by_name["limit"].high) == (1, None)
    assert (by_name["fprs"].default, by_name["fprs"].help) == ([0.1, 0.01], "false-positive rates")
    assert (by_name["url"].default, by_name["url"].help) == ("http://x # y", "with a # in it")
    assert (by_name["seed"].annotation, by_name["url"].annotation) == ("int", "str")
    assert by_name["mode"].choices == ["auto", "none", "all"]


@pytest.mark.parametrize(
    "cell",
    [
        "x: int = __import__('os').getpid()",
        "x = dict(a=1)",
        "x: Callable = None",
        "x: __import__('os') = 1",
        "import os",
        "x, y = 1, 2",
        "x: int",
        "x =",
    ],
)
def test_cells_that_hold_more_than_literals(cell):
    with pytest.raises(InputError, match="write its parameters as"):
        parse(cell)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("num_shadows", "16", 16),
        ("num_shadows", np.int64(8), 8),
        ("num_shadows", 2, 2),
        ("alpha", "1e-3", 0.001),
        ("alpha", 0, 0.0),
        ("alpha", np.float32(0.5), 0.5),
        ("attacks", "[lira, rmia]", ["lira", "rmia"]),
        ("attacks", "lira, rmia", ["lira", "rmia"]),
        ("attacks", "lira", ["lira"]),
        ("attacks", ("b", "a"), ["b", "a"]),
        ("attacks", {"b", "a"}, ["a", "b"]),
        ("fprs", "0.1,1e-3", [0.1, 0.001]),
        ("fprs", np.array([0.5, 1]), [0.5, 1.0]),
        ("limit", "null", None),
        ("limit", "None", None),
        ("limit", None, None),
        ("limit", "7", 7),
        ("threat", "null", None),
        ("threat", Path("a/b.yaml"), "a/b.yaml"),
        ("threat", "16", "16"),
        ("verbose", "true", True),
        ("verbose", "no", False),
        ("mode", "none", "none"),
        ("kinds", "a,b", ["a", "b"]),
        ("options", "{a: 1, b: [x]}", {"a": 1, "b": ["x"]}),
        ("day", date(2026, 5, 4), "2026-05-04"),
        ("target", "\"'{}\\ \n__import__('os')", "\"'{}\\ \n__import__('os')"),
    ],
)
def test_accepted(template, name, given, expected):
    accepted = check(template, {name: given})[name]
    assert accepted == expected
    assert type(accepted) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "remedy"),
    [
        ("num_shadows", "abc", "expects an integer between 2 and 1024; for example num_shadows=16"),
        ("num_shadows", True, "expects an integer"),
        ("num_shadows", 16.5, "expects an integer"),
        ("num_shadows", "1:30", "expects an integer"),
        ("num_shadows", 1, "between 2 and 1024"),
        ("num_shadows", None, "expects an integer"),
        ("alpha", True, "expects a number"),
        ("alpha", "nan", "expects a number"),
        ("alpha", float("inf"), "expects a number"),
        ("alpha", "1.5", "between 0 and 1"),
        ("fprs", [0.1, 2], "between 0 and 1"),
        ("attacks", [1], "expects a list, each text; for example attacks=lira"),
        ("attacks", "[lira", "expects a list"),
        ("limit", "0", "of at least 1, or null"),
        ("verbose", "perhaps", "expects true or false"),
        ("verbose", 1, "expects true or false"),
        ("mode", "al", "expects one of auto, none, all"),
        ("kinds", "a,c", "each one of a, b"),
        ("options", {1: 2}, "expects a mapping"),
        ("options", {"a": object()}, "expects a mapping"),
        ("options", "{a", "expects a mapping"),
        ("target", 5, "expects text"),
        ("target", b"x", "expects text"),
        ("num_shadow", 3, "did you mean num_shadows"),
        ("zzz", 3, "toy takes: target, num_shadows"),
        ("x=1;import os;os.abort()#", 3, "is not a name"),
        ("num_shadows\n", 3, "is not a name"),
        ("größe", 3, "is not a name"),
    ],
)
def test_refused(template, name, given, remedy):
    with pytest.raises(InputError, match=remedy):
        check(template, {name: given})


def test_the_help_of_a_wrapped_line_is_found_between_its_brackets():
    (parameter,) = parse("size: int | None = (\n    16  # how many, at most [4..4096]\n)\n")
    assert (parameter.default, parameter.help, parameter.low, parameter.high) == (16, "how many, at most", 4, 4096)


def test_every_parameter_of_every_template_says_what_it_is_for():
    for template in templates().values():
        silent = [each.name for each in template.parameters if not each.help]
        assert not silent, (template.name, silent)
