"""Loading the release of a synthetic table: from a target.py, or from tables."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leakpro_nb.errors import InputError
from leakpro_nb.game.loading import made_by
from leakpro_nb.game.tables import SyntheticRelease
from leakpro_nb.game.target import read_table

__all__ = ["load_release"]

TABLES = (".csv", ".parquet")


def load_release(
    source: SyntheticRelease | str | os.PathLike[str],
    *,
    original: Any = None,
    control: Any = None,
    reference: Any = None,
    secrets: Sequence[str] | None = None,
    known: Sequence[str] | None = None,
    links: Sequence[Sequence[str]] | None = None,
    identifiers: Sequence[str] | None = None,
) -> SyntheticRelease:
    """Return a release with what is said of its columns here, or else in the release itself.

    Parameters
    ----------
    source
        A release, the path of a ``target.py`` whose ``target()`` returns one, or the synthetic table (.csv, .parquet).
    original, control, reference
        Tables or their paths; only where ``source`` is a synthetic table.
    secrets, known, links, identifiers
        See ``SyntheticRelease``; ``None`` keeps what the release says.

    Raises
    ------
    InputError
        The first thing that is wrong: field, value, remedy.
    """
    said: dict[str, Any] = {"secrets": secrets, "known": known, "links": links, "identifiers": identifiers}
    said = {name: _lists(name, value) for name, value in said.items() if value is not None}
    tables = {"original": original, "control": control, "reference": reference}
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix in TABLES:
        if original is None:
            raise InputError(
                "original", "missing", "name the table that the generator learnt from, beside the synthetic one"
            )
        frames = {name: read_table(name, table) for name, table in tables.items() if table is not None}
        return SyntheticRelease(synthetic=read_table("target", source), name=Path(source).stem, **frames, **said)
    for name, table in tables.items():
        if table is not None:
            raise InputError(
                name, str(table), "only where target is the synthetic table (.csv, .parquet); a target.py names all"
            )
    if isinstance(source, SyntheticRelease):
        release = source
    else:
        instead = "the synthetic table as .csv or .parquet"
        release = made_by(Path(source), wanted="lp.SyntheticRelease(…)", instead=instead)
        if not isinstance(release, SyntheticRelease):
            found = type(release).__name__
            raise InputError("target", str(source), f"target() returned {found}, not lp.SyntheticRelease(…)")
    return dataclasses.replace(release, **said) if said else release


def _lists(name: str, value: Any) -> Any:
    if name != "links":
        return (value,) if isinstance(value, str) else tuple(str(each) for each in value)
    if isinstance(value, str) or len(value) != 2 or any(isinstance(side, str) for side in value):
        raise InputError("links", value, "give two lists of columns, for example [[age, sex], [income, education]]")
    return tuple(tuple(str(each) for each in side) for side in value)
