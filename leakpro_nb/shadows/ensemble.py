"""Shadow models: what there is, what is still to be trained, and where it is kept.

Training is cut into units (a stack of torch models, or one model). A finished unit is written atomically under a
folder named after the content of everything it depends on, so that a run can be killed at any moment, resumed,
repeated for nothing, and grown to more models later.
"""

from __future__ import annotations

import contextlib
import functools
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

from leakpro_nb.errors import AuditFailed, InputError, LeakproError
from leakpro_nb.game.loading import beside, folder_of
from leakpro_nb.game.models import Kind, Outputs
from leakpro_nb.game.oracle import Oracle
from leakpro_nb.game.recipes import Recipe
from leakpro_nb.game.records import as_array, take
from leakpro_nb.game.target import Target
from leakpro_nb.game.views import References
from leakpro_nb.results import write_atomically
from leakpro_nb.shadows.processes import alone, end_with, send_by_value, single_thread
from leakpro_nb.shadows.splits import paired_splits, sized_splits

__all__ = ["Shadows", "how_trained", "train_shadows"]

STACK = 4
"""Torch models trained together; part of the cache key, since it decides the last bits of the weights."""

CACHE_VERSION = "2"
"""Raised whenever a change of this code changes what a trained shadow model is."""

RELAY = "LEAKPRO_PROGRESS"
"""Environment variable with the file from which whoever runs the notebook reads how far training has come."""

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
    def lock(self) -> Path:
        return self.home / f".models-{self.first:05d}.lock"

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
        No recipe, or a number of models, a size, a seed, workers or a device that cannot be.
    AuditFailed
        A model's training failed.
    """
    if target.shadows is not None:
        own = target.shadows
        return Shadows(
            own.logits, own.trained_on, own.pair, own.models, how=f"{len(own)} shadow models, trained elsewhere"
        )
    if isinstance(models, bool) or not isinstance(models, (int, np.integer)) or models < 0:
        raise InputError("num_shadows", models, "use an integer of at least 0")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError("seed", seed, "use an integer of at least 0")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, (int, np.integer)) or workers < 1):
        raise InputError("workers", workers, "use an integer of at least 1, or None for one per core")
    trained_on, pair = _splits(target, models, size, seed)
    if models == 0:
        empty = np.zeros((0, len(target.records), target.classes))
        return Shadows(empty, trained_on, pair, how="no shadow models")
    recipe = target.recipe
    if recipe is None:
        raise InputError("target.recipe", "missing", "shadow models need one: lp.Recipe(make_net, epochs=…)")
    return _train(target, recipe, trained_on, pair, seed, folder, size, workers, device, progress)


def how_trained(target: Target, device: str = "cpu") -> tuple[bool, str]:
    """Return whether the target's shadow models are trained as a stack on ``device``, and if not, why not."""
    if target.recipe is None or not target.recipe.is_torch:
        return False, "own training functions and scikit-learn models are trained one by one"
    from leakpro_nb.shadows.stacked import why_not_stackable

    reason = why_not_stackable(target.recipe, as_array(target.records.X), target.records.y, device=device)
    return reason is None, reason or ""


def _splits(target: Target, models: int, size: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    n = len(target.records)
    if size == "half":
        return paired_splits(n, models, seed)
    if size != "target":
        raise InputError("shadow_size", size, "use half or target")
    members = target.members
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

    device = _device(device) if recipe.is_torch else "cpu"
    stacked, reason = how_trained(target, device)
    if reason:
        log.info("shadow models are trained one by one: %s", reason)
    device = device if stacked else "cpu"
    stack = STACK if stacked else 1
    # whole stacks even if fewer models are asked for: in a smaller one, dropout and the last bits would differ
    every, _ = _splits(target, -(-len(trained_on) // stack) * stack, size, seed)
    X = as_array(target.records.X) if recipe.is_torch else target.records.X
    kinds: tuple[Kind, ...] = ("torch", "scikit-learn", "function")
    outputs = {kind: target.outputs_of(kind) for kind in kinds}
    folder_of_code = folder_of(recipe.train or recipe.make)
    job = _Job(recipe, X, target.records.y, every, seed, target.classes, outputs, device, stacked, folder_of_code)
    with tempfile.TemporaryDirectory(prefix="leakpro-") as scratch:
        base = Path(folder) / "shadows" if folder is not None else Path(scratch)
        home = base / _key(target, job)
        home.mkdir(parents=True, exist_ok=True)
        units = [_Unit(first, first + stack, home) for first in range(0, len(every), stack)]
        found = {unit: job.load(unit) for unit in units}
        todo = [unit for unit, logits in found.items() if logits is None]
        seconds = _run(job, todo, workers, progress, done=sum(map(len, units)) - sum(map(len, todo)))
        logits = np.concatenate([_present(job.load(unit) if unit in todo else found[unit], unit) for unit in units])
        models = tuple(job.oracle(unit, k) for unit in units for k in range(unit.first, unit.end))[: len(trained_on)]
        if folder is None and recipe.is_torch:
            for model in models:  # while their weights are still there
                _ = model.model
    return Shadows(
        logits[: len(trained_on)],
        trained_on,
        pair,
        models,
        how=_in_words(target, trained_on, stacked, reason, size),
        folder=home if folder is not None else None,
        cpu_seconds=seconds,
    )


def _in_words(target: Target, trained_on: np.ndarray, stacked: bool, reason: str, size: str) -> str:
    members = target.records.members
    average = trained_on.sum(axis=1).mean()
    of_target = "" if members is None else f" ({average / max(1, members.sum()):.0%} of the target's training set)"
    way = "trained together as a stack" if stacked else f"trained one by one ({reason})"
    split = "complementary random halves of the records" if size == "half" else "random subsets of the records"
    return f"{len(trained_on)} shadow models on {split}, {average:,.0f} records each{of_target}, {way}"


def _present(logits: np.ndarray | None, unit: _Unit) -> np.ndarray:
    if logits is None:
        raise AuditFailed(f"{unit.file} was written but cannot be read back: is the disk full, or failing?")
    return logits


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch without CUDA raises the second
        raise InputError("device", device, "no such device here; use auto, cpu or cuda") from error
    return device


def _key(target: Target, job: _Job) -> str:
    """Return a name for everything that a trained model depends on; the first split stands for the way of splitting."""
    digest = hashlib.sha256()
    parts = [CACHE_VERSION, job.recipe.fingerprint(), target.records.fingerprint(), str(job.seed)]
    parts += [job.device.split(":")[0], f"stack {STACK}" if job.stacked else "single", str(job.classes)]
    parts += [str(sorted(job.outputs.items())), *_versions(job.recipe)]
    for part in parts:
        digest.update(part.encode() + b"\0")
    digest.update(np.packbits(job.trained_on[0]).tobytes())
    return digest.hexdigest()[:20]


def _versions(recipe: Recipe) -> list[str]:
    import sklearn

    versions = [f"numpy {np.__version__}", f"scikit-learn {sklearn.__version__}"]
    if not recipe.is_sklearn:
        import torch

        versions.append(f"torch {torch.__version__}")
    return versions


@dataclass(frozen=True)
class _Job:
    """What every unit needs to be trained."""

    recipe: Recipe
    X: Any
    y: np.ndarray
    trained_on: np.ndarray
    seed: int
    classes: int
    outputs: dict[Kind, Outputs]
    device: str
    stacked: bool
    folder: Path | None

    def train(self, unit: _Unit, *, parent: int | None = None) -> float:
        """Train one unit, write its file, return the CPU seconds it took.

        ``parent``: in a worker process, the process that started it. The worker must not outlive it, nor remember
        files beside target.py from an earlier task.
        """
        from safetensors.numpy import save

        start = time.process_time()
        with contextlib.ExitStack() as stack:
            if parent is not None:
                end_with(parent)
            stack.enter_context(alone(unit.lock))
            if self.load(unit) is not None:  # another process trained it meanwhile
                return 0.0
            stack.enter_context(single_thread(torch=not self.recipe.is_sklearn))
            stack.enter_context(warnings.catch_warnings())
            # worker processes map X read-only, and nobody here writes to it
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            stack.enter_context(beside(self.folder, fresh=parent is not None))
            states, logits = self._models(unit)
            arrays = {"logits": np.ascontiguousarray(logits)}
            for k, state in zip(range(unit.first, unit.end), states, strict=True):
                arrays |= {f"{k}.{name}": _as_numpy(tensor) for name, tensor in state.items()}
            write_atomically(unit.file, save(arrays, {"checksum": _checksum(arrays["logits"])}))
            unit.progress.unlink(missing_ok=True)
        return time.process_time() - start

    def oracle(self, unit: _Unit, k: int) -> Oracle:
        """Return model ``k`` to be asked: its saved weights, or the same model trained again where none are kept."""
        return Oracle(functools.partial(self.model, unit, k), self.classes, self.outputs)

    def model(self, unit: _Unit, k: int) -> Any:
        """Return model ``k`` of a finished unit."""
        with single_thread(torch=not self.recipe.is_sklearn), beside(self.folder):
            if self.recipe.is_torch and unit.file.exists():
                return self._loaded(unit, k)
            rows = self.trained_on[k]
            return self.recipe.fit(take(self.X, rows), self.y[rows], self._seed(k))

    def _loaded(self, unit: _Unit, k: int) -> Any:
        import torch
        from safetensors import safe_open

        net, mark = self.recipe.build(self._seed(k)), f"{k}."
        with safe_open(unit.file, framework="numpy") as handle:
            names = [name for name in handle.keys() if name.startswith(mark)]  # noqa: SIM118 - it has no iterator
            state = {name.removeprefix(mark): torch.from_numpy(handle.get_tensor(name)) for name in names}
        net.load_state_dict(state)
        return net.eval()

    def load(self, unit: _Unit) -> np.ndarray | None:
        """Return the unit's logits ``(models, N, C)``; None if there are none, or none that can be trusted."""
        from safetensors import SafetensorError, safe_open

        if not unit.file.exists():
            return None
        try:
            with safe_open(unit.file, framework="numpy") as handle:
                logits = handle.get_tensor("logits")
                checksum = (handle.metadata() or {}).get("checksum")
        except (SafetensorError, OSError) as error:
            log.warning("%s is damaged and its models are trained again: %s", unit.file, error)
            return None
        if logits.shape != (len(unit), len(self.y), self.classes) or checksum != _checksum(logits):
            log.warning("%s is damaged and its models are trained again: its content has changed", unit.file)
            return None
        return logits

    def _models(self, unit: _Unit) -> tuple[list[dict[str, Any]], np.ndarray]:
        names = f"shadow models {unit.first} to {unit.end - 1}" if len(unit) > 1 else f"shadow model {unit.first}"
        try:
            states, logits = self._stack(unit) if self.stacked else self._single(unit)
        except LeakproError as error:
            raise AuditFailed(f"training {names} failed: {error}") from error
        except Exception as error:
            text = " ".join(str(error).split())
            raise AuditFailed(f"training {names} failed: {type(error).__name__}: {text[:500]}") from error
        wanted = (len(unit), len(self.y), self.classes)
        if logits.shape != wanted:
            raise AuditFailed(f"training {names} failed: outputs {logits.shape} where the target's are {wanted}")
        return states, logits

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
        return states, np.stack([to_logits(each, self.outputs["torch"]) for each in raw])

    def _single(self, unit: _Unit) -> tuple[list[dict[str, Any]], np.ndarray]:
        from leakpro_nb.game.models import kind_of, predictor

        rows = self.trained_on[unit.first]
        model = self.recipe.fit(take(self.X, rows), self.y[rows], self._seed(unit.first))
        logits = predictor(model, self.classes, self.outputs[kind_of(model)])(self.X)
        state = {}
        if kind_of(model) == "torch":
            state = {name: each.detach().cpu() for name, each in model.state_dict().items() if hasattr(each, "detach")}
        return [state], logits[None]


def _as_numpy(tensor: Any) -> np.ndarray:
    if "bfloat16" in str(tensor.dtype):  # unknown to numpy
        tensor = tensor.float()
    return np.ascontiguousarray(tensor.numpy())


def _checksum(logits: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest()


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
        send_by_value()
        tasks = (joblib.delayed(job.train)(unit, parent=os.getpid()) for unit in todo)
        return sum(joblib.Parallel(n_jobs=workers, prefer="processes")(tasks))


@contextmanager
def _progress_bar(units: list[_Unit], done: int, *, enabled: bool) -> Iterator[None]:
    from tqdm.auto import tqdm

    total = done + sum(map(len, units))
    bar = tqdm(
        total=total,
        initial=done,
        desc="Shadow models",
        disable=not enabled,
        bar_format="{l_bar}{bar}| {n:.1f} of {total_fmt}, {elapsed} gone, {remaining} left",
    )
    stop = threading.Event()
    relay = os.environ.get(RELAY)

    def follow() -> None:
        while not stop.wait(0.5):
            bar.n = done + sum(len(unit) * _fraction(unit) for unit in units)
            bar.refresh()
            if relay and bar.n > done:
                left = bar.format_dict["elapsed"] * (total - bar.n) / (bar.n - done)
                text = f"{bar.n:.1f} of {total} shadow models, {bar.format_interval(left)} left"
                Path(relay).write_text(text, encoding="utf-8")

    watcher = threading.Thread(target=follow, daemon=True)
    watcher.start()
    try:
        yield
        bar.n = total
    finally:
        stop.set()
        watcher.join()
        bar.refresh()
        bar.close()
        if relay:
            Path(relay).unlink(missing_ok=True)


def _fraction(unit: _Unit) -> float:
    if unit.file.exists():
        return 1.0
    try:
        return float(unit.progress.read_text(encoding="ascii"))
    except (OSError, ValueError):  # not started, or just being written
        return 0.0
