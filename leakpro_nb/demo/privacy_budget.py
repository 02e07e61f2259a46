"""A length-of-stay model for seriously ill patients, trained with differential privacy on half of SUPPORT2.

This is all that an audit of the privacy budget needs to know. Change it, run the audit again, and compare:

    leakpro-nb audit target.py --template privacy_budget --out audit

It needs Opacus and dp-accounting: pip install "leakpro-nb[dp]"
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import leakpro_nb as lp
from leakpro_nb.defences import DpSgd

WEIGHTS = Path(__file__).with_name("private_length_of_stay.safetensors")


def make_net() -> nn.Module:
    """Return the untrained network."""
    return nn.Sequential(nn.Linear(52, 32), nn.ReLU(), nn.Linear(32, 4))


def target() -> lp.Target:
    """Return the model with its records, and the way to train another one."""
    data = lp.datasets.support2()  # 9,105 patients; how many days until discharge, in quarters
    order = np.random.default_rng(0).permutation(len(data.y))
    members = np.zeros(len(order), dtype=bool)
    members[order[: len(order) // 2]] = True  # half of the patients train the model

    X = data.encode(fit_on=members)
    # about epsilon 8 at delta 1e-5
    recipe = lp.Recipe(train=DpSgd(make_net, noise_multiplier=0.96, epochs=20, batch_size=256, lr=0.5, delta=1e-5))
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
        records=lp.Records(X, data.y, members, groups=groups, class_names=data.classes),
        recipe=recipe,
        name="Length of stay with differential privacy, SUPPORT2",
        subjects="patients",
    )
