"""Shadow models are trained once, the same way every time, whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

import leakpro_nb as lp
from leakpro_nb.errors import AuditFailed, InputError
from leakpro_nb.game.views import References
from leakpro_nb.shadows import paired_splits, sized_splits

N = 80
_rng = np.random.default_rng(0)
X = _rng.normal(size=(N, 4)).astype(np.float32)
Y = (X[:, 0] + _rng.normal(size=N) > 0).astype(int)
MEMBERS = _rng.random(N) < 0.4

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


def mlp(outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, outputs))


class Sequence(nn.Module):
    """Reads the four features one after the other; torch cannot stack it."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 4, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.lstm(x[..., None])[0][:, -1])


def own_loop(records, seed):
    """Forgets its seed, as people do."""
    net = mlp()
    steps = torch.optim.SGD(net.parameters(), lr=0.1)
    inputs, labels = torch.as_tensor(records.X), torch.as_tensor(records.y)
    for _ in range(20):
        rows = torch.randperm(len(labels))[:16]
        steps.zero_grad()
        nn.functional.cross_entropy(net(inputs[rows]), labels[rows]).backward()
        steps.step()
    return net


RECIPES = {
    "stacked": lp.Recipe(mlp, epochs=3, batch_size=16),
    "lstm": lp.Recipe(Sequence, epochs=2, batch_size=16),
    "own loop": lp.Recipe(train=own_loop),
    "lambda": lp.Recipe(train=lambda records, seed: LogisticRegression(C=1 + seed % 7).fit(records.X, records.y)),
    "forest": lp.Recipe(RandomForestClassifier(5)),
    "boosting": lp.Recipe(HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=3, early_stopping=True)),
}


def target(recipe=RECIPES["forest"], x=X, y=Y, members=MEMBERS, classes=2, **options) -> lp.Target:
    predictions = np.zeros((len(y), classes))
    return lp.Target(predictions, lp.Records(x, y, members), recipe, **options)


def train(what: lp.Target, models: int = 4, **options):
    return lp.train_shadows(what, models, **({"workers": 1, "progress": False} | options))


def files(shadows) -> dict[str, int]:
    """Return the unit files with their times of writing."""
    return {path.name: path.stat().st_mtime_ns for path in shadows.folder.glob("*.safetensors")}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_kind_of_recipe(recipe, tmp_path):
    what = target(recipe)
    what.check(needs_recipe=True)
    first = train(what, 6, folder=tmp_path)
    assert first.logits.shape == (6, N, 2)
    assert len({logits.tobytes() for logits in first.logits}) == 6
    assert np.ptp(first.logits[np.isfinite(first.logits)]) > 0.1
    assert first.cpu_seconds > 0
    np.testing.assert_array_equal(first.trained_on, paired_splits(N, 6, 0)[0])
    assert ("as a stack" in first.how) == (recipe is RECIPES["stacked"])
    assert "6 shadow models on complementary random halves of the records, 40 records each" in first.how

    np.testing.assert_array_equal(train(what, 6, workers=2).logits, first.logits)
    np.testing.assert_array_equal(train(what, 6, progress=True).logits, first.logits)

    written = files(first)
    again = train(what, 6, folder=tmp_path, workers=2)
    assert again.cpu_seconds == 0.0
    assert files(again) == written
    np.testing.assert_array_equal(again.logits, first.logits)


def test_models_remember_what_they_trained_on():
    """A forest fits its own half better: the models got the records that ``trained_on`` says."""
    what = target(lp.Recipe(RandomForestClassifier(30, bootstrap=False)))
    seen = train(what, 4)
    right = seen.logits.argmax(axis=-1) == Y
    assert right[seen.trained_on].all()
    assert right[~seen.trained_on].mean() < 0.9


def test_a_model_of_the_ensemble_is_what_the_recipe_gives():
    seen = train(target(RECIPES["own loop"]), 2)
    rows = seen.trained_on[1]
    seed = int(np.random.SeedSequence(0, spawn_key=(2, 1)).generate_state(1)[0])
    net = RECIPES["own loop"].fit(X[rows], Y[rows], seed).eval()
    with torch.no_grad():
        np.testing.assert_array_equal(seen.logits[1], net(torch.as_tensor(X)).double().numpy())


@pytest.mark.parametrize("name", ["stacked", "forest"])
def test_growing_and_shrinking_change_no_model(name, tmp_path):
    """The stacked network has dropout, whose masks are drawn for all models of a stack from one generator."""
    what = target(RECIPES[name])
    whole = train(what, 10).logits
    for models in (4, 8, 6, 10, 3, 1):
        seen = train(what, models, folder=tmp_path / "grown")
        np.testing.assert_array_equal(seen.logits, whole[:models])
        assert len(seen.trained_on) == len(seen.pair) == models
        fresh = train(what, models, folder=tmp_path / f"fresh{models}")
        np.testing.assert_array_equal(fresh.logits, whole[:models])
        assert fresh.folder.name == seen.folder.name
    assert train(what, 10, folder=tmp_path / "grown").cpu_seconds == 0.0


def test_nothing_is_trained_for_no_models():
    seen = train(target(), 0)
    assert (len(seen), seen.logits.shape, seen.how) == (0, (0, N, 2), "no shadow models")


def test_folder_none_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = train(target())
    assert seen.folder is None
    assert not list(tmp_path.iterdir())


def test_shadows_of_others_are_taken_as_they_are():
    own = References(np.zeros((3, N, 2)), paired_splits(N, 3, 1)[0], paired_splits(N, 3, 1)[1])
    seen = train(target(shadows=own), 16)
    assert len(seen) == 3
    assert seen.how == "3 shadow models, trained elsewhere"


def constant(seed=0):
    return lp.Recipe(lambda: nn.Linear(4, 2), epochs=1 + seed)


def test_folder_is_named_after_everything_that_matters(tmp_path):
    frame = pd.DataFrame(X, columns=list("abcd"))
    flipped = Y.copy()
    flipped[0] ^= 1
    moved = X.copy()
    moved[3, 1] += 1e-6
    different = {
        "as it is": train(target(), 2, folder=tmp_path),
        "seed": train(target(), 2, folder=tmp_path, seed=1),
        "recipe": train(target(lp.Recipe(RandomForestClassifier(6))), 2, folder=tmp_path),
        "labels": train(target(y=flipped), 2, folder=tmp_path),
        "features": train(target(x=moved), 2, folder=tmp_path),
        "table": train(target(x=frame), 2, folder=tmp_path),
        "column names": train(target(x=frame.rename(columns={"a": "z"})), 2, folder=tmp_path),
        "classes": train(target(classes=3), 2, folder=tmp_path),
        "size": train(target(), 2, folder=tmp_path, size="target"),
        "epochs": train(target(constant()), 2, folder=tmp_path),
        "more epochs": train(target(constant(1)), 2, folder=tmp_path),
        "step size": train(target(dataclasses.replace(constant(), lr=1.0001e-3)), 2, folder=tmp_path),
        "momentum": train(target(dataclasses.replace(constant(), momentum=1e-7)), 2, folder=tmp_path),
    }
    folders = {name: seen.folder for name, seen in different.items()}
    assert len(set(folders.values())) == len(folders), folders

    other = MEMBERS.copy()
    other[:] = np.roll(MEMBERS, 7)
    for same in (
        target(name="Another name"),
        target(members=other),
        lp.Target(np.ones((N, 2)), lp.Records(X, Y, MEMBERS, groups=frame), RECIPES["forest"], sensitive="a"),
        lp.Target(np.zeros((N, 2)), lp.Records(X, Y, MEMBERS, population=~MEMBERS & (np.arange(N) > 60)), RECIPES["forest"]),
        target(lp.Recipe(RandomForestClassifier(5))),
    ):  # fmt: skip
        seen = train(same, 2, folder=tmp_path)
        assert seen.folder == folders["as it is"]
        assert seen.cpu_seconds == 0.0


def test_splits_know_nothing_of_the_targets_members(tmp_path):
    other = np.roll(MEMBERS, 7)
    assert (other != MEMBERS).any()
    for size, expected in (("half", paired_splits(N, 4, 0)[0]), ("target", sized_splits(N, 4, MEMBERS.sum(), 0)[0])):
        for members in (MEMBERS, other):
            seen = train(target(members=members), 4, size=size)
            np.testing.assert_array_equal(seen.trained_on, expected)
    assert "random subsets of the records" in seen.how
    assert "100% of the target's training set" in seen.how


def test_training_is_told_records_and_nothing_else():
    told = []

    def spy(records, seed):
        told.append(records)
        return LogisticRegression().fit(records.X, records.y)

    what = lp.Target(
        LogisticRegression().fit(X, Y), lp.Records(X, Y, MEMBERS, groups=pd.DataFrame(X)), lp.Recipe(train=spy)
    )
    what.check(needs_recipe=True)
    seen = train(what, 2)
    assert len(told) == 3
    assert all(records.members is records.population is records.groups is None for records in told)
    for rows, records in zip(seen.trained_on, told[1:], strict=True):
        np.testing.assert_array_equal(records.X, X[rows])
        np.testing.assert_array_equal(records.y, Y[rows])


def test_split_that_lacks_a_class():
    """Only one record is of class 2, so half of the models never meet it."""
    y = Y.copy()
    y[11] = 2
    for recipe in (
        RECIPES["forest"],
        lp.Recipe(HistGradientBoostingClassifier(max_iter=2)),
        lp.Recipe(lambda: mlp(3), epochs=1),
    ):
        seen = train(target(recipe, y=y, classes=3), 4)
        assert seen.logits.shape == (4, N, 3)
        if recipe.is_sklearn:
            np.testing.assert_array_equal(np.isneginf(seen.logits[:, :, 2]).all(axis=1), ~seen.trained_on[:, 11])
        else:
            assert np.isfinite(seen.logits).all()


def test_frame_for_a_network():
    assert np.array_equal(
        train(target(RECIPES["stacked"], x=pd.DataFrame(X))).logits, train(target(RECIPES["stacked"])).logits
    )


def test_single_outputs_of_shadows_are_read_as_the_targets():
    """All of a timid network's logits lie in [0, 1], where alone they would pass for probabilities."""

    def timid():
        net = nn.Linear(4, 1)
        with torch.no_grad():
            net.weight.zero_()
            net.bias.fill_(0.4)
        return net

    recipe = lp.Recipe(timid, epochs=1, lr=1e-6)
    loud = nn.Linear(4, 1)
    records = lp.Records(X, Y, MEMBERS)
    seen = train(lp.Target(loud, records, recipe), 2)
    np.testing.assert_allclose(seen.logits[..., 0], 0.0)
    np.testing.assert_allclose(seen.logits[..., 1], 0.4, atol=1e-3)


BAD = {
    "models": ({"models": -1}, "num_shadows = -1: use an integer of at least 0"),
    "models as text": ({"models": "8"}, "num_shadows = 8: use an integer"),
    "true models": ({"models": True}, "num_shadows = True: use an integer"),
    "seed": ({"seed": -1}, "seed = -1: use an integer of at least 0"),
    "seed of 1.5": ({"seed": 1.5}, "seed = 1.5: use an integer of at least 0"),
    "workers": ({"workers": 0}, "workers = 0: use an integer of at least 1, or None"),
    "size": ({"size": "third"}, "shadow_size = third: use half or target"),
    "device": ({"device": "abacus"}, "device = abacus: no such device here; use auto, cpu or cuda"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        train(target(constant()), **options)


def test_no_recipe():
    with pytest.raises(InputError, match=r"target\.recipe = missing: shadow models need one"):
        train(target(None))


def fails(records, seed):
    raise MemoryError("out of memory")


def too_narrow(records, seed):
    return lambda x: np.zeros((len(x), 5))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fails, r"training shadow model \d failed: MemoryError: out of memory"),
        (too_narrow, r"training shadow model \d failed: outputs \(1, 80, 5\) where the target's are \(1, 80, 2\)"),
        (lambda records, seed: lambda x: np.full((len(x), 2), np.nan), r"training shadow model \d failed: model outputs = NaN"),
        (lambda records, seed: None, r"training shadow model \d failed: target\.model = NoneType"),
    ],
)  # fmt: skip
def test_failed_training_says_which_and_why(function, message, workers, tmp_path):
    with pytest.raises(AuditFailed, match=message):
        train(target(lp.Recipe(train=function)), 2, workers=workers, folder=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # among the logits, which a network's weights follow or not
    path.write_bytes(content)


def other_shape(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"logits": np.zeros((4, 3, 2))}, path)


def other_content(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"logits": np.zeros((1, N, 2))}, path, {"checksum": "0" * 64})


DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "emptied": lambda path: path.write_bytes(b""),
    "overwritten": lambda path: path.write_bytes(os.urandom(4000)),
    "flipped": flip_a_byte,
    "other shape": other_shape,
    "other content": other_content,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_noticed_and_trained_again(damage, tmp_path, caplog):
    what = target()
    first = train(what, 4, folder=tmp_path)
    written = files(first)
    assert len(written) == 4
    victim = sorted(written)[2]
    damage(first.folder / victim)
    with caplog.at_level(logging.WARNING):
        again = train(what, 4, folder=tmp_path)
    assert victim in caplog.text
    assert "damaged and its models are trained again" in caplog.text
    np.testing.assert_array_equal(again.logits, first.logits)
    assert again.cpu_seconds > 0
    after = files(again)
    assert [name for name in written if after[name] != written[name]] == [victim]
    assert train(what, 4, folder=tmp_path).cpu_seconds == 0.0


def test_progress_bar_reaches_the_end(tmp_path, capsys):
    train(target(), 3, folder=tmp_path, progress=True)
    assert "3.0 of 3" in capsys.readouterr().err
    train(target(), 4, folder=tmp_path, progress=True)
    assert "4.0 of 4" in capsys.readouterr().err
    train(target(), 4, folder=tmp_path, progress=True)
    assert capsys.readouterr().err == ""


# what users write in files of their own ------------------------------------------------------------------------------

HELPERS = """
import torch
from torch import nn

WIDTH = 8

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(4, width)

    def forward(self, x):
        return torch.relu(self.layer(x))

def build(width=None):
    return nn.Sequential(Block(width or WIDTH), nn.Linear(width or WIDTH, 2))
"""

TARGET = """
from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

import helpers
import leakpro_nb as lp
from helpers import build
from shapes.wide import widen

EPOCHS = 3

@dataclass
class Settings:
    width: int = 8
    tags: list[str] = field(default_factory=list)

class Doubler:
    '''Stands in front of a network.'''

    def __init__(self, net):
        self.net = net

    def __call__(self, X):
        return widen(self.net(torch.as_tensor(X)).detach())

def train(records, seed):
    import lazily

    settings = Settings(tags=["a"])
    assert settings.width == 8 and lazily.ANSWER == 42
    net = helpers.build(settings.width)
    steps = torch.optim.SGD(net.parameters(), lr=0.1)
    X, y = torch.as_tensor(records.X), torch.as_tensor(records.y)
    for _ in range(EPOCHS):
        steps.zero_grad()
        nn.functional.cross_entropy(net(X), y).backward()
        steps.step()
    return Doubler(net.eval())

def target():
    import lazily

    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    recipe = RECIPE
    return lp.Target(np.zeros((80, 2)), lp.Records(X, y, rng.random(80) < 0.5), recipe)
"""

KINDS = {
    "factory from a helper": "lp.Recipe(helpers.build, epochs=2)",
    "lambda": "lp.Recipe(lambda: build(lazily.ANSWER), epochs=2)",
    "class": "lp.Recipe(type('Net', (helpers.Block,), {'__init__': lambda self: helpers.Block.__init__(self, 2)}), epochs=2)",
    "own function": "lp.Recipe(train=train)",
}


def project(folder: Path, recipe: str, **change: str) -> Path:
    """Write a target.py with helpers beside it; ``change`` maps old text to new, in all files."""
    (folder / "shapes").mkdir(parents=True, exist_ok=True)
    contents = {
        "helpers.py": HELPERS,
        "lazily.py": "ANSWER = 42\n",
        "shapes/__init__.py": "",
        "shapes/wide.py": "FACTOR = 2\n\ndef widen(x):\n    return FACTOR * x\n",
        "target.py": TARGET.replace("RECIPE", recipe),
    }
    for name, text in contents.items():
        for old, new in change.items():
            text = text.replace(old, new)  # noqa: PLW2901
        (folder / name).write_text(textwrap.dedent(text))
    return folder / "target.py"


@pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)
def test_files_beside_target_reach_the_workers(recipe, tmp_path):
    what = lp.Target.load(project(tmp_path / "p", recipe))
    what.check(needs_recipe=True)
    alone = train(what, 8, workers=1)
    np.testing.assert_array_equal(train(what, 8, workers=2).logits, alone.logits)
    assert np.ptp(alone.logits) > 0.1
    assert str(tmp_path / "p") not in sys.path


def test_modules_of_the_caller_are_put_back(tmp_path, monkeypatch):
    """A notebook beside another helpers.py keeps its own, and does not lend it to the target."""
    (tmp_path / "helpers.py").write_text("MINE = True")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "helpers", raising=False)
    import helpers

    what = lp.Target.load(project(tmp_path / "p", KINDS["factory from a helper"]))
    train(what, 4)
    assert sys.modules["helpers"] is helpers
    assert helpers.MINE


def test_two_targets_have_their_own_helpers(tmp_path):
    ours = lp.Target.load(project(tmp_path / "a", KINDS["own function"]))
    theirs = lp.Target.load(project(tmp_path / "b", KINDS["own function"], **{"FACTOR = 2": "FACTOR = 3"}))
    for workers in (1, 2):
        seen = train(ours, 4, workers=workers).logits
        np.testing.assert_allclose(train(theirs, 4, workers=workers).logits, 1.5 * seen, rtol=1e-6)
        np.testing.assert_array_equal(train(ours, 4, workers=workers).logits, seen)


EDITS = {
    "constant": ("EPOCHS = 3", "EPOCHS = 4"),
    "function of a helper": ("nn.Linear(width or WIDTH, 2))", "nn.Linear(width or WIDTH, 2), nn.Tanh())"),
    "class of a helper": ("torch.relu", "torch.tanh"),
    "constant of a package": ("FACTOR = 2", "FACTOR = 3"),
    "file imported late": ("ANSWER = 42\n", "ANSWER = 42\nEXTRA = 1\n"),
    "class in target.py": ("return widen(", "return -widen("),
}


@pytest.mark.parametrize(("old", "new"), EDITS.values(), ids=EDITS)
def test_an_edit_anywhere_trains_anew(old, new, tmp_path):
    """In the same process too, as when a notebook's kernel stays alive between edits."""
    first = train(lp.Target.load(project(tmp_path, KINDS["own function"])), 2, folder=tmp_path / "audit")
    path = project(tmp_path, KINDS["own function"], **{old: new})
    again = train(lp.Target.load(path), 2, folder=tmp_path / "audit")
    assert again.folder != first.folder
    assert again.cpu_seconds > 0
    np.testing.assert_array_equal(again.logits, train(lp.Target.load(path), 2, workers=2).logits)
    back = train(lp.Target.load(project(tmp_path, KINDS["own function"])), 2, folder=tmp_path / "audit")
    assert (back.folder, back.cpu_seconds) == (first.folder, 0.0)


def test_comments_names_and_places_train_nothing_anew(tmp_path):
    first = train(lp.Target.load(project(tmp_path / "a", KINDS["own function"])), 2, folder=tmp_path)
    moved = project(tmp_path / "b", KINDS["own function"], **{"EPOCHS = 3": "# as in the paper\nEPOCHS = 3"})
    code = f"""
        import leakpro_nb as lp
        target = lp.Target.load({str(moved)!r})
        print(lp.train_shadows(target, 2, folder={str(tmp_path)!r}, progress=False, workers=1).folder)
    """
    assert run(code) == str(first.folder)


def test_closures_count_as_code(tmp_path):
    def recipe(width, activation):
        return lp.Recipe(lambda: nn.Sequential(nn.Linear(4, width), activation(), nn.Linear(width, 2)), epochs=1)

    def forest(trees):
        return lp.Recipe(
            train=lambda records, seed: RandomForestClassifier(trees, random_state=seed).fit(records.X, records.y)
        )

    names = [
        train(target(each), 2, folder=tmp_path).folder.name
        for each in (recipe(8, nn.ReLU), recipe(9, nn.ReLU), recipe(8, nn.Tanh), forest(2), forest(3), recipe(8, nn.ReLU))
    ]  # fmt: skip
    assert len(set(names)) == 5
    assert names[0] == names[-1]


# kills, and company --------------------------------------------------------------------------------------------------


def run(code: str, **options) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


AUDIT = """
import hashlib, json, sys, time
from pathlib import Path
import leakpro_nb as lp

path, out, models, workers, ready = sys.argv[1:]
what = lp.Target.load(path)
import joblib, torch
import leakpro_nb.shadows.ensemble as ensemble

wrote, write = [], ensemble.write_atomically
ensemble.write_atomically = lambda file, content: wrote.append(file.name) or write(file, content)
Path(ready).touch()
seen = lp.train_shadows(what, int(models), folder=out, workers=int(workers), progress=False)
print(json.dumps([hashlib.sha256(seen.logits.tobytes()).hexdigest(), wrote, str(seen.folder)]))
"""


class Audit:
    """A process that trains, and has got as far as training when the constructor returns."""

    def __init__(self, path: Path, out: Path, models: int, workers: int, wait: bool = True):
        ready = out.parent / f"ready-{time.monotonic_ns()}"
        arguments = [str(path), str(out), str(models), str(workers), str(ready)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", AUDIT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while wait and not ready.exists():
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.01)

    def result(self) -> list:
        out, error = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, error
        return json.loads(out)

    def family(self) -> list[str]:
        """Return the state of every process of this session that still runs."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid and fields[0] not in "ZX":
                found.append(f"{path.parent.name} {fields[0]}")
        return found

    def alone_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self.family() and time.monotonic() < until:
            time.sleep(0.05)
        return not self.family()


@pytest.fixture
def slow(tmp_path) -> Path:
    """A project whose every stack of four models takes a few tenths of a second."""
    return project(tmp_path / "slow", "lp.Recipe(build, epochs=150, batch_size=16)")


@linux
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_kills_change_nothing(slow, tmp_path, workers):
    """However often it is killed, and wherever, the next run goes on and ends with the same bits."""
    undisturbed = train(lp.Target.load(slow), 12).logits
    chance, kills = random.Random(workers), 0
    for _ in range(3 if workers == 1 else 6):
        audit = Audit(slow, tmp_path / "out", 12, workers)
        time.sleep(chance.uniform(0.02, 0.8 if workers == 1 else 3.0))
        if audit.process.poll() is None:
            kills += 1
            audit.process.kill()
            assert audit.alone_within(10), audit.family()
            audit.process.communicate()
    digest, _, folder = Audit(slow, tmp_path / "out", 12, workers).result()
    assert kills >= 2
    assert digest == hashlib.sha256(undisturbed.tobytes()).hexdigest()
    assert len(list(Path(folder).glob("*.safetensors"))) == 3
    assert not list(Path(folder).glob("*.checkpoint*"))


def test_two_at_once_share_the_work(slow, tmp_path):
    """Neither trains what the other has, nor trips over its files."""
    both = [Audit(slow, tmp_path / "out", models, 1, wait=False) for models in (12, 16)]
    (first, ours, folder), (second, theirs, other) = (audit.result() for audit in both)
    assert folder == other
    undisturbed = train(lp.Target.load(slow), 16)
    assert first == hashlib.sha256(undisturbed.logits[:12].tobytes()).hexdigest()
    assert second == hashlib.sha256(undisturbed.logits.tobytes()).hexdigest()
    units = [f"models-{first:05d}-{first + 3:05d}.safetensors" for first in range(0, 16, 4)]
    assert sorted(ours + theirs) == units, "each stack is trained once"
    assert sorted(path.name for path in Path(folder).glob("[!.]*")) == units


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_an_interrupted_run(tmp_path, number):
    path = project(tmp_path / "p", "lp.Recipe(build, epochs=200_000, batch_size=16)")
    audit = Audit(path, tmp_path / "out", 8, 2)
    try:
        until = time.monotonic() + 30
        while len(list((tmp_path / "out").rglob("*.progress"))) < 2:  # both workers train
            assert time.monotonic() < until
            assert audit.process.poll() is None
            time.sleep(0.05)
        assert len(audit.family()) >= 3
        audit.process.send_signal(number)
        assert audit.alone_within(10), audit.family()
        assert audit.process.wait() != 0
    finally:
        audit.process.kill()
        for line in audit.family():
            os.kill(int(line.split()[0]), signal.SIGKILL)
        audit.process.communicate()
