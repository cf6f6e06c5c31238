"""What does a dream look like beside reality? The video, the tracks over the table, and error against horizon."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from tqdm import tqdm

from ..data.dataset import EpisodeDataset
from ..data.episodes import Episode
from ..error_bound import LEVEL
from ..evaluation import Evaluation
from ..evaluation.ground_truth import Floats
from ..evaluation.open_loop import OpenLoop, dream, first_dreamed
from ..evaluation.perception_metrics import decode_frames
from ..evaluation.trust import doubted_each
from ..perception.tracking import REFERENCE_WIDTH
from ..storage.atomic import replacing
from ..world_model import WorldModel

TRUTH, DREAM = "#0c6b58", "#c2188f"
PANEL_WIDTH, CAPTION_HEIGHT = 384, 32
_POINTS, _LIGHT = 48, (194, 24, 143, 45)  # of the outline of a bound, and what is inside it
_BASELINES = {"static": ("#8a8a8a", "nothing moves"), "constant_velocity": ("#b07d2b", "constant velocity")}


@dataclass(frozen=True)
class Footage:
    """An episode's track with the pictures of its T dreamed steps.

    Attributes:
        track: The comparison.
        title: What to call it in pictures.
        real: Recorded frames, uint8 (T, H, W, 3).
        dreamed: Decoded frames, uint8 (T, H, W, 3).
        bounds: Outline of where the real object lies, if the dream's error bound holds, in pixels at 512,
            (T, points, 2); None where the bundle has none.
    """

    track: OpenLoop
    title: str
    real: NDArray[np.uint8]
    dreamed: NDArray[np.uint8]
    bounds: Floats | None = None


def typical(evaluation: Evaluation) -> dict[int, str]:
    """The best, the median and the worst episode of each kind by RMSE, in that order, so that pictures do not flatter.

    Returns:
        Titles by episode number.
    """
    chosen: dict[int, str] = {}
    for kind in evaluation.kinds:
        tracks = [track for track in evaluation.of_kind(kind) if np.isfinite(track.rmse_px())]
        ranked = sorted(tracks, key=lambda track: track.rmse_px()) or evaluation.of_kind(kind)
        for rank, name in ((0, "best"), (len(ranked) // 2, "median"), (len(ranked) - 1, "worst")):
            track = ranked[rank]
            chosen.setdefault(track.number, f"{kind}, {name}: episode {track.number}, RMSE {track.rmse_px():.1f} px")
    return chosen


def film(
    world_model: WorldModel, dataset: EpisodeDataset, evaluation: Evaluation, titles: dict[int, str]
) -> list[Footage]:
    """Dream the chosen episodes once more, with pictures."""
    length = evaluation.first or first_dreamed(world_model)
    tracks = {track.number: track for track in evaluation.tracks}
    footage = []
    for number, title in titles.items():
        track, episode = tracks[number], dataset[number]
        steps = len(track.dream_px)
        latents = dream(world_model, [episode], steps, first=length)[0]
        dreamed, bounds = decode_frames(world_model, latents), _bounds(world_model, episode, latents)
        footage.append(Footage(track, title, episode.frames[length : length + steps], dreamed, bounds))
    return footage


def _bounds(world_model: WorldModel, episode: Episode, latents: Tensor) -> Floats | None:
    """See `Footage`, of a dream's latents (T, C, h, w)."""
    doubts, scene, bound = doubted_each(world_model, [episode]), world_model.scene, world_model.error_bound
    if not doubts or bound is None or scene.camera is None:
        return None
    radius = bound.factor(episode.kind) * doubts[0].estimates[:, 0]
    places = world_model.locate(latents[: len(radius)]).positions[:, 0].double().cpu().numpy()
    turn = np.linspace(0, 2 * np.pi, _POINTS)
    around = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    outline = places[:, None] + radius[:, None, None] * around
    return scene.to_pixels(outline) * (REFERENCE_WIDTH / scene.image_size[1])


def write_video(path: str | os.PathLike[str], footage: Sequence[Footage], fps: float) -> None:
    """An MP4 in real time: ground truth, dream, and both tracks of the first marker over the real picture."""
    clips = tqdm(footage, desc="draw video", unit="episode")
    write_frames(path, (_video_frame(clip, step) for clip in clips for step in range(len(clip.real))), fps)


def write_side_by_side(
    path: str | os.PathLike[str], clips: Mapping[str, Sequence[NDArray[np.uint8]]], fps: float
) -> None:
    """An MP4 of several clips with their names above them; a shorter one stands still at its end."""

    def frame(step: int) -> NDArray[np.uint8]:
        return side_by_side(
            {f"{name}   step {step}": frames[min(step, len(frames) - 1)] for name, frames in clips.items()}
        )

    write_frames(path, map(frame, range(max(map(len, clips.values())))), fps)


def side_by_side(pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures (H, W, 3) of one size in a row, with their names above them, as a frame of a video."""
    font = ImageFont.load_default(size=15)
    height, width = next(iter(pictures.values())).shape[:2]
    size = (PANEL_WIDTH, 16 * round(PANEL_WIDTH * height / width / 16))  # multiples of 16, as the codec wants
    canvas = Image.new("RGB", (len(pictures) * size[0], size[1] + CAPTION_HEIGHT), "#16181d")
    pen = ImageDraw.Draw(canvas)
    for column, (name, picture) in enumerate(pictures.items()):
        panel = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
        canvas.paste(panel, (column * size[0], CAPTION_HEIGHT))
        pen.text((column * size[0] + 10, 7), name, fill="#e8e8e8", font=font)
    return np.asarray(canvas)


def write_frames(path: str | os.PathLike[str], frames: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """An MP4 of frames (H, W, 3), whose sides must be multiples of 16; a warning instead where there is no ffmpeg."""
    if find_spec("imageio_ffmpeg") is None:
        warnings.warn(
            f"{Path(path).name} was not made, because imageio-ffmpeg is missing: pip install 'imageio[ffmpeg]'",
            UserWarning,
            stacklevel=2,
        )
        return
    with replacing(path) as temporary:
        writer: Any = imageio.get_writer(temporary, format="FFMPEG", fps=fps, codec="libx264", quality=7)  # type: ignore[arg-type]
        with closing(writer):
            for frame in frames:
                writer.append_data(frame)


def _video_frame(clip: Footage, step: int) -> NDArray[np.uint8]:
    height, width = clip.real.shape[1:3]
    size = (PANEL_WIDTH, 16 * round(PANEL_WIDTH * height / width / 16))  # multiples of 16, as the codec wants
    canvas = Image.new("RGB", (3 * size[0], size[1] + CAPTION_HEIGHT), "#16181d")
    real, dreamed = (
        Image.fromarray(frames[step]).resize(size, Image.Resampling.BICUBIC) for frames in (clip.real, clip.dreamed)
    )
    overlay = _overlay(clip, step, real)
    for column, panel in enumerate((real, dreamed, overlay)):
        canvas.paste(panel, (column * size[0], CAPTION_HEIGHT))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    captions = (f"ground truth   {clip.title}", f"dream   step {step + 1}", "")
    for column, caption in enumerate(captions):
        draw.text((column * size[0] + 10, 7), caption, fill="#e8e8e8", font=font)
    draw.text((2 * size[0] + 10, 7), "ground truth", fill="#3fc9ad", font=font)
    draw.text((2 * size[0] + 110, 7), "dream", fill="#f06ac8", font=font)
    if clip.bounds is not None:
        draw.text((2 * size[0] + 165, 7), f"and its {LEVEL:.0%} bound", fill="#f0a0d8", font=font)
    return np.asarray(canvas)


def _overlay(clip: Footage, step: int, real: Image.Image) -> Image.Image:
    """Tracks so far over the paled picture, drawn at twice the size for smooth lines."""
    pale = Image.blend(real, Image.new("RGB", real.size, "white"), 0.35)
    large = pale.resize((2 * real.width, 2 * real.height))
    draw = ImageDraw.Draw(large, "RGBA")
    scale = large.width / REFERENCE_WIDTH
    if clip.bounds is not None and step < len(clip.bounds) and np.isfinite(clip.bounds[step]).all():
        draw.polygon([tuple(point) for point in clip.bounds[step] * scale], fill=_LIGHT, outline=DREAM, width=3)
    if clip.track.dream_px.shape[1]:
        for track, colour in ((clip.track.reference.true_px[:, 0], TRUTH), (clip.track.dream_px[:, 0], DREAM)):
            points = [tuple(point) for point in track[: step + 1] * scale if np.isfinite(point).all()]
            if points:
                draw.line(points, fill=colour, width=5, joint="curve")
                (x, y), radius = points[-1], 9
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="white", width=2)
    return large.resize(real.size, Image.Resampling.LANCZOS)


def draw_trajectories(path: str | os.PathLike[str], footage: Sequence[Footage]) -> None:
    """Both tracks of the first marker over each episode's first dreamed moment, up to three episodes in a row."""
    columns = min(3, len(footage))
    rows = -(-len(footage) // columns)
    figure = Figure(figsize=(4.2 * columns, 4.4 * rows), layout="constrained")
    for axis, clip in zip(figure.subplots(rows, columns, squeeze=False).flat, footage, strict=False):
        height, width = clip.real.shape[1:3]
        bottom, right = REFERENCE_WIDTH * height / width, float(REFERENCE_WIDTH)
        axis.imshow(clip.real[0], extent=(0, right, bottom, 0), alpha=0.45)
        if clip.track.dream_px.shape[1]:
            for track, colour, name in (
                (clip.track.reference.true_px[:, 0], TRUTH, "ground truth"),
                (clip.track.dream_px[:, 0], DREAM, "dream"),
            ):
                axis.plot(*track.T, color=colour, linewidth=2, label=name)
                axis.plot(*track[-1], "o", color=colour, markeredgecolor="white", markersize=8)
            axis.legend(loc="lower left", fontsize=8)
        axis.set_title(clip.title, fontsize=9)
        axis.set(xticks=[], yticks=[], xlim=(0, right), ylim=(bottom, 0))
    for axis in list(figure.axes)[len(footage) :]:
        axis.remove()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def draw_error_vs_horizon(path: str | os.PathLike[str], evaluation: Evaluation) -> None:
    """Median error per step with its 5-95 % band, for the dream, both baselines and the predictability floor."""
    kinds = evaluation.kinds
    figure = Figure(figsize=(6.2 * len(kinds), 4.2), layout="constrained")
    for axis, kind in zip(figure.subplots(1, len(kinds), squeeze=False).flat, kinds, strict=True):
        if evaluation.scene.markers:
            for baseline, (colour, label) in _BASELINES.items():
                _curve(axis, evaluation.baseline_errors(kind, baseline), colour, label, "--", 0.07)
            _curve(axis, evaluation.baseline_errors(kind, "floor"), "#2f5fa8", "predictability floor", ":", 0.12)
            _curve(axis, evaluation.baseline_errors(kind, "knowable"), "#5f9f8f", "knowable floor", ":", 0.0)
            _curve(axis, evaluation.errors(kind), DREAM, "dream", "-", 0.2)
            axis.legend(loc="lower right", fontsize=8)
        axis.set_yscale("symlog", linthresh=1.0)
        axis.set_ylim(0, REFERENCE_WIDTH)
        axis.set_yticks([0, 1, 3, 10, 30, 100, 300], labels=["0", "1", "3", "10", "30", "100", "300"])
        axis.set(
            title=f"{kind}, {len(evaluation.of_kind(kind))} episodes",
            xlabel="dreamed steps",
            ylabel="error (px at 512)",
        )
        axis.grid(alpha=0.25)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _curve(axis: Axes, errors: Floats, colour: str, label: str, style: str, alpha: float) -> None:
    seen = np.isfinite(errors).any(axis=0)
    if not seen.any():
        return
    steps = 1 + np.flatnonzero(seen)
    low, median, high = np.nanpercentile(errors[:, seen], [5, 50, 95], axis=0)
    axis.fill_between(steps, low, high, color=colour, alpha=alpha, linewidth=0)
    axis.plot(steps, median, style, color=colour, label=label)
