"""Nothing about the audited membership reaches an attack but through the target: another truth, the same scores."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from sklearn.datasets import make_classification
from torch import nn

import leakpro_nb as lp
from leakpro_nb.attacks import create
from leakpro_nb.audits.membership import SCORE_ATTACKS, WHITE_BOX_ATTACKS, default_attacks
from leakpro_nb.game.threat import ThreatModel
from leakpro_nb.game.views import View
from leakpro_nb.shadows import train_shadows

N, POPULATION = 240, 80
QUICK = {"trajectory": {"epochs": 3}, "sequence": {"epochs": 3}, "augmentation": {"copies": 2},
         "augmentation_calibrated": {"copies": 2}, "boundary": {"queries": 60},
         "activation_gradient": {"practice": "shadows", "epochs": 3}}  # fmt: skip
LABELS = default_attacks(ThreatModel(access="labels", knowledge=("labels",)))


def make_net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


@lru_cache
def views(access: str) -> tuple[View, View]:
    """Return what is seen of one model: said to be trained on the first half, as it was, and on a random half."""
    X, y = make_classification(N + POPULATION, 6, n_informative=4, n_classes=3, random_state=0)
    X = X.astype(np.float32)
    population = np.arange(len(y)) >= N
    first = np.arange(len(y)) < N // 2
    other = np.zeros(len(y), dtype=bool)
    other[np.random.default_rng(1).permutation(N)[: N // 2]] = True
    recipe = lp.Recipe(make_net, lr=0.01, epochs=20, batch_size=16)
    model = recipe.fit(X[first], y[first], seed=0)
    found = []
    for members in (first, other):
        target = lp.Target(model, lp.Records(X, y, members, population), recipe)
        shadows = train_shadows(target, 6, workers=1, progress=False)
        found.append(ThreatModel(access=access).reveal(target, shadows))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("access", "name"),
    [
        *[("scores", name) for name in (*SCORE_ATTACKS, "quantile", "sequence")],
        *[
            ("labels", name)
            for name in dict.fromkeys((*LABELS, "augmentation_calibrated", "trajectory", "yoqo", "oslo"))
        ],
        *[("white_box", name) for name in WHITE_BOX_ATTACKS],
    ],
)
def test_whoever_is_said_to_be_a_member_has_the_same_scores(access, name):
    attack = create(name, QUICK.get(name, {}))
    true, said = (attack.run(view).values for view in views(access))
    assert len(np.unique(true[~np.isnan(true)])) > 1
    np.testing.assert_array_equal(true, said)


def test_membership_is_in_no_field_of_a_view():
    names = {field.name for field in dataclasses.fields(View)}
    assert {name for name in names if "member" in name} == {"known_members"}
    assert all(view.known_members is None and view.known is None for view in views("scores"))
