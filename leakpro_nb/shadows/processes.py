"""Processes that train models: one thread each, alone at their files, and never outliving whoever started them."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leakpro_nb.game.loading import loaded_modules

__all__ = ["alone", "end_with", "send_by_value", "single_thread"]

log = logging.getLogger(__name__)


def send_by_value() -> None:
    """Let workers receive what a target.py and the files beside it define, which they cannot import by name."""
    try:
        from joblib.externals import cloudpickle
    except ImportError:  # joblib 1.6 depends on the package instead of carrying a copy
        import cloudpickle

    for name in loaded_modules():
        if name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait for other processes that train the same models in the same folder; a killed one holds no lock."""
    from filelock import FileLock

    lock = FileLock(path)
    try:
        lock.acquire()
    except (NotImplementedError, OSError) as error:  # a file system without locks: two runs may do the work twice
        log.info("no lock on %s: %s", path, error)
    try:
        yield
    finally:
        lock.release()


@functools.cache  # once per process
def end_with(parent: int) -> None:
    """Let this worker process of joblib end soon after its parent: a killed run must not go on training unseen.

    By itself an idle one would stay for another five minutes, and a busy one until it is done.
    """
    if not multiprocessing.current_process().name.startswith("LokyProcess"):
        return  # the worker of a cluster, which others may use too

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def single_thread(*, torch: bool) -> Iterator[None]:
    """Pin numerical libraries to one thread: cores are used by processes, and the bits must not depend on them."""
    from threadpoolctl import threadpool_limits

    if not torch:
        with threadpool_limits(limits=1):
            yield
        return
    from torch import get_num_threads, set_num_threads

    before = get_num_threads()
    set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        set_num_threads(before)
