"""Small worlds for tests of attacks that ask models: a target that leaks, or none, with its shadow models.

Real training on small data. ``leak=False`` is null by construction: the target was trained on other records than any of
those that are audited, and who counts as a member is the toss of a coin.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import RandomForestClassifier
from torch import nn

import leakpro_nb as lp
from leakpro_nb.game.records import take
from leakpro_nb.game.threat import ThreatModel
from leakpro_nb.game.views import View
from leakpro_nb.shadows import train_shadows

__all__ = ["KINDS", "Kind", "permuted", "world"]

Kind = Literal["classes", "one_logit", "two_logits", "forest", "image"]
KINDS: tuple[Kind, ...] = ("classes", "one_logit", "two_logits", "forest", "image")

AUDITED, POPULATION, OTHERS = 800, 300, 400
STRONGEST = ("labels", "candidates", "population", "recipe", "known_members")


def _net(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))


def _classes_net() -> nn.Module:
    return _net(20, 5)


def _one_logit_net() -> nn.Module:
    return _net(20, 1)


def _two_logits_net() -> nn.Module:
    return _net(20, 2)


def _image_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def _data(kind: Kind, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = AUDITED + POPULATION + OTHERS
    if kind == "image":
        images, y = load_digits(return_X_y=True)
        rows = rng.permutation(len(y))[:n]
        X = images[rows].reshape(-1, 1, 8, 8).astype(np.float32) / 16
        X += rng.normal(0, 0.25, X.shape).astype(np.float32)
        return X, np.where(rng.random(n) < 0.2, rng.integers(0, 10, n), y[rows])
    classes = 5 if kind == "classes" else 2
    X, y = make_classification(
        n, 20, n_informative=8, n_redundant=2, n_classes=classes, flip_y=0.3, class_sep=0.8, random_state=seed
    )
    return X.astype(np.float32), y


@lru_cache
def world(
    kind: Kind, *, leak: bool = True, seed: int = 0, access: str = "scores", shadows: int = 8
) -> tuple[View, np.ndarray]:
    """Return the strongest attacker's view under ``access``, and the truth."""
    torch.set_num_threads(1)
    X, y = _data(kind, seed)
    rng = np.random.default_rng([seed, 7])
    members, population = np.zeros((2, AUDITED + POPULATION), dtype=bool)
    members[rng.permutation(AUDITED)[: AUDITED // 2]] = True
    population[AUDITED:] = True
    nets = {"classes": _classes_net, "one_logit": _one_logit_net, "two_logits": _two_logits_net, "image": _image_net}
    recipe = (
        lp.Recipe(RandomForestClassifier(30, random_state=0))
        if kind == "forest"
        else lp.Recipe(nets[kind], lr=3e-3, epochs=60 if kind != "image" else 25, batch_size=32)
    )
    n = AUDITED + POPULATION
    trained_on = np.flatnonzero(members) if leak else np.arange(n, len(y))
    model = recipe.fit(X[trained_on], y[trained_on], seed=seed)
    target = lp.Target(model, lp.Records(X[:n], y[:n], members, population), recipe)
    threat = ThreatModel(access=access, knowledge=STRONGEST)
    view = threat.reveal(target, train_shadows(target, shadows, seed=seed, workers=1, progress=False), seed=seed)
    return view, members[:AUDITED]


def permuted(view: View, order: np.ndarray) -> View:
    """Return the view with its audited records in another order."""
    return dataclasses.replace(
        view,
        labels=view.labels[order],
        logits=view.logits[order],
        references=view.references.select(slice(None), order),
        inputs=take(view.inputs, order),
        known=None if view.known is None else view.known[order],
        known_members=None if view.known_members is None else view.known_members[order],
        _cache={},
    )
