"""A real JupyterLab and a real Chromium, started once for all tests that drive them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 90
"""Seconds to wait for anything in the browser: machines that run tests are slow and shared."""

TOKEN = "for-tests-on-loopback-only"

CHROMIUM = next(
    filter(
        None,
        ["/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else None]
        + [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")],
    ),
    None,
)

# Without this wait, "run all" goes out before the kernel is up, and no widget ever comes.
READY = """() => {
    const widget = window.jupyterapp?.shell.currentWidget;
    return widget?.context?.isReady && widget.sessionContext?.isReady
        && widget.sessionContext.session?.kernel?.status === 'idle';
}"""
CODE_CELLS = "window.jupyterapp.shell.currentWidget.context.model.toJSON().cells.filter(c => c.cell_type === 'code')"


def _missing() -> str:
    if CHROMIUM is None:
        return "no Chromium: neither /usr/bin/chromium nor chromium or google-chrome on PATH"
    for module in ("playwright", "jupyterlab"):
        if find_spec(module) is None:
            return f"{module} is not installed"
    return ""


@dataclass
class Lab:
    """A running JupyterLab: its address, and the folder that it shows."""

    url: str
    folder: Path

    def ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}", method=method, headers={"Authorization": f"token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def stop_kernels(self) -> None:
        for session in self.ask("/api/sessions"):
            self.ask(f"/api/sessions/{session['id']}", "DELETE")


@dataclass
class Notebook:
    """A notebook open in the browser."""

    page: Any

    def command(self, name: str, **arguments: Any) -> None:
        self.page.evaluate("([name, given]) => window.jupyterapp.commands.execute(name, given)", [name, arguments])

    def select(self, index: int) -> None:
        self.page.evaluate(
            "index => { const book = window.jupyterapp.shell.currentWidget.content;"
            " book.activeCellIndex = index; book.mode = 'command'; book.deselectAll() }",
            index,
        )

    def wait(self, condition: str, argument: Any = None) -> None:
        self.page.wait_for_function(condition, arg=argument, timeout=PATIENCE * 1000)

    def outputs(self) -> list[list[dict[str, Any]]]:
        """Return the outputs of every code cell."""
        return [cell["outputs"] for cell in self.page.evaluate(CODE_CELLS)]

    def text(self, index: int) -> str:
        """Return what the code cell at ``index`` printed."""
        return "".join("".join(output.get("text", "")) for output in self.outputs()[index])


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab on a free loopback port, with folders of its own for whatever it reads and writes."""
    if missing := _missing():
        pytest.skip(missing)
    base = tmp_path_factory.mktemp("lab")
    names = ("config", "data", "runtime", "settings", "workspaces", "notebooks", "ipython")
    folders = {name: base / name for name in names}
    for folder in folders.values():
        folder.mkdir()
    # The news pop-up would cover what is clicked.
    page_config = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (folders["config"] / "labconfig").mkdir()
    (folders["config"] / "labconfig" / "page_config.json").write_text(json.dumps(page_config))
    # Cells out of sight are otherwise not in the page at all.
    settings = folders["settings"] / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folders['notebooks']}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        # Should this process be killed, the server and its kernels end by themselves.
        "--ServerApp.shutdown_no_activity_timeout=300", "--MappingKernelManager.cull_idle_timeout=300", *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "JUPYTERLAB_SETTINGS_DIR": str(folders["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(folders["workspaces"]),
        "IPYTHONDIR": str(folders["ipython"]),
    }
    log = base / "server.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(command, env=environment, stdout=sink, stderr=subprocess.STDOUT)
        running = Lab(f"http://127.0.0.1:{port}", folders["notebooks"])
        try:
            _await(running, server, log)
            yield running
        finally:
            with suppress(OSError):
                running.stop_kernels()
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _await(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        with suppress(OSError):
            lab.ask("/api/status")
            return
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="session")
def browser(lab: Lab) -> Iterator[Any]:
    """One Chromium for all tests."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root.
        sandbox = not (hasattr(os, "geteuid") and os.geteuid() == 0)
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[] if sandbox else ["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_notebook(lab: Lab, browser: Any) -> Iterator[Callable[..., Notebook]]:
    """Write a notebook under the given name, open it, and wait for its kernel; its kernel ends with the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE * 1000)

    def open_(notebook: Any, name: str) -> Notebook:
        import nbformat

        # Without one, JupyterLab asks which kernel to start.
        notebook.metadata.setdefault("kernelspec", {"name": "python3", "display_name": "Python 3"})
        nbformat.write(notebook, lab.folder / name)
        page = context.new_page()
        page.goto(f"{lab.url}/lab/tree/{name}?reset&token={TOKEN}")
        notebook = Notebook(page)
        notebook.wait(READY)
        return notebook

    yield open_
    context.close()
    lab.stop_kernels()
