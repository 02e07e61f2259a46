"""Strength and cost of every attack on one overfitted network; run ``python tests/benchmarks/bench_attacks.py``.

Adult, 10,000 audited records, 8 shadow models. Strength is repeatable; seconds belong to one machine and one thread.
``--all`` adds the options that differ from the defaults, ``--shadows`` what each attack reaches when every shadow
model plays the target in turn, which is what a choice between attacks may be based on. ``--few`` asks what one, two
and four shadow models are worth.

Stored predictions are not enough for attacks that ask models. ``--models`` trains the same network, with its shadow
models, on the package's own Adult table, keeps them in a folder, and runs every attack with the least access that it
declares; those that ask models are run on ``--records`` of the audited records.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import dataclasses
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import leakpro_nb as lp
from leakpro_nb.attacks import Attack, NotApplicable, available, create, title_of
from leakpro_nb.attacks.membership import Base, Bavaria, Combined, MultiSignal, Rmia
from leakpro_nb.datasets import adult
from leakpro_nb.errors import AccessDenied
from leakpro_nb.game.records import take
from leakpro_nb.game.threat import ThreatModel
from leakpro_nb.game.views import References, View
from leakpro_nb.measures import auc_interval, tpr_at_fpr
from leakpro_nb.shadows import train_shadows
from leakpro_nb.shadows.ensemble import Shadows

AUDITED, SPARE = 10_000, 2_000
"""As in the stored case: half of the audited records trained the target; nobody is asked about the spare ones."""

STRONGEST = ("labels", "candidates", "population", "recipe", "known_members")

CASES = Path(__file__).parents[3] / "shared" / "cases" / "adult"

OPTIONS: list[Attack] = [
    Base(mode="offline", scale=0.33),
    Base(mode="offline", scale=0.2),
    Base(mode="offline", temperature=2.0),
    Bavaria(alpha0=1.0),
    Bavaria(alpha0=16.0),
    MultiSignal(covariance="pooled"),
    MultiSignal(signals=("log_odds", "log_probability")),
    MultiSignal(signals=("log_probability", "modified_entropy")),
    MultiSignal(signals=("log_odds", "log_probability", "margin", "max_probability", "entropy", "modified_entropy")),
    MultiSignal(variance="global"),
    Rmia(temperature=2.0),
    Rmia(signal="soft_margin"),
    Rmia(signal="taylor"),
    Rmia(signal="soft_margin_taylor", temperature=2.0),
    Rmia(reference_mean="trimmed"),
    Rmia(score="count", z="audit"),
    Rmia(mode="offline", a=0.3),
    Rmia(mode="offline", offline_map="bins"),
    Combined(learner="logistic"),
    Combined(learner="boosting"),
    Combined(learner="ranks"),
]


def load(name: str) -> tuple[View, np.ndarray]:
    """Return the view of one case, and the truth."""
    data = np.load(CASES / f"{name}.npz")
    rows = np.r_[data["train_idx"], data["test_idx"]]
    members = len(data["train_idx"])
    references = References(data["shadow_logits"][:, rows], data["shadow_in_mask"][:, rows], np.arange(8) ^ 1)
    return View("scores", data["y"][rows], data["target_logits"][rows], references), np.arange(len(rows)) < members


def net() -> Any:
    """Return the network of the case: two hidden layers of 256 units on the 104 or so encoded columns."""
    from torch import nn

    width = adult().encode(np.arange(2)).shape[1]
    return nn.Sequential(
        nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2)
    )  # fmt: skip


def trained(folder: Path) -> tuple[lp.Target, Shadows, np.ndarray]:
    """Return a target with eight shadow models, and who of the audited records is a member."""
    import torch

    torch.set_num_threads(1)
    data = adult()
    rows = np.random.default_rng(0).permutation(len(data.y))[: AUDITED + SPARE]
    members, spare = np.zeros((2, len(rows)), dtype=bool)
    members[: AUDITED // 2] = True
    spare[AUDITED:] = True
    X, y = data.encode(rows[members])[rows], data.y[rows]
    recipe = lp.Recipe(net, lr=1e-3, epochs=60, batch_size=128)
    model = recipe.fit(X[members], y[members], seed=0)
    target = lp.Target(model, lp.Records(X, y, members, spare), recipe)
    right = target.logits.argmax(axis=1) == y
    print(f"accuracy {right[members].mean():.3f} on members, {right[~members].mean():.3f} on others")
    shadows = train_shadows(target, 8, seed=0, folder=folder, workers=1, progress=False)
    return target, shadows, members[:AUDITED]


def part(view: View, rows: np.ndarray) -> View:
    """Return the view of some of the audited records."""
    return dataclasses.replace(
        view, labels=view.labels[rows], logits=view.logits[rows],
        references=view.references and view.references.select(slice(None), rows), inputs=take(view.inputs, rows),
        known=None if view.known is None else view.known[rows],
        known_members=None if view.known_members is None else view.known_members[rows], _cache={},
    )  # fmt: skip


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` once this much CPU time is spent."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"stopped after {seconds:g} CPU seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def line(name: str, attack: Attack, view: View, member: np.ndarray, *, shadows: bool = False, most: float = 1e6) -> str:
    """Run one attack on a fresh copy of the view; return its row."""
    start = time.process_time()
    try:
        with limit(most):
            scores = attack.run(dataclasses.replace(view, _cache={}))
    except (NotApplicable, AccessDenied, TimeoutError) as reason:
        return f"{name:58} skipped: {reason}"
    seconds = time.process_time() - start
    known = ~np.isnan(scores.values)
    values, member = scores.values[known], member[known]
    auc, low, high = auc_interval(values, member)
    point, (tpr_low, tpr_high), _ = tpr_at_fpr(values, member, 0.01)
    text = (
        f"{name:58} {auc:.3f} [{low:.3f}, {high:.3f}]   {point.tpr:.4f} [{tpr_low:.4f}, {tpr_high:.4f}]  {seconds:7.3f}"
    )
    if shadows:
        return f"{text}   {rehearsed(attack, view)}"
    notes = ", ".join(f"{key}: {value}" for key, value in scores.notes.items())
    return f"{text}  {len(values):6,}  {notes[:120]}"


def rehearsed(attack: Attack, view: View) -> str:
    """Return mean AUC and TPR at 1 % FPR when every shadow model plays the target, judged by the others."""
    assert view.references is not None
    rows = []
    for k in range(len(view.references)):
        scores, member = attack.run(view.as_target(k)).values, view.references.trained_on[k]
        rows.append((auc_interval(scores, member)[0], tpr_at_fpr(scores, member, 0.01)[0].tpr))
    auc, tpr = np.mean(rows, axis=0)
    return f"{auc:.4f} {tpr:.4f}"


def table(tail: str = " scored  notes") -> None:
    """Print the head of a table."""
    print(f"{'attack':58} {'AUC':20}   {'TPR at 1 % FPR':23} {'CPU s':>7}{tail}")


def with_models(folder: Path, records: int, most: float) -> None:
    """Print every attack, each under the least access that it declares."""
    target, shadows, member = trained(folder)
    some = np.sort(np.random.default_rng(1).permutation(len(member))[:records])
    views = {
        access: ThreatModel(access=access, knowledge=STRONGEST).reveal(target, shadows)
        for access in ("labels", "scores", "white_box")
    }
    print(f"{len(member):,} audited records, of which {len(some):,} for attacks that ask models (*), {shadows.how}")
    table()
    for name in available():
        attack = create(name)
        view, truth = views[attack.access], member
        asks = bool(getattr(attack, "asks", False))
        if asks:
            view, truth = part(view, some), member[some]
        print(line(f"{name}{' *' if asks else ''}: {title_of(attack)}", attack, view, truth, most=most), flush=True)


def with_few(view: View, member: np.ndarray) -> None:
    """Print the attacks with one, two and four shadow models, the best first (which only the truth tells)."""
    assert view.references is not None
    for models in (1, 2, 4):
        few = dataclasses.replace(view, references=view.references.select(np.arange(models), slice(None)), _cache={})
        rows = [line(f"{models} shadow models, {name}", create(name), few, member) for name in stored()]
        rows = [row for row in rows if "skipped" not in row]
        print("\n".join(sorted(rows, key=lambda row: row[58:64], reverse=True)), flush=True)


def stored() -> list[str]:
    """Return the names of the attacks for which stored predictions are enough."""
    return [name for name in available() if not getattr(create(name), "asks", False)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="also options that differ from the defaults")
    parser.add_argument("--shadows", action="store_true", help="also the mean over shadow models playing the target")
    parser.add_argument("--few", action="store_true", help="only one, two and four shadow models")
    parser.add_argument("--models", action="store_true", help="train models, and run attacks that ask them too")
    parser.add_argument("--records", type=int, default=1_000, help="audited records for attacks that ask models")
    parser.add_argument("--limit", type=float, default=300.0, help="CPU seconds that an attack may take (--models)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "leakpro_nb_bench_attacks")
    parser.add_argument("--case", default="adult_overfit_h2_n8", help="adult_overfit_h2_n8 or adult_shipped_h2_n8")
    asked = parser.parse_args()
    if asked.models:
        with_models(asked.folder, asked.records, asked.limit)
        return
    if not (CASES / f"{asked.case}.npz").exists():
        print("the Adult case is not at hand")
        return
    view, member = load(asked.case)
    create("combined").run(view)  # scikit-learn's imports are nobody's cost
    print(f"{asked.case}: {len(view):,} records, {len(view.references or ())} shadow models, 95 % intervals")
    table("   on shadows: AUC, TPR" if asked.shadows else " scored  notes")
    if asked.few:
        with_few(view, member)
        return
    for name in stored():
        attack = create(name)
        print(line(f"{name}: {title_of(attack)}", attack, view, member, shadows=asked.shadows), flush=True)
    for attack in OPTIONS if asked.all else ():
        print(line(repr(attack)[:58], attack, view, member, shadows=asked.shadows), flush=True)


if __name__ == "__main__":
    main()
