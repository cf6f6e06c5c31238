import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError
from cosmos_isaac_wm.data import collection as collection_module
from cosmos_isaac_wm.data.collection import collect, plan, seed_apart
from cosmos_isaac_wm.executors import Processes, executor_for, local
from cosmos_isaac_wm.storage.lock import InUse, holding

JOBS = plan(5, "both", seed=0, steps=8)


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """Threads instead of spawned processes: quick, and the recorder may be a closure."""
    monkeypatch.setattr(local, "ProcessPoolExecutor", lambda workers, mp_context, **_: ThreadPoolExecutor(workers))


@pytest.fixture
def start(scene, make_episode):
    """Collect JOBS into a folder; `fails` maps the number of an episode to what its recording raises."""

    def collect_into(out, fails=None, jobs=JOBS, log=None, together=1, batches=None):
        def record(batch):
            if batches is not None:
                batches.append([job.index for job in batch])
            return map(record_one, batch)

        def record_one(job):
            if fails and job.index in fails:
                raise fails[job.index]
            if log is not None:
                log.append(job.index)
            return make_episode(scene, job.seed, job.steps, job.kind)

        return collect(out, jobs, record, scene, {"simulator": "toy"}, Processes(1), split_seed=0, together=together)

    return collect_into


def test_a_plan_is_reproducible_and_its_seeds_differ():
    assert plan(5, "both", 0, 8) == JOBS
    assert len({job.seed for job in JOBS}) == len(JOBS)
    assert [job.kind for job in JOBS] == ["push", "push", "slide", "push", "push"]
    assert plan(5, "both", 1, 8) != JOBS


def test_a_seed_apart_repeats_no_episode_of_the_data(dataset):
    seed = seed_apart(dataset.seeds, 1)
    assert not {job.seed for job in plan(500, "push", seed, 1)} & set(dataset.seeds)
    assert seed_apart(dataset.seeds, 1) == seed
    assert seed_apart(dataset.seeds, 2) != seed


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), RuntimeError("simulator"), OSError(errno.EIO, "disk")])
def test_an_interrupted_collection_goes_on_to_the_same_dataset(tmp_path, start, interruption):
    whole = start(tmp_path / "whole")
    with pytest.raises(type(interruption)):
        start(tmp_path / "out", fails={3: interruption})
    recorded = []
    resumed = start(tmp_path / "out", log=recorded)
    assert 3 in recorded
    assert not {0, 1} & set(recorded)
    assert resumed.fingerprint() == whole.fingerprint()
    assert len(resumed) == len(JOBS)
    for index in range(len(JOBS)):
        assert np.array_equal(resumed[index].frames, whole[index].frames)
        assert np.array_equal(resumed[index].actions, whole[index].actions)
    assert not (tmp_path / "out" / "unfinished").exists()


def test_jobs_are_run_together_by_kind_and_always_in_the_same_company(tmp_path, start):
    whole, batches = start(tmp_path / "whole"), []
    assert start(tmp_path / "two", together=2, batches=batches).fingerprint() == whole.fingerprint()
    assert sorted(batches) == [[0, 1], [2], [3, 4]]
    with pytest.raises(RuntimeError):
        start(tmp_path / "out", together=2, fails={4: RuntimeError()})
    assert (tmp_path / "out" / "unfinished" / "episode_000003.npz").exists()
    again = []
    resumed = start(tmp_path / "out", together=2, batches=again)
    assert [3, 4] in again
    assert [0, 1] not in again
    assert resumed.fingerprint() == whole.fingerprint()


def test_test_episodes_alone_are_restarted_and_kinds_come_one_after_the_other(tmp_path, scene, make_episode):
    batches = []

    def record(batch):
        batches.append(batch)
        return [make_episode(scene, job.seed, job.steps, job.kind) for job in batch]

    dataset = collect(
        tmp_path / "out", plan(30, "both", 0, 8), record, scene, {}, Processes(1), 0, together=4, restarts=2
    )
    tested = {job.index for batch in batches for job in batch if job.restarts == 2}
    assert tested == set(dataset.indices("test"))
    assert all(len({(job.kind, job.restarts) for job in batch}) == 1 for batch in batches)
    kinds = [batch[0].kind for batch in batches]
    assert kinds == sorted(kinds)


def test_a_full_disk_is_a_clear_error_and_finished_episodes_stay(tmp_path, start):
    with pytest.raises(
        OSError, match=r"finished episodes are kept in .*unfinished; run the same command again"
    ) as error:
        start(tmp_path / "out", fails={2: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))})
    assert error.value.errno == errno.ENOSPC
    kept = sorted(path.name for path in (tmp_path / "out" / "unfinished").glob("*.npz"))
    assert kept[:2] == ["episode_000000.npz", "episode_000001.npz"]
    assert len(start(tmp_path / "out")) == len(JOBS)


def test_a_disk_that_fills_up_in_the_middle_of_an_episode_leaves_no_damaged_file(tmp_path, start, monkeypatch):
    def half(file, **arrays):
        file.write(b"PK\x03\x04 half an archive")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", half)
        with pytest.raises(OSError, match="No space left"):
            start(tmp_path / "out")
    assert not any((tmp_path / "out" / "unfinished").iterdir())
    assert len(start(tmp_path / "out")) == len(JOBS)


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_while_the_dataset_is_put_together_loses_no_episode(tmp_path, start, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(collection_module, "write_dataset", full)
        with pytest.raises(OSError, match="finished episodes are kept in"):
            start(tmp_path / "out")
    recorded = []
    assert len(start(tmp_path / "out", log=recorded)) == len(JOBS)
    assert recorded == []


def test_another_plan_is_refused_in_a_folder_with_a_beginning(tmp_path, start):
    with pytest.raises(RuntimeError):
        start(tmp_path / "out", fails={1: RuntimeError()})
    with pytest.raises(DatasetError, match="holds another collection"):
        start(tmp_path / "out", jobs=plan(5, "both", seed=1, steps=8))


def test_a_finished_dataset_is_never_collected_over(tmp_path, start):
    start(tmp_path / "out")
    recorded = []
    assert len(start(tmp_path / "out", log=recorded)) == len(JOBS)
    assert recorded == []
    with pytest.raises(DatasetError, match="holds another collection"):
        start(tmp_path / "out", jobs=plan(5, "both", seed=1, steps=8))
    (tmp_path / "out" / "collection.json").unlink()
    with pytest.raises(FileExistsError, match="was not collected there"):
        start(tmp_path / "out")


def test_a_cut_or_damaged_episode_is_recorded_again_with_a_word(tmp_path, start, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection_module, "write_dataset", full)
        with pytest.raises(OSError, match="kept in"):
            start(tmp_path / "out")
    shards = sorted((tmp_path / "out" / "unfinished").glob("*.npz"))
    content = bytearray(shards[0].read_bytes())
    content[100] ^= 1
    shards[0].write_bytes(content)
    shards[1].write_bytes(shards[1].read_bytes()[:100])
    recorded = []
    assert len(start(tmp_path / "out", log=recorded)) == len(JOBS)
    assert sorted(recorded) == [0, 1]
    assert capsys.readouterr().err.count("the episode is recorded again") == 2


def test_two_processes_do_not_collect_into_one_folder(tmp_path, start):
    with holding(tmp_path / "out"), pytest.raises(InUse, match=r"is in use by process [0-9]+ on "):
        start(tmp_path / "out")
    assert len(start(tmp_path / "out")) == len(JOBS)


def test_a_node_that_is_lost_half_way_costs_nothing(tmp_path, scene, make_episode, start, ray_cluster, second_node):
    """Two nodes collect; the second is removed while an episode is recorded there."""
    import ray

    begun = tmp_path / "begun"
    begun.mkdir()

    def record(batch):
        own = ray.get_runtime_context().get_node_id()
        name = next(node["NodeName"] for node in ray.nodes() if node["NodeID"] == own)
        (job,) = batch
        mine = [path for path in begun.iterdir() if path.name.startswith("second")]
        (begun / f"{name} {job.index} {time.monotonic_ns()}").touch()
        while name == "second" and len(mine) == 2:  # two were finished there, the third never is
            time.sleep(0.1)
        time.sleep(0.3)
        return [make_episode(scene, job.seed, job.steps, job.kind)]

    def remove():
        while sum(path.name.startswith("second") for path in begun.iterdir()) < 3:
            time.sleep(0.05)
        ray_cluster.remove_node(second_node, allow_graceful=False)

    jobs = plan(12, "both", seed=0, steps=8)
    remover = Thread(target=remove)
    remover.start()
    with executor_for(ray_cluster.address, Processes(1)) as executor:
        found = collect(tmp_path / "out", jobs, record, scene, {"simulator": "toy"}, executor, split_seed=0)
    remover.join()

    whole = start(tmp_path / "whole", jobs=jobs)
    attempts = [tuple(path.name.split()[:2]) for path in begun.iterdir()]
    lost = [number for node, number in attempts if node == "second"]
    assert len(lost) >= 3
    assert len({number for _, number in attempts}) == 12
    assert len(attempts) > 12  # what was lost was begun again
    assert len(found) == 12
    assert sorted(found.seeds) == sorted(job.seed for job in jobs)
    assert found.fingerprint() == whole.fingerprint()
    for index in range(12):
        assert np.array_equal(found[index].frames, whole[index].frames)
        assert np.array_equal(found[index].actions, whole[index].actions)
        assert all(
            np.array_equal(found[index].positions[key], whole[index].positions[key]) for key in ("cube", "pusher")
        )


def test_a_collection_on_a_cluster_goes_on_where_a_local_one_was_interrupted(
    tmp_path, scene, make_episode, start, ray_cluster
):
    with pytest.raises(RuntimeError):
        start(tmp_path / "out", fails={3: RuntimeError()})
    kept = {path.name for path in (tmp_path / "out" / "unfinished").glob("*.npz")}
    log = tmp_path / "log"
    log.mkdir()

    def record(batch):
        for job in batch:
            (log / f"episode_{job.index:06d}.npz").touch()
        return [make_episode(scene, job.seed, job.steps, job.kind) for job in batch]

    with executor_for(ray_cluster.address, Processes(1)) as executor:
        found = collect(tmp_path / "out", JOBS, record, scene, {"simulator": "toy"}, executor, split_seed=0)
    assert kept
    assert not kept & {path.name for path in log.iterdir()}
    assert found.fingerprint() == start(tmp_path / "whole").fingerprint()
