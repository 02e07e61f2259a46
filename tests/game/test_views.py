"""A view reveals what the threat model grants, and nothing more."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from torch import nn

import leakpro_nb as lp
from leakpro_nb.attacks import available, create
from leakpro_nb.attacks.signals import log_odds, probability
from leakpro_nb.errors import AccessDenied, InputError
from leakpro_nb.game.threat import KNOWLEDGE_IN_WORDS, ThreatModel
from leakpro_nb.game.views import References, floor_logits
from leakpro_nb.shadows import paired_splits

N, K, C = 90, 6, 3
_rng = np.random.default_rng(0)
Y = _rng.integers(0, C, N)
MEMBERS = _rng.random(N) < 0.5
POPULATION = ~MEMBERS & (_rng.random(N) < 0.4)
LOGITS = _rng.normal(size=(N, C))
SHADOW_LOGITS = _rng.normal(size=(K, N, C))
TRAINED_ON, PAIR = paired_splits(N, K, seed=3)
SHADOWS = References(SHADOW_LOGITS, TRAINED_ON, PAIR)
AUDITED = ~POPULATION


def target(model=LOGITS, population=POPULATION) -> lp.Target:
    x = _rng.normal(size=(N, 4)).astype(np.float32)
    return lp.Target(model, lp.Records(x, Y, MEMBERS, population))


def reveal(**lines):
    return ThreatModel(**lines).reveal(target(), SHADOWS)


def arrays_in(thing, seen=None):
    """Yield every array that can be reached from ``thing``."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            yield from arrays_in(getattr(thing, field.name))
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from arrays_in(value)
    elif isinstance(thing, (tuple, list)):
        for value in thing:
            yield from arrays_in(value)


def tells(array: np.ndarray, secret: np.ndarray) -> bool:
    """Whether a row or column of ``array`` is the secret mask, or its opposite."""
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array[None, None]
    columns = array.reshape(len(array), -1).T if array.ndim else rows
    return any(
        len(line) == len(secret) and ((line == secret).all() or (line == ~secret).all())
        for lines in (rows, columns)
        for line in lines
    )


@pytest.mark.parametrize("access", ["labels", "scores", "white_box"])
def test_membership_is_nowhere_in_a_view(access):
    view = reveal(access=access)
    if access != "labels":
        view.signal(log_odds)
    found = list(arrays_in(view))
    assert len(found) > 8
    for secret in (MEMBERS, MEMBERS[AUDITED]):
        assert not any(tells(array, secret) for array in found)
    assert any(tells(array, TRAINED_ON[0][AUDITED]) for array in found), "the search must be able to find a mask"


def test_label_only_view_gives_classes_and_nothing_else():
    view = reveal(access="labels")
    np.testing.assert_array_equal(view.predicted_classes(), LOGITS[AUDITED].argmax(axis=1))
    for function in (log_odds, probability):
        with pytest.raises(AccessDenied, match=r"the threat model's line 'access: labels' does not reveal"):
            view.signal(function)
    with pytest.raises(AccessDenied, match=r"'access: labels' does not reveal what 'access: white_box' would"):
        view.white_box()
    # not even for those who reach past the methods
    assert set(np.unique(view.logits)) == set(np.unique(view.population)) == {0.0, 1.0}
    played = view.as_target(0)
    assert set(np.unique(played.logits)) == set(np.unique(played.population)) == {0.0, 1.0}
    np.testing.assert_array_equal(played.predicted_classes(), SHADOW_LOGITS[0][AUDITED].argmax(axis=1))


def test_scores_are_those_of_the_audited_records():
    seen = reveal().signal(log_odds)
    np.testing.assert_array_equal(seen.audit.target, log_odds(LOGITS, Y)[AUDITED])
    np.testing.assert_array_equal(seen.audit.references, log_odds(SHADOW_LOGITS, Y)[:, AUDITED])
    np.testing.assert_array_equal(seen.audit.trained_on, TRAINED_ON[:, AUDITED])
    np.testing.assert_array_equal(seen.population.target, log_odds(LOGITS, Y)[POPULATION])
    np.testing.assert_array_equal(seen.population.references, log_odds(SHADOW_LOGITS, Y)[:, POPULATION])


def test_signals_are_computed_once():
    view, calls = reveal(), []

    def counted(logits, labels):
        calls.append(len(labels))
        return log_odds(logits, labels)

    assert view.signal(counted) is view.signal(counted)
    assert len(calls) == 4  # target and references, on audited records and on the population
    view.as_target(1).signal(counted)
    assert len(calls) == 8


def test_white_box_only_with_white_box():
    net = nn.Linear(4, C)
    for access in ("labels", "scores"):
        view = ThreatModel(access=access).reveal(target(net))
        with pytest.raises(AccessDenied):
            view.oracle.model  # noqa: B018
        with pytest.raises(AccessDenied, match=rf"'access: {access}' does not reveal what 'access: white_box'"):
            view.white_box()
    assert ThreatModel(access="white_box").reveal(target(net)).white_box() is net


def test_no_recipe_no_references():
    view = reveal(knowledge=("labels", "candidates", "population"))
    assert view.references is None
    assert view.population_references is None
    assert view.signal(log_odds).audit.references.shape == (0, AUDITED.sum())
    with pytest.raises(AccessDenied, match="no reference models"):
        view.as_target(0)
    assert len(reveal(knowledge=("recipe",)).references) == K


def test_no_population_without_the_knowledge():
    view = reveal(knowledge=("labels", "candidates", "recipe"))
    assert view.population is view.population_labels is view.population_references is None
    assert view.signal(log_odds).population is None
    assert len(view) == AUDITED.sum(), "population records are not audited, known or not"
    assert ThreatModel().reveal(target(population=None), SHADOWS).population is None


@pytest.mark.parametrize("k", range(K))
def test_as_target_leaves_out_the_pair(k):
    rows = np.flatnonzero(TRAINED_ON[k][AUDITED])
    played = reveal().as_target(k, rows)
    others = [m for m in range(K) if m not in (k, PAIR[k])]
    assert len(others) == K - 2
    np.testing.assert_array_equal(played.labels, Y[AUDITED][rows])
    np.testing.assert_array_equal(played.logits, SHADOW_LOGITS[k][AUDITED][rows])
    np.testing.assert_array_equal(played.references.logits, SHADOW_LOGITS[others][:, AUDITED][:, rows])
    np.testing.assert_array_equal(played.references.trained_on, TRAINED_ON[others][:, AUDITED][:, rows])
    assert played.oracle is None  # only predictions of the shadow models are known
    # pairs among those that are left still point at each other
    for i, partner in enumerate(played.references.pair):
        assert others[partner] == PAIR[others[i]]


@pytest.mark.parametrize("k", range(K))
def test_population_of_a_played_target_did_not_train_it(k):
    view, played = reveal(), reveal().as_target(k)
    outside = ~TRAINED_ON[k][POPULATION]
    assert 0 < outside.sum() < POPULATION.sum()
    np.testing.assert_array_equal(played.population, SHADOW_LOGITS[k][POPULATION][outside])
    np.testing.assert_array_equal(played.population_labels, view.population_labels[outside])
    assert played.population_references.trained_on.shape == (K - 2, outside.sum())
    assert len(played.signal(log_odds).population.target) == outside.sum()


def test_select_keeps_pairs_right():
    references = SHADOWS.select(np.array([5, 0, 4, 2]), slice(None))
    assert references.pair.tolist() == [2, -1, 0, -1]
    np.testing.assert_array_equal(references.trained_on[0], TRAINED_ON[5])
    assert SHADOWS.select(slice(0, 2), np.arange(3)).logits.shape == (2, 3, C)


def test_behind_labels_the_view_is_the_same_however_sure_the_target_is():
    """Also in what stands for a probability of 0."""
    sure = LOGITS.copy()
    sure[LOGITS.argmax(axis=1) != 0, 0] -= 50
    np.testing.assert_array_equal(sure.argmax(axis=1), LOGITS.argmax(axis=1))
    one, two = (ThreatModel(access="labels").reveal(target(each), SHADOWS) for each in (LOGITS, sure))
    np.testing.assert_array_equal(one.logits, two.logits)
    np.testing.assert_array_equal(one.floor, two.floor)
    assert not np.array_equal(*(ThreatModel().reveal(target(each), SHADOWS).floor for each in (LOGITS, sure)))


def test_floor_is_one_for_all_and_touches_nothing_else():
    a = np.array([[0.0, -np.inf], [np.log(0.25), np.log(0.75)]])
    b = np.array([[[np.log(0.01), np.log(0.99)], [-np.inf, 0.0]]])
    floored = floor_logits(a, b)
    floor = np.log(0.01) - np.log(2)
    for before, after in zip((a, b), floored, strict=True):
        assert np.isfinite(after).all()
        finite = np.isfinite(before)
        np.testing.assert_array_equal(after[finite], before[finite])
        np.testing.assert_allclose(after[~finite], floor)
    unknown = [np.pad(each, [(0, 0)] * (each.ndim - 1) + [(1, 0)], constant_values=-np.inf) for each in (a, b)]
    for plain, wide in zip(floored, floor_logits(*unknown), strict=True):
        assert np.isfinite(wide).all()
        np.testing.assert_array_equal(wide[..., 1:], plain)
        assert (np.exp(wide[..., 0]) == 0).all(), "a class that nobody knows takes no probability from the others"
    assert a[0, 1] == -np.inf, "the target's own outputs are left alone"
    untouched = floor_logits(LOGITS, SHADOW_LOGITS)
    np.testing.assert_array_equal(untouched[0], LOGITS)


def test_views_hold_no_infinity():
    exact = np.eye(C)[Y]  # a forest that is sure of everything
    sure = lp.Target(exact, lp.Records(np.zeros((N, 1)), Y, MEMBERS, POPULATION))
    view = ThreatModel().reveal(sure, References(np.log(np.full((K, N, C), 1 / C)), TRAINED_ON, PAIR))
    floats = [array for array in arrays_in(view) if array.dtype.kind == "f"]
    assert len(floats) == 7  # four of logits, two of features, and the floor itself
    assert all(np.isfinite(array).all() for array in floats)
    np.testing.assert_array_equal(view.predicted_classes(), Y[AUDITED])


THREATS = {
    "access: full": r"threat\.access = full: it should be 'labels', 'scores', 'white_box' or 'table'",
    "access: yes": r"threat\.access = True: it should be",
    "acess: scores": r"threat\.acess = scores: not a line of a threat model; it has release, access, knowledge, goal",
    "knowledge: recipe": r"threat\.knowledge = recipe: give a list of any of labels, candidates, population, recipe",
    "knowledge:": r"threat\.knowledge = None: give a list .* or \[\] for none",
    "knowledge: [recipe, secrets]": r"threat\.knowledge\.1 = secrets: it should be 'labels'",
    "prior: 2": r"threat\.prior = 2: it should be less than 1",
    "prior: 0": r"threat\.prior = 0: it should be greater than 0",
    "prior: .nan": r"threat\.prior = nan",
    "prior: lots": r"threat\.prior = lots: it should be a valid number",
    "goal: fame": r"threat\.goal = fame: it should be 'membership'",
    "release: leak": r"threat\.release = leak: it should be 'prediction_api', 'open_weights' or 'synthetic_table'",
    "1: 2": r"threat\.1 = 1: not a line of a threat model",
    "- access": r"threat = list: a threat model is a mapping such as 'access: scores'",
    "just words": r"threat = str: a threat model is a mapping",
    "access: [": r"threat = .*threat\.yaml: not readable as YAML: .*line 1",
}


@pytest.mark.parametrize(("text", "message"), THREATS.items())
def test_bad_threat_models(tmp_path, text, message):
    path = tmp_path / "threat.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        ThreatModel.load(path)


def test_threat_models_load(tmp_path):
    path = tmp_path / "threat.yaml"
    path.write_text("access: labels\nknowledge: [labels, recipe]\nprior: 0.1\nnote: the insurer\n")
    threat = ThreatModel.load(path)
    assert (threat.access, threat.knowledge, threat.prior) == ("labels", ("labels", "recipe"), 0.1)
    assert ThreatModel.load(str(path)) == ThreatModel.load(threat) == threat
    assert ThreatModel.load({"access": "labels"}).access == "labels"
    path.write_text("# nothing said, nothing changed\n")
    assert ThreatModel.load(path) == ThreatModel.load(None) == ThreatModel()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable as YAML"):
        ThreatModel.load(path)
    with pytest.raises(InputError, match=r"threat = .*gone\.yaml: no such file; give the path of a YAML"):
        ThreatModel.load(tmp_path / "gone.yaml")
    rows = dict(threat.in_words())
    assert "only the answer" in rows["What does the attacker see?"]
    assert "probability 10 %" in rows["What do they believe before the attack?"]
    assert rows["Note"] == "the insurer"


REFUSED = {
    "gap": ((), r"who knows the right answer \(label\) for each person .*; the threat model's knowledge lacks labels$"),
    "population": (
        ("recipe",),
        r"who knows the right answer \(label\) for each person .*; the threat model's knowledge lacks labels$",
    ),
    "lira": (("labels", "recipe"), "who knows the full record of each person .*knowledge lacks candidates$"),
    "lira_offline": (("labels",), "who knows how the model was trained.*knowledge lacks recipe$"),
    "rmia": (("labels", "recipe"), "who knows the full record of each person .*knowledge lacks candidates$"),
    "rmia_offline": (("labels",), "who knows how the model was trained.*knowledge lacks recipe$"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_what_is_lacking(name):
    known, message = REFUSED[name]
    assert re.search(f"^it needs an attacker {message}", ThreatModel(knowledge=known).refusal(create(name)))


@pytest.mark.parametrize("name", available())
def test_every_attack_is_refused_for_a_reason_that_people_understand(name):
    attack = create(name)
    everything = tuple(KNOWLEDGE_IN_WORDS)
    assert ThreatModel(access="white_box", knowledge=everything).refusal(attack) == ""
    assert "knowledge lacks" in ThreatModel(access="white_box", knowledge=()).refusal(attack)
    below = {"scores": "labels", "white_box": "scores"}.get(attack.access)
    if below:
        reason = ThreatModel(access=below).refusal(attack)
        assert reason.startswith("it needs ")
        assert f"the threat model grants 'access: {below}'" in reason


X = _rng.normal(size=(N, 6)).astype(np.float32)


def trained(tmp_path, access="scores", **more):
    records = lp.Records(X, Y, MEMBERS, POPULATION)
    recipe = lp.Recipe(lambda: nn.Linear(X.shape[1], C), epochs=2)
    mine = lp.Target(recipe.fit(X[MEMBERS], Y[MEMBERS], 0), records, recipe)
    from leakpro_nb.shadows import train_shadows

    return mine, ThreatModel(access=access, **more).reveal(mine, train_shadows(mine, 4, folder=tmp_path, workers=1))


@pytest.mark.parametrize("access", ["labels", "scores", "white_box"])
def test_asking_about_the_records_gives_what_the_view_holds(tmp_path, access):
    mine, view = trained(tmp_path, access)
    np.testing.assert_array_equal(view.ask(view.features()), view.logits)
    np.testing.assert_allclose(view.ask_references(view.features()), view.references.logits, atol=1e-5)
    if access == "white_box":
        assert view.white_box() is mine.model
    else:
        with pytest.raises(AccessDenied, match=f"'access: {access}'"):
            view.oracle.model  # noqa: B018


def test_who_plays_the_target_is_asked_in_its_place(tmp_path):
    _, view = trained(tmp_path, "labels")
    rows = np.array([5, 3, 8])
    played = view.as_target(1, rows)
    np.testing.assert_array_equal(played.ask(played.features()), played.logits)
    assert set(np.unique(played.ask(played.features()))) == {0.0, 1.0}
    assert len(played.references.models) == len(played.references) == 2


def test_through_changes_every_record_and_asks_everyone_again(tmp_path):
    _, view = trained(tmp_path)
    far = view.through(double)
    assert far is view.through(double)
    np.testing.assert_array_equal(far.features(), 2 * view.features())
    np.testing.assert_array_equal(far.logits, view.ask(2 * view.features()))
    np.testing.assert_array_equal(far.population, view.ask(2 * view.population_inputs))
    np.testing.assert_allclose(far.references.logits, view.ask_references(2 * view.features()))
    np.testing.assert_array_equal(far.references.trained_on, view.references.trained_on)


def double(x):
    return 2 * x


def test_predictions_alone_cannot_be_asked():
    view = ThreatModel().reveal(target(LOGITS), References(SHADOW_LOGITS, TRAINED_ON, PAIR))
    for question in (view.ask, view.ask_references, lambda _: view.through(double)):
        with pytest.raises(AccessDenied, match="only"):
            question(X)


def test_known_members_are_half_of_those_asked_about(tmp_path):
    _, blind = trained(tmp_path)
    assert blind.known is None
    mine, view = trained(tmp_path, knowledge=("labels", "candidates", "population", "recipe", "known_members"))
    truth = MEMBERS[~POPULATION]
    assert view.known.sum() == round(len(truth) / 2)
    np.testing.assert_array_equal(view.known_members, view.known & truth)
    again = ThreatModel(knowledge=("known_members",)).reveal(mine, seed=1)
    assert (again.known != view.known).any()
    played = view.as_target(0)
    np.testing.assert_array_equal(played.known_members, view.known & view.references.trained_on[0])
