from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import nbformat
import papermill
import pytest

import leakpro_nb as lp
import leakpro_nb.report
from leakpro_nb.errors import AuditFailed, InputError
from leakpro_nb.notebooks import execute
from leakpro_nb.results import Result

# Started by a cell, so that tests can ask whether it outlives the kernel.
CHILD = "child = subprocess.Popen(['sleep', '300'])\nopen(note, 'w').write(str(child.pid))\n"


def ps(*options: str) -> list[list[str]]:
    if shutil.which("ps") is None:
        pytest.skip("ps is not installed")
    listed = subprocess.run(["ps", *options], capture_output=True, text=True, check=False)
    return [line.split() for line in listed.stdout.splitlines()]


def gone(pid: int) -> bool:
    for _ in range(50):
        if not any(state[0] != "Z" for (state,) in ps("-o", "stat=", "-p", str(pid))):
            return True
        time.sleep(0.1)
    return False


def kernels() -> set[str]:
    """Kernels that this process has started and that are still there."""
    processes = ps("-A", "-o", "ppid=,pid=,command=")
    return {pid for parent, pid, *rest in processes if int(parent) == os.getpid() and "ipykernel" in str(rest)}


@pytest.fixture(autouse=True)
def nothing_left(tmp_path, monkeypatch):
    """No kernel process and no socket outlives a test."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        before = kernels()
        yield
        assert kernels() <= before
        assert list(Path(folder).glob("lp*")) == []


def failed(notebook: Path) -> nbformat.NotebookNode:
    nb = nbformat.read(notebook, as_version=4)
    assert nb.metadata.leakpro.status == "failed"
    assert nb.cells[0].source.startswith("**This audit did not finish.**")
    assert not any("papermill-error" in tag for cell in nb.cells for tag in cell.metadata.get("tags", []))
    return nb


def test_audit_from_its_input_to_its_report(toy, tmp_path, monkeypatch, old_result):
    """One good run, with everything awkward in its paths and values."""
    attack = (
        "assert os.environ['OMP_NUM_THREADS'] == '3' and os.environ['MKL_NUM_THREADS'] == '1'\n"
        "assert 'inline' in os.environ['MPLBACKEND'] and sys.executable == note.partition('|')[0]\n"
        "import ipykernel.kernelapp as app\n"
        "assert app.IPKernelApp.instance().transport == 'ipc'"
    )
    template = toy(attack)
    out = tmp_path / "out {x} {"
    out.mkdir()
    old_result.save(out / "result.json")
    (out / "report.pdf").write_text("old")
    (out / "mine.txt").write_text("mine")
    seen = {}

    def preflight(target: str, num_shadows: int, note: str) -> None:
        seen.update(target=target, num_shadows=num_shadows)

    audits = ModuleType("leakpro_nb.audits.toy")
    audits.__spec__ = ModuleSpec(audits.__name__, None)
    audits.preflight = preflight
    monkeypatch.setitem(sys.modules, audits.__name__, audits)
    monkeypatch.setattr(leakpro_nb.report, "build_report", lambda folder: [folder / "report.pdf"], raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)

    note = f"{sys.executable}|\"quotes\" 'and' {{braces}} \\ \n#"
    audit = lp.audit("target.py", template=template, out=out.name, num_shadows="8", note=note, progress=False)

    assert seen == {"target": str(tmp_path / "target.py"), "num_shadows": 8}
    expected = {"num_shadows": 8, "note": note, "target": str(tmp_path / "target.py")}
    assert audit.result.parameters == expected
    assert audit.notebook == out / "toy.ipynb"
    assert audit.reports == [out / "report.pdf"]
    assert "Nothing found" in str(audit)
    assert "**Nothing found**" in audit._repr_markdown_()
    nb = nbformat.read(audit.notebook, as_version=4)
    assert nb.metadata.leakpro == {"template": "toy", "status": "complete"}
    assert nb.metadata.papermill.exception is None
    assert Result.load(out / ".previous" / "result.json").target.name == "old"
    assert (out / "mine.txt").exists()
    assert not (out / "report.pdf").exists()


def test_preflight_refuses_before_anything_is_written(toy, tmp_path, monkeypatch):
    def preflight(**_: object) -> None:
        raise InputError("target", "target.py", "has no recipe")

    audits = ModuleType("leakpro_nb.audits.toy")
    audits.__spec__ = ModuleSpec(audits.__name__, None)
    audits.preflight = preflight
    monkeypatch.setitem(sys.modules, audits.__name__, audits)
    with pytest.raises(InputError, match="has no recipe"):
        lp.audit("target.py", template=toy(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"nun_shadows": 3}, "did you mean num_shadows"),
        ({"num_shadows": "x"}, "expects an integer"),
        ({"timeout": 0}, "positive number of seconds"),
    ],
)
def test_bad_input_writes_nothing(toy, tmp_path, given, remedy):
    with pytest.raises(InputError, match=remedy):
        lp.audit("target.py", template=toy(), out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_out_must_be_a_folder_of_its_own(toy, tmp_path):
    template = toy()
    with pytest.raises(InputError, match="template's own folder"):
        execute(template, {}, template.parent)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be used"):
        execute(template, {}, tmp_path / "file")
    assert template.exists()


def test_failing_cell(toy, tmp_path, old_result):
    out = tmp_path / "out"
    old_result.save(out / "result.json")
    template = toy("1 / 0")
    with pytest.raises(AuditFailed) as caught:
        execute(template, {}, out, progress=False)
    assert str(caught.value) == (
        'The audit stopped in the section "The attack": ZeroDivisionError: division by zero. The notebook '
        f"so far is {out / 'toy.ipynb'}; running the same command again resumes from what is cached."
    )
    statuses = [cell.metadata.papermill.status for cell in failed(out / "toy.ipynb").cells[1:]]
    assert statuses == [*["completed"] * 6, "failed", *["pending"] * 2]
    assert not (out / "result.json").exists()
    assert Result.load(out / ".previous" / "result.json").target.name == "old"


def test_input_error_in_the_kernel(toy, tmp_path, old_result):
    message = "InputError('column', {'a': 1}, 'name one of: x, y')"
    template = toy(f"from leakpro_nb.errors import InputError\nraise {message}")
    out = tmp_path / "a" / "out"
    with pytest.raises(InputError) as caught:
        execute(template, {}, out, progress=False)
    assert (caught.value.field, caught.value.value) == ("column", "{'a': 1}")
    assert caught.value.remedy == "name one of: x, y"
    assert not (tmp_path / "a").exists()


def test_input_error_in_the_kernel_leaves_an_old_audit_alone(toy, tmp_path, old_result):
    template = toy("from leakpro_nb.errors import InputError\nraise InputError('x', 1, 'y')")
    out = tmp_path / "out"
    old_result.save(out / "result.json")
    (out / "toy.ipynb").write_text("old")
    with pytest.raises(InputError):
        execute(template, {}, out, progress=False)
    assert sorted(path.name for path in out.iterdir()) == ["result.json", "toy.ipynb"]
    assert (out / "toy.ipynb").read_text() == "old"


def test_time_limit_stops_the_kernel_and_its_children(toy, tmp_path):
    pid = tmp_path / "pid"
    template = toy(CHILD + "while True:\n    try:\n        time.sleep(60)\n    except KeyboardInterrupt: pass")
    with pytest.raises(AuditFailed, match=r"The attack.*time limit of 3 seconds"):
        execute(template, {"note": str(pid)}, tmp_path / "out", timeout=3, progress=False)
    assert gone(int(pid.read_text()))
    failed(tmp_path / "out" / "toy.ipynb")


def test_killed_kernel_takes_its_children_along(toy, tmp_path):
    pid = tmp_path / "pid"
    template = toy(CHILD + "os.kill(os.getpid(), 9)")
    with pytest.raises(AuditFailed, match=r"The attack.*died \(SIGKILL\), most often.*memory"):
        execute(template, {"note": str(pid)}, tmp_path / "out", progress=False)
    assert gone(int(pid.read_text()))
    assert failed(tmp_path / "out" / "toy.ipynb").cells[7].metadata.papermill.status == "failed"


def test_exit_is_no_success_even_after_the_result(toy, tmp_path, save_cell):
    template = toy(save_cell + "\nsys.exit(0)")
    with pytest.raises(AuditFailed, match=r"The attack.*SystemExit"):
        execute(template, {}, tmp_path / "out", progress=False)
    failed(tmp_path / "out" / "toy.ipynb")
    assert not (tmp_path / "out" / "result.json").exists()


def test_no_result_is_a_failure_also_inside_a_running_loop(toy, tmp_path):
    template = toy(save=False)

    async def caller() -> None:
        execute(template, {}, tmp_path / "out", progress=False)

    with pytest.raises(AuditFailed, match="not a complete audit result"):
        asyncio.run(caller())
    failed(tmp_path / "out" / "toy.ipynb")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarm on this platform")
@pytest.mark.parametrize(("number", "stopped"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_signals_stop_everything(toy, tmp_path, caplog, number, stopped):
    pid = tmp_path / "pid"
    template = toy(CHILD + "time.sleep(60)")

    def stop(*_: object) -> None:
        if pid.exists():
            os.kill(os.getpid(), number)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0.1)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(stopped):
            execute(template, {"note": str(pid)}, tmp_path / "out", progress=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert gone(int(pid.read_text()))
    assert "interrupted" in failed(tmp_path / "out" / "toy.ipynb").cells[0].source


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_killed_caller_leaves_no_process_and_a_readable_notebook(toy, tmp_path):
    pid, out = tmp_path / "pid", tmp_path / "out"
    template = toy(CHILD + "time.sleep(60)")
    code = (
        "import sys; from leakpro_nb.notebooks import execute; execute(sys.argv[1], {'note': sys.argv[2]}, sys.argv[3])"
    )
    caller = subprocess.Popen([sys.executable, "-c", code, template, pid, out])
    while not pid.exists():
        time.sleep(0.1)
    caller.kill()
    caller.wait()
    assert gone(int(pid.read_text()))
    assert nbformat.read(out / "toy.ipynb", as_version=4).metadata.leakpro.status == "running"


def test_plain_papermill_runs_a_template_too(toy, tmp_path):
    (tmp_path / "out").mkdir()
    parameters = {"out": str(tmp_path / "out"), "num_shadows": 4}
    papermill.execute_notebook(toy(), tmp_path / "plain.ipynb", parameters, progress_bar=False)
    assert Result.load(tmp_path / "out" / "result.json").parameters["num_shadows"] == 4


def test_engine_module_can_be_imported_first():
    code = "import leakpro_nb.notebooks.engine, papermill; print('papermill' in str(papermill))"
    subprocess.run([sys.executable, "-c", code], check=True)
