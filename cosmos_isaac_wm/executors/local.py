"""How do independent jobs run on this machine? One after the other, or in processes; and what any executor offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Protocol, TypeVar

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
        # Spawned, not forked: an OpenGL context does not survive a fork.
        pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"))
        try:
            futures = {pool.submit(do, job): job for job in jobs}
            for future in as_completed([*futures]):
                keep(futures.pop(future), future.result())  # popped, so that results do not pile up
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
