"""How is a command started without waiting for its imports? As a fork of Python's fork server, which has done them."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.campaigns.toys import ROOT, TOYS

_context = multiprocessing.get_context("forkserver")


class Preloaded:
    """A command in a process group of its own, as `toys.start` starts one, with the part of `Popen` that trials need.

    Its random hashes are those of the server; all else begins anew.

    Args:
        module: What Python would run.
        arguments: For it.
        log: What it says on stderr is appended.
        env: Its environment. What is read while importing is that of the first one.

    Attributes:
        pid: Of the process.
    """

    def __init__(self, module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]):
        _context.set_forkserver_preload([toy.module for toy in TOYS.values()])
        before, paths = dict(os.environ), list(sys.path)
        sys.path.insert(0, str(ROOT))  # where the process will look for `_become`
        # The server takes this process's when it starts; where it has its socket outlasts all runs.
        os.environ.update({name: value for name, value in env.items() if name != "TMPDIR"})
        try:
            self._process = _context.Process(target=_become, args=(module, [*arguments], str(log), dict(env)))
            self._process.start()
        finally:
            sys.path[:] = paths
            os.environ.clear()
            os.environ.update(before)
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        atexit.register(self.kill)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative if a signal ended it.

        Raises:
            TimeoutExpired: If it has not ended by then.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        atexit.unregister(self.kill)
        return self._process.exitcode

    def kill(self) -> None:
        """End the process itself."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _become(module: str, arguments: list[str], log: str, env: dict[str, str]) -> None:
    """Be what `python -m module arguments` would be."""
    os.setsid()
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None
    for target, number in (
        (os.open(os.devnull, os.O_WRONLY), 1),
        (os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), 2),
    ):
        os.dup2(target, number)
        os.close(target)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which children of multiprocessing do not run
