"""However a collection is interrupted, and whatever of it gets lost, it ends as the dataset of an undisturbed one."""

import contextlib
import dataclasses
import functools
import io
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from minari.dataset.minari_storage import MinariStorage

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset
from cosmos_isaac_wm.data.collection import _is_whole, collect, packed, plan, unpacked
from cosmos_isaac_wm.executors import Here

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
QUIET = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=not THOROUGH)
JOBS, OTHER_JOBS = (plan(5, "both", seed, steps=2) for seed in (0, 1))
WRITES = [(Path, "write_bytes"), (Path, "write_text"), (Path, "replace"), (Path, "rename"), (os, "fsync")]
WRITES += [(MinariStorage, "update_metadata")]
NO_PROCESS = 2**22 - 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Nobody waits for the disk here."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class Killed(BaseException):
    """The process is gone, and tidies nothing up."""


@dataclass
class Stop:
    """The recorder raises in place of an episode."""

    at: int
    error: type[BaseException]


@dataclass
class Write:
    """Something that is done to a file fails half way, or the process is killed there."""

    at: int
    error: type[BaseException]


@dataclass
class Damage:
    """Files of some episodes are deleted, cut, or changed in one place."""

    how: str
    which: set[int]
    where: float


interruptions = st.one_of(
    st.builds(Stop, st.integers(0, len(JOBS)), st.sampled_from([RuntimeError, OSError, KeyboardInterrupt])),
    st.builds(Write, st.integers(0, 45), st.sampled_from([OSError, MemoryError, KeyboardInterrupt, Killed])),
)
damages = st.builds(
    Damage,
    st.sampled_from(["delete", "cut", "change"]),
    st.sets(st.integers(0, len(JOBS) - 1), min_size=1),
    st.floats(0, 1, exclude_max=True),
)
rounds = st.tuples(interruptions, st.none() | damages, st.booleans())


@contextlib.contextmanager
def failing(event):
    """Let the so many-th thing that is done to a file fail half way."""
    left = event.at

    def instead(original):
        @functools.wraps(original)
        def call(target, *arguments, **named):
            nonlocal left
            left -= 1
            if left != -1:
                return original(target, *arguments, **named)
            if original.__name__.startswith("write_"):
                original(target, arguments[0][: len(arguments[0]) // 2])
            if event.error is Killed:
                patch.setattr(shutil, "rmtree", lambda *_, **__: None)
                patch.setattr(Path, "unlink", lambda *_, **__: None)
            raise event.error("no more")

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in WRITES:
            patch.setattr(owner, name, instead(getattr(owner, name)))
        if event.error is Killed:
            patch.setattr(os, "getpid", lambda: NO_PROCESS)
        yield


def assert_same(found, expected):
    """All that a dataset holds."""
    for one, other in zip(found.episodes(range(len(JOBS))), expected.episodes(range(len(JOBS))), strict=True):
        np.testing.assert_equal(dataclasses.asdict(one), dataclasses.asdict(other))
    for name in ("kinds", "seeds", "splits", "lengths", "metadata", "scene"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.fingerprint() == expected.fingerprint()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


class Collection:
    """The command that collects into a folder, run again and again."""

    def __init__(self, out, scene, make_episode, together):
        self.out, self.scene, self.make_episode, self.together = out, scene, make_episode, together
        self.recorded, self.begun = [], False  # by the last run; by any
        self.cut, self.changed = set(), set()  # which episodes' files, since they were written

    def record(self, batch, stop):
        """An episode depends on what is recorded beside it, as it does in its last bits in a simulator."""
        beside = sum(2**job.index for job in batch)
        for job in batch:
            if stop is not None and len(self.recorded) == stop.at:
                raise stop.error("stopped")
            self.recorded.append(job.index)
            infos = {"beside": np.full(job.steps + 1, beside + 0.1 * job.restarts)}
            yield dataclasses.replace(self.make_episode(self.scene, job.seed, job.steps, job.kind), infos=infos)

    def run(self, stop=None, jobs=JOBS):
        """The dataset, and what was said meanwhile."""
        self.recorded, words, how = [], io.StringIO(), ({"simulator": "toy"}, Here(), 0, self.together, 2)
        with contextlib.redirect_stderr(words), contextlib.redirect_stdout(words):
            found = collect(self.out, jobs, functools.partial(self.record, stop=stop), self.scene, *how)
        return found, words.getvalue()

    def shard(self, index):
        return self.out / "unfinished" / f"episode_{index:06d}.npz"

    def kept(self):
        """The files of episodes to which nothing was done."""
        indices = {index for index in range(len(JOBS)) if self.shard(index).exists()} - self.cut - self.changed
        return {index: self.shard(index).read_bytes() for index in indices}

    def damage(self, event):
        for index, data in self.kept().items():
            place = int(event.where * len(data))
            if index in event.which and event.how == "delete":
                self.shard(index).unlink()
            elif index in event.which and event.how == "cut":
                self.shard(index).write_bytes(data[:place])
                self.cut.add(index)
            elif index in event.which:
                self.shard(index).write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
                self.changed.add(index)

    def interrupt(self, event, whole):
        """A run that an event may end. It records nothing twice, and no later error costs what it recorded."""
        before = self.kept()
        with contextlib.suppress(event.error), failing(event) if isinstance(event, Write) else contextlib.nullcontext():
            self.run(event if isinstance(event, Stop) else None)
        self.begun = self.begun or bool(self.recorded)
        self.cut, self.changed = self.cut - set(self.recorded), self.changed - set(self.recorded)
        after = self.kept()
        if (self.out / "data").exists():
            assert_same(EpisodeDataset(self.out), whole)
        else:
            assert before.items() <= after.items()
            if isinstance(event, Stop) and event.error is not KeyboardInterrupt:
                assert set(self.recorded) <= after.keys()
        if self.together == 1:
            assert not before.keys() & set(self.recorded)

    def refuse_another_plan(self):
        before = self.kept()
        with pytest.raises(DatasetError, match="another collection"):
            self.run(jobs=OTHER_JOBS)
        assert (self.recorded, self.kept()) == ([], before)


@pytest.fixture(scope="module")
def collections(scene, make_episode, tmp_path_factory):
    """Undisturbed ones, by how many episodes are recorded together."""
    homes = {together: tmp_path_factory.mktemp("whole") / "out" for together in (1, 2, 3)}
    return {n: Collection(out, scene, make_episode, n).run()[0] for n, out in homes.items()}


@settings(QUIET, max_examples=400 if THOROUGH else 10)
@example(together=1, happens=[(Write(3, OSError), None, False)])  # while the plan is written
@example(together=1, happens=[(Write(30, Killed), None, False)])  # while the dataset is put together
@given(together=st.integers(1, 3), happens=st.lists(rounds, min_size=1, max_size=4))
def test_whatever_happens_the_dataset_is_that_of_an_undisturbed_collection(
    scene, make_episode, collections, together, happens
):
    whole = collections[together]
    with tempfile.TemporaryDirectory() as home:
        collection = Collection(Path(home) / "out", scene, make_episode, together)
        for interruption, damage, another in happens:
            collection.interrupt(interruption, whole)
            if damage is not None:
                collection.damage(damage)
            if another and collection.begun:
                collection.refuse_another_plan()
        cut = [collection.shard(index) for index in collection.cut if collection.shard(index).exists()]
        found, words = collection.run()
        assert_same(found, whole)
        assert all(str(shard) in words for shard in cut)  # a damaged file is recorded anew with a word
        assert files(found.path) == files(whole.path)  # nothing is left of the interrupted runs
        assert_same(collection.run()[0], whole)  # a finished dataset that is asked for again is there
        assert collection.recorded == []
        collection.refuse_another_plan()


def test_an_episode_whose_file_was_changed_in_one_place_is_recorded_again_or_still_the_same(
    scene, make_episode, tmp_path
):
    job, shard = JOBS[0], tmp_path / "episode.npz"
    episode = make_episode(scene, job.seed, job.steps, job.kind)
    whole = packed(episode)
    for place in range(len(whole)):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        if _is_whole(shard, job):
            np.testing.assert_equal(dataclasses.asdict(unpacked(shard, job)), dataclasses.asdict(episode))
