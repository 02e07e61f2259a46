"""The kernel that runs an audit, its client, and what is saved while it runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import nbformat
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellExecutionError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager

from leakpro_nb.notebooks.catalogue import section
from leakpro_nb.results import write_atomically

__all__ = ["AuditClient", "AuditKernel", "Execution", "environment", "run_cells"]

_LONGEST_SOCKET = 100
# Its input ends when we are done or dead; a kernel that goes down with us leaves its workers training.
_GUARD = 'read -r _; kill -9 "-$0"; rm -rf "$1"'
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class AuditKernel(AsyncKernelManager):
    """A kernel in the caller's own interpreter, reached over sockets that only the caller can open."""

    def __init__(self, **options: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lp"))
        self.transcript = self.folder / "log"
        connection = self.folder / "k"
        # Unix cuts a socket's path at about 104 characters; Windows has no such sockets.
        local = sys.platform != "win32" and len(f"{connection}-ipc-5") <= _LONGEST_SOCKET
        transport = "ipc" if local else "tcp"
        self._guard: subprocess.Popen[bytes] | None = None
        super().__init__(transport=transport, connection_file=f"{connection}.json", **options)

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command; a user's own ``python3`` kernel may be another Python, without this package."""
        if self.kernel_name != NATIVE_KERNEL_NAME:
            return super().format_kernel_cmd(extra_arguments)
        command = make_ipkernel_cmd(extra_arguments=extra_arguments)
        return [part.replace("{connection_file}", self.connection_file) for part in command]

    def last_words(self) -> str:
        """Say why the kernel is gone: the signal that killed it, else the last line it wrote."""
        status = getattr(getattr(self.provisioner, "process", None), "returncode", None)
        if status and status < 0:
            return signal.Signals(-status).name
        return "".join(self.transcript.read_text(errors="replace").strip().splitlines()[-1:])

    def destroy(self) -> None:
        """Kill whatever the kernel left running, and remove its sockets."""
        if self._guard:
            self._guard.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
        await super()._async_launch_kernel(kernel_cmd, **options)
        group = getattr(self.provisioner, "pgid", None)
        if group and group != os.getpgrp():
            command = ["/bin/sh", "-c", _GUARD, str(group), str(self.folder)]
            self._guard = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
            )


class AuditClient(PapermillNotebookClient):
    """papermill's client, but a cell that never ended is not marked as completed."""

    def papermill_execute_cells(self) -> None:
        """Run the cells one by one, up to the first that fails."""
        for index, cell in enumerate(self.nb.cells):
            self.nb_man.cell_start(cell, index)
            try:
                self.execute_cell(cell, index)
            except BaseException as error:
                self.nb_man.cell_exception(cell, cell_index=index, exception=error)
                if not isinstance(error, CellExecutionError):
                    _expect_failures()
                    raise
                break  # papermill raises it again from the cell's outputs, once they are saved
            finally:
                self.nb_man.cell_complete(cell, cell_index=index)


class Execution(NotebookExecutionManager):
    """papermill's record of a run: saved atomically, its bar naming the section under way."""

    def save(self, **_: Any) -> None:
        """Save so that a kill at any moment leaves a readable notebook."""
        if self.output_path and Path(self.output_path).is_absolute():
            write_atomically(self.output_path, nbformat.writes(self.nb).encode())
            self.last_save_time = self.now()
        else:  # another store (s3://, standard output), or relative to a folder only papermill knows
            super().save()

    def cell_start(self, cell: Any, cell_index: int | None = None, **_: Any) -> None:
        """Show the section that the cell belongs to."""
        if self.pbar and cell_index is not None:
            self.pbar.set_description(section(self.nb.cells, cell_index) or "Executing")
        super().cell_start(cell, cell_index)

    def finish(self) -> None:
        """Save what the notebook has come to; papermill's own way marks unrun cells as completed."""
        self.end_time = self.now()
        times = self.nb.metadata["papermill"]
        times["end_time"] = self.end_time.isoformat()
        times["duration"] = (self.end_time - self.start_time).total_seconds()
        self.cleanup_pbar()
        self.save()


def run_cells(
    execution: Execution,
    kernel_name: str,
    *,
    timeout: float | None = None,
    execution_timeout: float | None = None,
    start_timeout: float = 60,
    log_output: bool = False,
    stdout_file: Any = None,
    stderr_file: Any = None,
    **_: Any,
) -> None:
    """Start a kernel, run the cells of ``execution`` in it, and leave nothing of it behind.

    ``timeout`` bounds all cells together, ``execution_timeout`` each of them, in seconds.
    """
    client = AuditClient(
        execution,
        kernel_manager_class=AuditKernel,
        kernel_name=kernel_name,
        startup_timeout=int(start_timeout),
        timeout_func=_remaining(timeout, execution_timeout),
        iopub_timeout=30,  # nbclient's 4 s are not enough for a large figure on a busy machine
        log_output=log_output,
        stdout_file=stdout_file,
        stderr_file=stderr_file,
    )
    kernel = client.create_kernel_manager()
    try:
        # What a cell prints goes into the notebook; this is what a kernel says that starts or stops badly.
        progress = kernel.folder / "progress"
        with _terminable(), _relayed(execution, progress), kernel.transcript.open("wb") as stderr:
            client.execute(env={**environment(), "LEAKPRO_PROGRESS": str(progress)}, stderr=stderr)
    except Exception as error:
        if words := kernel.last_words():
            error.add_note(words)
        raise
    finally:
        kernel.destroy()


def _expect_failures() -> None:
    """Keep asyncio from printing the failure of every task that we are about to cut short."""
    loop = ensure_event_loop()
    if not loop.is_running():  # else it is the caller's own, with tasks that are none of our business
        for task in asyncio.all_tasks(loop):
            task.add_done_callback(lambda done: done.cancelled() or done.exception())


def environment() -> dict[str, str]:
    """Return the kernel's environment variables: the caller's, completed for repeatable audits."""
    # An audit trains with one process per core; threads inside each would fight for the same cores.
    ours = {**dict.fromkeys(_THREADS, "1"), "PYTHONHASHSEED": "0", **os.environ}
    ours.pop("MPLBACKEND", None)  # a caller's Agg would keep every figure out of the notebook
    return ours


@contextmanager
def _relayed(execution: Execution, progress: Path) -> Iterator[None]:
    """Show beside the bar what a long cell writes about its progress; its own bar is seen in the notebook alone."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(1):
            if execution.pbar:
                execution.pbar.set_postfix_str(progress.read_text(encoding="utf-8") if progress.exists() else "")

    watcher = threading.Thread(target=follow, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


@contextmanager
def _terminable() -> Iterator[None]:
    """Let the end of a batch job or of a terminal unwind like Ctrl-C, so that the notebook is marked."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    main = threading.current_thread() is threading.main_thread()
    ours = [number for number in numbers if main and signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, _exit)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _exit(signum: int, _: object) -> None:
    raise SystemExit(128 + signum)


def _remaining(limit: float | None, per_cell: float | None) -> Callable[[Any], float | None]:
    """Return what nbclient asks before each cell: how long it may take."""
    started = None

    def seconds(_: Any) -> float | None:
        nonlocal started
        started = started or monotonic()  # the first cell: a kernel's slow start is not the notebook's fault
        # nbclient takes zero and below as no limit at all
        left = [max(limit - (monotonic() - started), 1e-3)] if limit else []
        return min([*left, *([per_cell] if per_cell else [])], default=None)

    return seconds
