"""Trainings with canaries: each is kept under the content of everything it depends on, and done only once."""

from __future__ import annotations

import hashlib
import logging
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leakpro_nb.defences import DpSgd, GradientCanaries
from leakpro_nb.errors import AuditFailed, LeakproError
from leakpro_nb.game.loading import beside
from leakpro_nb.game.models import Kind, Outputs, kind_of, predictor
from leakpro_nb.game.recipes import Recipe
from leakpro_nb.game.records import Records, as_array, hash_array
from leakpro_nb.results import write_atomically
from leakpro_nb.shadows.processes import alone, end_with, send_by_value, single_thread

__all__ = ["Observed", "Training", "concatenate", "train_all"]

CACHE_VERSION = "1"
"""Raised whenever a change of this code changes what is observed."""

TRACE = ("steps", "parameters", "sample_rate", "drawn", "noise", "pull")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Observed:
    """What one trained model shows.

    Parameters
    ----------
    logits
        (m, C) on all canaries that are records.
    gradient
        (m,) how surely each gradient canary was seen.
    test
        (n, C) on records that no model was trained on.
    trace
        What DP-SGD really did; empty for other training functions.
    cpu_seconds
        Of its training, when that was done.
    """

    logits: np.ndarray
    gradient: np.ndarray
    test: np.ndarray
    trace: dict[str, float]
    cpu_seconds: float


@dataclass(frozen=True)
class Training:
    """One model to be trained: on ``X``, ``y``, with gradient canaries as ``inserted`` says.

    ``ask`` are the canaries, ``test`` the other records that the model is asked about afterwards.
    """

    name: str
    recipe: Recipe
    X: Any
    y: np.ndarray
    seed: int
    ask: Any
    test: Any
    inserted: np.ndarray
    directions_seed: int
    classes: int
    outputs: dict[Kind, Outputs]
    folder: Path | None

    def key(self) -> str:
        """Return a name for everything that the observations depend on."""
        import torch

        digest = hashlib.sha256()
        for part in (
            CACHE_VERSION, self.recipe.fingerprint(), hash_array(self.X), hash_array(self.y), str(self.seed),
            "" if self.ask is None else hash_array(self.ask), hash_array(self.test), hash_array(self.inserted),
            str(self.directions_seed), str(self.classes), str(sorted(self.outputs.items())),
            f"numpy {np.__version__} torch {torch.__version__}",
        ):  # fmt: skip
            digest.update(part.encode() + b"\0")
        return digest.hexdigest()[:20]

    def observe(self, home: Path, *, parent: int | None = None) -> float:
        """Train, ask, and write what was seen; return the CPU seconds it took, 0 if another process did it."""
        from safetensors.numpy import save

        if parent is not None:
            end_with(parent)
        file, start = self.file(home), time.process_time()
        with alone(file.with_suffix(".lock")), single_thread(torch=not self.recipe.is_sklearn), beside(self.folder):
            if self.load(home) is not None:
                return 0.0
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                arrays = self._observe()
            arrays["cpu_seconds"] = np.array([time.process_time() - start])
            write_atomically(file, save(arrays, {"checksum": _checksum(arrays)}))
        return time.process_time() - start

    def file(self, home: Path) -> Path:
        """Return where the observations are kept."""
        return home / f"{self.name}-{self.key()}.safetensors"

    def load(self, home: Path) -> Observed | None:
        """Return the observations; None if there are none, or none that can be trusted."""
        from safetensors import SafetensorError, safe_open

        file = self.file(home)
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="numpy") as handle:
                names = list(handle.keys())
                arrays = {name: handle.get_tensor(name) for name in names}
                checksum = (handle.metadata() or {}).get("checksum")
        except (SafetensorError, OSError) as error:
            log.warning("%s is damaged and its model is trained again: %s", file, error)
            return None
        if checksum != _checksum(arrays):
            log.warning("%s is damaged and its model is trained again: its content has changed", file)
            return None
        trace = dict(zip(TRACE, arrays["trace"].tolist(), strict=False))
        return Observed(arrays["logits"], arrays["gradient"], arrays["test"], trace, float(arrays["cpu_seconds"][0]))

    def _observe(self) -> dict[str, np.ndarray]:
        try:
            trace: list[float] = []
            gradient = np.zeros(len(self.inserted))
            function = self.recipe.train
            if isinstance(function, DpSgd):
                canaries = GradientCanaries(self.inserted, seed=self.directions_seed) if len(self.inserted) else None
                run = function.run(Records(self.X, self.y), self.seed, canaries)
                model, gradient, trace = run.model, run.scores, [run.trace[name] for name in TRACE]
            else:
                model = self.recipe.fit(self.X, self.y, self.seed)
            predict = predictor(model, self.classes, self.outputs[kind_of(model)])
            logits = np.zeros((0, self.classes)) if self.ask is None else predict(self.ask)
            test = predict(self.test)
        except LeakproError as error:
            raise AuditFailed(f"training {self.name} failed: {error}") from error
        except Exception as error:
            text = " ".join(str(error).split())
            raise AuditFailed(f"training {self.name} failed: {type(error).__name__}: {text[:500]}") from error
        every = {"logits": logits, "gradient": gradient, "test": test, "trace": np.array(trace)}
        return {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in every.items()}


def train_all(trainings: Sequence[Training], home: Path, workers: int | None, *, progress: bool) -> list[Observed]:
    """Do what an earlier run has not done, and return what each model shows."""
    import joblib
    from tqdm.auto import tqdm

    home.mkdir(parents=True, exist_ok=True)
    todo = [each for each in trainings if each.load(home) is None]
    workers = min(workers or joblib.cpu_count(), max(1, len(todo)))
    bar = tqdm(total=len(trainings), initial=len(trainings) - len(todo), desc="Trainings", disable=not progress)
    with bar:
        if workers == 1:
            for each in todo:
                each.observe(home)
                bar.update()
        else:
            send_by_value()
            tasks = (joblib.delayed(each.observe)(home, parent=os.getpid()) for each in todo)
            for _ in joblib.Parallel(n_jobs=workers, prefer="processes", return_as="generator_unordered")(tasks):
                bar.update()
    found = [each.load(home) for each in trainings]
    if any(each is None for each in found):
        raise AuditFailed(f"{home} was written but cannot be read back: is the disk full, or failing?")
    return [each for each in found if each is not None]


def concatenate(parts: Sequence[Any]) -> Any:
    """Return inputs of one type, array, tensor or DataFrame, one below the other."""
    if hasattr(parts[0], "iloc"):
        import pandas as pd

        return pd.concat(list(parts), ignore_index=True)
    if hasattr(parts[0], "detach"):
        import torch

        return torch.cat(list(parts))
    return np.concatenate([as_array(part) for part in parts])


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
