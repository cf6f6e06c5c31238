"""What did a dataset of positions visit? In numbers and as a picture."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..scene import Scene
from ..storage.atomic import replacing
from .dataset import EpisodeDataset
from .episodes import DatasetError, Episode

Track = NDArray[np.float32]  # positions in metres, (T + 1, 2)


def coverage(dataset: EpisodeDataset, picture: str | os.PathLike[str]) -> dict[str, float]:
    """Summarise what a dataset of positions visited, and draw it.

    Args:
        dataset: A dataset whose episodes have positions.
        picture: PNG to write: heat maps of the visited positions, and how far the first marker moves.

    Returns:
        Flat numbers: episodes, frames, share of steps in contact, path length and net displacement in metres by kind.
    """
    scene = dataset.scene
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
