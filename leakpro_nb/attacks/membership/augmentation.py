"""Augmentation attack: does the model still answer correctly when the record is changed a little?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Literal

import numpy as np

from leakpro_nb.attacks.base import NotApplicable, Scores
from leakpro_nb.attacks.membership.label_only import as_numbers, mean_out, spread_of, two_valued, with_numbers
from leakpro_nb.attacks.membership.rehearsal import FEWEST_REFERENCES, auc
from leakpro_nb.attacks.queries import Flip, Identity, Shift, is_image
from leakpro_nb.errors import InputError
from leakpro_nb.game.threat import Knowledge
from leakpro_nb.game.views import Access, Transform, View

__all__ = ["Augmentation", "Noise", "share_correct"]

PRACTICE_MODELS = 4
"""Reference models on which the size of the changes is chosen: their mean is enough to choose one of a few."""

FLIPPED = 0.1
"""Share of the columns with two values that a change of size 1 turns into their opposite."""


@dataclass(frozen=True)
class Noise:
    """Adds one and the same noise to every record ``(n, …)``, so that the order of records does not matter.

    Parameters
    ----------
    size
        Standard deviation of the noise in units of ``spread``; a column with two values is turned into the other one
        with probability ``0.1 * size`` instead.
    seed
        Decides the noise.
    spread, low, high
        (d,) step of 1 in each column, 0 to leave it alone, and the range in which values are kept.
    two_valued
        (d,) which columns have two values.
    """

    size: float
    seed: int
    spread: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    two_valued: tuple[bool, ...]

    def __call__(self, X: Any) -> Any:
        """Return inputs of the same type and shape; columns of categories are left as they are."""
        rng = np.random.default_rng(self.seed)
        noise = rng.normal(size=len(self.spread))
        turned = np.array(self.two_valued) & (rng.random(len(self.spread)) < FLIPPED * self.size)
        low, high, numbers = np.array(self.low), np.array(self.high), as_numbers(X)
        added = np.where(self.two_valued, 0.0, self.size * np.array(self.spread) * noise)
        moved = np.clip(numbers + added, low, high)
        return with_numbers(X, np.where(turned, low + high - numbers, moved))


@dataclass(frozen=True)
class Augmentation:
    """Share of changed copies of a record that the target still classifies correctly.

    Source: Choquette-Choo et al., ICML 2021 (2007.14321), translation, rotation and noise. Tables: noise of several
    sizes, in spreads of each column, and columns with two values turned into the other one. Images: the same noise for
    every pixel's range, moves by up to a quarter of the width, and mirrored copies. The original counts as one copy.

    Parameters
    ----------
    mode
        ``"plain"`` (default): the paper's. ``"calibrated"`` (ours): minus the mean share over shadow models that never
        saw the record, as some records are easy for every model.
    copies
        Copies per size of the noise.
    sizes
        Sizes of the noise to choose from, in spreads (tables) or ranges of values (images). An attacker with at least
        three reference models and the records beforehand chooses the size, or all of them together, with the largest
        mean AUC over four of them playing the target; anyone else takes all together.
    seed
        Of the noise.
    """

    title: ClassVar[str] = "Changed copies by labels"
    paper: ClassVar[str] = "Choquette-Choo et al., ICML 2021"
    idea: ClassVar[str] = (
        "The attacker changes a person's record a little in many ways. The model tends to hold on to its answer more "
        "often for people it was trained on."
    )
    access: ClassVar[Access] = "labels"
    asks: ClassVar[bool] = True

    mode: Literal["plain", "calibrated"] = "plain"
    copies: int = 32
    sizes: tuple[float, ...] = (0.02, 0.05, 0.1, 0.25, 0.5)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("plain", "calibrated"):
            raise InputError("augmentation.mode", self.mode, "use plain or calibrated")
        if isinstance(self.copies, bool) or not isinstance(self.copies, (int, np.integer)) or self.copies < 1:
            raise InputError("augmentation.copies", self.copies, "use an integer of at least 1")
        if isinstance(self.sizes, str) or not len(self.sizes) or not all(0 < size < np.inf for size in self.sizes):
            raise InputError("augmentation.sizes", self.sizes, "use a list of positive numbers")
        object.__setattr__(self, "sizes", tuple(self.sizes))  # a list from a YAML file is as good

    @property
    def knowledge(self) -> tuple[Knowledge, ...]:
        """True labels; calibrated also the recipe."""
        return ("labels", "recipe") if self.mode == "calibrated" else ("labels",)

    @property
    def references(self) -> int:
        """The fewest reference models."""
        return int(self.mode == "calibrated")

    def run(self, view: View) -> Scores:
        """Score every record of ``view``.

        Raises
        ------
        NotApplicable
            Records without any numbers that could be changed, or, calibrated, no suitable reference models.
        AccessDenied
            The target, or calibrated the reference models, cannot be asked.
        """
        families = self.transforms(view)
        chosen, how = self._choose(view, families)
        transforms = _union(families, chosen)
        scores = share_correct(view, transforms)
        if self.mode == "calibrated":
            scores = scores - mean_out(view, lambda shadow: share_correct(shadow, transforms))
        return Scores(scores, {"changes": chosen, "changes chosen on": how, "queries per record": len(transforms)})

    def transforms(self, view: View) -> dict[str, tuple[Transform, ...]]:
        """Return the changes to choose from, by name."""
        X = view.features()
        numbers = as_numbers(X)
        around = numbers if view.population_inputs is None else np.vstack([numbers, as_numbers(view.population_inputs)])
        low, high, spread, two = around.min(axis=0), around.max(axis=0), spread_of(around), two_valued(around)
        families: dict[str, tuple[Transform, ...]] = {}
        if is_image(X):
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
            spread, two = high - low, np.zeros_like(two)
            families["moved and mirrored"] = _moves(X)
        if not spread.any():
            raise NotApplicable("it changes records within the data's own range, and all of these records are the same")
        limits = [tuple(values.tolist()) for values in (spread, low, high, two)]
        for size in self.sizes:
            seeds = np.random.SeedSequence([self.seed, round(1e6 * size)]).generate_state(self.copies).tolist()
            families[f"noise of {size:g}"] = tuple(Noise(size, seed, *limits) for seed in seeds)
        return families

    def _choose(self, view: View, families: dict[str, tuple[Transform, ...]]) -> tuple[str, str]:
        references = view.rehearsal
        if references is None or len(references) < FEWEST_REFERENCES or not references.models:
            return ALL, "default, as there are too few shadow models to practise on"
        mean = dict.fromkeys((*families, ALL), 0.0)
        playing = [k for k, row in enumerate(references.trained_on) if row.any() and not row.all()][:PRACTICE_MODELS]
        for k in playing:
            shadow, member = view.as_target(k), references.trained_on[k]
            correct = {name: np.stack([_correct(shadow, t) for t in each]) for name, each in families.items()}
            original = _correct(shadow, Identity())[None]
            for name, rows in (*correct.items(), (ALL, np.concatenate(list(correct.values())))):
                mean[name] += auc(np.concatenate([original, rows]).mean(axis=0), member) / len(playing)
        best = max(mean, key=lambda name: mean[name])
        return best, f"{len(playing)} shadow models playing the target"


ALL = "all together"


def share_correct(view: View, transforms: tuple[Transform, ...]) -> np.ndarray:
    """Return the share ``(N,)`` of the changed copies of each record that the target answers correctly."""
    return np.mean([_correct(view, transform) for transform in transforms], axis=0)


def _correct(view: View, transform: Transform) -> np.ndarray:
    X = view.features()
    return (view.ask(transform(X)).argmax(axis=1) == view.labels).astype(np.float64)


def _union(families: dict[str, tuple[Transform, ...]], chosen: str) -> tuple[Transform, ...]:
    parts = families.values() if chosen == ALL else [families[chosen]]
    return (Identity(), *(transform for part in parts for transform in part))


def _moves(X: Any) -> tuple[Transform, ...]:
    """Return moves by up to a quarter of the images' sides, and the mirrored copy."""
    height, width = X.shape[-2:]
    reach = max(1, min(height, width) // 4)
    steps = sorted({-reach, -max(1, reach // 2), 0, max(1, reach // 2), reach})
    return (Flip(), *(Shift(dx, dy) for dx, dy in product(steps, steps) if dx or dy))
