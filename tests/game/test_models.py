"""Every kind of model answers with the same float64 logits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC, LinearSVC
from torch import nn

import leakpro_nb as lp
from leakpro_nb.attacks.signals import log_odds
from leakpro_nb.errors import InputError
from leakpro_nb.game.models import load_model, predictor, settle, to_logits
from leakpro_nb.game.models.torch import predict_torch
from leakpro_nb.game.views import floor_logits

N = 120
_rng = np.random.default_rng(0)
X = _rng.normal(size=(N, 4)).astype(np.float32)
TWO = (X[:, 0] > 0).astype(int)
THREE = np.digitize(X[:, 0], [-0.4, 0.4])
MEMBERS = _rng.random(N) < 0.5


def target(model, y=TWO, x=X, **options) -> lp.Target:
    return lp.Target(model, lp.Records(x, y, MEMBERS), **options)


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def same_signals(ours: lp.Target, theirs: lp.Target) -> None:
    """Compare what attacks are made of; logits may differ by a constant per record."""
    seen = [log_odds(each.logits, each.records.y) for each in (ours, theirs)]
    np.testing.assert_allclose(*seen, rtol=1e-9, atol=1e-9)
    assert np.ptp(seen[0]) > 0.1


class Flat(nn.Module):
    """One number per record, squeezed as carelessly as people do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x):
        return self.layer(x).squeeze()


@pytest.mark.parametrize(
    ("net", "classes"), [(nn.Linear(4, 1), 2), (Flat(), 2), (nn.Linear(4, 2), 2), (nn.Linear(4, 3), 3)]
)
def test_torch(net, classes):
    seen = target(net).logits
    assert seen.shape == (N, classes)
    assert seen.dtype == np.float64
    with torch.no_grad():
        raw = net(torch.as_tensor(X)).numpy().reshape(N, -1)
    if raw.shape[1] == 1:
        raw = np.hstack([np.zeros_like(raw), raw])
    np.testing.assert_array_equal(seen, raw.astype(np.float64))


def test_torch_logits_are_not_rounded_through_probabilities():
    """Float32 probabilities of confident models tie at 1; logits do not."""
    net = nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.mul_(1000)
    assert len(np.unique(log_odds(target(net).logits, TWO))) == N


@pytest.mark.parametrize("records", [2, 7, 8, 9, 15, 16, 17])
@pytest.mark.parametrize("net", [Flat(), nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))])
def test_torch_batches_leave_no_trace(net, records):
    whole = predict_torch(net, X[:records], batch_size=1000)
    cut = predict_torch(net, X[:records], batch_size=8)
    assert len(np.atleast_1d(whole)) == records
    np.testing.assert_allclose(cut, whole, rtol=1e-6, atol=1e-6)


def test_torch_modes_are_put_back_layer_by_layer():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    net[1].eval()  # frozen, as in fine-tuning
    before = {name: value.clone() for name, value in net.state_dict().items()}
    first, second = predict_torch(net, X), predict_torch(net, X)
    np.testing.assert_array_equal(first, second)
    assert [module.training for module in net] == [True, False, True, True]
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert np.ptp(predict_torch(net.eval(), X)) > 0
    assert not net.training
    failing = nn.Sequential(nn.Linear(3, 2)).train()
    with pytest.raises(RuntimeError):
        predict_torch(failing, X)
    assert failing.training


def test_torch_reads_tensors_frames_and_arrays():
    net = nn.Linear(4, 2)
    for x in (torch.as_tensor(X), pd.DataFrame(X), X):
        np.testing.assert_array_equal(target(net, x=x).logits, target(net).logits)
        own = target(net, x=x, recipe=lp.Recipe(lambda: nn.Linear(4, 2), epochs=1))
        own.check(needs_recipe=True)


def test_recipe_is_repeatable_and_leaves_the_generators_alone():
    def draws():
        return (np.random.random(), torch.rand(()).item())  # noqa: NPY002

    def careless(records, seed):
        net = nn.Linear(4, 2)
        with torch.no_grad():
            net.bias.add_(float(np.random.random()))  # noqa: NPY002
        return net

    for recipe in (lp.Recipe(train=careless), lp.Recipe(lambda: careless(None, None), epochs=2)):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        expected = draws()
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        nets = [recipe.fit(X, TWO, seed) for seed in (5, 5, 6)]
        recipe.fingerprint()
        assert draws() == expected
        assert torch.equal(nets[0].bias, nets[1].bias)
        assert not torch.equal(nets[0].bias, nets[2].bias)


ESTIMATORS = {
    "forest": RandomForestClassifier(10, random_state=0),
    "boosting": HistGradientBoostingClassifier(max_iter=5),
    "logistic": LogisticRegression(),
}


@pytest.mark.parametrize("y", [TWO, THREE], ids=["binary", "three classes"])
@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
def test_scikit_learn(estimator, y):
    model = estimator.fit(X[MEMBERS], y[MEMBERS])
    seen = target(model, y)
    seen.check(needs_recipe=True)
    np.testing.assert_allclose(softmax(seen.logits), model.predict_proba(X), atol=1e-6)
    assert not hasattr(seen.recipe.make, "classes_"), "what the target learnt must not travel with the recipe"


@pytest.mark.parametrize("y", [TWO, THREE], ids=["binary", "three classes"])
@pytest.mark.parametrize("model", [LinearSVC(), SVC()], ids=["LinearSVC", "SVC"])
def test_decision_function_only(model, y):
    model = model.fit(X[MEMBERS], y[MEMBERS])
    seen = target(model, y)
    seen.check(needs_recipe=True)
    raw = model.decision_function(X)
    np.testing.assert_array_equal(seen.logits, np.stack([np.zeros(N), raw], 1) if raw.ndim == 1 else raw)
    np.testing.assert_array_equal(seen.logits.argmax(axis=1), model.predict(X))


def test_pipeline_on_a_frame_with_text():
    frame = pd.DataFrame({"ward": np.where(X[:, 0] > 0, "north", "south"), "age": X[:, 1]})
    columns = make_column_transformer((OneHotEncoder(), ["ward"]), remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(frame[MEMBERS], TWO[MEMBERS])
    seen = target(model, x=frame, sensitive="ward")
    seen.check(needs_recipe=True)
    assert seen.logits.shape == (N, 2)
    assert min(seen.accuracy()) > 0.9


@pytest.mark.parametrize("model", [LinearSVC(), LogisticRegression(), RandomForestClassifier(10, random_state=0)])
def test_labels_from_1(model):
    y = TWO + 1
    seen = target(model.fit(X[MEMBERS], y[MEMBERS]), y)
    seen.check(needs_recipe=True)
    assert seen.classes == 3
    assert np.isneginf(seen.logits[:, 0]).all()
    np.testing.assert_array_equal(seen.logits.argmax(axis=1), model.predict(X))
    plain = target(type(model)(**model.get_params()).fit(X[MEMBERS], TWO[MEMBERS]))
    fine = np.isfinite(plain.logits).all(axis=1)
    assert fine.any()
    (ours,), (theirs,) = floor_logits(seen.logits), floor_logits(plain.logits)
    np.testing.assert_allclose(log_odds(ours, y)[fine], log_odds(theirs, TWO)[fine], atol=1e-3)


@pytest.mark.parametrize("classes", [[-1, 1], [0.0, 1.0], ["no", "yes"], [False, True]])
def test_classes_of_any_kind_are_numbered_in_order(classes):
    frame = pd.DataFrame(X, columns=list("abcd")).assign(y=np.array(classes)[TWO], m=MEMBERS)
    model = LogisticRegression().fit(frame[list("abcd")], frame["y"])
    seen = target(model, x=frame[list("abcd")])
    np.testing.assert_allclose(softmax(seen.logits), model.predict_proba(frame[list("abcd")]), atol=1e-6)
    from_table = lp.Target.from_table(frame, model, label="y", member="m")
    np.testing.assert_array_equal(from_table.records.y, TWO)
    assert min(from_table.accuracy()) > 0.9
    from_table.check(needs_recipe=True)


@pytest.mark.parametrize(
    ("model", "width"),
    [(RandomForestClassifier(5), 2), (RandomForestClassifier(5), 3), (HistGradientBoostingClassifier(max_iter=3), 3)],
)
def test_shadow_that_lacks_classes(model, width):
    """Its probability of a class that it never met is 0, and the columns of the others stay in place."""
    lacking = width - 1  # the last class, then all but one
    some = lacking > THREE if width == 3 else np.ones(N, dtype=bool)
    y = THREE if width == 3 else TWO
    seen = predictor(model.fit(X[some], y[some]), width)(X)
    assert seen.shape == (N, width)
    if width == 3:
        assert np.isneginf(seen[:, 2]).all()
        np.testing.assert_allclose(np.exp(seen[:, :2]), model.predict_proba(X))
    middle = y == 1
    if isinstance(model, RandomForestClassifier):
        sure = predictor(model.fit(X[middle], y[middle]), width)(X)
        np.testing.assert_array_equal(np.exp(sure), np.broadcast_to(np.arange(width) == 1, (N, width)))


LOGITS = _rng.normal(size=(N, 3))


def test_functions_and_predictions_agree_however_they_say_it():
    """Logits, probabilities, lists, tensors, tables: the same signals."""
    truth = target(lambda x: LOGITS, THREE)
    same_signals(target(lambda x: softmax(LOGITS), THREE), truth)
    same_signals(target(lambda x: torch.as_tensor(LOGITS), THREE), truth)
    same_signals(target(lambda x: pd.DataFrame(LOGITS), THREE), truth)
    same_signals(target(LOGITS, THREE), truth)
    same_signals(lp.Target.from_predictions(LOGITS, THREE, MEMBERS), truth)
    same_signals(lp.Target.from_predictions(LOGITS.tolist(), THREE, MEMBERS), truth)
    same_signals(lp.Target.from_predictions(torch.as_tensor(LOGITS), THREE, MEMBERS), truth)
    same_signals(lp.Target.from_predictions(softmax(LOGITS), THREE, MEMBERS), truth)
    assert target(lambda x: LOGITS, THREE).kind == "model behind a function"


def test_one_number_per_record_is_a_binary_models():
    z = LOGITS[:, 0]
    truth = target(np.stack([np.zeros(N), z], 1))
    p = 1 / (1 + np.exp(-z))
    for one in (z, z[:, None], p, p[:, None]):
        same_signals(lp.Target.from_predictions(one, TWO, MEMBERS), truth)
        same_signals(target(lambda x, one=one: one), truth)
        assert lp.Target.from_predictions(one, TWO, MEMBERS).classes == 2


def test_declared_outputs_are_believed():
    cautious = np.full(N, 0.25) + 0.1 * TWO  # logits that look like probabilities
    assert target(cautious, outputs="logits").logits[0, 1] == cautious[0]
    assert target(cautious, outputs="probabilities").logits[0, 1] == pytest.approx(np.log(cautious[0]))
    with pytest.raises(InputError, match="outputs='logits'"):
        _ = target(LOGITS[:, 0], outputs="probabilities").logits


def test_single_columns_are_read_as_the_targets():
    """The logits of a cautious shadow model may all lie in [0, 1]; the target, less cautious, tells them for logits."""
    assert settle(LOGITS[:, 0], "auto") == "logits"
    assert settle(np.abs(LOGITS[:, 0]) / 10, "auto") == "probabilities"
    assert settle(LOGITS, "auto") == "auto"
    assert settle(LOGITS[:, 0], "probabilities") == "probabilities"
    cautious = np.full((1, N), 0.5)
    both = lp.Target.from_predictions(
        LOGITS[:, 0], TWO, MEMBERS, shadow_predictions=cautious, shadow_members=[np.arange(N) % 2 == 0]
    )
    assert both.shadows.logits[0, 0].tolist() == [0.0, 0.5]
    net = nn.Linear(4, 1)
    assert target(net).outputs_of("torch") == "logits"
    assert target(net).outputs_of("function") == "auto"


def test_exact_zero_probability_becomes_minus_infinity():
    assert to_logits(np.array([[0.0, 1.0]])).tolist() == [[-np.inf, 0.0]]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("word", ["logit", "prob"])
def test_prediction_tables_with_shadows(tmp_path, suffix, word):
    said = LOGITS if word == "logit" else softmax(LOGITS)
    trained_on = np.stack([np.arange(N) % 2 == 0, np.arange(N) % 2 == 1, np.arange(N) % 3 == 0])
    columns = {"label": THREE, "member": np.where(MEMBERS, "Yes", "no"), "shadow_price": X[:, 0], "sex": "f"}
    columns |= {f"{word}_{c}": said[:, c] for c in range(3)}
    for k, mask in enumerate(trained_on):
        columns |= {f"shadow{k}_{word}_{c}": said[:, (c + k) % 3] for c in range(3)}
        columns[f"shadow{k}_member"] = mask.astype(int)
    columns["population"] = ~MEMBERS & (np.arange(N) > 100)
    frame = pd.DataFrame(columns)
    path = tmp_path / f"predictions{suffix}"
    (frame.to_csv if suffix == ".csv" else frame.to_parquet)(path, index=False)
    seen = lp.Target.load(path)
    seen.check(needs_recipe=True)
    assert seen.kind == "predictions only (a table)"
    np.testing.assert_array_equal(seen.records.members, MEMBERS)
    np.testing.assert_array_equal(seen.records.population, columns["population"])
    np.testing.assert_array_equal(seen.shadows.trained_on, trained_on)
    assert seen.shadows.pair.tolist() == [1, 0, -1]
    assert {"shadow_price", "sex"} <= set(seen.records.groups.columns)
    same_signals(seen, target(LOGITS, THREE))
    rolled = [np.roll(LOGITS, -k, axis=1) for k in range(3)]
    np.testing.assert_allclose(log_odds(seen.shadows.logits, THREE), log_odds(np.stack(rolled), THREE), atol=1e-9)


def test_own_logits_as_predictions_give_the_same_view():
    model = LogisticRegression().fit(X[MEMBERS], THREE[MEMBERS])
    ours = target(model, THREE)
    told = lp.Target.from_predictions(ours.logits, THREE, MEMBERS)
    views = [lp.ThreatModel().reveal(each).signal(log_odds).audit for each in (ours, told)]
    np.testing.assert_array_equal(views[0].target, views[1].target)
    assert np.ptp(views[0].target) > 0.1


def test_model_files(tmp_path):
    skops = pytest.importorskip("skops.io")
    for estimator in ESTIMATORS.values():
        model = estimator.fit(X, THREE)
        skops.dump(model, tmp_path / "model.skops")
        np.testing.assert_array_equal(load_model(tmp_path / "model.skops").predict_proba(X), model.predict_proba(X))
        for path in (tmp_path / "model.skops", str(tmp_path / "model.skops")):
            np.testing.assert_array_equal(target(path, THREE).logits, target(model, THREE).logits)


def test_trial_has_every_class_and_enough_records():
    """Neighbours need records; a rare class must be in the trial, wherever it stands."""
    from sklearn.neighbors import KNeighborsClassifier

    y = np.zeros(2000, dtype=int)
    y[-30:] = 1
    x = _rng.normal(size=(2000, 2))
    seen = []

    def train(records, seed):
        seen.append(records.y)
        return KNeighborsClassifier(150).fit(records.X, records.y)

    model = KNeighborsClassifier(150).fit(x, y)
    lp.Target(model, lp.Records(x, y, np.arange(2000) % 2 == 0), lp.Recipe(train=train)).check(needs_recipe=True)
    assert len(seen[0]) == 256
    assert seen[0].sum() == 16
