"""A length-of-stay model for seriously ill patients, trained on half of SUPPORT2.

This is all that an audit needs to know about a model. Change it, run the audit again, and compare:

    leakpro-nb audit target.py --out audit
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import leakpro_nb as lp

WEIGHTS = Path(__file__).with_name("length_of_stay.safetensors")


def make_net() -> nn.Module:
    """Return the untrained network."""
    return nn.Sequential(nn.Linear(52, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 4))


def target() -> lp.Target:
    """Return the model with its records, and the way to train another one."""
    data = lp.datasets.support2()  # 9,105 patients; how many days until discharge, in quarters
    order = np.random.default_rng(0).permutation(len(data.y))
    members, population = np.zeros((2, len(order)), dtype=bool)
    members[order[: len(order) // 2]] = True  # half of the patients train the model
    population[order[-1000:]] = True  # 1,000 others are what an attacker may hold

    X = data.encode(fit_on=members)
    recipe = lp.Recipe(make_net, optimizer="adam", lr=1e-3, epochs=60, batch_size=64)
    if WEIGHTS.exists():
        net = make_net()
        net.load_state_dict(load_file(WEIGHTS))
    else:
        torch.set_num_threads(1)
        net = recipe.fit(X[members], data.y[members], seed=0)
        save_file(net.state_dict(), WEIGHTS)

    groups = data.frame.rename(columns={"dzclass": "disease"})
    return lp.Target(
        model=net,
        records=lp.Records(X, data.y, members, population, groups, class_names=data.classes),
        recipe=recipe,
        sensitive=["age", "sex", "race", "disease"],
        name="Length of stay, SUPPORT2",
        subjects="patients",
    )
