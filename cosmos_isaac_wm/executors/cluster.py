"""How do independent jobs run on several machines? As tasks of a Ray cluster, which repeats what a lost node left.

The command that hands them out runs on a node of the cluster, too. Nothing but the jobs and the results travels, so the
nodes need the same package, but no common disk.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from typing import Any

from .local import Executor, Job, Result

RETRIES = 5  # of a job whose worker or node was lost
_ANSWERS_S = 5.0  # in which a cluster has to be joined; it takes half a second
_READY_S = 150.0  # in which every node has to answer its check: a busy one imports PyTorch for a minute
# Ray itself tries for two minutes, and then ends the process.
_JOIN = """
import sys, ray
print("the time counts from here, however slow the disk is", flush=True)
try:
    ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
except BaseException as error:
    sys.exit("because: " + " ".join(str(error).split()))
"""


class JobError(RuntimeError):
    """A job or a node failed; says on which node."""


def nothing() -> None:
    """Check nothing."""


def executor_for(
    address: str | None,
    otherwise: Executor,
    check: Callable[[], object] = nothing,
    cpus: int | None = 1,
    gpus: int = 0,
) -> AbstractContextManager[Executor]:
    """The Ray cluster at an address, or, where none is given, what else jobs run on.

    Args:
        address: "auto" for the cluster that this machine is a node of, "HOST:PORT" of its head, or None.
        otherwise: What runs the jobs when `address` is None.
        check: As `RayCluster` has it.
        cpus: As well.
        gpus: As well.

    Raises:
        ImportError: If Ray is not installed.
        ConnectionError: If no cluster answers there.
        JobError: If a node fails the check, or none is large enough.
    """
    return nullcontext(otherwise) if address is None else _joined(address, check, cpus, gpus)


@contextmanager
def _joined(address: str, check: Callable[[], object], cpus: int | None, gpus: int) -> Iterator[RayCluster]:
    """Join a cluster, and leave it at the end; one that this process had joined before is used as it is."""
    if find_spec("ray") is None:
        raise ImportError("--ray needs Ray: pip install 'cosmos-isaac-wm[ray]'")
    import ray

    before = ray.is_initialized()
    if not before:
        _try(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        cluster = RayCluster(check, _size(cpus, gpus), gpus)
        cluster.check_nodes()
        yield cluster
    finally:
        if not before:
            ray.shutdown()


def _try(address: str) -> None:
    """Join the cluster in another process, which can be given up.

    Raises:
        ConnectionError: If that fails or takes too long.
    """
    if address.startswith("ray://"):
        raise ConnectionError(f"--ray {address}: run the command on a node of the cluster, with --ray auto")
    command = [sys.executable, "-c", _JOIN, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tried:
        assert tried.stdout is not None
        tried.stdout.readline()
        try:
            _, said = tried.communicate(timeout=_ANSWERS_S)
        except subprocess.TimeoutExpired:
            tried.kill()
            raise ConnectionError(
                f"no Ray cluster answers at {address} within {_ANSWERS_S:g} s; is it the HOST:PORT that `ray start` "
                "named, and is this machine a node of it?"
            ) from None
    if tried.returncode:
        reason = said.rpartition("because: ")[2].strip() or f"exit status {tried.returncode}"
        raise ConnectionError(f"cannot join a Ray cluster at {address}: {reason}")


def _nodes() -> list[dict[str, Any]]:
    """The living nodes that take jobs; a head without processors takes none."""
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeName']} ({node['NodeManagerHostname']})"


def _size(cpus: int | None, gpus: int) -> int:
    """Processors that a job takes, which some node has.

    Raises:
        JobError: If no node can take a job; Ray would wait for one without end.
    """
    fitting = [node for node in _nodes() if node["Resources"].get("GPU", 0) >= gpus]
    counts = [int(node["Resources"]["CPU"]) for node in fitting]
    if not counts or (cpus or 0) > max(counts):
        raise JobError(f"no node of the Ray cluster has the {cpus or 1} processors and {gpus} GPUs that a job takes")
    return cpus or min(counts)


@dataclass(frozen=True)
class RayCluster:
    """Runs jobs as tasks of the Ray cluster that this process has joined.

    Attributes:
        check: Called once in every worker process before its first job; raises what is wrong with the node.
        cpus: Processors that a job takes, and threads that PyTorch uses for it. Of `executor_for`, None means all of
            the smallest node.
        gpus: GPUs that a job takes.
    """

    check: Callable[[], object]
    cpus: int
    gpus: int

    def check_nodes(self) -> None:
        """Run the check on every node.

        Raises:
            JobError: If it fails somewhere; names every such node.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        payload, nodes = self._packed(nothing), _nodes()
        started = [
            ray.remote(_checked)
            .options(
                num_cpus=0, max_retries=1, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], False)
            )
            .remote(payload)
            for node in nodes
        ]
        answered, _ = ray.wait(started, num_returns=len(started), timeout=_READY_S)
        failed, alive = [], {node["NodeID"] for node in _nodes()}
        for node, ref in zip(nodes, started, strict=True):
            if node["NodeID"] not in alive:  # lost meanwhile, which the jobs survive as well
                continue
            try:
                _result(ref) if ref in answered else failed.append(f"node {_name(node)} does not answer")
            except JobError as error:
                failed.append(str(error))
        if failed:
            raise JobError("; ".join(failed))

    def run(self, do: Callable[[Job], Result], jobs: Sequence[Job], keep: Callable[[Job, Result], object]) -> None:
        """Do every job, see `Executor.run`; few results wait at a time, however many jobs there are.

        Raises:
            JobError: If a job fails, or was lost too often.
        """
        import ray

        task = ray.remote(_done).options(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES)
        payload, waiting, begun, most = self._packed(do), iter(jobs), dict[Any, Job](), 0
        try:
            while True:
                if 4 * len(begun) <= 3 * most:  # asked for seldom: a large cluster answers slowly
                    most = self._most()
                    begun |= {
                        task.remote(payload, job, self.cpus): job for job in islice(waiting, max(0, most - len(begun)))
                    }
                if not begun:
                    return
                (ref,), _ = ray.wait([*begun])
                keep(begun.pop(ref), _result(ref))
        finally:
            for ref in begun:
                ray.cancel(ref, force=True)

    def _most(self) -> int:
        """Jobs that are begun and not kept: twice what the cluster runs at once, as large as it is now."""
        return 2 * max(1, sum(int(node["Resources"]["CPU"]) // self.cpus for node in _nodes()))

    def _packed(self, do: Callable[..., object]) -> Any:
        """Check and job, once in the cluster's memory. As bytes: arrays that Ray shares are read-only."""
        import ray

        return ray.put(ray.cloudpickle.dumps((self.check, do)))  # type: ignore[no-untyped-call]


def _result(ref: Any) -> Any:
    """What a task returned.

    Raises:
        JobError: Instead of Ray's errors, which are pages long.
    """
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        text = str(error.cause).strip() or type(error.cause).__name__
        raise (error.cause if isinstance(error.cause, JobError) else JobError(text.splitlines()[-1])) from error
    except ray.exceptions.RayError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise JobError(f"a job was lost, and {RETRIES} retries did not bring it back: {reason}") from error


def _done(payload: bytes, job: Any, threads: int) -> Any:
    """Do a job; what a worker process runs."""
    do = _checked(payload)
    if "torch" in sys.modules:  # the last bits of what PyTorch computes depend on the number of threads
        sys.modules["torch"].set_num_threads(threads)
    with _on_this_node():
        return do(job)


def _checked(payload: bytes) -> Any:
    """The function of a payload, on a node that was checked."""
    with _on_this_node():
        return _unpacked(payload)


@lru_cache(maxsize=1)
def _unpacked(payload: bytes) -> Any:
    """Unpack and check once in a process."""
    import ray

    check, do = ray.cloudpickle.loads(payload)
    check()
    return do


@contextmanager
def _on_this_node() -> Iterator[None]:
    """Let errors name the node."""
    import ray

    try:
        yield
    except Exception as error:
        own = ray.get_runtime_context().get_node_id()
        name = next((_name(node) for node in _nodes() if node["NodeID"] == own), own)
        raise JobError(f"on node {name}: {error or type(error).__name__}") from error
