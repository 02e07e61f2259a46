"""What a function of the user depends on, as a hash.

Trained models are kept under a name made of everything they depend on. The training function alone is not enough:
the helpers, classes, constants and closures that it uses decide the outcome just as much, and a forgotten one would
bring back models of the code as it was before the last edit.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import site
import sys
import sysconfig
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

__all__ = ["fingerprint_of", "is_users"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), np.generic, PurePath)
_BOOKKEEPING = frozenset(
    [
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__classdictcell__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__qualname__",
        "__slotnames__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    ]
)


def fingerprint_of(*things: Any) -> str:
    """Return a hash that changes when one of ``things``, or code or data that it uses, changes.

    Functions and classes count by their byte code, not their source: comments change nothing, and a file edited after
    it was loaded cannot pass for the code in memory. Installed packages count by name and version.
    """
    walk = _Walk()
    for thing in things:
        walk.visit(thing)
    return walk.digest.hexdigest()


@functools.cache
def _library_folders() -> tuple[Path, ...]:
    paths = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    keep = {sysconfig.get_path(name) for name in ("scripts", "data", "include")}  # the prefix may hold users' files
    return tuple({Path(path).resolve() for path in paths - keep} | {Path(__file__).resolve().parents[1]})


@functools.cache
def _in_library(file: str) -> bool:
    path = Path(file).resolve()
    return any(path.is_relative_to(folder) for folder in _library_folders())


def is_users(module: str | None) -> bool:
    """Return whether the module of this name is the user's own code rather than an installed package."""
    if module is None or module == "__main__":
        return True
    if module.partition(".")[0] in sys.stdlib_module_names:
        return False
    loaded = sys.modules.get(module)
    if loaded is None:  # it came here by value, or was loaded from a file
        return True
    file = getattr(loaded, "__file__", None)
    return file is not None and not _in_library(file)


def _versioned(module: str) -> str:
    """Return the name of an installed module with the version of its package, which may train differently."""
    package = sys.modules.get(module.partition(".")[0])
    return f"{module} {getattr(package, '__version__', '')}"


class _Walk:
    """One pass over everything reachable; each object counts once."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.seen: dict[int, tuple[int, Any]] = {}

    def add(self, *words: object) -> None:
        """Feed words to the hash, each with its length, so that no two sequences look alike."""
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            self.digest.update(b"%d:" % len(data) + data)

    def visit(self, thing: Any) -> None:
        """Feed ``thing`` and what it depends on to the hash."""
        if isinstance(thing, _PLAIN):
            self.add(type(thing).__name__, repr(thing))
            return
        if id(thing) in self.seen:
            self.add("seen", self.seen[id(thing)][0])
            return
        self.seen[id(thing)] = (len(self.seen), thing)  # held, so that no other object gets its id
        if isinstance(thing, FunctionType):
            self._function(thing)
        elif isinstance(thing, type):
            self._class(thing)
        elif isinstance(thing, CodeType):
            self._code(thing)
        elif isinstance(thing, (tuple, list)):
            self.add(type(thing).__name__, len(thing))
            for each in thing:
                self.visit(each)
        elif isinstance(thing, dict):
            self.add("dict", len(thing))
            for key, value in thing.items():
                self.visit(key)
                self.visit(value)
        elif isinstance(thing, (set, frozenset)):
            self.add("set", *sorted(fingerprint_of(each) for each in thing))  # their order differs from run to run
        else:
            self._object(thing)

    def _object(self, thing: Any) -> None:
        self._name(type(thing))
        if isinstance(thing, MethodType):
            parts: tuple[Any, ...] = (thing.__func__, thing.__self__)
        elif isinstance(thing, functools.partial):
            parts = (thing.func, thing.args, thing.keywords)
        elif isinstance(thing, (staticmethod, classmethod)):
            parts = (thing.__func__,)
        elif isinstance(thing, property):
            parts = (thing.fget, thing.fset)
        elif isinstance(thing, ModuleType):
            self.add("module", "" if is_users(thing.__name__) else _versioned(thing.__name__))
            return
        elif hasattr(thing, "__array__") or hasattr(thing, "iloc"):
            from leakpro_nb.game.records import hash_array

            self.add(hash_array(thing))
            return
        elif hasattr(thing, "state_dict") and hasattr(thing, "named_modules"):
            self._network(thing)
            return
        elif hasattr(thing, "get_params"):  # printed estimators leave out what is long
            parts = (type(thing), thing.get_params(deep=False))
        elif callable(thing) and hasattr(thing, "__wrapped__"):
            parts = (thing.__wrapped__,)
        elif is_users(type(thing).__module__):
            parts = (type(thing), getattr(thing, "__dict__", {}))
        else:
            shown = repr(thing)
            self.add(getattr(thing, "__name__", ""), "" if " at 0x" in shown else shown)
            return
        for part in parts:
            self.visit(part)

    def _name(self, kind: type) -> None:
        # a user's module is named after its path, which may change: its code counts instead
        self.add("" if is_users(kind.__module__) else _versioned(kind.__module__), kind.__qualname__)

    def _network(self, net: Any) -> None:
        self.add(repr(net))
        for name, module in net.named_modules():
            self.add(name)
            self.visit(type(module))
            plain = {k: v for k, v in vars(module).items() if not k.startswith("_") and isinstance(v, _PLAIN)}
            self.visit(plain)
        from leakpro_nb.game.records import hash_array

        for name, tensor in net.state_dict().items():
            self.add(name, hash_array(tensor) if hasattr(tensor, "detach") else repr(tensor))

    def _class(self, kind: type) -> None:
        self._name(kind)
        if not is_users(kind.__module__):
            return
        for base in kind.__bases__:
            self.visit(base)
        for name, value in sorted(vars(kind).items()):
            if name not in _BOOKKEEPING:
                self.add(name)
                self.visit(value)

    def _function(self, function: FunctionType) -> None:
        if not is_users(function.__module__):
            self.add(_versioned(function.__module__), function.__qualname__)
            return
        self._code(function.__code__)
        self.visit(function.__defaults__)
        self.visit(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.visit(cell.cell_contents)
            except ValueError:  # a name of the enclosing function that has no value yet
                self.add("empty")
        names, attributes, imports = _uses(function.__code__)
        for name in sorted(names & function.__globals__.keys()):
            self.add(name)
            self._global(function.__globals__[name], attributes)
        folder = Path(str(function.__globals__.get("__file__", ""))).parent
        for name in sorted(imports):  # imported when the function runs, so perhaps not loaded yet
            beside = folder / f"{name.partition('.')[0]}.py"
            if "__file__" in function.__globals__ and beside.is_file():
                self.add(name, beside.read_bytes())

    def _global(self, value: Any, attributes: set[str]) -> None:
        if not isinstance(value, ModuleType) or not is_users(value.__name__):
            self.visit(value)
            return
        for name in sorted(attributes & vars(value).keys()):  # of helpers, only what is asked for
            self.add(value.__name__, name)
            self.visit(vars(value)[name])

    def _code(self, code: CodeType) -> None:
        self.add(code.co_code, code.co_exceptiontable, code.co_argcount, code.co_kwonlyargcount, code.co_flags)
        self.add(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._code(constant)
            else:
                self.visit(constant)


def _uses(code: CodeType) -> tuple[set[str], set[str], set[str]]:
    """Return the globals that ``code`` reads, all names that it mentions, and the modules that it imports."""
    names, attributes, imports = set(), set(code.co_names), set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(str(step.argval))
        elif step.opname == "IMPORT_NAME":
            imports.add(str(step.argval))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _uses(constant)
            names |= inner[0]
            attributes |= inner[1]
            imports |= inner[2]
    return names, attributes, imports
