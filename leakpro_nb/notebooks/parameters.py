"""A template's parameters: what they are, and whether what a user gave fits them.

A template declares one parameter a line, ``name: type = default  # help [low..high]``.
Everything is read from the syntax tree; nothing in a notebook is run to learn what it takes.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from functools import cached_property
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Optional, Union, get_args, get_origin

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from leakpro_nb.errors import InputError

if TYPE_CHECKING:
    from leakpro_nb.notebooks.catalogue import Template

__all__ = ["Parameter", "check", "parse"]

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_RANGE = re.compile(rf"\s*\[({_NUMBER})?\.\.({_NUMBER})?\]", re.IGNORECASE)
_NOTHING = ("none", "null")
_TYPES: dict[str, Any] = {
    "Any": Any,
    "None": type(None),
    "bool": bool,
    "dict": dict[str, Any],
    "float": float,
    "int": int,
    "list": list[Any],
    "str": str,
}
_WORDS = {bool: "true or false", float: "a number", int: "an integer", str: "text", dict: "a mapping"}
_EXAMPLES = {bool: "true", float: "0.5", int: "16", str: "text", dict: "'{key: value}'", list: "'[a, b]'"}


@dataclass(frozen=True)
class Parameter:
    """One thing that a template lets its user set.

    Parameters
    ----------
    name, annotation, default, help
        As written in the template's parameters cell.
    low, high
        Inclusive bounds, from ``[low..high]`` in the help; ``None`` is unbounded.
    """

    name: str
    annotation: str
    default: Any
    help: str = ""
    low: float | None = None
    high: float | None = None

    @cached_property
    def type(self) -> Any:
        """The Python type that the annotation stands for."""
        return _resolve(ast.parse(self.annotation, mode="eval").body)

    @property
    def choices(self) -> list[Any]:
        """The values it takes, where only certain ones are allowed."""
        return [choice for kind in _members(self.type) for choice in _literals(kind)]

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        kinds = _members(self.type)
        words = " or ".join(_words(kind) for kind in kinds if kind is not type(None))
        nothing = ", or null" if type(None) in kinds else ""
        bounds = {
            (False, False): f" between {_number(self.low)} and {_number(self.high)}",
            (False, True): f" of at least {_number(self.low)}",
            (True, False): f" of at most {_number(self.high)}",
            (True, True): "",
        }
        return words + bounds[self.low is None, self.high is None] + nothing

    def check(self, value: Any) -> Any:
        """Return ``value`` as the template will get it.

        Raises
        ------
        InputError
            It is of another type, out of range, or cannot be written into a notebook.
        """
        try:
            fitted = self._fit(_plain(value))
            json.dumps(fitted, allow_nan=False)
        except (ValidationError, ValueError, TypeError, yaml.YAMLError) as error:
            raise self._refusal(value) from error
        numbers = fitted if isinstance(fitted, list) else [fitted]
        if not all(self._within(number) for number in numbers):
            raise self._refusal(value)
        return fitted

    def _fit(self, value: Any) -> Any:
        adapter = TypeAdapter(self.type)
        if not isinstance(value, str):
            return adapter.validate_python(value, strict=True)
        members = _members(self.type)
        if type(None) in members and value.lower() in _NOTHING and value not in self.choices:
            return None
        try:
            return adapter.validate_python(value, strict=True)
        except ValidationError:
            return adapter.validate_python(_from_text(value, members))

    def _within(self, number: Any) -> bool:
        if isinstance(number, bool) or not isinstance(number, int | float):
            return True
        return (self.low is None or number >= self.low) and (self.high is None or number <= self.high)

    def _refusal(self, value: Any) -> InputError:
        kind = next((get_origin(k) or k for k in _members(self.type) if k is not type(None)), str)
        example = self.choices[0] if self.choices else _EXAMPLES.get(kind, "null")
        if self.default not in (None, "", [], {}):
            example = _written(self.default)
        return InputError(self.name, value, f"expects {self.expected}; for example {self.name}={example}")


def parse(source: str, template: str = "template") -> list[Parameter]:
    """Read the parameters out of a parameters cell, without running it.

    Raises
    ------
    InputError
        The cell is not a list of plain assignments of literal values.
    """
    try:
        statements = ast.parse(source).body
        comments = _comments(source)
        return [
            _parameter(statement, _comment_of(statement, comments))
            for statement in statements
            if not _is_aside(statement)
        ]
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        remedy = f"write its parameters as `name: type = literal  # help`, one a line ({error})"
        raise InputError("template", template, remedy) from error


def check(template: Template, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given parameters as the template will get them.

    Names and types are looked at, and strings, as a command line gives them, are converted.

    Raises
    ------
    InputError
        A name is unknown, or a value does not fit.
    """
    known = {parameter.name: parameter for parameter in template.parameters}
    return {name: _known(name, known, template.name).check(value) for name, value in given.items()}


def _known(name: Any, known: Mapping[str, Parameter], template: str) -> Parameter:
    # papermill writes names into code as they come: one that is no identifier would be run.
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError("parameter", name, "is not a name; write letters, digits and underscores only")
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError("parameter", name, f"{hint}{template} takes: {', '.join(known) or 'no parameters'}")
    return known[name]


def _is_aside(statement: ast.stmt) -> bool:
    """Whether it is a docstring, or the import that an annotation such as Literal needs."""
    typing = isinstance(statement, ast.ImportFrom) and statement.module in ("__future__", "typing")
    return typing or isinstance(statement, ast.Expr)


def _parameter(statement: ast.stmt, comment: str) -> Parameter:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            default = ast.literal_eval(value)
            written = ast.unparse(annotation)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            default = ast.literal_eval(value)
            written = type(default).__name__ if type(default) in (*_WORDS, list) else "Any"
        case _:
            raise ValueError(f"line {statement.lineno} is not an assignment")
    if isinstance(annotation := ast.parse(written, mode="eval").body, ast.Constant) and annotation.value:
        written = str(annotation.value)
    bounds = _RANGE.search(comment)
    low, high = (float(bound) if bound else None for bound in bounds.groups()) if bounds else (None, None)
    parameter = Parameter(name, written, default, _RANGE.sub("", comment).strip(), low, high)
    _ = parameter.type  # an annotation we cannot read is the template's fault, to be found before any value
    return parameter


def _comment_of(statement: ast.stmt, comments: Mapping[int, str]) -> str:
    # a formatter that wraps a long line moves its comment between the brackets
    lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    return " ".join(comments[line] for line in lines if line in comments)


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def _resolve(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=None):
            return type(None)
        case ast.Constant(value=str() as written):
            return _resolve(ast.parse(written, mode="eval").body)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _TYPES:
            return _TYPES[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_resolve(left), _resolve(right)]  # noqa: UP007 - the members are only known when running
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            return _generic(name, inner)
    raise ValueError(f"unknown annotation {ast.unparse(node)}")


def _generic(name: str, inner: ast.expr) -> Any:
    if name == "Literal":
        choices = ast.literal_eval(inner)
        return Literal[choices if isinstance(choices, tuple) else (choices,)]
    arguments = [_resolve(part) for part in (inner.elts if isinstance(inner, ast.Tuple) else [inner])]
    if name == "Optional":
        return Optional[arguments[0]]  # noqa: UP045 - the argument is only known when running
    if name == "list" and len(arguments) == 1:
        return list[arguments[0]]  # type: ignore[valid-type]
    if name == "dict" and len(arguments) == 2:
        return dict[arguments[0], arguments[1]]  # type: ignore[valid-type]
    raise ValueError(f"unknown annotation {name}[...]")


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _literals(kind: Any) -> Iterator[Any]:
    origin = get_origin(kind)
    if origin is Literal:
        yield from get_args(kind)
    elif origin is list:
        yield from _literals(get_args(kind)[0])


def _words(kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if origin is list:
        item = (get_args(kind) or (Any,))[0]
        return "a list" if item is Any else f"a list, each {_words(item)}"
    return _WORDS.get(origin, "a value")


def _from_text(text: str, members: tuple[Any, ...]) -> Any:
    origins = {get_origin(kind) or kind for kind in members}
    stripped = text.strip()
    if list in origins:
        if stripped.startswith("["):
            # BaseLoader leaves scalars as text: YAML 1.1 would read 1e-3 as text and 1:30 as ninety.
            return yaml.load(stripped, Loader=yaml.BaseLoader)  # noqa: S506 - builds lists and text only
        return [part.strip() for part in stripped.split(",") if part.strip()]
    if dict in origins:
        return yaml.safe_load(stripped)
    for kind in members:
        for choice in _literals(kind):
            if str(choice) == stripped:
                return choice
    return stripped


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON has it, so that what is checked is what the notebook gets."""
    if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
        raise TypeError("JSON would turn the keys into text")
    return json.loads(json.dumps(value, default=_convert, allow_nan=False))


def _convert(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be written into a notebook")


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(map(str, value))
    return json.dumps(value, default=str)


def _number(bound: float | None) -> str:
    return f"{bound:.10g}" if bound is not None else ""
