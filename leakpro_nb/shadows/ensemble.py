"""Shadow models: what there is, what is still to be trained, and where it is kept.

Training is cut into units (a stack of torch models, or one model). A finished unit is written atomically under a
folder named after the content of everything it depends on, so that a run can be killed at any moment, resumed,
repeated for nothing, and grown to more models later.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from leakpro_nb.errors import InputError
from leakpro_nb.game.recipes import Recipe
from leakpro_nb.game.records import take
from leakpro_nb.game.target import Target
from leakpro_nb.game.views import References
from leakpro_nb.results import write_atomically
from leakpro_nb.shadows.splits import paired_splits, sized_splits

__all__ = ["Shadows", "how_trained", "train_shadows"]

STACK = 4
"""Torch models trained together; part of the cache key, since it decides the last bits of the weights."""

CACHE_VERSION = "1"
"""Raised whenever a change of this code changes what a trained shadow model is."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shadows(References):
    """Trained shadow models with their observations on all records, and how they came about.

    Parameters
    ----------
    how
        One sentence for the report.
    folder
        Where they are kept, ``None`` when they were not trained here.
    cpu_seconds
        CPU time that training took in this call; 0.0 when everything was already there.
    """

    how: str = ""
    folder: Path | None = None
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class _Unit:
    """Models ``first`` … ``end - 1``, trained together and kept in one file, which is there whole or not at all."""

    first: int
    end: int
    home: Path

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def file(self) -> Path:
        return self.home / f"models-{self.first:05d}-{self.end - 1:05d}.safetensors"

    @property
    def progress(self) -> Path:
        return self.home / f"models-{self.first:05d}.progress"

    @property
    def checkpoint(self) -> Path:
        return self.home / f"models-{self.first:05d}-{self.end - 1:05d}.checkpoint"


def train_shadows(
    target: Target,
    models: int = 16,
    *,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    size: Literal["half", "target"] = "half",
    workers: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Shadows:
    """Train shadow models like the target, or load those that an earlier run has finished.

    Parameters
    ----------
    target
        Gives records and recipe; its model is never touched.
    models
        How many (K). Even numbers give every record as many models that saw it as models that did not.
    seed
        Decides splits, initial weights and batch order; model k is the same however many follow it.
    folder
        Where to keep them; ``None`` trains in memory only.
    size
        ``"half"``: paired halves of all records. ``"target"``: random subsets as large as the target's training set.
    workers
        Processes, each single-threaded; ``None`` means one per core. The result does not depend on it.
    device
        ``"auto"``, ``"cpu"`` or a CUDA device for torch recipes.
    progress
        Show a progress bar with the time left.

    Raises
    ------
    InputError
        No recipe, or a number of models or a size that cannot be.
    """
    if target.shadows is not None:
        own = target.shadows
        return Shadows(own.logits, own.trained_on, own.pair, how=f"{len(own)} shadow models, trained elsewhere")
    if isinstance(models, bool) or not isinstance(models, (int, np.integer)) or models < 0:
        raise InputError("num_shadows", models, "use an integer of at least 0")
    trained_on, pair = _splits(target, models, size, seed)
    if models == 0:
        empty = np.zeros((0, len(target.records), target.classes))
        return Shadows(empty, trained_on, pair, how="no shadow models")
    recipe = target.recipe
    if recipe is None:
        raise InputError("target.recipe", "missing", "shadow models need one: lp.Recipe(make_net, epochs=…)")
    return _train(target, recipe, trained_on, pair, seed, folder, size, workers, device, progress)


def how_trained(target: Target) -> tuple[bool, str]:
    """Return whether the target's shadow models can be trained as a stack, and if not, why not."""
    if target.recipe is None or not target.recipe.is_torch:
        return False, "own training functions and scikit-learn models are trained one by one"
    from leakpro_nb.shadows.stacked import why_not_stackable

    reason = why_not_stackable(target.recipe, target.records.X, target.records.y)
    return reason is None, reason or ""


def _splits(target: Target, models: int, size: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    n = len(target.records)
    if size == "half":
        return paired_splits(n, models, seed)
    if size != "target":
        raise InputError("shadow_size", size, "use half or target")
    members = target.records.members
    assert members is not None
    if members.sum() >= n:
        raise InputError("shadow_size", size, "every record is a member, so no shadow model could leave one out")
    return sized_splits(n, models, int(members.sum()), seed)


def _train(
    target: Target,
    recipe: Recipe,
    trained_on: np.ndarray,
    pair: np.ndarray,
    seed: int,
    folder: str | os.PathLike[str] | None,
    size: str,
    workers: int | None,
    device: str,
    progress: bool,
) -> Shadows:
    import tempfile

    stacked, reason = how_trained(target)
    if reason:
        log.info("shadow models are trained one by one: %s", reason)
    device = _device(device) if stacked else "cpu"
    with tempfile.TemporaryDirectory(prefix="leakpro-") as scratch:
        base = Path(folder) / "shadows" if folder is not None else Path(scratch)
        home = base / _key(target, recipe, trained_on[0], seed, device, stacked)
        home.mkdir(parents=True, exist_ok=True)
        stack = STACK if stacked else 1
        units = _units(home, len(trained_on), stack)
        todo = [unit for unit in units if not unit.file.exists()]
        job = _Job(recipe, target.records.X, target.records.y, trained_on, seed, target.classes, target.outputs,
                   device, stacked)  # fmt: skip
        seconds = _run(job, todo, workers, progress, done=sum(map(len, units)) - sum(map(len, todo)))
        logits = np.concatenate([_load(unit) for unit in units])[: len(trained_on)]
    return Shadows(
        logits,
        trained_on,
        pair,
        how=_in_words(target, trained_on, stacked, reason, size),
        folder=home if folder is not None else None,
        cpu_seconds=seconds,
    )


def _in_words(target: Target, trained_on: np.ndarray, stacked: bool, reason: str, size: str) -> str:
    members = target.records.members
    assert members is not None
    average = trained_on.sum(axis=1).mean()
    way = "trained together as a stack" if stacked else f"trained one by one ({reason})"
    split = "complementary random halves of the records" if size == "half" else "random subsets of the records"
    return (
        f"{len(trained_on)} shadow models on {split}, {average:,.0f} records each "
        f"({average / members.sum():.0%} of the target's training set), {way}"
    )


def _device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _key(
    target: Target, recipe: Recipe, first_split: np.ndarray, seed: int, device: str, stacked: bool
) -> str:
    """Return a name for everything that a trained model depends on; the first split stands for the way of splitting."""
    digest = hashlib.sha256()
    parts = [CACHE_VERSION, recipe.fingerprint(), target.records.fingerprint(), str(seed), device.split(":")[0]]
    parts += [f"stack {STACK}" if stacked else "single", str(target.classes), target.outputs, *_versions(recipe)]
    for part in parts:
        digest.update(part.encode() + b"\0")
    digest.update(np.packbits(first_split).tobytes())
    return digest.hexdigest()[:20]


def _versions(recipe: Recipe) -> list[str]:
    import sklearn

    versions = [f"numpy {np.__version__}", f"scikit-learn {sklearn.__version__}"]
    if not recipe.is_sklearn:
        import torch

        versions.append(f"torch {torch.__version__}")
    return versions


def _units(home: Path, models: int, stack: int) -> list[_Unit]:
    """Cut models 0 … models-1 into units of at most ``stack``, keeping those that earlier runs have finished.

    A smaller run may have cut a stack short; growing trains the rest of it beside, never again.
    """
    units: list[_Unit] = []
    first = 0
    while first < models:
        ready = sorted(home.glob(f"models-{first:05d}-*.safetensors"))
        end = int(ready[-1].stem.rsplit("-", 1)[1]) + 1 if ready else min(models, (first // stack + 1) * stack)
        units.append(_Unit(first, end, home))
        first = end
    return units


@dataclass(frozen=True)
class _Job:
    """What every unit needs to be trained."""

    recipe: Recipe
    X: Any
    y: np.ndarray
    trained_on: np.ndarray
    seed: int
    classes: int
    outputs: Any
    device: str
    stacked: bool

    def train(self, unit: _Unit) -> float:
        """Train one unit, write its file, return the CPU seconds it took."""
        from safetensors.numpy import save

        start = time.process_time()
        with _single_thread(torch=not self.recipe.is_sklearn), warnings.catch_warnings():
            # worker processes map X read-only, and nobody here writes to it
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            states, logits = self._stack(unit) if self.stacked else self._single(unit)
        arrays = {"logits": np.ascontiguousarray(logits)}
        for k, state in zip(range(unit.first, unit.end), states, strict=True):
            arrays |= {f"{k}.{name}": np.ascontiguousarray(tensor.numpy()) for name, tensor in state.items()}
        write_atomically(unit.file, save(arrays))
        unit.progress.unlink(missing_ok=True)
        return time.process_time() - start

    def _seed(self, k: int) -> int:
        return int(np.random.SeedSequence(self.seed, spawn_key=(2, k)).generate_state(1)[0])

    def _stack(self, unit: _Unit) -> tuple[list[dict[str, Any]], np.ndarray]:
        from leakpro_nb.game.models import to_logits
        from leakpro_nb.shadows.stacked import predict_stacked, train_stacked

        states = train_stacked(
            self.recipe,
            self.X,
            self.y,
            self.trained_on[unit.first : unit.end],
            [self._seed(k) for k in range(unit.first, unit.end)],
            device=self.device,
            checkpoint=unit.checkpoint,
            on_epoch=lambda epoch: _report(unit.progress, epoch / self.recipe.epochs),
        )
        raw = predict_stacked(self.recipe, states, self.X, device=self.device)
        return states, np.stack([to_logits(each, self.outputs) for each in raw])

    def _single(self, unit: _Unit) -> tuple[list[dict[str, Any]], np.ndarray]:
        from leakpro_nb.game.models import predictor

        rows = self.trained_on[unit.first]
        model = self.recipe.fit(take(self.X, rows), self.y[rows], self._seed(unit.first))
        logits = predictor(model, self.classes, self.outputs)(self.X)
        state = {}
        if hasattr(model, "state_dict"):
            state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
        return [state], logits[None]


def _load(unit: _Unit) -> np.ndarray:
    from safetensors import safe_open

    with safe_open(unit.file, framework="numpy") as handle:
        return handle.get_tensor("logits")


def _report(path: Path, fraction: float) -> None:
    path.write_text(f"{fraction:.4f}", encoding="ascii")


def _run(job: _Job, todo: list[_Unit], workers: int | None, progress: bool, done: int) -> float:
    if not todo:
        return 0.0
    import joblib

    workers = min(workers or joblib.cpu_count(), len(todo))
    if job.device != "cpu":
        workers = 1
    with _progress_bar(todo, done, enabled=progress):
        if workers == 1:
            return sum(job.train(unit) for unit in todo)
        _send_by_value(job.recipe)
        return sum(joblib.Parallel(n_jobs=workers, prefer="processes")(joblib.delayed(job.train)(u) for u in todo))


def _send_by_value(recipe: Recipe) -> None:
    """Let workers receive functions and classes of a target.py, a file that they cannot import by name."""
    import sys

    try:
        from joblib.externals import cloudpickle
    except ImportError:  # joblib 1.6 depends on the package instead of carrying a copy
        import cloudpickle

    maker = recipe.train or recipe.make
    module = sys.modules.get(getattr(maker, "__module__", None) or type(maker).__module__)
    if module is not None and module.__name__.startswith("leakpro_target_"):
        cloudpickle.register_pickle_by_value(module)


@contextmanager
def _progress_bar(units: list[_Unit], done: int, *, enabled: bool) -> Iterator[None]:
    from tqdm.auto import tqdm

    bar = tqdm(
        total=done + sum(map(len, units)),
        initial=done,
        desc="Shadow models",
        disable=not enabled,
        bar_format="{l_bar}{bar}| {n:.1f} of {total_fmt}, {elapsed} gone, {remaining} left",
    )
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(0.5):
            bar.n = done + sum(len(unit) * _fraction(unit) for unit in units)
            bar.refresh()

    watcher = threading.Thread(target=follow, daemon=True)
    watcher.start()
    try:
        yield
        bar.n = bar.total
    finally:
        stop.set()
        watcher.join()
        bar.refresh()
        bar.close()


def _fraction(unit: _Unit) -> float:
    if unit.file.exists():
        return 1.0
    try:
        return float(unit.progress.read_text(encoding="ascii"))
    except (OSError, ValueError):  # not started, or just being written
        return 0.0


@contextmanager
def _single_thread(*, torch: bool) -> Iterator[None]:
    """Pin numerical libraries to one thread: cores are used by processes, and the bits must not depend on them."""
    from threadpoolctl import threadpool_limits

    if not torch:
        with threadpool_limits(limits=1):
            yield
        return
    from torch import get_num_threads, set_num_threads

    before = get_num_threads()
    set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        set_num_threads(before)
