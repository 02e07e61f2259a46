"""Every kind of bad input is found before training, and the message names field, value and remedy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import leakpro_nb as lp
from leakpro_nb.errors import InputError
from leakpro_nb.game.models import load_model
from leakpro_nb.game.views import References

N = 60
_rng = np.random.default_rng(0)
X = _rng.normal(size=(N, 4)).astype(np.float32)
Y = np.arange(N) % 2
MEMBERS = np.arange(N) < N // 2
LOGITS = _rng.normal(size=(N, 2))
FRAME = pd.DataFrame(X, columns=list("abcd"))


def net(outputs: int = 2) -> nn.Module:
    return nn.Linear(4, outputs)


def with_nan() -> np.ndarray:
    damaged = X.copy()
    damaged[7, 1] = np.nan
    return damaged


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"label": Y, "member": MEMBERS, "prob_0": 0.5, "prob_1": 0.5} | columns)


def target(model=None, x=X, y=Y, members=MEMBERS, population=None, groups=None, **options) -> lp.Target:
    return lp.Target(net() if model is None else model, lp.Records(x, y, members, population, groups), **options)


def unable(records, seed):
    raise RuntimeError("no licence for the solver")


def shadows(trained_on, classes=2) -> References:
    trained_on = np.asarray(trained_on)
    return References(np.zeros((*trained_on.shape, classes)), trained_on, np.full(len(trained_on), -1))


ODD = np.arange(N) % 3 == 0

WHEN_MADE = {
    "mask too short": (lambda: target(members=MEMBERS[:-1]), r"records\.members = shape \(59,\): give one True.*60"),
    "mask of indices": (lambda: target(members=np.arange(30)), r"records\.members = shape \(30,\).*60 of them"),
    "mask of numbers": (lambda: target(members=np.arange(N)), r"records\.members = values such as \[0, 1, 2\].*True"),
    "mask of words": (lambda: target(members=["True"] * N), r"records\.members = values such as \['True'"),
    "mask with gaps": (lambda: target(members=np.where(MEMBERS, np.nan, 1)), r"records\.members = values .*nan.*True"),
    "population of members": (
        lambda: target(population=np.arange(N) < 3),
        r"records\.population = 3 records are members as well: population records must not have trained",
    ),
    "population too short": (lambda: target(population=[True]), r"records\.population = shape \(1,\).*60 of them"),
    "no records": (lambda: target(x=X[:0], y=Y[:0]), r"records\.X = 0 rows: give at least one"),
    "ragged X": (lambda: target(x=[[1.0], [2.0, 3.0]]), r"records\.X = a ragged list: .*same shape"),
    "X is a number": (lambda: target(x=3.0), r"records\.X = float: give an array, a tensor or a DataFrame"),
    "sparse X": (
        lambda: target(x=__import__("scipy.sparse").sparse.csr_matrix(X)),
        r"records\.X = csr_matrix: .*toarray",
    ),
    "labels too few": (lambda: target(y=Y[:5]), r"records\.y = shape \(5,\): give one label per record, 60"),
    "labels one-hot": (lambda: target(y=np.eye(2)[Y]), r"records\.y = shape \(60, 2\): give one label"),
    "labels with fractions": (lambda: target(y=Y + 0.5), r"records\.y = values such as \[0\.5.*integer class labels"),
    "labels missing": (lambda: target(y=np.where(Y, np.nan, 0)), r"records\.y = 30 missing labels: .*first is row 1"),
    "labels of text": (lambda: target(y=np.where(Y, "yes", "no")), r"records\.y = type .*integer.*pandas\.factorize"),
    "labels below 0": (lambda: target(y=2 * Y - 1), r"records\.y = smallest label -1: class labels count from 0"),
    "groups too few": (lambda: target(groups=FRAME[:5]), r"records\.groups = 5 rows: give one row per record, 60"),
    "groups no table": (lambda: target(groups=X), r"records\.groups = ndarray: give a DataFrame"),
    "unknown sensitive column": (
        lambda: target(groups=FRAME, sensitive=["ward"]),
        r"target\.sensitive = ward: not a column of the records; they have a, b, c, d",
    ),
    "sensitive without columns": (
        lambda: target(sensitive="ward"),
        r"target\.sensitive = ward: give the columns too.*groups=",
    ),
    "records of another kind": (lambda: lp.Target(net(), X), r"target\.records = ndarray: pass lp\.Records"),
    "recipe of another kind": (lambda: target(recipe=net), r"target\.recipe = function: pass lp\.Recipe"),
    "outputs unknown": (lambda: target(outputs="odds"), r"target\.outputs = odds: use auto, logits or probabilities"),
    "model without confidence": (
        lambda: target(LinearRegression()),
        r"target\.model = LinearRegression: it has predict but neither predict_proba nor decision_function; pass a fun",
    ),
    "model of no kind": (lambda: target(object()), r"target\.model = object: pass a torch module, a scikit-learn"),
    "model path missing": (lambda: target("gone.skops"), r"model = gone\.skops: no such file"),
    "recipe with nothing": (lp.Recipe, r"recipe = make and train: give exactly one"),
    "recipe with both": (lambda: lp.Recipe(net, train=unable), r"recipe = make and train: give exactly one"),
    "recipe of a number": (lambda: lp.Recipe(3), r"recipe\.make = 3: pass a function that returns a fresh"),
    "recipe of a network": (
        lambda: lp.Recipe(net()),
        r"recipe\.make = a Linear: pass the function or class that makes",
    ),
    "recipe of a class": (
        lambda: lp.Recipe(LogisticRegression),
        r"recipe\.make = LogisticRegression: pass an estimator, LogisticRegression\(…\)",
    ),
    "train not a function": (lambda: lp.Recipe(train=3), r"recipe\.train = 3: pass a function \(records, seed\)"),
    "optimiser unknown": (lambda: lp.Recipe(net, optimizer="lbfgs"), r"recipe\.optimizer = lbfgs: use adam, adamw"),
    "no epochs": (lambda: lp.Recipe(net, epochs=0), r"recipe\.epochs = 0: use an integer of at least 1"),
    "half epochs": (lambda: lp.Recipe(net, epochs=1.5), r"recipe\.epochs = 1\.5: use an integer"),
    "true epochs": (lambda: lp.Recipe(net, epochs=True), r"recipe\.epochs = True: use an integer"),
    "no learning rate": (lambda: lp.Recipe(net, lr=0), r"recipe\.lr = 0: use a positive number"),
    "NaN learning rate": (lambda: lp.Recipe(net, lr=float("nan")), r"recipe\.lr = nan: use a positive number"),
    "true learning rate": (lambda: lp.Recipe(net, lr=True), r"recipe\.lr = True: use a positive number"),
    "infinite decay": (lambda: lp.Recipe(net, weight_decay=np.inf), r"recipe\.weight_decay = inf: use a number of at"),
    "negative momentum": (lambda: lp.Recipe(net, momentum=-1), r"recipe\.momentum = -1: use a number of at least 0"),
}

WHEN_CHECKED = {
    "no members given": (lambda: target(members=None), r"records\.members = missing: say which records trained"),
    "no members": (lambda: target(members=np.zeros(N, bool)), r"records\.members = 0 members: .*at least 10 members"),
    "no non-members": (lambda: target(members=np.ones(N, bool)), r"records\.members = 0 non-members: .*at least 10"),
    "all non-members are population": (
        lambda: target(population=~MEMBERS),
        r"records\.members = 0 non-members: .*at least 10 non-members",
    ),
    "label beyond outputs": (
        lambda: target(y=np.where(np.arange(N) == 9, 2, Y)),
        r"records\.y = label 2 in row 9: the model has 2 outputs, so labels run from 0 to 1",
    ),
    "NaN in X": (lambda: target(x=with_nan()), r"records\.X = NaN in 1 of 60 records: .*first is row 7"),
    "NaN in a DataFrame": (
        lambda: target(x=pd.DataFrame(with_nan())),
        r"model outputs = NaN for 1 of 60 records: .*missing values in X.*first is row 7",
    ),
    "NaN in outputs": (
        lambda: target(lambda x: with_nan()),
        r"model outputs = NaN for 1 of 60 records: .*first is row 7",
    ),
    "infinity in outputs": (
        lambda: target(lambda x: np.where(LOGITS > 9, 0, np.inf)),
        r"model outputs = infinity in row 0",
    ),
    "text for outputs": (lambda: target(lambda x: ["high"] * N), r"model outputs = list: an array of numbers"),
    "outputs of three dimensions": (
        lambda: target(lambda x: np.zeros((N, 2, 2))),
        r"model outputs = shape \(60, 2, 2\)",
    ),
    "too few outputs": (lambda: target(lambda x: LOGITS[:9]), r"target\.model = 9 outputs: .*one row per record, 60"),
    "too few predictions": (
        lambda: target(LOGITS[:9]),
        r"target\.model = 9 rows of predictions: .*one row per record, 60",
    ),
    "not probabilities": (
        lambda: target(LOGITS, outputs="probabilities"),
        r"model outputs = values from -.* to .*: rows of probabilities must lie in \[0, 1\].*outputs='logits'",
    ),
    "model fails on X": (
        lambda: target(nn.Linear(3, 2)),
        r"target\.model = Linear: it fails on records\.X: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "estimator not fitted": (
        lambda: target(LogisticRegression()),
        r"target\.model = LogisticRegression: it fails .*not fitted",
    ),
    "no recipe": (target, r"target\.recipe = missing: shadow models need one: lp\.Recipe.*num_shadows=0"),
    "training raises": (
        lambda: target(recipe=lp.Recipe(train=unable)),
        r"target\.recipe = own training function unable: a trial on 60 records failed: RuntimeError: no licence",
    ),
    "training returns nothing": (
        lambda: target(recipe=lp.Recipe(train=lambda records, seed: None)),
        r"target\.recipe = own training function .*: a trial on 60 records failed: pass a torch module",
    ),
    "factory returns no network": (
        lambda: target(recipe=lp.Recipe(lambda: "net")),
        r"target\.recipe = .*: a trial .* failed: the factory must return a torch\.nn\.Module",
    ),
    "factory wants arguments": (
        lambda: target(recipe=lp.Recipe(nn.Linear)),
        r"target\.recipe = Linear, adam.*: a trial .* failed: TypeError: .*missing 2 required",
    ),
    "network too wide": (
        lambda: target(recipe=lp.Recipe(lambda: net(3))),
        r"target\.recipe = 3 classes: its models must have the target's 2 classes",
    ),
    "network too narrow": (
        lambda: target(net(4), recipe=lp.Recipe(lambda: net(3))),
        r"target\.recipe = 3 classes: its models must have the target's 4 classes",
    ),
    "models that lose records": (
        lambda: target(recipe=lp.Recipe(train=lambda records, seed: lambda x: LOGITS[: len(x) - 1])),
        r"target\.recipe = 59 outputs for 60 records: its models must return one each",
    ),
    "estimator that fails": (
        lambda: target(recipe=lp.Recipe(LogisticRegression(C=-1.0))),
        r"target\.recipe = LogisticRegression\(C=-1\.0\): a trial .* failed: InvalidParameterError",
    ),
    "shadows of other records": (
        lambda: target(shadows=shadows([ODD[:-1]])),
        r"target\.shadows = shapes \(1, 59, 2\) and \(1, 59\): .*same 60 records and 2 classes",
    ),
    "shadows of other classes": (
        lambda: target(shadows=shadows([ODD], classes=3)),
        r"target\.shadows = shapes \(1, 60, 3\).*same 60 records and 2 classes",
    ),
}


@pytest.mark.parametrize(("make", "message"), WHEN_MADE.values(), ids=WHEN_MADE)
def test_found_when_made(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(("make", "message"), WHEN_CHECKED.values(), ids=WHEN_CHECKED)
def test_found_when_checked(make, message):
    bad = make()
    with pytest.raises(InputError, match=message):
        bad.check(needs_recipe=True)


def test_good_input_passes():
    """The cases above differ from this one by what they are named after."""
    target(recipe=lp.Recipe(net), groups=FRAME, sensitive="a", population=np.arange(N) >= 50).check(needs_recipe=True)
    target(LOGITS, shadows=shadows([ODD])).check(needs_recipe=True)
    target(members=MEMBERS.astype(int).tolist(), y=Y.astype(float)[:, None]).check()


FILES = {
    "no function": ("x = 3", r"target\.py: it must define a function target\(\)"),
    "target is no function": ("target = 3", r"it must define a function target\(\)"),
    "syntax error": ("def target(:", r"target\.py: it cannot be imported: SyntaxError"),
    "missing package": ("import astrology", r"cannot be imported: ModuleNotFoundError: .*astrology.*\(line 1\)"),
    "leaves": ("import sys\nsys.exit('bye')", r"cannot be imported: SystemExit: bye \(line 2\)"),
    "raises": ("def target():\n    return 1 / 0", r"its function target\(\) failed: ZeroDivisionError.*\(line 2\)"),
    "leaves later": ("def target():\n    raise SystemExit(3)", r"target\(\) failed: SystemExit: 3 \(line 2\)"),
    "returns something else": ("def target():\n    return 'net'", r"target\(\) returned str, not lp\.Target"),
    "wants arguments": ("def target(x):\n    return x", r"target\(\) failed: TypeError: .*missing 1 required"),
    "bad input inside": (
        "import leakpro_nb as lp\ndef target():\n    return lp.Target(3, lp.Records([[1]], [0.5]))",
        r"records\.y = values such as \[0\.5\]",
    ),
}


@pytest.mark.parametrize(("source", "message"), FILES.values(), ids=FILES)
def test_bad_target_file(tmp_path, source, message):
    path = tmp_path / "target.py"
    path.write_text(source)
    with pytest.raises(InputError, match=message):
        lp.Target.load(path)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match=r"target = .*nowhere\.py: no such file; give a target\.py"):
        lp.Target.load(tmp_path / "nowhere.py")
    with pytest.raises(InputError, match=r"predictions = .*nowhere\.csv: no such file"):
        lp.Target.load(tmp_path / "nowhere.csv")
    (tmp_path / "target.txt").write_text("")
    with pytest.raises(InputError, match=r"target\.txt: not a Python file; give a target\.py"):
        lp.Target.load(tmp_path / "target.txt")


TABLES = {
    "no label": (table().drop(columns="label"), r"predictions = member, prob_0, prob_1: a column called label is missing"),
    "no member": (table().drop(columns="member"), r"a column called member is missing"),
    "no predictions": (table()[["label", "member"]], r"predictions = no logit_0 or prob_0: give one column"),
    "gap in numbering": (
        table().rename(columns={"prob_1": "prob_2"}),
        r"predictions = prob_0, prob_2: number the columns prob_0, _1, … without gaps",
    ),
    "numbered from 1": (table().rename(columns={"prob_0": "prob_2"}), r"number the columns prob_0, _1"),
    "unknown words": (
        table(member=["in", "out"] * (N // 2)),
        r"member = in, out: use true or false \(or 1 and 0\) in every row",
    ),
    "gaps in member": (table(member=[None, True] * (N // 2)), r"member = (none|nan): use true or false"),
    "labels of text": (table(label=["a", "b"] * (N // 2)), r"records\.y = type object: .*pandas\.factorize"),
    "labels missing": (table(label=[np.nan, 1.0] * (N // 2)), r"records\.y = 30 missing labels"),
    "predictions of text": (table(prob_1="high"), r"model outputs = ndarray: an array of numbers"),
    "predictions missing": (table(prob_1=np.nan), r"model outputs = NaN for 60 of 60 records"),
    "not probabilities": (table(prob_1=0.9), r"model outputs = .*rows of probabilities must lie in \[0, 1\] and sum"),
    "shadow without member": (
        table(shadow0_prob_0=0.5, shadow0_prob_1=0.5),
        r"predictions = shadow0: a column called shadow0_member is missing",
    ),
    "shadow without predictions": (table(shadow0_member=ODD), r"predictions = no shadow0_logit_0 or shadow0_prob_0"),
    "shadows of different width": (
        table(shadow0_prob_0=0.5, shadow0_prob_1=0.5, shadow0_member=ODD)
        .assign(shadow1_logit_0=0, shadow1_logit_1=0, shadow1_logit_2=0, shadow1_member=ODD),
        r"predictions = shadow1: all shadow models need the same number of classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(("frame", "message"), TABLES.values(), ids=TABLES)
def test_bad_prediction_table(tmp_path, frame, message, suffix):
    path = tmp_path / f"predictions{suffix}"
    (frame.to_csv if suffix == ".csv" else frame.to_parquet)(path, index=False)
    with pytest.raises(InputError, match=message):
        lp.Target.load(path).check(needs_recipe=True)


def test_unreadable_tables(tmp_path):
    for name in ("empty.csv", "broken.parquet"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=rf"predictions = .*{name}: not readable"):
            lp.Target.load(tmp_path / name)
    with pytest.raises(InputError, match=r"table = .*rows\.xlsx: no such file"):
        lp.Target.from_table(tmp_path / "rows.xlsx", None, label="y", member="m")


ROWS = FRAME.assign(y=Y, m=MEMBERS)
FITTED = LogisticRegression().fit(FRAME, Y)

FROM_TABLE = {
    "unknown label column": ({"label": "z"}, r"label = z: not a column of the table; it has a, b, c, d, y, m"),
    "unknown member column": ({"member": "z"}, r"member = z: not a column of the table"),
    "unknown population column": ({"population": "z"}, r"population = z: not a column of the table"),
    "label that the model does not know": (
        {"table": ROWS.assign(y=Y + 5)},
        r"label = 5, 6: the model knows the classes 0, 1",
    ),
    "model column missing": (
        {"table": ROWS.drop(columns="c")},
        r"table = c: columns that the model was trained on are",
    ),
    "member words": ({"table": ROWS.assign(m="perhaps")}, r"m = perhaps: use true or false"),
    "pickled model": ({"model": "model.pkl"}, r"model = model\.pkl: (no such file|only \.skops)"),
}


@pytest.mark.parametrize(("change", "message"), FROM_TABLE.values(), ids=FROM_TABLE)
def test_bad_table_of_records(change, message):
    arguments = {"table": ROWS, "model": FITTED, "label": "y", "member": "m"} | change
    with pytest.raises(InputError, match=message):
        lp.Target.from_table(**arguments)


def test_from_predictions_wants_all_it_needs():
    def say(**options):
        return lp.Target.from_predictions(LOGITS, Y, MEMBERS, **options)

    with pytest.raises(InputError, match=r"predictions = an array: give y and members beside it"):
        lp.Target.from_predictions(LOGITS)
    with pytest.raises(InputError, match=r"shadow_members = missing: say which records trained"):
        say(shadow_predictions=LOGITS[None])
    with pytest.raises(InputError, match=r"shadow_predictions = shapes .*give predictions \(K, 60, C\)"):
        say(shadow_predictions=LOGITS, shadow_members=ODD)
    with pytest.raises(InputError, match=r"shadow_members = values such as \['no'"):
        say(shadow_predictions=LOGITS[None], shadow_members=[["no"] * N])
    with pytest.raises(InputError, match=r"population = given beside a table: .*drop one"):
        lp.Target.from_predictions(table(), population=ODD)


def test_pickles_and_untrusted_types_are_refused(tmp_path):
    skops = pytest.importorskip("skops.io")
    for suffix in (".pkl", ".joblib", ".pt"):
        (tmp_path / f"model{suffix}").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        with pytest.raises(
            InputError, match=r"model = .*: only \.skops files are loaded directly, since pickles can run"
        ):
            load_model(tmp_path / f"model{suffix}")
    skops.dump(FunctionTransformer(unable), tmp_path / "model.skops")
    with pytest.raises(InputError, match=r"model = .*types that are not trusted: .*unable.*write a target\.py instead"):
        load_model(tmp_path / "model.skops")
    for content in (b"", b"no archive at all"):
        (tmp_path / "broken.skops").write_bytes(content)
        with pytest.raises(InputError, match=r"broken\.skops: not a readable \.skops file"):
            load_model(tmp_path / "broken.skops")


def test_torch_tensors_in_bad_shape():
    with pytest.raises(InputError, match=r"records\.X = Tensor: give an array"):
        lp.Records(torch.tensor(3.0), [0])
