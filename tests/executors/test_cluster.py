"""Jobs on a Ray cluster of two nodes on this machine, and what is said when it does not work."""

import os
import socket
import sys
import time

import psutil
import pytest

from cosmos_isaac_wm.executors import Here, JobError, cluster, executor_for


@pytest.fixture
def address(ray_cluster):
    """Where the cluster answers; jobs may be functions of this file."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ray_cluster.address
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def own_node() -> str:
    """The name of the node that this runs on."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    return next(node["NodeName"] for node in ray.nodes() if node["NodeID"] == own)


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'cosmos-isaac-wm\[ray\]'"), executor_for("auto", Here()):
        pass


def test_an_address_where_something_else_listens_is_given_up_soon(ray_cluster):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ConnectionError, match=f"no Ray cluster answers at {address} within"):
            executor_for(address, Here()).__enter__()
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "run the command on a node of the cluster"),
        ("nonsense", "cannot join a Ray cluster at nonsense"),
    ],
)
def test_an_address_that_is_none_is_refused_in_one_line(ray_cluster, address, said):
    with pytest.raises(ConnectionError, match=said) as error:
        executor_for(address, Here()).__enter__()
    assert "\n" not in str(error.value)


def test_jobs_run_on_every_node_and_few_results_wait(address, second_node, tmp_path):
    def do(job):
        (tmp_path / str(job)).touch()
        time.sleep(0.2)
        return job * job, own_node()

    kept, waiting = {}, []

    def keep(job, result):
        kept[job] = result
        waiting.append(len(list(tmp_path.iterdir())) - len(kept))

    with executor_for(address, Here()) as executor:
        executor.run(do, range(16), keep)
    assert {job: square for job, (square, _) in kept.items()} == {job: job * job for job in range(16)}
    assert {node for _, node in kept.values()} == {"first", "second"}
    assert max(waiting) <= 4  # twice the processors


def test_a_job_may_change_what_it_was_given(address):
    import numpy as np

    given = np.zeros(10**6)

    def do(job):
        given[0] += job
        return given[0]

    kept = {}
    with executor_for(address, Here()) as executor:
        executor.run(do, [1.0], kept.__setitem__)
    assert kept == {1.0: 1.0}


def test_an_error_names_the_node_in_one_line_and_ends_it(address):
    def do(job):
        raise OSError(f"job {job} found no disk")

    with (
        executor_for(address, Here()) as executor,
        pytest.raises(JobError, match=r"^on node first \(.+\): job 7 found"),
    ):
        executor.run(do, [7], lambda *_: None)


def test_a_node_that_cannot_do_the_jobs_is_named_before_the_first(address, second_node):
    def check():
        if own_node() == "second":
            raise RuntimeError("no OpenGL here")

    with pytest.raises(JobError, match=r"^on node second \(.+\): no OpenGL here$"):
        executor_for(address, Here(), check).__enter__()


def test_a_job_that_no_node_is_large_enough_for_is_refused(address):
    with pytest.raises(JobError, match="no node of the Ray cluster has the 64 processors and 0 GPUs"):
        executor_for(address, Here(), cpus=64).__enter__()
    with pytest.raises(JobError, match="1 GPUs"):
        executor_for(address, Here(), gpus=1).__enter__()


def test_a_job_that_kills_every_worker_is_given_up_with_a_word(address, monkeypatch):
    monkeypatch.setattr(cluster, "RETRIES", 1)
    with (
        executor_for(address, Here()) as executor,
        pytest.raises(JobError, match="a job was lost, and 1 retries") as error,
    ):
        executor.run(lambda job: os._exit(1), [1], lambda *_: None)
    assert "\n" not in str(error.value)


def test_the_tests_clusters_listen_on_loopback_only(ray_cluster):
    ours = {process.pid for process in psutil.Process().children(recursive=True)}
    addresses = {own.laddr.ip for own in psutil.net_connections("tcp") if own.pid in ours and own.status == "LISTEN"}
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
