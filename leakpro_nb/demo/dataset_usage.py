"""A length-of-stay model for which three hospitals were asked for data, and gave different shares of it.

The patients are real (SUPPORT2), the hospitals A, B and C are made up: patients were assigned to them at random, and
drawn at random from them for training. The audit asks how much of each hospital's data went into the model:

    leakpro-nb audit target.py --template dataset_usage --out audit
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import leakpro_nb as lp

WEIGHTS = Path(__file__).with_name("length_of_stay.safetensors")
USED = {"A": 1.0, "B": 0.4, "C": 0.0}  # share of each hospital's patients that trains the model
PATIENTS = 2000  # of each hospital


def make_net() -> nn.Module:
    """Return the untrained network."""
    return nn.Sequential(nn.Linear(52, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 4))


def target() -> lp.Target:
    """Return the model with the hospitals' records, and the way to train another one."""
    data = lp.datasets.support2()  # 9,105 patients; how many days until discharge, in quarters
    order = np.random.default_rng(0).permutation(len(data.y))
    hospital = np.full(len(order), "none", dtype=object)
    used = np.zeros(len(order), dtype=bool)
    for number, (name, share) in enumerate(USED.items()):
        patients = order[number * PATIENTS : (number + 1) * PATIENTS]
        hospital[patients] = name
        used[patients[: round(share * PATIENTS)]] = True
    rest = order[len(USED) * PATIENTS :]
    elsewhere = rest[:1505]  # the developer's own patients: they train the model, and no auditor knows them
    population = np.isin(np.arange(len(order)), rest[1505:])  # 1,600 patients who are known not to have trained it

    X = data.encode()
    recipe = lp.Recipe(make_net, optimizer="adam", lr=1e-3, epochs=30, batch_size=64)
    if WEIGHTS.exists():
        net = make_net()
        net.load_state_dict(load_file(WEIGHTS))
    else:
        torch.set_num_threads(1)
        training = np.r_[np.flatnonzero(used), elsewhere]
        net = recipe.fit(X[training], data.y[training], seed=0)
        save_file(net.state_dict(), WEIGHTS)

    known = np.flatnonzero((hospital != "none") | population)  # what the auditor holds
    groups = data.frame.iloc[known].assign(hospital=hospital[known])
    # Leave members out where they are the question; here the report shows the true shares beside its estimates.
    return lp.Target(
        model=net,
        records=lp.Records(
            X[known],
            data.y[known],
            members=used[known],
            population=population[known],
            groups=groups,
            class_names=data.classes,
        ),
        recipe=recipe,
        sensitive=["hospital"],
        name="Length of stay, trained on data of three hospitals",
        subjects="patients",
    )
