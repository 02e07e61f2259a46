"""Strength and cost of every attack on one overfitted network; run ``python tests/benchmarks/bench_attacks.py``.

Adult, 10,000 audited records, 8 shadow models. Strength is repeatable; seconds belong to one machine and one thread.
``--all`` adds the options that differ from the defaults, ``--shadows`` what each attack reaches when every shadow
model plays the target in turn, which is what a choice between attacks may be based on.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
from pathlib import Path

import numpy as np

from leakpro_nb.attacks import Attack, NotApplicable, available, create, title_of
from leakpro_nb.attacks.membership import Base, Bavaria, Combined, MultiSignal, Rmia
from leakpro_nb.game.views import References, View
from leakpro_nb.measures import auc_interval, tpr_at_fpr

CASES = Path(__file__).parents[3] / "shared" / "cases" / "adult"

OPTIONS: list[Attack] = [
    Base(mode="offline", scale=0.33),
    Base(mode="offline", scale=0.2),
    Base(mode="offline", temperature=2.0),
    Bavaria(alpha0=1.0),
    Bavaria(alpha0=16.0),
    MultiSignal(covariance="independent"),
    MultiSignal(signals=("log_odds", "log_probability")),
    MultiSignal(signals=("log_probability", "modified_entropy")),
    MultiSignal(signals=("log_odds", "log_probability", "margin", "max_probability", "entropy", "modified_entropy")),
    MultiSignal(variance="global"),
    Rmia(temperature=2.0),
    Rmia(signal="soft_margin"),
    Rmia(signal="taylor"),
    Rmia(signal="soft_margin_taylor", temperature=2.0),
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


def line(name: str, attack: Attack, view: View, member: np.ndarray, *, shadows: bool) -> str:
    """Run one attack on a fresh copy of the view; return its row."""
    fresh = View(view.access, view.labels, view.logits, view.references)
    start = time.process_time()
    try:
        scores = attack.run(fresh).values
    except NotApplicable as reason:
        return f"{name:58} {reason}"
    seconds = time.process_time() - start
    auc, low, high = auc_interval(scores, member)
    point, (tpr_low, tpr_high), _ = tpr_at_fpr(scores, member, 0.01)
    text = (
        f"{name:58} {auc:.3f} [{low:.3f}, {high:.3f}]   {point.tpr:.4f} [{tpr_low:.4f}, {tpr_high:.4f}]  {seconds:7.3f}"
    )
    return f"{text}   {rehearsed(attack, view)}" if shadows else text


def rehearsed(attack: Attack, view: View) -> str:
    """Return mean AUC and TPR at 1 % FPR when every shadow model plays the target, judged by the others."""
    assert view.references is not None
    rows = []
    for k in range(len(view.references)):
        scores, member = attack.run(view.as_target(k)).values, view.references.trained_on[k]
        rows.append((auc_interval(scores, member)[0], tpr_at_fpr(scores, member, 0.01)[0].tpr))
    auc, tpr = np.mean(rows, axis=0)
    return f"{auc:.4f} {tpr:.4f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="also options that differ from the defaults")
    parser.add_argument("--shadows", action="store_true", help="also the mean over shadow models playing the target")
    parser.add_argument("--case", default="adult_overfit_h2_n8", help="adult_overfit_h2_n8 or adult_shipped_h2_n8")
    asked = parser.parse_args()
    if not (CASES / f"{asked.case}.npz").exists():
        print("the Adult case is not at hand")
        return
    view, member = load(asked.case)
    create("combined").run(view)  # scikit-learn's imports are nobody's cost
    tail = "   on shadows: AUC, TPR" if asked.shadows else ""
    print(f"{asked.case}: {len(view):,} records, {len(view.references or ())} shadow models, 95 % intervals")
    print(f"{'attack':58} {'AUC':20}   {'TPR at 1 % FPR':23} {'CPU s':>7}{tail}")
    for name in available():
        attack = create(name)
        print(line(f"{name}: {title_of(attack)}", attack, view, member, shadows=asked.shadows), flush=True)
    for attack in OPTIONS if asked.all else ():
        print(line(repr(attack)[:58], attack, view, member, shadows=asked.shadows), flush=True)


if __name__ == "__main__":
    main()
