"""The range audit: can an attacker tell whether anyone like a given person was in the training data?

The notebook calls these functions in order; each hands its result to the next:
``prepare`` → ``train`` → ``observe`` → ``attack`` → ``measure`` → ``save``.

It is a membership audit in which ranges stand for records: a range is a member if any record that trained the model
lies in it. Measures, checks and verdict are therefore those of ``audits.membership``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from leakpro_nb.attacks.usage.range_membership import Aggregate, RangeMembership, aggregate, range_view
from leakpro_nb.attacks.usage.samplers import DEFAULT_QUANTILE, Altered, Ball, MissingValues, Sampler
from leakpro_nb.audits import common, membership
from leakpro_nb.audits.membership import Outcome, values
from leakpro_nb.errors import InputError
from leakpro_nb.game.models import kind_of
from leakpro_nb.game.records import Records, take
from leakpro_nb.game.target import MIN_SIDE, Target
from leakpro_nb.game.threat import ThreatModel
from leakpro_nb.game.views import View
from leakpro_nb.measures import auc_interval, clopper_pearson
from leakpro_nb.plots.range_membership import DISTANCE, KIND
from leakpro_nb.results import AttackResult, Exposure, Interval, Result, Verdict, write_atomically
from leakpro_nb.shadows.ensemble import Shadows, train_shadows
from leakpro_nb.words import share

__all__ = [
    "DEFAULT_ATTACKS",
    "DISTANCE",
    "KIND",
    "KINDS",
    "Outcome",
    "Plan",
    "Ranges",
    "alike",
    "attack",
    "build",
    "measure",
    "observe",
    "preflight",
    "prepare",
    "save",
    "train",
    "values",
]

QUESTION = "Was anyone like this person (any record within a range around it) in the training data?"

DEFAULT_ATTACKS = ("base_offline", "base")
LABEL_ONLY_ATTACKS = ("gap",)

KINDS = {
    "on_member": "centred on someone in the training data",
    "beside_member": "centred beside someone in the training data, who is inside",
    "near_miss": "centred beside someone who is not; the nearest in the training data is just outside",
    "on_other": "centred on someone who is not in the training data",
}
"""What ranges there are. Those of the first two kinds hold someone from the training data, the others do not."""

JUST_OUTSIDE = 1.5
"""Largest distance, in radii, of the nearest training record from the centre of a near miss."""

BESIDE = 1 / 3
"""Share of the ranges whose centre is moved away from a record."""

BINS = (
    ("at the centre", -1.0, 0.0),
    ("up to half the radius away", 0.0, 0.5),
    ("further, but inside", 0.5, 1.0),
    ("just outside: up to 1.25 radii", 1.0, 1.25),
    ("outside: 1.25 to 1.5 radii", 1.25, JUST_OUTSIDE),
)
"""Distances of the nearest training record, in radii: what to call them, above, up to."""

FEWEST_IN_BIN = 20
"""Ranges that a distance must have to be shown."""


@dataclass(frozen=True)
class Ranges:
    """Ranges to be audited.

    Parameters
    ----------
    sampler
        What a range is.
    centres, labels
        Inputs ``(R, …)`` and labels ``(R,)`` at the centres.
    anchors
        (R,) row of the record that each range was made from.
    kind
        (R,) one of ``KINDS``.
    inside
        (R, N) sparse bool: which records lie in it.
    distance
        (R,) of the nearest training record from the centre, in radii; ``None`` where there are no distances.
    """

    sampler: Sampler
    centres: Any = field(repr=False)
    labels: np.ndarray = field(repr=False)
    anchors: np.ndarray = field(repr=False)
    kind: np.ndarray = field(repr=False)
    inside: Any = field(repr=False)
    distance: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.anchors)

    def holding(self, chosen: np.ndarray) -> np.ndarray:
        """Return which ranges hold any of the chosen records: ``(R,)`` for a mask ``(N,)``, ``(K, R)`` for ``(K, N)``."""
        return np.asarray((self.inside @ chosen.T.astype(np.int32)).T > 0)


@dataclass(frozen=True)
class Plan:
    """A checked audit: the ranges, and the membership audit in which they stand for records."""

    target: Target
    ranges: Ranges
    game: membership.Plan

    @property
    def threat(self) -> ThreatModel:
        """Who attacks."""
        return self.game.threat

    @property
    def range_in_words(self) -> str:
        """What a range is, for the report."""
        words = self.ranges.sampler.in_words(self.target.subjects)
        if isinstance(self.ranges.sampler, Ball) and self.game.asked["radius"] is None:
            words += (
                f" The distance was chosen such that {share(DEFAULT_QUANTILE)} of the records have another one as near."
            )
        return words

    @property
    def truth(self) -> np.ndarray:
        """(R,) bool: whether the range holds a record that trained the model."""
        return self.game.target.members


def prepare(
    target: Target | str,
    threat: ThreatModel | str | None = None,
    *,
    out: str | Path = "audit",
    sampler: str | Sampler = "auto",
    radius: float | None = None,
    missing: Sequence[str | int] | None = None,
    num_ranges: int = 1500,
    num_samples: int = 10,
    aggregate: Aggregate = "trimmed",
    attacks: Sequence[str] | None = None,
    attack_options: Mapping[str, Mapping[str, Any]] | None = None,
    num_shadows: int = 8,
    shadow_size: Literal["half", "target"] = "half",
    fprs: Sequence[float] = (0.1, 0.01, 0.0),
    headline_fpr: float = 0.01,
    confidence: float = 0.95,
    seed: int = 0,
    workers: int | None = None,
    device: str = "auto",
) -> Plan:
    """Check everything that can be wrong, and lay out the ranges, before anything expensive starts.

    Parameters
    ----------
    target, threat, out, attack_options, num_shadows, shadow_size, fprs, headline_fpr, confidence, seed, workers, device
        See ``audits.membership.prepare``.
    sampler
        What a range is: ``"ball"`` (all records within a distance), ``"missing"`` (all that agree but for the columns
        ``missing``), ``"images"`` (a picture, mirrored, turned, shifted), ``"auto"``: the one that suits the records.
        From Python also a sampler, for example a ``WordReplacement``.
    radius
        Of a ball; ``None``: such that one record in ten has another one within it.
    missing
        Columns that the attacker does not know.
    num_ranges
        Ranges to audit, half of them around members; fewer where there are not enough records.
    num_samples
        Points per range about which the model is asked.
    aggregate
        How the scores of the points become that of the range; see ``RangeMembership``.
    attacks
        Membership attacks that score the points, each on points of the range and on its centre alone, which is what
        an attacker would try first. ``None``: those that pay under this access.

    Raises
    ------
    InputError
        The first thing that is wrong: field, value, remedy.
    """
    model = ThreatModel.load(threat)
    if attacks is None:
        attacks = LABEL_ONLY_ATTACKS if model.access == "labels" else DEFAULT_ATTACKS
    common.check_count("num_ranges", num_ranges, smallest=2 * MIN_SIDE, example=1500)
    common.check_count("num_samples", num_samples, smallest=1, example=10)
    common.check_seed(seed)
    chosen = _sampler(sampler, radius, missing, seed)
    challenger = Target.load(target)
    if kind_of(challenger.model) == "predictions":
        raise InputError(
            "target", "a table of predictions", "a range is judged by asking the model about points in it: give a model"
        )
    if challenger.shadows is not None and not challenger.shadows.models and num_shadows:
        raise InputError(
            "target.shadows",
            "predictions of shadow models",
            "they must be asked about other points: give a recipe instead",
        )
    base = membership.prepare(
        challenger, model, out=out, attacks=attacks, attack_options=attack_options, num_shadows=num_shadows,
        shadow_size=shadow_size, fprs=fprs, headline_fpr=headline_fpr, confidence=confidence, seed=seed,
        workers=workers, device=device,
    )  # fmt: skip
    if chosen is None:
        chosen = Altered(seed=seed) if np.ndim(challenger.records.X) in (3, 4) else Ball(radius, seed=seed)
    ranges = build(challenger, chosen.fitted(challenger.records.X), num_ranges, seed)
    scored: dict[str, Any] = {}
    for name, each in base.attacks.items():
        scored[name] = RangeMembership(each, ranges.sampler, num_samples, aggregate)
        if aggregate != "centre" and num_samples > 1:
            scored[f"{name}_centre"] = RangeMembership(each, ranges.sampler, 1, "centre")
    asked = {
        **base.asked, "target": Path(target).name if isinstance(target, (str, Path)) else challenger.name,
        "sampler": sampler if isinstance(sampler, str) else type(sampler).__name__, "radius": radius,
        "missing": list(missing) if missing else None, "num_ranges": num_ranges, "num_samples": num_samples,
        "aggregate": aggregate,
    }  # fmt: skip
    game = dataclasses.replace(base, target=_as_records(challenger, ranges), attacks=scored, asked=asked)
    return Plan(challenger, ranges, game)


def preflight(**parameters: Any) -> None:
    """Check the parameters of the template, as ``prepare`` does, for callers that start a notebook."""
    prepare(**parameters)


def _sampler(
    wanted: str | Sampler, radius: float | None, missing: Sequence[str | int] | None, seed: int
) -> Sampler | None:
    """Return the sampler that was asked for; ``None`` where the records decide."""
    if not isinstance(wanted, str):
        return wanted
    if wanted not in ("auto", "ball", "missing", "images"):
        raise InputError("sampler", wanted, "use auto, ball, missing or images")
    if wanted in ("missing", "images") and radius is not None:
        raise InputError("radius", radius, f"a range of sampler {wanted} has no radius: leave it out")
    if missing and (wanted in ("ball", "images") or radius is not None):
        raise InputError("missing", list(missing), "use it with sampler missing, and without a radius")
    if wanted == "missing" or missing:
        return MissingValues(tuple(missing or ()), seed=seed)
    if wanted == "images":
        return Altered(seed=seed)
    # checked now, although pictures may turn out to have no radius
    return Ball(radius, seed=seed) if wanted == "ball" or radius is not None else None


def build(target: Target, sampler: Sampler, num_ranges: int, seed: int) -> Ranges:
    """Return about ``num_ranges`` ranges, as many with training records in them as without.

    A third of them is moved, where there are distances: away from a record, straight towards its nearest record on
    the other side, so that the range holds the one and not the other. With a member at the near end it still contains
    that member; the mirror image, with a non-member at the near end, is a near miss. Nothing but membership tells the
    two apart. For the same reason ranges that hold members and non-members at once are left out: only on one side
    could they be there, and the sides would differ in how crowded they are. Ranges with one record inside come first.

    Raises
    ------
    InputError
        Too few such ranges.
    """
    records, member = target.records, target.members
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(6,)))
    moved = _beside(records, member, sampler, round(num_ranges * BESIDE / 2), rng)
    used = np.concatenate([each.anchors for each in moved]) if moved else np.zeros(0, dtype=int)
    parts = []
    for kind, side in (("on_member", member), ("on_other", records.audited & ~member)):
        free = np.setdiff1d(np.flatnonzero(side), used)
        wanted = num_ranges // 2 - len(used) // 2
        anchors = rng.permutation(free)[: 2 * wanted]
        inside = sampler.inside(take(records.X, anchors), records.X, anchors)
        pure = anchors[_pure(inside, member, holds=kind == "on_member")]
        parts.append((kind, pure[:wanted]))
    size = min(len(anchors) for _, anchors in parts)
    if size + len(used) // 2 < MIN_SIDE:
        raise InputError(
            "radius", getattr(sampler, "radius", None),
            "nearly every range holds members and non-members alike; use a smaller one, or fewer missing columns",
        )  # fmt: skip
    plain_ranges = [(kind, anchors[:size], take(records.X, anchors[:size])) for kind, anchors in parts]
    every = [*plain_ranges, *[(each.kind, each.anchors, each.centres) for each in moved]]
    anchors = np.concatenate([each[1] for each in every])
    centres = _join([each[2] for each in every])
    nearest = sampler.nearest(centres, take(records.X, member))
    distance = None if nearest is None else _settled(nearest[0])
    return Ranges(
        sampler, centres, records.y[anchors], anchors, np.repeat([each[0] for each in every], [len(each[1]) for each in every]),
        sampler.inside(centres, records.X, anchors), distance,
    )  # fmt: skip


@dataclass(frozen=True)
class _Moved:
    kind: str
    anchors: np.ndarray
    centres: Any


def _beside(
    records: Records, member: np.ndarray, sampler: Sampler, wanted: int, rng: np.random.Generator
) -> list[_Moved]:
    """Return up to ``wanted`` ranges of each of the two kinds whose centre is moved; none without distances."""
    rows = {True: np.flatnonzero(member), False: np.flatnonzero(records.audited & ~member)}
    pairs = []
    # from either side, as whoever is somebody's nearest is more central than whoever looks for it
    for side in (True, False):
        found = sampler.nearest(take(records.X, rows[side]), take(records.X, rows[not side]))
        if found is None:
            return []
        ends = (rows[side], rows[not side][found[1]])
        pairs.append(np.column_stack([*(ends if side else ends[::-1]), found[0]]))
    table = rng.permutation(np.concatenate(pairs))
    table = table[(table[:, 2] > 1) & (table[:, 2] < 1 + JUST_OUTSIDE)]
    for end in (0, 1):  # nobody twice
        table = table[np.sort(np.unique(table[:, end], return_index=True)[1])]
    if len(table) < 2:
        return []
    # from the near end: so far that the other end is outside, yet not further than just outside
    low, high = np.maximum(0, table[:, 2] - JUST_OUTSIDE), np.minimum(1, table[:, 2] - 1)
    step = rng.uniform(low, high) / table[:, 2]
    moved = []
    for kind, part in (("beside_member", slice(0, None, 2)), ("near_miss", slice(1, None, 2))):
        near, far = table[part, :2].astype(int).T if kind == "beside_member" else table[part, 1::-1].astype(int).T
        centres = _between(records.X, near, far, step[part])
        pure = _pure(sampler.inside(centres, records.X, near), member, holds=kind == "beside_member")
        keep = pure[:wanted]
        moved.append(_Moved(kind, near[keep], take(centres, keep)))
    size = min(len(each.anchors) for each in moved)
    return [_Moved(each.kind, each.anchors[:size], take(each.centres, np.arange(size))) for each in moved]


def _pure(inside: Any, member: np.ndarray, *, holds: bool) -> np.ndarray:
    """Return the ranges that hold members and nobody else (``holds``), or others and no member, uncrowded ones first.

    Where several records share a range, there may be no shadow model that trained on none of them, to compare with.
    """
    members, others = (np.asarray(inside @ side.astype(np.int32)) for side in (member, ~member))
    ours, theirs = (members, others) if holds else (others, members)
    pure = np.flatnonzero((ours > 0) & (theirs == 0))
    return pure[np.argsort(ours[pure] > 1, kind="stable")]


def _between(X: Any, near: np.ndarray, far: np.ndarray, step: np.ndarray) -> Any:
    """Return points on the way from rows ``near`` to rows ``far``, ``step`` (0 to 1) of the way along."""
    start, end = take(X, near), take(X, far)
    if hasattr(X, "iloc"):
        start, end = start.reset_index(drop=True), end.reset_index(drop=True)
        return start + (end - start).mul(step, axis=0)
    weight: Any = step.reshape((-1,) + (1,) * (np.ndim(X) - 1))
    if hasattr(X, "detach"):
        import torch

        weight = torch.as_tensor(weight, dtype=X.dtype)
    elif X.dtype.kind == "f":
        weight = weight.astype(X.dtype)
    return start + (end - start) * weight


def _join(parts: Sequence[Any]) -> Any:
    if hasattr(parts[0], "iloc"):
        import pandas as pd

        return pd.concat(parts, ignore_index=True)
    if hasattr(parts[0], "detach"):
        import torch

        return torch.cat(list(parts))
    return np.concatenate(parts)


def _settled(distance: np.ndarray) -> np.ndarray:
    """Return distances with rounding errors of a record's distance from itself taken away."""
    return np.where(distance < 1e-6, 0.0, distance)


def _as_records(target: Target, ranges: Ranges) -> Target:
    """Return the target with ranges for records: members are those that hold a member."""
    old = target.records
    groups = None if old.groups is None else old.groups.iloc[ranges.anchors].reset_index(drop=True)
    records = Records(
        ranges.centres, ranges.labels, ranges.holding(target.members), None, groups, old.columns, old.class_names
    )
    return dataclasses.replace(target, records=records, outputs=target.outputs_of(kind_of(target.model)), shadows=None)


def train(plan: Plan, *, progress: bool = True) -> Shadows:
    """Train the attacker's shadow models on the records, or load those that an earlier run has finished."""
    game = plan.game
    return train_shadows(
        plan.target, game.num_shadows, seed=game.seed, folder=game.out / "cache", size=game.shadow_size,
        workers=game.workers, device=game.device, progress=progress,
    )  # fmt: skip


def observe(plan: Plan, shadows: Shadows) -> View:
    """Return what the attacker sees, with the ranges for records."""
    view = plan.threat.reveal(plan.target, shadows if len(shadows) else None, seed=plan.game.seed)
    trained_on = plan.ranges.holding(shadows.trained_on) if len(shadows) else None
    return range_view(view, plan.ranges.centres, plan.ranges.labels, trained_on)


def attack(plan: Plan, view: View) -> dict[str, Outcome]:
    """Run every attack on the view; one that cannot run is listed with the reason, and the others go on."""
    return membership.attack(plan.game, view)


def measure(plan: Plan, view: View, shadows: Shadows, outcomes: Mapping[str, Outcome]) -> Result:
    """Join the truth to the scores of the ranges, and say how sure we are."""
    result = membership.measure(plan.game, view, shadows, outcomes)
    attacks = [_with_comparisons(plan, view, each) for each in result.attacks]
    strongest = result.parameters["strongest"]
    real = common.card(plan.target)
    return result.model_copy(
        update={
            "template": "range_membership",
            "question": QUESTION,
            "target": real.model_copy(
                update={
                    "members": result.target.members,
                    "non_members": result.target.non_members,
                    "tested": f"{result.target.members:,} ranges with a training record inside and "
                    f"{result.target.non_members:,} without",
                }
            ),
            "parameters": {
                **result.parameters,
                "radius": getattr(plan.ranges.sampler, "radius", None),
                "range": plan.range_in_words,
                "alike": "; ".join(f"{name}: {within}" for name, within, _ in alike(plan, 4)),
            },
            "attacks": attacks,
            "exposures": [*_by_range(plan, attacks, outcomes, strongest), *result.exposures],
            "most_exposed": [],
            "verdict": _about_ranges(result.verdict, plan),
        }
    )


COMPARED: dict[Aggregate, str] = {
    "centre": "the centre alone",
    "mean": "mean of all points",
    "max": "the largest score",
    "log_mean_exp": "mean of the likelihood ratios",
}


def _with_comparisons(plan: Plan, view: View, attack_result: AttackResult) -> AttackResult:
    """Return the result with what the attack chose, and the AUC of other ways to judge a range, for comparison."""
    attack_object = plan.game.attacks.get(attack_result.name)
    if attack_result.status != "ok" or not isinstance(attack_object, RangeMembership) or attack_object.how == "centre":
        return attack_result.model_copy(update={"parameters": {}})
    scored = attack_object.points(view)
    truth = plan.truth
    compared = {"single points": (scored.ravel(), np.repeat(truth, scored.shape[1]))}
    compared |= {words: (aggregate(scored, how), truth) for how, words in COMPARED.items()}
    kept = ("k", "direction", "k chosen on", "samples per range")
    found = {}
    for words, (scores, member) in compared.items():
        known = ~np.isnan(scores)
        found[words] = round(float(auc_interval(scores[known], member[known])[0]), 4)
    return attack_result.model_copy(
        update={
            "parameters": {
                **{
                    name: attack_result.parameters[name]
                    for name in kept
                    if attack_result.parameters.get(name) is not None
                },
                "AUC for comparison": found,
            }
        }
    )


def _by_range(
    plan: Plan, attacks: Sequence[AttackResult], outcomes: Mapping[str, Outcome], strongest: str | None
) -> list[Exposure]:
    """Return how often the strongest attack accuses ranges of each kind, and how it fares by distance."""
    outcome = outcomes[strongest].scores if strongest is not None else None
    result = next((each for each in attacks if each.name == strongest), None)
    if outcome is None or result is None:
        return []
    point = next((p for p in result.tpr_at_fpr if p.fpr == plan.game.headline_fpr and p.threshold is not None), None)
    scores, level = outcome.values, plan.game.confidence
    known = ~np.isnan(scores)

    def accused(rows: np.ndarray) -> Interval | None:
        if point is None or point.threshold is None or not rows.any():
            return None
        hits = int((scores[rows] >= point.threshold).sum())
        low, high = clopper_pearson(np.array([hits]), int(rows.sum()), level)
        return Interval(
            value=hits / rows.sum(), low=float(low[0]), high=float(high[0]), level=level, method="Clopper-Pearson"
        )

    found = []
    for kind, words in KINDS.items():
        rows = known & (plan.ranges.kind == kind)
        inside = int((rows & plan.truth).sum())
        found.append(
            Exposure(column=KIND, group=words, members=inside, non_members=int(rows.sum()) - inside, tpr=accused(rows))
        )
    distance = plan.ranges.distance
    if distance is None:
        return found
    far = known & (distance > JUST_OUTSIDE)
    bins = [(words, known & (distance > above) & (distance <= up_to)) for words, above, up_to in BINS]
    joint = 1 - (1 - level) / len(bins)
    for words, rows in bins:
        inside = int((rows & plan.truth).sum())
        auc = None
        if min(rows.sum(), far.sum()) >= FEWEST_IN_BIN:
            value, low, high = auc_interval(
                np.r_[scores[rows], scores[far]], np.arange(rows.sum() + far.sum()) < rows.sum(), joint
            )
            auc = Interval(
                value=value,
                low=low,
                high=high,
                level=joint,
                method="DeLong, logit scale, against ranges with nobody near",
            )
        found.append(
            Exposure(
                column=DISTANCE,
                group=words,
                members=inside,
                non_members=int(rows.sum()) - inside,
                auc=auc,
                tpr=accused(rows),
            )
        )
    return found


def _about_ranges(verdict: Verdict, plan: Plan) -> Verdict:
    """Return the verdict with its sentence about ranges instead of persons; level and figures stay as they are."""
    seen = verdict.values
    if "records_needed" in seen:
        sentence = verdict.sentence.replace("so few records", "so few ranges").replace(
            "records that trained the model and as many that did not are needed",
            "ranges with somebody from the training data inside and as many without are needed",
        )
        return verdict.model_copy(update={"sentence": sentence})
    if verdict.level not in ("demonstrated", "limited"):
        return verdict
    fpr = plan.game.headline_fpr
    price = f"accepts one false alarm in {1 / fpr:,.0f}"
    if seen["fpr_realised"] > fpr:
        price = f"is wrong about {share(seen['fpr_realised'])} of the ranges with nobody inside, the least that this attack can do,"
    sentence = (
        f"An attacker who {price} notices {share(seen['tpr'])} "
        f"({share(seen['tpr_low'])} to {share(seen['tpr_high'])}) of the cases in which somebody like the person "
        f"in question was in the training data. Where the attacker says yes, it is true with a "
        f"probability of {share(seen['precision'])} ({share(seen['precision_low'])} to {share(seen['precision_high'])}); "
        f"before the attack it was {share(plan.threat.prior)}. The intervals in brackets hold with {share(plan.game.confidence)} confidence for all "
        "attacks together."
    )
    return verdict.model_copy(update={"sentence": sentence})


def alike(plan: Plan, columns: int = 8, sample: int = 1500) -> list[tuple[str, ...]]:
    """Return how much records within one range of each other differ, column by column, and how much any two do.

    At most ``columns`` of the columns by which exposure is broken down and of the others, from ``sample`` records with
    a natural neighbour inside their range. Empty where the records have no columns with names, or no such neighbours.
    """
    import pandas as pd

    groups, X = plan.target.records.groups, plan.target.records.X
    if groups is None or plan.ranges.distance is None:
        return []
    rng = np.random.default_rng(np.random.SeedSequence(plan.game.seed, spawn_key=(7,)))
    rows = np.sort(rng.permutation(len(groups))[:sample])
    pairs = plan.ranges.sampler.inside(take(X, rows), X, rows).tocoo()
    left, right = rows[pairs.row], pairs.col
    left, right = left[left != right], right[left != right]
    if len(left) < FEWEST_IN_BIN:
        return []
    strangers = rng.permutation(len(groups))[: 2 * (len(groups) // 2)].reshape(2, -1)
    names = [*plan.target.sensitive, *[name for name in groups.columns if name not in plan.target.sensitive]]
    found = []
    for name in names[:columns]:
        column = groups[name]
        if pd.api.types.is_numeric_dtype(column):
            gaps = [
                np.nanmedian(np.abs(np.diff(column.to_numpy(float)[np.array(two)], axis=0)))
                for two in ((left, right), strangers)
            ]
            found.append((str(name), *[f"differ by {gap:.3g}" for gap in gaps]))
        else:
            values = column.astype(str).to_numpy()
            found.append(
                (
                    str(name),
                    *[
                        f"same for {share(float((values[a] == values[b]).mean()))}"
                        for a, b in ((left, right), strangers)
                    ],
                )
            )
    return found


def save(plan: Plan, result: Result, outcomes: Mapping[str, Outcome]) -> Path:
    """Write ``scores.parquet`` and then, last of all, ``result.json``; return the latter's path."""
    import io

    import pandas as pd

    ranges = plan.ranges
    columns: dict[str, Any] = {"record": ranges.anchors, "kind": ranges.kind, "member": plan.truth}
    if ranges.distance is not None:
        columns["distance"] = ranges.distance
    columns |= values(outcomes)
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    write_atomically(plan.game.out / "scores.parquet", buffer.getvalue())
    return result.save(plan.game.out / "result.json")
