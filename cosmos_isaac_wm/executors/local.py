"""How do independent jobs run on this machine? One after the other, or in processes; and what any executor offers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import current_process, get_context
from typing import Protocol, TypeVar

_NO_GUARD = (
    'the script that starts it lacks `if __name__ == "__main__":` in front of what it does (put that in a function '
    "main(), and call it there)"
)

Job = TypeVar("Job")
Result = TypeVar("Result")


class Executor(Protocol):
    """Whatever runs jobs that do not need each other."""

    def run(self, do: Callable[[Job], Result], jobs: Sequence[Job], keep: Callable[[Job, Result], object]) -> None:
        """Do every job, in any order. The first error ends it; what was kept before stays kept.

        Args:
            do: Does a job, wherever that is: it can be pickled, and so can jobs and results.
            jobs: What to do. Executors begin with the first ones.
            keep: Takes each result as soon as it is there, in this process and one at a time.
        """


class Here:
    """Runs jobs one after the other, in this process."""

    def run(self, do: Callable[[Job], Result], jobs: Sequence[Job], keep: Callable[[Job, Result], object]) -> None:
        """Do every job, see `Executor.run`."""
        for job in jobs:
            keep(job, do(job))


@dataclass(frozen=True)
class Processes:
    """Runs jobs in processes of this machine.

    Attributes:
        workers: Number of processes.
    """

    workers: int

    def run(self, do: Callable[[Job], Result], jobs: Sequence[Job], keep: Callable[[Job, Result], object]) -> None:
        """Do every job, see `Executor.run`."""
        with spawning():
            # Spawned, not forked: an OpenGL context does not survive a fork.
            pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)
            )
            try:
                futures = {pool.submit(do, job): job for job in jobs}
                for future in as_completed([*futures]):
                    keep(futures.pop(future), future.result())  # popped, so that results do not pile up
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _end_with(parent: int) -> None:
    """Let this process end as soon as its parent is gone, however that ended; it would wait for jobs for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def spawning() -> Iterator[None]:
    """Say what is missing where processes end before they have begun.

    A spawned process imports the script that started it, and one that starts processes when it is imported starts them
    without end; Python stops that in the child, and its parent only learns that nobody answers.

    Raises:
        RuntimeError: If a process is gone.
    """
    if getattr(current_process(), "_inheriting", False):  # this is a child that imports its parent's script
        raise RuntimeError(f"a process that was just started would start processes itself: {_NO_GUARD}")
    try:
        yield
    except (BrokenProcessPool, ConnectionResetError, BrokenPipeError, EOFError) as error:
        if error.__cause__ is not None and not isinstance(error, BrokenProcessPool):
            raise  # a job's own error, which came back from its process
        raise RuntimeError(
            f"a process has ended without a word: the system may have killed it for lack of memory, or {_NO_GUARD}"
        ) from error
