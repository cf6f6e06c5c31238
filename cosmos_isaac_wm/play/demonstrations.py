"""Where do demonstrations go? Each into a file as soon as it is over, and all into a Minari dataset at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..data.collection import Job, packed, unpacked
from ..data.dataset import EpisodeDataset
from ..data.episodes import DatasetError, Episode
from ..data.writing import write_dataset
from ..scene import Scene
from ..storage.atomic import replacing_folder, write
from ..storage.checkpoint import must_be_whole
from ..storage.lock import claim, holding
from ..storage.paths import user_path

_EPISODES = "demonstrations"  # folder of the files, which stay: more can be played later
_EVERY = 10  # episodes: the ninth of them validates and the tenth tests, and none changes its split when more come


@dataclass(frozen=True)
class Source:
    """What demonstrations are of.

    Attributes:
        scene: That they were played in.
        world_model: Fingerprint of the bundle.
        pictures: Whose they are, "dream" or "real".
        kind: Of the episodes.
    """

    scene: Scene
    world_model: str
    pictures: str
    kind: str = "episode"

    @property
    def metadata(self) -> dict[str, Any]:
        """What the dataset says of its origin."""
        return {"simulator": self.pictures, "world_model": self.world_model, "kind": self.kind}


class Demonstrations:
    """A folder of demonstrations; a context manager, which holds the folder and writes the dataset when it ends.

    Args:
        out: The folder; one of an earlier recording of the same source goes on.
        source: What they are of.

    Raises:
        FileExistsError: If the folder holds a dataset of another origin.
        DatasetError: If its demonstrations are of another bundle, or of other pictures.
        InUse: If another process works there.
    """

    def __init__(self, out: str | os.PathLike[str], source: Source):
        self.out, self.source = user_path(out), source
        self._folder = self.out / _EPISODES
        self._held = ExitStack()
        self._count = 0
        self._written: list[int] | None = None  # seeds of the dataset's episodes; None where it has to be written

    def __enter__(self) -> Demonstrations:
        self._held.enter_context(holding(self.out))
        with self._held:  # let go if the folder is not ours
            bound = self.out / "recording.json"
            if (self.out / "data").exists() and not bound.exists():
                raise FileExistsError(
                    f"{self.out} already holds a dataset, which was not played there; choose another --out"
                )
            begun = (self.out / "data").exists() or bool(self._files())  # else nothing is bound to anything yet
            claim(bound, {"scene": self.source.scene.to_dict(), **self.source.metadata}, begun, error=DatasetError)
            self._folder.mkdir(exist_ok=True)
            self._count, self._written = len(self._files()), self._in_dataset()
            self._held = self._held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with self._held:
            self.write()

    def __len__(self) -> int:
        return self._count

    def add(self, episode: Episode) -> int:
        """Keep a demonstration; how many there are now.

        Raises:
            OSError: If the disk is full.
        """
        number = max(map(_number, self._files()), default=-1) + 1
        write(self._folder / f"episode_{number:06d}_{episode.seed}.npz", packed(episode))
        self._count, self._written = len(self._files()), None
        return self._count

    def write(self) -> Path | None:
        """Write all of them as a dataset, in place of the one that there was; None where there is nothing new.

        Raises:
            DatasetError: If a file is damaged.
            OSError: If the disk is full; the demonstrations stay, and the same command writes them.
        """
        files = self._files()
        if not files or list(map(_seed, files)) == self._written:
            return None
        staged = self.out / "unfinished"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            write_dataset(staged, self._episodes(files), self.source.scene, _splits(files), self.source.metadata)
            with replacing_folder(self.out / "data") as fresh:
                for part in (staged / "data").iterdir():
                    part.rename(fresh / part.name)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._count, self._written = len(files), list(map(_seed, files))
        return self.out

    def _in_dataset(self) -> list[int] | None:
        """Seeds of the dataset that is there; None where there is none, or one that is damaged."""
        try:
            return EpisodeDataset(self.out).seeds if (self.out / "data").exists() else None
        except DatasetError:
            return None

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("episode_[0-9]*_[0-9]*.npz"))

    def _episodes(self, files: list[Path]) -> Iterator[Episode]:
        for path in files:
            try:
                must_be_whole(path)
                yield unpacked(path, Job(_number(path), self.source.kind, _seed(path), 0))
            except (ValueError, KeyError) as error:
                raise DatasetError(f"{path} is damaged ({error}): delete it and run the same command again") from error


def _number(path: Path) -> int:
    return int(path.stem.split("_")[1])


def _seed(path: Path) -> int:
    return int(path.stem.split("_")[2])


def _splits(files: list[Path]) -> list[str]:
    """Of demonstrations, by number; nothing is drawn, so that they stay the same when more are played.

    Those that start alike, as after a rewind, are in one: whoever is judged there shall not have seen the start.
    """
    first: dict[int, int] = {}
    numbers = [first.setdefault(_seed(path), _number(path)) for path in files]
    return [{_EVERY - 2: "val", _EVERY - 1: "test"}.get(number % _EVERY, "train") for number in numbers]
