"""The privacy-budget audit: does this training keep the epsilon that it claims?

The notebook calls these functions in order; each hands its result to the next:
``prepare`` → ``insert`` → ``train`` → ``score`` → ``bound`` → ``save``.

What is audited is the way of training, the recipe: the tool trains with it, on the records and on those canaries that
a coin lets in. The released model itself has seen no canary and is not asked anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

import leakpro_nb
from leakpro_nb.attacks.usage import canaries as canary
from leakpro_nb.audits import budget_checks, common, exposure
from leakpro_nb.audits.canary_runs import Observed, Training, concatenate, train_all
from leakpro_nb.defences import Claim, DpSgd
from leakpro_nb.errors import InputError
from leakpro_nb.game.loading import folder_of
from leakpro_nb.game.models import Kind
from leakpro_nb.game.records import take
from leakpro_nb.game.target import Target
from leakpro_nb.game.threat import ThreatModel
from leakpro_nb.measures import ties
from leakpro_nb.measures.epsilon import (
    GAUSSIAN,
    GUESSING,
    RULES,
    EpsilonBound,
    Method,
    Preregistered,
    Rule,
    epsilon_lower_bound,
)
from leakpro_nb.results import AttackResult, Exposure, Result, write_atomically
from leakpro_nb.risk.budget import BudgetFinding, budget_verdict

__all__ = [
    "ASSUMPTIONS",
    "ATTACKER",
    "DEFAULT_BOUNDS",
    "TITLES",
    "Canaries",
    "Plan",
    "Scored",
    "bound",
    "insert",
    "kinds",
    "preflight",
    "prepare",
    "save",
    "score",
    "train",
]

QUESTION = "Does this training keep the privacy budget (epsilon) that it claims?"

ATTACKER = ThreatModel(
    release="open_weights",
    access="white_box",
    knowledge=("labels", "candidates", "population", "recipe"),
    goal="privacy_budget",
    note="Differential privacy promises protection even against someone who sees every step of the training.",
)
"""The attacker against whom differential privacy promises protection: one who sees every step of training."""

DEFAULT_BOUNDS = ("one_run", "fdp", "clopper_pearson", "gdp", "bayesian")
"""The first decides: it assumes nothing about the training, and a claim must not be refuted on an assumption."""

TITLES = {
    "one_run": "One-run bound",
    "fdp": "One-run bound for Gaussian noise (f-DP)",
    "clopper_pearson": "Bound from hits and false alarms (Clopper-Pearson)",
    "gdp": "Bound from hits and false alarms for Gaussian noise (GDP)",
    "bayesian": "Bayesian bound",
}
_GAUSSIAN = "Holds only if the training hides a record the way Gaussian noise does, as DP-SGD does approximately."
_INDEPENDENT = "Takes the canaries of one run for independent of each other, which holds only approximately."
ASSUMPTIONS = {
    "one_run": "",
    "fdp": _GAUSSIAN,
    "clopper_pearson": _INDEPENDENT,
    "gdp": f"{_GAUSSIAN} {_INDEPENDENT}",
    "bayesian": f"A degree of belief (credible), not a confidence: it starts from Jeffreys' prior. {_INDEPENDENT}",
}
"""What each bound rests on, besides fair coins; empty: nothing."""

FEWEST = 20
"""Fewest canaries with which a bound is worth computing."""

CLEAN = ("calibration", "null")
"""Models that are trained without canaries: one tells how hard each canary is by itself, one stands in for the audited."""


@dataclass(frozen=True)
class Plan:
    """A checked audit: everything that was asked for, and nothing computed yet."""

    target: Target
    threat: ThreatModel
    kinds: dict[str, canary.Canary]
    refused: dict[str, str]
    num_canaries: int
    runs: int
    bounds: tuple[Method, ...]
    rule: Rule
    delta: float
    stated: float | None
    confidence: float
    seed: int
    workers: int | None
    out: Path
    reveal_records: bool
    asked: dict[str, Any] = field(default_factory=dict)
    started: str = ""

    @property
    def level(self) -> float:
        """Confidence of each bound, so that the bounds of all kinds of canary hold together."""
        return 1 - (1 - self.confidence) / len(self.kinds)

    @property
    def mechanism(self) -> DpSgd | None:
        """The training function, where it is DP-SGD of this package."""
        assert self.target.recipe is not None
        return self.target.recipe.train if isinstance(self.target.recipe.train, DpSgd) else None


@dataclass(frozen=True)
class Canaries:
    """The canaries and their coins, and the records that train besides them.

    ``rows`` are the records (m,) that the canaries of a kind were made from, ``X`` and ``y`` the canaries that are
    records, all kinds below each other; ``inserted[kind]`` is (runs, m) bool. ``claim`` is what the training promises.
    """

    base: np.ndarray
    test: np.ndarray
    rows: dict[str, np.ndarray]
    X: Any
    y: np.ndarray
    place: dict[str, slice]
    inserted: dict[str, np.ndarray]
    claim: Claim
    accounted: Claim | None


@dataclass(frozen=True)
class Scored:
    """Scores of the canaries of one kind, all runs below each other: those of the audited models, and of the null model."""

    values: np.ndarray
    inserted: np.ndarray
    null: np.ndarray


def kinds() -> list[Any]:
    """Return every kind of canary, for the form of the threat model."""
    return [make() for make in canary.KINDS.values()]


def prepare(
    target: Target | str,
    threat: ThreatModel | str | None = None,
    *,
    out: str | Path = "audit",
    canaries: Sequence[str] | str | None = None,
    num_canaries: int = 1000,
    runs: int = 1,
    bounds: Sequence[str] = DEFAULT_BOUNDS,
    plan: str = "preregistered",
    guess_share: float = 0.1,
    delta: float | None = None,
    claimed_epsilon: float | None = None,
    claimed_delta: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    workers: int | None = None,
    reveal_records: bool = False,
) -> Plan:
    """Check everything that can be wrong, before anything expensive starts and without writing a file.

    Parameters
    ----------
    target
        A target with a recipe, or the path of a ``target.py``.
    threat
        A threat model, the path of its YAML file, or ``None`` for the one that differential privacy is defined by.
    out
        Folder for everything that the audit writes.
    canaries
        ``mislabelled``, ``input``, ``gradient``: one or several. ``None``: mislabelled, and gradient where the recipe is
        ``DpSgd`` and the attacker sees every step. Several kinds share the error, so that their bounds hold together.
    num_canaries
        Of each kind; about half of them are trained on.
    runs
        Models to be audited, each with coins of its own. Canaries of all runs count together: what a coin decides
        happens in one run, so the epsilon of one training limits what all of them give away about it.
    bounds
        ``one_run``, ``fdp``, ``clopper_pearson``, ``gdp``, ``bayesian``. The first decides the verdict.
    plan
        How guesses are chosen: ``preregistered``, ``bonferroni``, ``split`` or ``multisplit``.
    guess_share
        Preregistered: share of the canaries guessed to be in, and again as many guessed to be out.
    delta
        Of the guarantee under test; ``None``: that of the claim.
    claimed_epsilon, claimed_delta
        What the training claims; ``None``: what the accountant of ``DpSgd`` says.
    confidence
        Level of all bounds that decide, together.
    seed
        The one seed of all randomness.
    workers
        Processes that train; ``None``: one per core.
    reveal_records
        Show the raw values of the records whose canaries were found most surely.

    Raises
    ------
    InputError
        The first thing that is wrong: field, value, remedy.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    model = ATTACKER if threat is None else ThreatModel.load(threat)
    common.check_count("num_canaries", num_canaries, smallest=FEWEST, example=1000)
    common.check_count("runs", runs, smallest=1, example=1)
    common.check_confidence(confidence)
    common.check_seed(seed)
    common.check_workers(workers)
    chosen_bounds = _bounds(bounds)
    rule = _rule(plan, guess_share)
    if isinstance(target, str | Path) and Path(target).suffix in (".csv", ".parquet"):
        raise InputError("target", str(target), "this audit trains models itself: give a target.py with a recipe")
    challenger = Target.load(target)
    if challenger.recipe is None:
        raise InputError("target.recipe", "missing", "this audit trains models itself: lp.Recipe(make_net, epochs=…)")
    challenger.check(needs_recipe=True, needs_members=False)
    if challenger.shadows is not None:
        challenger._check_recipe()
    mechanism = challenger.recipe.train if isinstance(challenger.recipe.train, DpSgd) else None
    tested = _delta(delta, claimed_epsilon, claimed_delta, mechanism)
    chosen, refused = _kinds(canaries, model, mechanism, num_canaries)
    return Plan(
        challenger, model, chosen, refused, num_canaries, runs, chosen_bounds, rule,
        tested, claimed_epsilon, confidence, seed, workers, Path(out),
        reveal_records,
        asked={
            "target": Path(target).name if isinstance(target, str | Path) else target.name,
            "canaries": list(chosen), "num_canaries": num_canaries, "runs": runs, "bounds": list(chosen_bounds),
            "plan": plan, "guess_share": guess_share, "delta": delta, "claimed_epsilon": claimed_epsilon,
            "claimed_delta": claimed_delta, "confidence": confidence, "seed": seed, "reveal_records": reveal_records,
        },
        started=started,
    )  # fmt: skip


def preflight(**parameters: Any) -> None:
    """Check the parameters of the template, as ``prepare`` does, for callers that start a notebook."""
    insert(prepare(**parameters))


def _bounds(names: Sequence[str]) -> tuple[Method, ...]:
    if isinstance(names, str) or not names:
        raise InputError("bounds", names, f"give a list of names, for example {list(DEFAULT_BOUNDS[:2])}")
    for name in names:
        if name not in get_args(Method):
            raise InputError("bounds", name, f"there are {', '.join(get_args(Method))}")
    if names[0] == "bayesian":
        raise InputError(
            "bounds", "bayesian first", "the first decides and must hold with confidence: name another one first"
        )
    return cast("tuple[Method, ...]", tuple(dict.fromkeys(names)))


def _rule(name: str, share: float) -> Rule:
    if name not in RULES:
        raise InputError("plan", name, f"choose one of {', '.join(RULES)}")
    if not 0 < share <= 0.5:
        raise InputError("guess_share", share, "use a share above 0 and of at most 0.5, such as 0.1")
    return Preregistered(share) if name == "preregistered" else RULES[name]()


def _delta(delta: float | None, epsilon: float | None, claimed: float | None, mechanism: DpSgd | None) -> float:
    if epsilon is None and mechanism is None:
        raise InputError(
            "claimed_epsilon",
            "missing",
            "say what the training claims (claimed_epsilon and claimed_delta); only a DpSgd recipe knows that by itself",
        )
    if epsilon is None and claimed is not None:
        raise InputError("claimed_delta", claimed, "give claimed_epsilon too")
    if epsilon is not None and (math.isnan(epsilon) or epsilon < 0):
        raise InputError("claimed_epsilon", epsilon, "use a number of at least 0")
    if claimed is None:
        if mechanism is None:
            raise InputError("claimed_delta", "missing", "an epsilon means little without its delta: 1e-5, say")
        claimed = mechanism.delta
    for field_name, value in (("claimed_delta", claimed), ("delta", claimed if delta is None else delta)):
        if not 0 < value < 1:
            raise InputError(field_name, value, "use a probability above 0 and below 1, such as 1e-5")
    if delta is None:
        return claimed
    if epsilon is not None and delta < claimed:
        raise InputError("delta", delta, f"the claim is made at delta {claimed:g} and says nothing at a smaller one")
    return delta


def _kinds(
    names: Sequence[str] | str | None, threat: ThreatModel, mechanism: DpSgd | None, m: int
) -> tuple[dict[str, canary.Canary], dict[str, str]]:
    if names is None:
        strong = mechanism is not None and not threat.refusal(canary.Gradient())
        names = ("gradient", "mislabelled") if strong else ("mislabelled",)
    names = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    if not names:
        raise InputError("canaries", "none", f"name one of {', '.join(canary.KINDS)}")
    for name in names:
        if name not in canary.KINDS:
            raise InputError("canaries", name, f"there are {', '.join(canary.KINDS)}")
    every = {name: canary.KINDS[name]() for name in names}
    refused = {name: reason for name, each in every.items() if (reason := threat.refusal(each))}
    if "gradient" in every and "gradient" not in refused:
        if mechanism is None:
            refused["gradient"] = "only a recipe with DpSgd lets gradients be slipped in; this one has another function"
        else:
            size = sum(p.numel() for p in mechanism.make().parameters() if p.requires_grad)
            if m > size:
                remedy = (
                    f"each gradient canary takes a parameter of its own and the network has {size}; use at most {size}"
                )
                raise InputError("num_canaries", m, remedy)
    admitted = {name: each for name, each in every.items() if name not in refused}
    if not admitted:
        first = next(iter(refused))
        raise InputError("canaries", ", ".join(names), f"none of them can be used; {first}: {refused[first]}")
    return admitted, refused


def insert(plan: Plan) -> Canaries:
    """Make the canaries, then toss their coins.

    Canaries are made from records that did not train the target; where these are too few, from others, which are then
    kept out of training.

    Raises
    ------
    InputError
        Too few records to make canaries from and still have as many to train on.
    """
    target, m = plan.target, plan.num_canaries
    records, classes = target.records, target.classes
    members = records.members if records.members is not None else records.audited
    rng = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(7,)))
    # first those that did not train the target: the fewer members are missing, the more the training is like its own
    order = np.r_[rng.permutation(np.flatnonzero(~members)), rng.permutation(np.flatnonzero(members))]
    black = [name for name in plan.kinds if name != "gradient"]
    used = order[: m * len(black)]
    base = np.setdiff1d(np.flatnonzero(members), used)
    if len(used) < m * len(black) or 2 * len(base) < members.sum():
        raise InputError(
            "num_canaries",
            m,
            f"there are {len(records)} records, {int(members.sum())} of them for training, of which at least half must be "
            f"left; use at most {(len(records) - math.ceil(members.sum() / 2)) // max(1, len(black))}",
        )
    others = np.setdiff1d(np.flatnonzero(~members), used)
    rows, made, place = {}, [], {}
    for i, name in enumerate(black):
        rows[name] = used[i * m : (i + 1) * m]
        kind: Any = plan.kinds[name]
        made.append(
            kind.make(take(records.X, rows[name]), records.y[rows[name]], classes, canary.stream(plan.seed, name))
        )
        place[name] = slice(i * m, (i + 1) * m)
    inserted = {
        name: np.stack([canary.toss(m, plan.seed, name, run) for run in range(plan.runs)]) for name in plan.kinds
    }
    for name, coins in inserted.items():
        if coins.all() or not coins.any():
            raise InputError("seed", plan.seed, f"all coins of the {name} canaries fell on one side; use another seed")
    accounted = None
    if plan.mechanism is not None:
        sizes = {len(base) + sum(int(inserted[name][run].sum()) for name in black) for run in range(plan.runs)}
        # not simply the smallest run's: whoever has a few records more may take a step more each epoch
        accounted = max((plan.mechanism.claim(size, plan.delta) for size in sizes), key=lambda claim: claim.epsilon)
    if plan.stated is None:
        assert accounted is not None
        claim = accounted
    else:
        claim = Claim(float(plan.stated), plan.delta, "stated by whoever asked for this audit")
    return Canaries(
        base=base,
        test=others if len(others) else base,
        rows=rows,
        X=concatenate([X for X, _ in made]) if made else None,
        y=np.concatenate([y for _, y in made]) if made else np.zeros(0, dtype=np.int64),
        place=place,
        inserted=inserted,
        claim=claim,
        accounted=accounted,
    )


def trainings(plan: Plan, canaries: Canaries) -> list[Training]:
    """Return what is to be trained: the audited models, then those without any canary."""
    target, recipe = plan.target, plan.target.recipe
    assert recipe is not None
    records = target.records
    every_kind: tuple[Kind, ...] = ("torch", "scikit-learn", "function")
    outputs = {kind: target.outputs_of(kind) for kind in every_kind}
    maker = recipe.train.make if isinstance(recipe.train, DpSgd) else recipe.train or recipe.make
    X, y = take(records.X, canaries.base), records.y[canaries.base]
    names = [*[f"run-{run}" for run in range(plan.runs)], *CLEAN]
    out = []
    for i, name in enumerate(names):
        audited = i < plan.runs
        lets_in = np.zeros(len(canaries.y), dtype=bool)
        gradient = np.zeros(plan.num_canaries if "gradient" in plan.kinds else 0, dtype=bool)
        if audited:
            for kind, at in canaries.place.items():
                lets_in[at] = canaries.inserted[kind][i]
            if "gradient" in plan.kinds:
                gradient = canaries.inserted["gradient"][i]
        if lets_in.any():
            inputs = concatenate([X, take(canaries.X, lets_in)])
            labels = np.concatenate([y, canaries.y[lets_in]])
        else:
            inputs, labels = X, y
        # what a run trains with does not depend on how many runs follow
        key = (8, 0, i) if audited else (8, 1, i - plan.runs)
        seed = int(np.random.SeedSequence(plan.seed, spawn_key=key).generate_state(1)[0])
        out.append(
            Training(
                name,
                recipe,
                inputs,
                labels,
                seed,
                ask=canaries.X,
                test=take(records.X, canaries.test),
                inserted=gradient,
                directions_seed=plan.seed,
                classes=target.classes,
                outputs=outputs,
                folder=folder_of(maker),
            )
        )
    return out


def train(plan: Plan, canaries: Canaries, *, progress: bool = True) -> list[Observed]:
    """Train the audited models and those without canaries, or load what an earlier run has finished."""
    home = plan.out / "cache" / "privacy_budget"
    return train_all(trainings(plan, canaries), home, plan.workers, progress=progress)


def score(plan: Plan, canaries: Canaries, observed: Sequence[Observed]) -> dict[str, Scored]:
    """Return how surely the attacker takes each canary for one that was trained on.

    Who knows the recipe compares with a model that never saw a canary; no model that saw other coins is used.
    """
    audited, (calibration, null) = observed[: plan.runs], observed[plan.runs :]
    scored = {}
    for name in plan.kinds:
        coins = canaries.inserted[name].reshape(-1)
        if name == "gradient":
            scored[name] = Scored(np.concatenate([each.gradient for each in audited]), coins, null.gradient)
            continue
        at = canaries.place[name]
        clean = calibration.logits[at] if "recipe" in plan.threat.knowledge else None
        values, none = [
            [canary.score(each.logits[at], canaries.y[at], clean=clean, access=plan.threat.access) for each in models]
            for models in (audited, [null])
        ]
        scored[name] = Scored(np.concatenate(values), coins, none[0])
    return scored


def bound(plan: Plan, canaries: Canaries, observed: Sequence[Observed], scored: dict[str, Scored]) -> Result:
    """Turn scores into bounds, check the experiment, and say what it proves."""
    claim = canaries.claim
    every: dict[str, dict[str, EpsilonBound]] = {
        name: {method: _bound(plan, each, method) for method in plan.bounds} for name, each in scored.items()
    }
    headline = plan.bounds[0]
    checks = budget_checks.checks(plan, canaries, observed, scored, every)
    failed = [check for check in checks if check.passed is False]
    decision = budget_verdict(
        [
            BudgetFinding(
                name, plan.kinds[name].title, found[headline].eps, found[headline].plan_ceiling,
                found[headline].guesses, found[headline].correct, ASSUMPTIONS[headline],
            )
            for name, found in every.items()
        ],
        claim=claim.epsilon,
        delta=plan.delta,
        level=plan.confidence,
        method=TITLES[headline],
        failed_gates=[check.sentence for check in failed if check.name in budget_checks.GATES],
        failed_checks=[check.sentence for check in failed],
    )  # fmt: skip
    strongest = max(every, key=lambda name: (every[name][headline].eps, _auc(scored[name], plan.level)))
    card = common.card(plan.target)
    members = plan.target.records.members
    results = [_result(plan, name, each, observed) for name, each in scored.items()]
    results += [
        AttackResult(
            name=name, title=canary.KINDS[name]().title, paper=canary.KINDS[name]().paper, family="privacy_budget",
            status="skipped", reason=reason,
        )
        for name, reason in plan.refused.items()
    ]  # fmt: skip
    exposures = [_exposure(plan, name, each) for name, each in scored.items()]
    found = _found(plan, canaries, scored)
    recipe = plan.mechanism.describe() if plan.mechanism is not None else card.recipe
    return Result(
        package_version=leakpro_nb.__version__,
        template="privacy_budget",
        question=QUESTION,
        target=card.model_copy(
            update={
                "recipe": recipe,
                "members": len(canaries.base) if members is None else card.members,
                "non_members": len(plan.target.records) - len(canaries.base) if members is None else card.non_members,
                "tested": f"{plan.num_canaries:,} canaries of each kind, about half of them let in",
            }
        ),
        threat_model=plan.threat.model_dump(mode="json"),
        parameters={
            **plan.asked,
            "delta": plan.delta,
            "shadows": f"none; {plan.runs} audited and {len(CLEAN)} without canaries were trained",
            "strongest": strongest,
        },
        attacks=results,
        checks=checks,
        exposures=exposures,
        most_exposed=exposure.with_values(plan.target, found) if plan.reveal_records else found,
        extras={
            "headline": headline,
            "claim": _claim(claim),
            "accountant": _claim(canaries.accounted) if canaries.accounted is not None else None,
            "trained_on": len(canaries.base),
            "inserted": {name: coins.sum(axis=1).tolist() for name, coins in canaries.inserted.items()},
            "traces": [each.trace for each in observed],
            "bounds": [
                {**_as_plain(found), "canary": name, "title": TITLES[method], "assumption": ASSUMPTIONS[method]}
                for name, per_method in every.items()
                for method, found in per_method.items()
            ],
        },
        verdict=decision,
        warnings=[check.sentence for check in failed],
        environment=_environment(plan),
        started=plan.started,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def save(plan: Plan, result: Result, canaries: Canaries, scored: dict[str, Scored]) -> Path:
    """Write ``scores.parquet`` and then, last of all, ``result.json``; return the latter's path."""
    import io

    import pandas as pd

    tables = []
    for name, each in scored.items():
        m = plan.num_canaries
        rows = np.tile(canaries.rows.get(name, np.full(m, -1)), plan.runs)
        labels = np.tile(canaries.y[canaries.place[name]] if name in canaries.place else np.full(m, -1), plan.runs)
        columns = {
            "kind": name,
            "run": np.repeat(np.arange(plan.runs), m),
            "record": rows,
            "label": labels,
            "inserted": each.inserted,
            "score": each.values,
            "null": np.tile(each.null, plan.runs),
        }
        tables.append(pd.DataFrame(columns))
    buffer = io.BytesIO()
    pd.concat(tables).to_parquet(buffer, index=False)
    write_atomically(plan.out / "scores.parquet", buffer.getvalue())
    return result.save(plan.out / "result.json")


def _bound(plan: Plan, each: Scored, method: Method) -> EpsilonBound:
    return epsilon_lower_bound(
        each.values,
        each.inserted,
        method=method,
        plan=plan.rule,
        delta=plan.delta,
        confidence=plan.level,
        seed=plan.seed,
    )


def _as_plain(found: EpsilonBound) -> dict[str, Any]:
    kept = (
        "eps",
        "method",
        "rule",
        "m",
        "guesses",
        "correct",
        "delta",
        "confidence",
        "ceiling",
        "plan_ceiling",
        "kind",
        "mu",
    )
    return {
        **{name: getattr(found, name) for name in kept},
        "gaussian": found.method in GAUSSIAN,
        "guessing": found.method in GUESSING,
    }


def _environment(plan: Plan) -> dict[str, Any]:
    environment = common.environment(plan.seed)
    if plan.mechanism is not None:
        environment["packages"] |= {name: version(name) for name in ("opacus", "dp-accounting")}
    return environment


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "epsilon": None if math.isinf(claim.epsilon) else claim.epsilon, "delta": claim.delta,
        "accountant": claim.accountant, "assumptions": list(claim.assumptions),
    }  # fmt: skip


def _auc(each: Scored, level: float) -> float:
    return common.figures(each.values, each.inserted, level)[0].interval.value


def _result(plan: Plan, name: str, each: Scored, observed: Sequence[Observed]) -> AttackResult:
    kind = plan.kinds[name]
    distinct, largest = ties(each.values)
    return AttackResult(
        name=name,
        title=kind.title,
        paper=kind.paper,
        family="privacy_budget",
        measures=common.figures(each.values, each.inserted, plan.level),
        curve=common.curve(each.values, each.inserted, plan.level),
        records_scored=len(each.values),
        distinct_scores=distinct,
        largest_tie=largest,
        cpu_seconds=sum(model.cpu_seconds for model in observed) / len(plan.kinds),
    )


def _exposure(plan: Plan, name: str, each: Scored) -> Exposure:
    return Exposure(
        column="canaries",
        group=plan.kinds[name].title,
        members=int(each.inserted.sum()),
        non_members=int((~each.inserted).sum()),
        auc=common.figures(each.values, each.inserted, plan.level)[0].interval,
    )


def _found(plan: Plan, canaries: Canaries, scored: dict[str, Scored], listed: int = 10) -> list[dict[str, Any]]:
    """Return the mislabelled records that the attack is surest about, of the first run."""
    name = "mislabelled"
    if name not in scored:
        return []
    values, coins = scored[name].values[: plan.num_canaries], scored[name].inserted[: plan.num_canaries]
    order = [int(i) for i in np.argsort(-values, kind="stable") if coins[i]][:listed]
    labels = canaries.y[canaries.place[name]]
    return [
        {
            "record": int(canaries.rows[name][i]), "label": int(labels[i]), "score": float(values[i]),
            "others_as_high": int((values[~coins] >= values[i]).sum()),
        }
        for i in order
    ]  # fmt: skip
