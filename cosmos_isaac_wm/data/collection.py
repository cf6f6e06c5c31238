"""How is a dataset collected? Wherever jobs run, and so that a killed collection goes on where it was.

Every finished episode is a file of its own until all are there; then they become one Minari dataset. A killed or
failed run therefore loses at most the episodes in flight, and starting it again does the rest. Workers hand the bytes
of these files back, so they need not see the folder.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..executors import Executor
from ..scene import Scene
from ..spaces import put_in
from ..storage.atomic import write
from ..storage.checkpoint import must_be_whole
from ..storage.lock import claim, holding
from ..storage.paths import user_path
from .dataset import EpisodeDataset
from .episodes import DatasetError, Episode
from .splits import draw_splits
from .stored import leaves
from .writing import write_dataset

_SHARDS = "unfinished"  # folder of finished episodes, until all are there
_OUTCOMES = ("rewards", "terminations", "truncations")
_MOST_EPISODES = 10_000  # that one plan is checked for


@dataclass(frozen=True)
class Job:
    """One episode to collect: its number, kind, seed, length in control steps, and how often to restart it then."""

    index: int
    kind: str
    seed: int
    steps: int
    restarts: int = 0


def plan(episodes: int, kind: str, seed: int, steps: int) -> list[Job]:
    """Jobs with independent seeds; `kind="both"` makes every third episode a slide."""
    seeds = np.random.SeedSequence(seed).generate_state(episodes)
    kinds = [kind if kind != "both" else ("slide" if i % 3 == 2 else "push") for i in range(episodes)]
    return [Job(i, kinds[i], int(seeds[i]), steps) for i in range(episodes)]


def seed_apart(known: Collection[int], seed: int) -> int:
    """A seed of a plan that repeats none of the known seeds: repeated episodes would be in other splits.

    Args:
        known: Seeds of the episodes that there are.
        seed: Of the search.
    """
    for attempt in itertools.count():
        found = int(np.random.SeedSequence([seed, attempt, 1]).generate_state(1)[0])
        if not {job.seed for job in plan(_MOST_EPISODES, "push", found, 1)} & set(known):
            return found
    raise AssertionError("unreachable")


Record = Callable[[Sequence[Job]], Iterable[Episode]]  # runs jobs of one kind at once


def collect(
    out: str | os.PathLike[str],
    jobs: list[Job],
    record: Record,
    scene: Scene,
    metadata: dict[str, Any],
    executor: Executor,
    split_seed: int,
    together: int = 1,
    restarts: int = 0,
) -> EpisodeDataset:
    """Run every job that is not on disk yet, then write the dataset.

    Args:
        out: Folder of the dataset; a folder with an interrupted collection of the same plan is continued.
        jobs: What to collect, from `plan`.
        record: Runs jobs of one kind at once; a picklable function, called wherever the executor runs jobs.
        scene: The simulator's scene.
        metadata: JSON values stored with the dataset; must equal those of the interrupted run.
        executor: What runs the jobs. The same jobs give the same dataset whatever it is.
        split_seed: Seed of the 80/10/10 split.
        together: Greatest number of jobs that are run at once.
        restarts: How often the simulator is restarted for a test episode's predictability floor (`baselines`).

    Returns:
        The dataset; one that was finished before, by the same plan, as it is.

    Raises:
        FileExistsError: If `out` holds a dataset of another origin.
        InUse: If another process collects there.
        DatasetError: If `out` holds another plan, finished or not.
        OSError: If the disk is full; what was collected stays and the run can be continued.
    """
    out = user_path(out)
    splits = draw_splits([job.kind for job in jobs], split_seed)
    jobs = [replace(job, restarts=restarts if split == "test" else 0) for job, split in zip(jobs, splits, strict=True)]
    whole = {"jobs": [vars(job) for job in jobs], "scene": scene.to_dict(), "metadata": metadata}
    with holding(out):
        if not _is_finished(out, whole):
            with _kept(out / _SHARDS) as shards:
                _record_missing(shards, jobs, record, executor, together)
                bar = tqdm(jobs, desc="write", unit="episode")
                write_dataset(out, (unpacked(_shard(shards, job.index), job) for job in bar), scene, splits, metadata)
        shutil.rmtree(out / _SHARDS, ignore_errors=True)
        return EpisodeDataset(out)


def _is_finished(out: Path, plan: dict[str, Any]) -> bool:
    """Bind a folder to a plan; whether its dataset is there, which is said."""
    bound, there = out / "collection.json", (out / "data").exists()
    if there and not bound.exists():
        raise FileExistsError(f"{out} already holds a dataset, which was not collected there; choose another folder")
    claim(bound, plan, error=DatasetError)
    if there:
        print(f"going on from the finished dataset {out}", file=sys.stderr)
    return there


@contextmanager
def _kept(shards: Path) -> Iterator[Path]:
    """The folder of finished episodes; says of a full disk that they are kept there."""
    shards.mkdir(exist_ok=True)
    try:
        yield shards
    except OSError as error:
        raise OSError(
            error.errno,
            f"collection stopped, finished episodes are kept in {shards}; run the same command again: "
            f"{error.strerror or error}",
        ) from error


@dataclass
class _Recorded:
    """What came of a batch of jobs: files, by number of the episode, and the error that ended it half way, if any."""

    files: dict[int, bytes] = field(default_factory=dict)
    error: Exception | None = None


def _record_missing(shards: Path, jobs: list[Job], record: Record, executor: Executor, together: int) -> None:
    """Run the jobs that have no file yet, or a damaged one, and write each file as soon as it is here."""
    todo = {job.index for job in jobs if not _is_whole(_shard(shards, job.index), job)}
    if len(todo) < len(jobs):
        tqdm.write(f"going on from {len(jobs) - len(todo)} of {len(jobs)} episodes in {shards}", file=sys.stderr)
    # The same batches as at first: what is simulated beside an episode may touch its last bits.
    batches = [batch for batch in _batches(jobs, together) if not todo.isdisjoint(job.index for job in batch)]
    batches.sort(key=lambda batch: batch[0].kind)  # another kind may be another simulation, which starts slowly

    def keep(_: Sequence[Job], recorded: _Recorded) -> None:
        for index in todo & recorded.files.keys():
            write(_shard(shards, index), recorded.files[index])
            bar.update()
        if recorded.error is not None:
            raise recorded.error

    with tqdm(total=len(todo), desc="collect", unit="episode") as bar:
        executor.run(partial(_record, record=record), batches, keep)


def _is_whole(shard: Path, job: Job) -> bool:
    """Whether an episode's file is there and undamaged; a damaged one goes, with a word."""
    if not shard.exists() and not shard.is_symlink():
        return False
    try:
        must_be_whole(shard)
        unpacked(shard, job)
    except Exception as error:  # whatever damage makes NumPy raise
        tqdm.write(f"{shard}: {error}; the episode is recorded again", file=sys.stderr)
        shutil.rmtree(shard) if shard.is_dir() else shard.unlink()
        return False
    return True


def _shard(folder: Path, index: int) -> Path:
    return folder / f"episode_{index:06d}.npz"


def _batches(jobs: Iterable[Job], size: int) -> Iterator[Sequence[Job]]:
    """Jobs of one kind, length and number of restarts, `size` of them at a time."""
    waiting: dict[tuple[str, int, int], list[Job]] = defaultdict(list)
    for job in jobs:
        alike = job.kind, job.steps, job.restarts
        waiting[alike].append(job)
        if len(waiting[alike]) == size:
            yield waiting.pop(alike)
    yield from waiting.values()


def _record(jobs: Sequence[Job], record: Record) -> _Recorded:
    """Run jobs, wherever that is; an error costs no episode that was recorded before it."""
    recorded = _Recorded()
    try:
        for job, episode in zip(jobs, record(jobs), strict=True):
            recorded.files[job.index] = packed(episode)
    except Exception as error:
        if not recorded.files:
            raise
        error.add_note(traceback.format_exc())  # which does not survive the way between processes otherwise
        recorded.error = error
    return recorded


def packed(episode: Episode) -> bytes:
    """An episode as a compressed file."""
    arrays: dict[str, NDArray[Any]] = {
        # Time last: consecutive bytes then repeat, which deflate shrinks a hundredfold.
        "frames": np.ascontiguousarray(np.moveaxis(episode.frames, 0, -1)),
        "actions": episode.actions,
        **{f"positions/{name}": values for name, values in episode.positions.items()},
        **{f"infos/{name}": values for name, values in episode.infos.items()},
        **dict(leaves("observations", episode.observations)),
    }
    arrays |= {name: values for name in _OUTCOMES if (values := getattr(episode, name)) is not None}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def unpacked(path: Path, job: Job) -> Episode:
    """The episode of a file that `packed` made, of this job."""
    with np.load(path, allow_pickle=False) as arrays:
        groups: dict[str, Any] = {"positions": {}, "infos": {}, "observations": {}}
        for key in arrays.files:
            *within, name = key.split("/")
            if within:
                put_in(groups, (*within, name), arrays[key])
        frames = np.moveaxis(arrays["frames"], -1, 0)
        outcomes = {name: arrays[name] for name in _OUTCOMES if name in arrays.files}
        return Episode(frames, arrays["actions"], job.kind, job.seed, **groups, **outcomes)
