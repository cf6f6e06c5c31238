"""What did a dataset visit? In numbers and as a picture: positions on the table, or what an environment observed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..scene import Scene
from ..storage.atomic import replacing
from .dataset import EpisodeDataset
from .episodes import DatasetError, Episode
from .stored import leaves

_MOST_DRAWN = 12  # components of an observation
Track = NDArray[np.float32]  # positions in metres, (T + 1, 2)


def coverage(dataset: EpisodeDataset, picture: str | os.PathLike[str]) -> dict[str, float]:
    """Summarise what a dataset visited, and draw it.

    Args:
        dataset: A dataset whose episodes have positions, or are of a foreign environment.
        picture: PNG to write: heat maps of the visited positions, and how far the first marker moves; or histograms of
            returns, lengths, and what was observed.

    Returns:
        Flat numbers: episodes; share of steps in contact, path length and net displacement in metres by kind; or steps,
        returns, share of terminated episodes, and of successes where they are known.

    Raises:
        DatasetError: If it is neither.
    """
    scene = dataset.scene
    if scene.environment is not None:
        return _coverage_of_environment(dataset, picture)
    if not scene.markers or scene.workspace_low is None or scene.workspace_high is None:
        raise DatasetError(f"{dataset.path} has no positions, so there is no coverage to draw")
    numbers: dict[str, float] = {"episodes": len(dataset)}
    visited: dict[str, list[Track]] = {}  # slides have no pusher to draw
    paths: dict[str, list[float]] = {}
    for kind in sorted(set(dataset.kinds)):
        contact, net = [], []
        for episode in _without_frames(dataset, kind):
            for name, values in episode.positions.items():
                visited.setdefault(name, []).append(values)
            track = episode.positions[scene.marker_names[0]]
            paths.setdefault(kind, []).append(float(np.linalg.norm(np.diff(track, axis=0), axis=1).sum()))
            net.append(float(np.linalg.norm(track[-1] - track[0])))
            contact.append(float(np.mean(episode.infos["contact"])) if "contact" in episode.infos else np.nan)
        numbers |= {
            f"{kind}_episodes": len(net),
            f"{kind}_contact_share": float(np.mean(contact)),
            f"{kind}_path_m": float(np.mean(paths[kind])),
            f"{kind}_displacement_m": float(np.mean(net)),
        }
    _draw(picture, visited, paths, scene)
    return numbers


def _coverage_of_environment(dataset: EpisodeDataset, picture: str | os.PathLike[str]) -> dict[str, float]:
    returns, lengths, ends, successes = list[float](), list[int](), list[bool](), list[bool]()
    observed: dict[str, list[NDArray[np.float32]]] = {}
    for episode in dataset.episodes(tqdm(range(len(dataset)), desc="coverage", unit="episode")):
        assert episode.rewards is not None
        assert episode.terminations is not None
        returns.append(float(episode.rewards.sum()))
        lengths.append(len(episode))
        ends.append(bool(episode.terminations.any()))
        if "is_success" in episode.infos:
            successes.append(bool(episode.infos["is_success"].any()))
        for name, values in leaves("", episode.observations):
            observed.setdefault(name.strip("/"), []).append(np.asarray(values, np.float32).reshape(len(values), -1))
    columns = {"return": np.array(returns), "steps": np.array(lengths)}
    for name, parts in observed.items():
        columns |= {f"{name}/{number}": column for number, column in enumerate(np.concatenate(parts).T[:_MOST_DRAWN])}
    _draw_histograms(picture, columns)
    numbers = {"episodes": len(returns), "steps": sum(lengths), "terminated_share": float(np.mean(ends))}
    numbers |= {"return_mean": float(np.mean(returns)), "return_least": min(returns), "return_greatest": max(returns)}
    return numbers | ({"success_share": float(np.mean(successes))} if successes else {})


def _draw_histograms(picture: str | os.PathLike[str], columns: dict[str, NDArray[Any]]) -> None:
    """How often each value was there, a panel for every name."""
    from matplotlib.figure import Figure

    width = min(4, len(columns))
    height = -(-len(columns) // width)
    figure = Figure(figsize=(3.2 * width, 2.4 * height), layout="constrained")
    axes = figure.subplots(height, width, squeeze=False).ravel()
    for axis, (name, values) in zip(axes, columns.items(), strict=False):
        axis.hist(values[np.isfinite(values)], bins=40, color="tab:blue")
        axis.set(title=name, ylabel="episodes" if len(values) == len(columns["return"]) else "frames")
    for axis in axes[len(columns) :]:
        axis.remove()
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw(
    picture: str | os.PathLike[str], visited: dict[str, list[Track]], paths: dict[str, list[float]], scene: Scene
) -> None:
    """Where each marker was, and how long the first one's paths are, by kind of episode."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    assert scene.workspace_low is not None
    assert scene.workspace_high is not None
    area = [[low, high] for low, high in zip(scene.workspace_low, scene.workspace_high, strict=True)]
    figure = Figure(figsize=(5 * (len(visited) + 1), 4.5), layout="constrained")
    axes = figure.subplots(1, len(visited) + 1)
    for axis, (name, tracks) in zip(axes, visited.items(), strict=False):
        points = np.concatenate(tracks)
        *_, image = axis.hist2d(points[:, 0], points[:, 1], bins=40, range=area, cmap="magma", norm=LogNorm())
        figure.colorbar(image, ax=axis, label="frames")
        axis.set(title=f"where the {name} was", xlabel="x (m)", ylabel="y (m)", aspect="equal")
    for kind, lengths in paths.items():
        axes[-1].hist(lengths, bins=30, alpha=0.6, label=kind)
    axes[-1].set(title=f"path of the {scene.marker_names[0]}", xlabel="metres per episode", ylabel="episodes")
    axes[-1].legend()
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=110)


def _without_frames(dataset: EpisodeDataset, kind: str) -> Iterator[Episode]:
    return dataset.episodes(tqdm(dataset.indices("all", kind), desc=f"coverage of {kind}", unit="episode"))
