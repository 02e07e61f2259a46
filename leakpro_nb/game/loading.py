"""Loading a target.py together with the files that stand beside it."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from leakpro_nb.errors import InputError
from leakpro_nb.game.code import is_users

__all__ = ["beside", "folder_of", "load_file", "loaded_modules", "made_by", "one_line"]

_LOADED: dict[str, ModuleType] = {}
"""Modules from the folder of a target.py, by name: other processes cannot import them."""

_FOLDERS: set[Path] = set()
"""Folders from which a target.py was loaded."""


def load_file(path: Path) -> ModuleType:
    """Run a Python file, and anew the files beside it that it imports, and return it as a module."""
    # one name per path, lest the classes of two target.py in different folders be taken for each other
    name = f"leakpro_target_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _FOLDERS.add(path.parent)
    with beside(path.parent, fresh=True):
        sys.modules[name] = _LOADED[name] = module
        spec.loader.exec_module(module)
    return module


def made_by(path: Path, *, wanted: str, instead: str) -> Any:
    """Run a ``target.py`` and return what its function ``target()`` returns, whatever that is.

    Parameters
    ----------
    path
        The file.
    wanted
        What the function should return, for the error: ``"lp.Target(…)"``.
    instead
        What else may be given in place of such a file.

    Raises
    ------
    InputError
        Missing file, no such function, or an error inside it.
    """
    path = path.resolve()
    if path.suffix != ".py" or not path.is_file():
        problem = "not a Python file" if path.is_file() else "no such file"
        raise InputError("target", str(path), f"{problem}; give a target.py, or {instead}")
    try:
        module = load_file(path)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError("target", str(path), f"it cannot be imported: {_where(error, path)}") from error
    if not callable(getattr(module, "target", None)):
        raise InputError("target", str(path), f"it must define a function target() that returns {wanted}")
    try:
        with beside(path.parent):
            return module.target()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError("target", str(path), f"its function target() failed: {_where(error, path)}") from error


def _where(error: BaseException, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return one_line(error) + (f" (line {lines[-1]})" if lines else "")


def one_line(error: BaseException) -> str:
    """Return an error's name and message on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def loaded_modules() -> list[str]:
    """Return the names of all modules that came from the folder of a target.py."""
    return list(_LOADED)


def folder_of(maker: Any) -> Path | None:
    """Return the folder of the target.py that ``maker``, a function or class, comes from; None if there is none."""
    while isinstance(maker, functools.partial):
        maker = maker.func
    # by what the function itself says: another target may have a module of the same name by now
    function = getattr(maker, "__init__", None) if isinstance(maker, type) else maker
    file = getattr(function, "__globals__", {}).get("__file__")
    return next((folder for folder in Path(file).parents if folder in _FOLDERS), None) if file else None


@contextmanager
def beside(folder: Path | None, *, fresh: bool = False) -> Iterator[None]:
    """Make the files in ``folder`` importable, as they are for a script that stands there.

    Modules of the same name from elsewhere step aside meanwhile: two targets may each have their own ``helpers.py``.

    Parameters
    ----------
    folder
        None changes nothing.
    fresh
        Import anew what an earlier call imported, since the files may have been edited.
    """
    if folder is None:
        yield
        return
    ours = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    aside = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in ours or name == "__main__":
            continue
        inside = _is_inside(module, folder)
        if _LOADED.get(name) is module and (fresh or not inside):
            del sys.modules[name], _LOADED[name]
        elif not inside and is_users(name):
            aside[name] = sys.modules.pop(name)
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    before = set(sys.modules)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if _is_inside(sys.modules[name], folder) and is_users(name):
                _LOADED[name] = sys.modules[name]
        sys.modules.update(aside)


def _is_inside(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)
