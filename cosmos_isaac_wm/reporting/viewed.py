"""What is there to be viewed of an episode, its dream, or a recording? Pictures, tracks, actions, rewards, bounds."""

from __future__ import annotations

import csv
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..data.dataset import EpisodeDataset
from ..data.episodes import DatasetError, Episode
from ..data.stored import layout_of, observed
from ..evaluation.ground_truth import detect_all
from ..evaluation.open_loop import dream, first_dreamed
from ..evaluation.perception_metrics import decode_frames, locate
from ..evaluation.trust import doubted
from ..evaluation.twins import foretold
from ..perception.tracking import REFERENCE_WIDTH
from ..scene import Scene
from ..storage.structured import content_of, one_line
from ..world_model import WorldModel
from .log import CSV_NAME, STATES_NAME
from .view import Shown

VIDEO = "dream_vs_real.mp4"
_LARGEST = 2**26  # bytes of a log


def of_episode(dataset: EpisodeDataset, number: int) -> Shown:
    """An episode as it was recorded.

    Raises:
        DatasetError: If there is no such episode.
    """
    episode, scene = _episode(dataset, number), dataset.scene
    shown = Shown(f"episode_{number}", scene.control_hz, {"real": (0, episode.frames)})
    _add_recorded(shown, episode, scene)
    return shown


def of_dream(model: WorldModel, dataset: EpisodeDataset, number: int) -> Shown:
    """An episode, and beside it the dream that begins at its first frames and follows its actions.

    Raises:
        DatasetError: If there is no such episode, or it is too short.
    """
    episode, scene, first = _episode(dataset, number), model.scene, first_dreamed(model)
    if len(episode) < first:
        raise DatasetError(f"episode {number} has {len(episode.frames)} frames; a dream of it needs {first + 1}")
    latents = dream(model, [episode])[0]
    pictures = decode_frames(model, latents)
    shown = Shown(f"episode_{number}", scene.control_hz, {"real": (0, episode.frames), "dream": (first, pictures)})
    _add_recorded(shown, episode, scene)
    _add_dreamed(shown, model, episode, latents, pictures)
    _add_bounds(shown, model, dataset, number)
    return shown


def of_recording(folder: Path) -> list[Shown]:
    """What `cosmos-wm record` or a recorder of one's own has logged, an episode each.

    Raises:
        DatasetError: If there is no log, or it is damaged.
    """
    named = [folder / name for name in (CSV_NAME, STATES_NAME) if (folder / name).is_file()]
    episodes = {number: columns for path in named for number, columns in _logged(path).items()}
    if not episodes:
        raise DatasetError(f"{folder} holds no logged episode ({CSV_NAME} or {STATES_NAME} with rows)")
    shown = []
    for number, columns in episodes.items():
        steps, times = columns.pop("step"), columns.pop("time_s")
        first = int(steps[0])
        each = Shown(f"episode_{number}", float(steps[-1] / times[-1]))
        each.curves = {_path(name): (first, values) for name, values in columns.items() if np.isfinite(values).any()}
        shown.append(each)
    if (folder / VIDEO).is_file() and len(shown) == 1:  # a video of several does not say where each begins
        shown[0].pictures["video"] = (1, _video(folder / VIDEO))
    return shown


def _episode(dataset: EpisodeDataset, number: int) -> Episode:
    if not 0 <= number < len(dataset):
        raise DatasetError(f"{dataset.path} has episodes 0 to {len(dataset) - 1}, not {number}")
    return dataset[number]


def _add_recorded(shown: Shown, episode: Episode, scene: Scene) -> None:
    """Tracks, actions, rewards and observations. What an action led to stands at the next frame."""
    names = scene.marker_names
    positions = episode.marker_positions(names)
    for index, name in enumerate(names):
        for axis, letter in enumerate("xy"):
            shown.curves[f"position/{name}_{letter}/real"] = (0, positions[:, index, axis])
        if scene.camera is not None and np.isfinite(positions[:, index]).any():
            shown.tracks[f"real/{name}_real"] = (0, scene.to_pixels(positions[:, index]))
    for index in range(scene.action_dim):
        shown.curves[f"action/{index}"] = (0, episode.actions[:, index])
    if episode.rewards is not None:
        shown.curves["reward/real"] = (1, np.asarray(episode.rewards, np.float64))
    if episode.terminations is not None:
        shown.curves["end/real"] = (1, episode.terminations.astype(np.float64))
    layout = layout_of(scene)
    if layout is not None:
        for name, values in zip(layout.names, observed(episode, scene).T, strict=True):
            shown.curves[f"observation/{_plain(name)}/real"] = (0, values)


def _add_dreamed(
    shown: Shown, model: WorldModel, episode: Episode, latents: Tensor, pictures: NDArray[np.uint8]
) -> None:
    """What the detector finds in dreamed pictures, and what readout or heads read in the dream."""
    scene, first = model.scene, first_dreamed(model)
    scale = pictures.shape[2] / REFERENCE_WIDTH
    seen, places = detect_all(pictures, scene) * scale, locate(model, latents)
    for index, name in enumerate(scene.marker_names):
        shown.tracks[f"dream/{name}_dream"] = (first, seen[:, index])
        shown.tracks[f"real/{name}_dream"] = (first, seen[:, index])
        for axis, letter in enumerate("xy"):
            shown.curves[f"position/{name}_{letter}/dream"] = (first, places[:, index, axis])
    layout = layout_of(scene)
    if model.perception.heads is not None and layout is not None:
        told = foretold(model, episode, latents, first)
        shown.curves["reward/dream"] = (first, told.rewards)
        shown.curves["end/dream"] = (first, told.ends.astype(np.float64))
        for name, values in zip(layout.names, told.observed.T, strict=True):
            shown.curves[f"observation/{_plain(name)}/dream"] = (first, values)


def _add_bounds(shown: Shown, model: WorldModel, dataset: EpisodeDataset, number: int) -> None:
    """How far the dream was off, and how far it was said to be at most; in metres, or a twin's standard deviations."""
    bound, first, layout = model.error_bound, first_dreamed(model), layout_of(model.scene)
    for row in doubted(model, dataset, [number]):
        assert bound is not None
        names = model.scene.marker_names[:1] if layout is None else [_plain(name) for name in layout.names]
        for index, name in enumerate(names):
            shown.curves[f"error/{name}/error"] = (first, row.errors[:, index])
            shown.curves[f"error/{name}/bound"] = (first, bound.factor(row.kind) * row.estimates[:, index])


def _logged(path: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """The columns of a log by name, of every episode by number."""
    try:
        rows = list(csv.DictReader(content_of(path, DatasetError, _LARGEST).decode().splitlines()))
        found: dict[str, dict[str, list[float]]] = {}
        for row in rows:
            columns = found.setdefault(str(int(row.pop("episode"))), {name: [] for name in row})
            for name, cell in row.items():
                columns[name].append(float(cell) if cell else np.nan)
        logged = {number: {name: np.array(cells) for name, cells in own.items()} for number, own in found.items()}
        if any(
            not np.isfinite([own["step"], own["time_s"]]).all() or own["time_s"][-1] <= 0 for own in logged.values()
        ):
            raise ValueError("steps and times are not numbers")
    except (ValueError, KeyError, TypeError, csv.Error) as problem:
        if isinstance(problem, DatasetError):
            raise
        raise DatasetError(f"{path} is no log that a recorder wrote, or damaged: {one_line(problem)}") from problem
    return logged


def _path(column: str) -> str:
    """Where a column of a log is shown: `true_x_m` and `dream_x_m` together, in a view of their unit."""
    for prefix, world in (("true_", "real"), ("dream_", "dream"), ("real_", "real")):
        if column.startswith(prefix):
            name = column.removeprefix(prefix)
            unit = {"m": "position", "px512": "pixels", "reward": "reward", "end": "end"}
            return f"{unit.get(name.rpartition('_')[2], 'observation')}/{_plain(name)}/{world}"
    return f"{'error' if column.startswith('error') else 'more'}/{_plain(column)}"


def _plain(name: str) -> str:
    """A name that is one part of a path."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def _video(path: Path) -> NDArray[np.uint8]:
    try:
        return np.stack(list(imageio.imiter(path)))
    except (OSError, ValueError, RuntimeError, IndexError) as problem:
        raise DatasetError(f"{path} is no video that ffmpeg reads: {one_line(problem)}") from problem
