"""Target: everything that the challenger holds."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from leakpro_nb.errors import InputError
from leakpro_nb.game.loading import beside, folder_of, made_by, one_line
from leakpro_nb.game.models import Kind, Outputs, ask, kind_of, load_model, predictor, settle, to_logits
from leakpro_nb.game.models.outputs import as_columns
from leakpro_nb.game.models.sklearn import class_codes
from leakpro_nb.game.oracle import Oracle
from leakpro_nb.game.recipes import Recipe
from leakpro_nb.game.records import Records, as_array, as_mask, hash_array, take
from leakpro_nb.game.views import References

__all__ = ["Target", "read_table"]

MIN_SIDE = 10
"""Fewest members, and fewest non-members, with which an audit is worth starting."""


@dataclass(frozen=True)
class Target:
    """The model under audit, with its records and the way to train another one.

    Parameters
    ----------
    model
        Torch module, scikit-learn classifier, function ``X -> logits or probabilities``, the path of a ``.skops`` file,
        or an array of predictions ``(N, C)`` for the records.
    records
        All records: members, non-members and, if any, population. Membership may be missing where the question is how
        many of them are members.
    recipe
        How to train another model like it. Not needed for attacks without shadow models; a scikit-learn classifier is
        its own recipe.
    sensitive
        Columns of the records by which exposure is broken down.
    name
        What the report calls the target.
    outputs
        ``"logits"``, ``"probabilities"`` or ``"auto"``.
    shadows
        Predictions of shadow models that were trained elsewhere.
    subjects
        What one record is about, in the plural, as the report should say it: ``"patients"``, ``"customers"``, …
    """

    model: Any
    records: Records
    recipe: Recipe | None = None
    sensitive: Sequence[str] = ()
    name: str = "target"
    outputs: Outputs = "auto"
    shadows: References | None = field(default=None, repr=False)
    subjects: str = "people"

    def __post_init__(self) -> None:
        if isinstance(self.model, (str, os.PathLike)):
            object.__setattr__(self, "model", load_model(self.model))
        kind = kind_of(self.model)
        if not isinstance(self.records, Records):
            raise InputError("target.records", type(self.records).__name__, "pass lp.Records(X, y, members=mask)")
        if self.recipe is not None and not isinstance(self.recipe, Recipe):
            raise InputError("target.recipe", type(self.recipe).__name__, "pass lp.Recipe(make_net, …)")
        if self.outputs not in ("auto", "logits", "probabilities"):
            raise InputError("target.outputs", self.outputs, "use auto, logits or probabilities")
        if isinstance(self.sensitive, str):
            object.__setattr__(self, "sensitive", (self.sensitive,))
        if self.recipe is None and kind == "scikit-learn" and hasattr(self.model, "get_params"):
            from sklearn.base import clone

            # unfitted: what the target learnt must not travel to where shadow models are trained
            object.__setattr__(self, "recipe", Recipe(clone(self.model)))
        self._check_sensitive()

    @property
    def members(self) -> np.ndarray:
        """(N,) bool: the records that trained the target.

        Raises
        ------
        InputError
            Nobody said which they are.
        """
        if self.records.members is None:
            raise InputError(
                "records.members", "missing", "say which records trained the target: a mask of True and False"
            )
        return self.records.members

    def _check_sides(self) -> None:
        members, audited = self.members, self.records.audited
        sides = {"members": int(members.sum()), "non-members": int((audited & ~members).sum())}
        for side, count in sides.items():
            if count < MIN_SIDE:
                raise InputError(
                    "records.members",
                    f"{count} {side}",
                    f"an audit needs at least {MIN_SIDE} {side} (a few thousand to resolve small false-positive rates)",
                )

    def _check_sensitive(self) -> None:
        groups = self.records.groups
        for column in self.sensitive:
            if groups is None:
                raise InputError("target.sensitive", column, "give the columns too: Records(X, y, groups=frame)")
            if column not in groups.columns:
                known = ", ".join(str(c) for c in list(groups.columns)[:12])
                raise InputError("target.sensitive", column, f"not a column of the records; they have {known}")

    @property
    def kind(self) -> str:
        """What sort of model it is, in words."""
        kind = kind_of(self.model)
        words = {
            "torch": f"PyTorch network ({type(self.model).__name__})",
            "scikit-learn": f"scikit-learn model ({type(self.model).__name__})",
            "function": "model behind a function",
            "predictions": "predictions only (a table)",
        }
        return words[kind]

    @cached_property
    def logits(self) -> np.ndarray:
        """(N, C) float64 outputs of the target on all records."""
        if self._raw is not None:
            return to_logits(self._raw, self.outputs)
        classes = int(self.records.y.max()) + 1
        return self._asked(predictor(self.model, classes))

    @cached_property
    def _raw(self) -> Any:
        """What the model says of all records, as it came; None from a classifier that names its classes."""
        kind = kind_of(self.model)
        if kind == "predictions":
            raw = as_array(self.model)
            if len(raw) != len(self.records):
                raise InputError(
                    "target.model",
                    f"{len(raw)} rows of predictions",
                    f"give one row per record, {len(self.records)} of them, in the order of the records",
                )
            return raw
        return None if kind == "scikit-learn" else self._asked(lambda X: as_columns(ask(self.model, X)))

    def _asked(self, predict: Callable[[Any], np.ndarray]) -> np.ndarray:
        try:
            logits = predict(self.records.X)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                "target.model", type(self.model).__name__, f"it fails on records.X: {one_line(error)}"
            ) from error
        if len(logits) != len(self.records):
            raise InputError(
                "target.model",
                f"{len(logits)} outputs",
                f"it must return one row per record, {len(self.records)}",
            )
        return logits

    @cached_property
    def oracle(self) -> Oracle | None:
        """The model, to be asked about any records; ``None`` where only predictions are known."""
        kind = kind_of(self.model)
        if kind == "predictions":
            return None
        return Oracle(lambda: self.model, self.classes, {kind: self.outputs_of(kind)})

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.logits.shape[1]

    def outputs_of(self, kind: Kind) -> Outputs:
        """Return how to read the outputs of a shadow model of that kind."""
        if self._raw is None or kind != kind_of(self.model):
            return self.outputs
        return settle(self._raw, self.outputs)

    def fingerprint(self) -> str:
        """Return a hash of records, membership and the model's outputs on them: of all that an audit starts from."""
        digest = hashlib.sha256(self.records.fingerprint().encode())
        for array in (self.records.members, self.records.population, self.logits):
            digest.update(hash_array(array).encode() if array is not None else b"none")
        return digest.hexdigest()

    def accuracy(self) -> tuple[float, float]:
        """Return the target's accuracy on its members and on the audited non-members."""
        right = self.logits.argmax(axis=1) == self.records.y
        members = self.members
        return float(right[members].mean()), float(right[self.records.audited & ~members].mean())

    def check(self, *, needs_recipe: bool = False, needs_members: bool = True) -> None:
        """Find everything that can be wrong with model, records and recipe before expensive work starts.

        Parameters
        ----------
        needs_recipe
            Whether shadow models will be trained.
        needs_members
            Whether the audit compares members with non-members, so that there must be enough of both.

        Raises
        ------
        InputError
            The first thing that is wrong.
        """
        if needs_members:
            self._check_sides()
        self._check_missing_values()
        top = int(self.records.y.max())
        if top >= self.classes:
            row = int(self.records.y.argmax())
            raise InputError(
                "records.y",
                f"label {top} in row {row}",
                f"the model has {self.classes} outputs, so labels run from 0 to {self.classes - 1}",
            )
        if self.shadows is not None:
            self._check_shadows(self.shadows)
        elif needs_recipe:
            self._check_recipe()

    def _check_shadows(self, shadows: References) -> None:
        wanted = (len(shadows), len(self.records), self.classes)
        if shadows.logits.shape != wanted or shadows.trained_on.shape != wanted[:2]:
            raise InputError(
                "target.shadows",
                f"shapes {shadows.logits.shape} and {shadows.trained_on.shape}",
                f"they must say something of the same {wanted[1]} records and {wanted[2]} classes as the target",
            )

    def _check_missing_values(self) -> None:
        if kind_of(self.model) != "torch" or hasattr(self.records.X, "iloc"):
            return
        X = np.asarray(self.records.X)
        if X.dtype.kind == "f":
            bad = np.flatnonzero(np.isnan(X.reshape(len(X), -1)).any(axis=1))
            if len(bad):
                raise InputError(
                    "records.X",
                    f"NaN in {len(bad)} of {len(X)} records",
                    f"a network cannot read missing values: fill or drop them; the first is row {bad[0]}",
                )

    def _check_recipe(self) -> None:
        if self.recipe is None:
            raise InputError(
                "target.recipe",
                "missing",
                "shadow models need one: lp.Recipe(make_net, epochs=…), or num_shadows=0 for attacks without shadows",
            )
        rows = _small_sample(self.records.y)
        trial = dataclasses.replace(self.recipe, epochs=1) if self.recipe.is_torch else self.recipe
        X, y = take(self.records.X, rows), self.records.y[rows]
        try:
            with beside(folder_of(self.recipe.train or self.recipe.make)):
                model = trial.fit(X, y, seed=0)
                outputs = predictor(model, self.classes, self.outputs_of(kind_of(model)))(X)
        except Exception as error:
            remedy = error.remedy if isinstance(error, InputError) else one_line(error)
            raise InputError(
                "target.recipe", self.recipe.describe(), f"a trial on {len(rows)} records failed: {remedy}"
            ) from error
        if len(outputs) != len(rows):
            raise InputError(
                "target.recipe", f"{len(outputs)} outputs for {len(rows)} records", "its models must return one each"
            )
        if outputs.shape[1] != self.classes:
            raise InputError(
                "target.recipe",
                f"{outputs.shape[1]} classes",
                f"its models must have the target's {self.classes} classes",
            )

    @classmethod
    def load(cls, source: Target | str | os.PathLike[str]) -> Target:
        """Return a target from a ``target.py`` or from a table of predictions (.csv, .parquet)."""
        if isinstance(source, Target):
            return source
        path = Path(source)
        if path.suffix in (".csv", ".parquet"):
            return cls.from_predictions(path)
        return cls.from_file(path)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Target:
        """Run a ``target.py`` and return what its function ``target()`` returns.

        Raises
        ------
        InputError
            Missing file, no such function, an error inside it, or not a target.
        """
        path = Path(path).resolve()
        target = made_by(path, wanted="lp.Target(…)", instead="predictions as .csv or .parquet")
        if not isinstance(target, Target):
            raise InputError("target", str(path), f"target() returned {type(target).__name__}, not lp.Target(…)")
        return target

    @classmethod
    def from_table(
        cls,
        table: Any,
        model: Any,
        *,
        label: str,
        member: str,
        population: str | None = None,
        recipe: Recipe | None = None,
        sensitive: Sequence[str] = (),
        name: str = "target",
        outputs: Outputs = "auto",
    ) -> Target:
        """Return a target from a table of records and a model that reads its columns.

        Parameters
        ----------
        table
            DataFrame, or the path of a .csv or .parquet file.
        model
            Classifier, or the path of a .skops file.
        label, member, population
            Columns: class label, whether the row trained the model, and whether it is population. What the model does
            not read is taken off the features.
        recipe, sensitive, name, outputs
            As for ``Target``.
        """
        frame = read_table("table", table)
        for field_name, column in (("label", label), ("member", member), ("population", population)):
            if column is not None and column not in frame.columns:
                known = ", ".join(map(str, frame.columns[:12]))
                raise InputError(field_name, column, f"not a column of the table; it has {known}")
        model = load_model(model) if isinstance(model, (str, os.PathLike)) else model
        special = [column for column in (label, member, population) if column is not None]
        features = frame.drop(columns=special)
        wanted = getattr(model, "feature_names_in_", None)
        if wanted is not None:
            lacking = [column for column in wanted if column not in features.columns]
            if lacking:
                raise InputError("table", ", ".join(lacking[:5]), "columns that the model was trained on are missing")
            features = features[list(wanted)]
        records = Records(
            features,
            _encode_labels(frame[label], getattr(model, "classes_", None)),
            members=_yes_no(member, frame[member]),
            population=None if population is None else _yes_no(population, frame[population]),
            groups=frame.drop(columns=[member] + ([population] if population else [])),
        )
        return cls(model, records, recipe, sensitive, name, outputs)

    @classmethod
    def from_predictions(
        cls,
        predictions: Any,
        y: np.ndarray | None = None,
        members: np.ndarray | None = None,
        *,
        population: np.ndarray | None = None,
        shadow_predictions: np.ndarray | None = None,
        shadow_members: np.ndarray | None = None,
        sensitive: Sequence[str] = (),
        groups: Any = None,
        name: str = "target",
        outputs: Outputs = "auto",
    ) -> Target:
        """Return a target that is known by its predictions only.

        Parameters
        ----------
        predictions
            (N, C) logits or probabilities, or a table (DataFrame, .csv, .parquet) with columns ``label``, ``member``,
            optionally ``population``, and ``logit_0``, ``logit_1``, … or ``prob_0``, …; shadow models as
            ``shadow0_logit_0``, … with ``shadow0_member``. All other columns can be named in ``sensitive``.
        y, members, population
            (N,) with array predictions: labels, membership, population.
        shadow_predictions, shadow_members
            (K, N, C) and (K, N): predictions of shadow models and which records trained them.
        sensitive, groups, name, outputs
            As for ``Target`` and ``Records``.
        """
        if hasattr(predictions, "columns") or isinstance(predictions, (str, os.PathLike)):
            beside_table = {"y": y, "members": members, "population": population, "groups": groups,
                            "shadow_predictions": shadow_predictions, "shadow_members": shadow_members}  # fmt: skip
            for field_name, given in beside_table.items():
                if given is not None:
                    raise InputError(field_name, "given beside a table", "a table brings its own columns; drop one")
            return _from_prediction_table(cls, predictions, sensitive, name)
        predictions = as_columns(predictions)
        if y is None or members is None:
            raise InputError("predictions", "an array", "give y and members beside it")
        records = Records(np.zeros((len(predictions), 0), dtype=np.float32), y, members, population, groups)
        shadows = None
        if shadow_predictions is not None:
            if shadow_members is None:
                raise InputError("shadow_members", "missing", "say which records trained each shadow model: (K, N)")
            shadows = _as_references(shadow_predictions, shadow_members, len(records), settle(predictions, outputs))
        return cls(predictions, records, None, sensitive, name, outputs, shadows)


def _as_references(predictions: np.ndarray, trained_on: Any, n: int, outputs: Outputs) -> References:
    predictions, mask = np.asarray(predictions), np.asarray(trained_on)
    if predictions.ndim == 2:
        predictions = predictions[:, :, None]
    if mask.ndim != 2 or predictions.shape[:2] != mask.shape or mask.shape[1] != n:
        raise InputError(
            "shadow_predictions",
            f"shapes {predictions.shape} and {mask.shape}",
            f"give predictions (K, {n}, C) and membership (K, {n})",
        )
    logits = np.stack([to_logits(each, outputs) for each in predictions])
    trained = np.stack([as_mask("shadow_members", row, n) for row in mask])
    return References(logits, trained, _pairs(trained))


def _pairs(trained_on: np.ndarray) -> np.ndarray:
    """Return for each model the index of the one trained on the exact complement, else -1."""
    partner = np.full(len(trained_on), -1)
    for i in range(len(trained_on)):
        matches = np.flatnonzero((trained_on[i] != trained_on).all(axis=1))
        if len(matches):
            partner[i] = matches[0]
    return partner


def _from_prediction_table(cls: type[Target], table: Any, sensitive: Sequence[str], name: str) -> Target:
    frame = read_table("predictions", table)
    for column in ("label", "member"):
        if column not in frame.columns:
            known = ", ".join(map(str, frame.columns[:12]))
            raise InputError("predictions", known, f"a column called {column} is missing")
    outputs, columns = _prediction_columns(frame, "")
    shadow_ids = sorted(
        {int(m[1]) for c in frame.columns if (m := re.match(r"shadow(\d+)_(?:member|logit_|prob_)", str(c)))}
    )
    y = frame["label"].to_numpy()
    members = _yes_no("member", frame["member"])
    of_shadows = [c for c in frame.columns if re.fullmatch(r"shadow\d+_(member|(logit|prob)_\d+)", str(c))]
    groups = frame.drop(columns=[*columns, *of_shadows, "member"])
    shadows = None
    if shadow_ids:
        blocks, masks = [], []
        for k in shadow_ids:
            kind, names = _prediction_columns(frame, f"shadow{k}_")
            if f"shadow{k}_member" not in frame.columns:
                raise InputError("predictions", f"shadow{k}", f"a column called shadow{k}_member is missing")
            blocks.append(to_logits(frame[names].to_numpy(), kind))
            if blocks[-1].shape != blocks[0].shape:
                raise InputError("predictions", f"shadow{k}", "all shadow models need the same number of classes")
            masks.append(_yes_no(f"shadow{k}_member", frame[f"shadow{k}_member"]))
        shadows = _as_references(np.stack(blocks), np.stack(masks), len(frame), "logits")
    population = _yes_no("population", frame["population"]) if "population" in frame.columns else None
    records = Records(np.zeros((len(frame), 0), dtype=np.float32), y, members, population, groups)
    return cls(frame[columns].to_numpy(), records, None, sensitive, name, outputs, shadows)


def _prediction_columns(frame: Any, prefix: str) -> tuple[Outputs, list[str]]:
    kinds: tuple[tuple[Outputs, str], ...] = (("logits", "logit"), ("probabilities", "prob"))
    for outputs, word in kinds:
        names = [c for c in frame.columns if re.fullmatch(rf"{prefix}{word}_\d+", str(c))]
        if names:
            ordered = sorted(names, key=lambda c: int(str(c).rsplit("_", 1)[1]))
            if [int(str(c).rsplit("_", 1)[1]) for c in ordered] != list(range(len(ordered))):
                raise InputError(
                    "predictions",
                    ", ".join(ordered),
                    f"number the columns {prefix}{word}_0, _1, … without gaps",
                )
            return outputs, ordered
    raise InputError(
        "predictions",
        f"no {prefix}logit_0 or {prefix}prob_0",
        "give one column of logits or probabilities per class",
    )


def read_table(field_name: str, table: Any) -> Any:
    """Return a DataFrame from a ``.csv`` or ``.parquet`` file, or the DataFrame given.

    Raises
    ------
    InputError
        No such file, another kind of file, or one that cannot be read.
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return table
    path = Path(table)
    if not path.is_file():
        raise InputError(field_name, str(path), "no such file")
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path)
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise InputError(field_name, str(path), f"not readable: {one_line(error)}") from error
    raise InputError(field_name, str(path), "give a .csv or a .parquet file")


def _yes_no(name: str, column: Any) -> np.ndarray:
    words = {
        "true": True,
        "false": False,
        "yes": True,
        "no": False,
        "1": True,
        "0": False,
        "1.0": True,
        "0.0": False,
    }
    lowered = column.astype(str).str.strip().str.lower()
    unknown = sorted(set(lowered) - set(words))
    if unknown:
        raise InputError(name, ", ".join(unknown[:3]), "use true or false (or 1 and 0) in every row of this column")
    return lowered.map(words).to_numpy(dtype=bool)


def _encode_labels(column: Any, classes: Any) -> np.ndarray:
    values = column.to_numpy()
    if classes is None:
        return values
    known = dict(zip(np.asarray(classes).tolist(), class_codes(classes).tolist(), strict=True))
    unknown = sorted({str(v) for v in values.tolist() if v not in known})
    if unknown:
        raise InputError("label", ", ".join(unknown[:3]), f"the model knows the classes {', '.join(map(str, known))}")
    return np.array([known[v] for v in values.tolist()])


def _small_sample(y: np.ndarray, per_class: int = 16, at_most: int = 256) -> np.ndarray:
    """Return up to ``at_most`` rows with some of every class; few rows would trip up neighbours and folds."""
    chosen = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        chosen[np.flatnonzero(y == label)[:per_class]] = True
    others = np.flatnonzero(~chosen)
    chosen[others[: max(0, at_most - int(chosen.sum()))]] = True
    return np.flatnonzero(chosen)[:at_most]
