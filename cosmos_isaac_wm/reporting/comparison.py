"""How do several world models compare? One table, one video, and how error goes with the horizon and with size.

What was measured of each is kept in its folder.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from ..data.dataset import EpisodeDataset
from ..evaluation import Evaluation
from ..evaluation.ground_truth import Floats, reference
from ..evaluation.open_loop import dream, measure
from ..evaluation.perception_metrics import decode_frames
from ..perception.tracking import REFERENCE_WIDTH
from ..storage.atomic import replacing, write
from ..storage.structured import read
from ..world_model import WorldModel
from .figures import CAPTION_HEIGHT, Footage, write_frames
from .table import SEED_REPORT_RMSE, short

# RMSE over 97 steps in px at 512 and weights in millions, as the report gives them.
REPORTED = {
    "resnet_rollout": (SEED_REPORT_RMSE, 1.02),
    "probabilistic_plus": (77.81, 10.0),
    "sharp_shooter": (107.97, 84.0),
    "rollout": (165.20, 84.0),
}
_PANEL = 256  # px
_PICTURED_STEPS = (1, 8, 16, 32, 64, 97)
# Figures of one kind of episode: key, heading.
_COLUMNS = (
    ("{object}_rmse_px512", "RMSE"),
    ("{object}_median_px512", "median"),
    ("{object}_mean_px512", "mean"),
    ("{object}_max_px512", "max"),
    ("{object}_rmse_px512_at_16", "RMSE at 16"),
    ("{object}_rmse_px512_at_32", "at 32"),
    ("over_floor", "over floor"),
    ("detection_rate", "detected"),
    ("stable_share", "stable"),
    ("jitter_over_real", "trembling"),
)


@dataclass(frozen=True)
class Result:
    """What was measured of one world model.

    Attributes:
        name: Of the system.
        numbers: As of `Evaluation.numbers`, and `parameters`, `train_minutes`, `ms_a_frame`.
        errors: Per kind of episode, px at 512, (E, T), NaN where hidden or beyond an episode's end.
    """

    name: str
    numbers: dict[str, float]
    errors: dict[str, Floats]

    @classmethod
    def of(cls, name: str, evaluation: Evaluation, **more: float) -> Result:
        """From an evaluation and further figures."""
        errors = {kind: evaluation.errors(kind) for kind in evaluation.kinds}
        return cls(name, evaluation.numbers() | more, errors)

    def save(self, folder: Path) -> None:
        """Write `numbers.json` and `errors.npz`, the latter first."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "errors.npz") as path, path.open("wb") as file:
            np.savez(file, **self.errors)  # type: ignore[arg-type]  # kinds of episodes are no options
        write(folder / "numbers.json", json.dumps(self.numbers, indent=2) + "\n")

    @classmethod
    def load(cls, name: str, folder: Path) -> Result | None:
        """What `save` wrote, or None where it did not get that far."""
        if not (folder / "numbers.json").is_file():
            return None
        try:
            with np.load(folder / "errors.npz", allow_pickle=False) as errors:
                return cls(name, read(folder / "numbers.json", dict[str, float]), dict(errors))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{folder} holds damaged figures ({error}); delete it, and they are measured again"
            ) from error


def table(results: Sequence[Result], kind: str, name: str) -> str:
    """One kind of episode as a Markdown table, best RMSE first.

    Args:
        results: Of the systems.
        kind: Of episode.
        name: Of the object whose position is compared.
    """
    columns = [(f"{kind}_{key.format(object=name)}", heading) for key, heading in _COLUMNS]
    header = ["system", "weights", *(heading for _, heading in columns), "actions", "ms a frame", "minutes"]
    header += ["spread of samples (real), mm", "report"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    best = f"{kind}_{name}_rmse_px512"
    for result in sorted(results, key=lambda result: result.numbers.get(best, np.inf)):
        numbers = result.numbers
        cells = [result.name, f"{numbers['parameters'] / 1e6:.2f}M"]
        for key, _ in columns:
            cell = short(numbers.get(key))
            if f"{key}_ci_low" in numbers:
                cell += f" ({short(numbers[f'{key}_ci_low'])} to {short(numbers[f'{key}_ci_high'])})"
            cells.append(cell)
        cells += [short(numbers.get(key)) for key in ("action_sensitivity", "ms_a_frame", "train_minutes")]
        spread = [short(numbers.get(f"{which}_spread_mm")) for which in ("sampled", "real")]
        cells.append(f"{spread[0]} ({spread[1]})" if spread[0] else "")
        lines.append("| " + " | ".join([*cells, short(REPORTED.get(result.name, (None,))[0])]) + " |")
    for baseline, label in (
        ("static", "nothing moves"),
        ("constant_velocity", "constant velocity"),
        ("floor", "predictability floor"),
    ):
        value = results[0].numbers.get(f"{kind}_{baseline}_rmse_px512")
        lines.append("| " + " | ".join([label, "", short(value), *[""] * (len(header) - 3)]) + " |")
    return "\n".join(lines)


def tables(results: Sequence[Result], name: str) -> str:
    """Of all kinds of episodes, as Markdown with a heading each; arguments as of `table`."""
    return "\n\n".join(f"## {kind}\n\n{table(results, kind, name)}" for kind in sorted(results[0].errors))


def write_comparison(
    out: Path, results: Sequence[Result], models: Mapping[str, WorldModel], dataset: EpisodeDataset, first: int
) -> Path:
    """Write the tables, plots, pictures, the video and the page that shows them, whose path is returned.

    Args:
        out: Folder for all of them.
        results: Of the systems.
        models: The systems, by name.
        dataset: Of its test split every kind's median episode by the first system is shown.
        first: Index of the first dreamed frame.
    """
    name, kinds = (*dataset.scene.marker_names, "object")[0], sorted(results[0].errors)
    write(out / "comparison.md", f"# Comparison\n\n{tables(results, name)}\n")
    draw_horizons(out / "error_vs_horizon.png", results)
    draw_parameters(out / "error_vs_parameters.png", results, name)
    episodes = []
    for kind in kinds:
        errors = np.sqrt(np.nanmean(results[0].errors[kind] ** 2, axis=1))
        number = sorted(dataset.indices("test", kind))[int(np.argsort(errors)[len(errors) // 2])]
        shown = tqdm(models.items(), desc=f"dream {kind} {number}", unit="system")
        clips = {system: film_one(model, dataset, number, first) for system, model in shown}
        episodes.append(clips)
        draw_dreams(out / f"dream_{kind}.png", clips, _PICTURED_STEPS)
    write_comparison_video(out / "comparison.mp4", episodes, dataset.scene.control_hz)
    write_page(out / "report.html", results, kinds, name)
    return out / "report.html"


def film_one(model: WorldModel, dataset: EpisodeDataset, number: int, first: int) -> Footage:
    """An episode dreamed once more from frame `first` on, for its pictures and its track."""
    episode = dataset[number]
    latents = dream(model, [episode], first=first)[0]
    track = measure(model, episode, number, latents, reference(model.scene, episode, first), first=first)
    return Footage(track, episode.kind, episode.frames[first:], decode_frames(model, latents))


def draw_horizons(path: str | os.PathLike[str], results: Sequence[Result]) -> None:
    """Median error per step of every system, a panel for each kind of episode."""
    kinds = sorted({kind for result in results for kind in result.errors})
    figure = Figure(figsize=(6.2 * len(kinds), 4.4), layout="constrained")
    for axis, kind in zip(figure.subplots(1, len(kinds), squeeze=False).flat, kinds, strict=True):
        for result in results:
            if np.isfinite(result.errors.get(kind, np.array([]))).any():
                median = np.nanmedian(result.errors[kind], axis=0)
                axis.plot(1 + np.arange(len(median)), median, color=colour(results, result), label=result.name)
        axis.set(title=kind, xlabel="dreamed steps", ylabel="median error (px at 512)", yscale="symlog")
        axis.set_ylim(0, REFERENCE_WIDTH)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def draw_parameters(path: str | os.PathLike[str], results: Sequence[Result], name: str) -> None:
    """RMSE against the number of weights with its interval, a panel for each kind; the report's figures in grey."""
    kinds = sorted({kind for result in results for kind in result.errors})
    figure = Figure(figsize=(6.2 * len(kinds), 4.4), layout="constrained")
    for axis, kind in zip(figure.subplots(1, len(kinds), squeeze=False).flat, kinds, strict=True):
        key = f"{kind}_{name}_rmse_px512"
        for result in results:
            if key not in result.numbers:
                continue
            value, weights = result.numbers[key], result.numbers["parameters"] / 1e6
            ends = [abs(value - result.numbers.get(f"{key}_ci_{end}", value)) for end in ("low", "high")]
            shade = colour(results, result)
            axis.errorbar(weights, value, [[ends[0]], [ends[1]]], fmt="o", color=shade, capsize=3)
            axis.annotate(result.name, (weights, value), (5, 5), textcoords="offset points", fontsize=8, color=shade)
        reported = [REPORTED[result.name] for result in results if result.name in REPORTED]
        if reported:
            axis.plot([size for _, size in reported], [rmse for rmse, _ in reported], "x", color="#8a8a8a")
        axis.set(title=f"{kind} (crosses: the report's own)", xlabel="weights (millions)", xscale="log", yscale="log")
        axis.set_ylabel("RMSE over the horizon (px at 512)")
        axis.grid(alpha=0.25, which="both")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def draw_dreams(path: str | os.PathLike[str], clips: Mapping[str, Footage], steps: Sequence[int]) -> None:
    """One episode as a sheet of pictures: a row for reality and for every system, a column for each of some steps."""
    real = next(iter(clips.values())).real
    rows = {"ground truth": real, **{name: clip.dreamed for name, clip in clips.items()}}
    shown = [step for step in steps if step <= len(real)]
    figure = Figure(figsize=(1.7 * len(shown) + 1, 1.75 * len(rows) + 0.3), layout="constrained")
    for line, (name, frames) in zip(figure.subplots(len(rows), len(shown), squeeze=False), rows.items(), strict=True):
        for axis, step in zip(line, shown, strict=True):
            axis.imshow(frames[step - 1])
            axis.set(xticks=[], yticks=[])
            if frames is real:
                axis.set_title(f"step {step}", fontsize=9)
        line[0].set_ylabel(name, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def write_comparison_video(path: str | os.PathLike[str], episodes: Sequence[Mapping[str, Footage]], fps: float) -> None:
    """An MP4 in real time: ground truth and every system's dream side by side, each with the object's track so far."""
    shown = tqdm(episodes, desc="draw video", unit="episode")
    lengths = (range(len(next(iter(clips.values())).real)) for clips in episodes)
    write_frames(
        path, (_video_frame(clips, step) for clips, steps in zip(shown, lengths, strict=True) for step in steps), fps
    )


def write_page(path: str | os.PathLike[str], results: Sequence[Result], kinds: Sequence[str], name: str) -> None:
    """`report.html`: the tables, and the pictures and the video that lie beside it."""
    template = files("cosmos_isaac_wm.configs").joinpath("comparison.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    tables = {
        kind: [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in table(results, kind, name).splitlines()
            if not line.startswith("|-")
        ]
        for kind in kinds
    }
    with replacing(path) as temporary:
        temporary.write_text(page.from_string(template).render(tables=tables, object=name), encoding="utf-8")


def _video_frame(clips: Mapping[str, Footage], step: int) -> NDArray[np.uint8]:
    first = next(iter(clips.values()))
    panels = [("ground truth", first.real[step], first.track.reference.true_px)]
    panels += [(name, clip.dreamed[step], clip.track.dream_px) for name, clip in clips.items()]
    columns = min(3, len(panels))
    height = 16 * round(_PANEL * first.real.shape[1] / first.real.shape[2] / 16)  # the codec wants multiples of 16
    rows = -(-len(panels) // columns)
    canvas = Image.new("RGB", (columns * _PANEL, rows * (height + CAPTION_HEIGHT)), "#16181d")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    for index, (name, frame, track) in enumerate(panels):
        left, top = index % columns * _PANEL, index // columns * (height + CAPTION_HEIGHT)
        picture = Image.fromarray(frame).resize((_PANEL, height), Image.Resampling.BICUBIC)
        if track.shape[1]:
            points = [tuple(p) for p in track[: step + 1, 0] * _PANEL / REFERENCE_WIDTH if np.isfinite(p).all()]
            if points:
                ImageDraw.Draw(picture).line(points, fill="white", width=2, joint="curve")
        canvas.paste(picture, (left, top + CAPTION_HEIGHT))
        draw.text((left + 8, top + 8), f"{name}   step {step + 1}" if not index else name, fill="#e8e8e8", font=font)
    return np.asarray(canvas)


def colour(results: Sequence[Result], result: Result) -> tuple[float, float, float, float]:
    """Of a system in all pictures."""
    red, green, blue, alpha = colormaps["tab10" if len(results) <= 10 else "tab20"](
        [each.name for each in results].index(result.name)
    )
    return red, green, blue, alpha
