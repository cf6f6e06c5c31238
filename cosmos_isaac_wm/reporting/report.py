"""The report of an evaluation: `report.html`, `metrics.json`, `tracking_metrics.txt`, and the table for the terminal.

Bars are what the shipped world model is held to, aims what would be better still; other people's scenes have neither.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from ..data.dataset import EpisodeDataset
from ..evaluation import Evaluation
from ..storage.atomic import replacing
from ..world_model import WorldModel

SEED_REPORT_RMSE = 71.08  # px at 512: what the report that this project grew from gives for its own model

# (bar, aim); more is better where the aim is above the bar.
BARS = {
    "slide_cube_rmse_px512": (14.2, 7.1),
    "push_cube_median_px512": (8.0, 4.0),
    "push_cube_rmse_px512_at_16": (5.0, 3.0),
    "push_cube_rmse_px512_at_32": (12.0, 8.0),
    "push_over_floor": (2.0, 1.3),
    "slide_detection_rate": (0.99, 1.0),
    "push_detection_rate": (0.99, 1.0),
    "push_pusher_rmse_px512": (8.0, 3.0),
    "tokenizer_psnr_db": (34.0, 38.0),
    "tokenizer_cube_px512": (1.5, 0.8),
    "readout_cube_mm": (6.0, 3.0),
    "readout_pusher_mm": (6.0, 3.0),
}
_KIND_FIGURES = (
    ("{object}_rmse_px512", "{object} RMSE", "px"),
    ("{object}_median_px512", "{object} median error", "px"),
    ("{object}_median_px512_at_last_step", "{object} median error at the last step", "px"),
    ("{object}_mean_px512", "{object} mean error", "px"),
    ("{object}_max_px512", "{object} greatest error", "px"),
    ("{object}_rmse_px512_at_16", "{object} RMSE, first 16 steps", "px"),
    ("{object}_rmse_px512_at_32", "{object} RMSE, first 32 steps", "px"),
    ("{object}_heading_deg_at_16", "{object} mean heading error, first 16 steps", "°"),
    ("{object}_heading_deg", "{object} mean heading error", "°"),
    ("detection_rate", "strict detection rate", ""),
    ("stable_share", "dreams without a jump or a lost {object}", ""),
    ("jitter_over_real", "trembling of the {object}'s track against the real one", "times"),
    ("{agent}_rmse_px512", "{agent} RMSE", "px"),
    ("static_rmse_px512", "baseline: nothing moves, RMSE", "px"),
    ("static_rmse_px512_at_16", "baseline: nothing moves, RMSE, first 16 steps", "px"),
    ("static_rmse_px512_at_32", "baseline: nothing moves, RMSE, first 32 steps", "px"),
    ("constant_velocity_rmse_px512", "baseline: constant velocity, RMSE", "px"),
    ("floor_rmse_px512", "predictability floor, RMSE", "px"),
    ("over_floor", "{object} RMSE over floor", "times"),
    ("{agent}_floor_rmse_px512", "predictability floor of the {agent}, RMSE", "px"),
)
_SHARED_FIGURES = (
    ("tokenizer_psnr_db", "tokenizer round trip", "dB"),
    ("tokenizer_{object}_px512", "tokenizer: {object} centroid error", "px"),
    ("readout_{object}_mm", "readout on real latents: {object}", "mm"),
    ("readout_{agent}_mm", "readout on real latents: {agent}", "mm"),
    ("readout_{object}_deg", "readout on real latents: {object} heading", "°"),
    ("latent_l1", "mean distance of dreamed from real latents", ""),
    ("action_sensitivity", "action sensitivity (1 is perfect)", "times"),
)


@dataclass(frozen=True)
class Row:
    """One measured figure, ready to print; `verdict` is "aim", "bar", "missed", or "" where there is no bar."""

    group: str
    label: str
    value: str
    interval: str = ""
    bar: str = ""
    aim: str = ""
    verdict: str = ""


def rows(evaluation: Evaluation) -> list[Row]:
    """The figures of an evaluation that could be measured: those of each kind of episode, then the shared ones."""
    numbers = evaluation.numbers()
    names = {"object": (*evaluation.scene.marker_names, "object")[0], "agent": evaluation.scene.agent or "agent"}
    wanted = [
        (kind, f"{kind}_{key}", label, unit) for kind in evaluation.kinds for key, label, unit in _KIND_FIGURES
    ] + [("all episodes", key, label, unit) for key, label, unit in _SHARED_FIGURES]
    found = []
    for group, pattern, label, unit in wanted:
        key = pattern.format(**names)
        if key not in numbers:
            continue
        value = numbers[key]
        interval = ""
        if f"{key}_ci_low" in numbers:
            interval = f"{short(numbers[f'{key}_ci_low'])} to {short(numbers[f'{key}_ci_high'])}"
        bar = aim = verdict = ""
        if key in BARS:
            least, best = BARS[key]
            symbol = "≤" if best < least else "≥"
            bar, aim = f"{symbol} {least:g}", f"{symbol} {best:g}"
            verdict = judge(value, least, best)
        found.append(Row(group, label.format(**names), f"{short(value)} {unit}".strip(), interval, bar, aim, verdict))
    return found


def judge(value: float, bar: float, aim: float) -> str:
    """Whether a value reaches the "aim", the "bar" or neither ("missed"); more is better where the aim is above it."""
    sign = 1 if aim > bar else -1
    return "aim" if sign * value >= sign * aim else "bar" if sign * value >= sign * bar else "missed"


def short(value: float | None) -> str:
    """Three digits, or nothing for None."""
    return "" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def error_table(evaluation: Evaluation) -> str:
    """The figures as aligned plain text."""
    header = ("", "", "measured", "95 % interval", "bar", "aim", "")
    lines, group = [header], ""
    for row in rows(evaluation):
        lines.append(
            (
                row.group if row.group != group else "",
                row.label,
                row.value,
                row.interval,
                row.bar,
                row.aim,
                {"aim": "aim reached", "bar": "bar reached"}.get(row.verdict, row.verdict),
            )
        )
        group = row.group
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    episodes = ", ".join(f"{len(evaluation.of_kind(kind))} {kind}" for kind in evaluation.kinds)
    title = f"Open loop over {evaluation.horizon} steps, {episodes} episodes; px at 512 pixels width"
    return "\n".join([title, "", text, *(f"note: {note}" for note in evaluation.notes())])


def write_metrics(out: str | os.PathLike[str], evaluation: Evaluation) -> None:
    """Write `metrics.json` (flat numbers) and the seed-style `tracking_metrics.txt`."""
    out = Path(out)
    numbers = evaluation.numbers()
    with replacing(out / "metrics.json") as path:
        path.write_text(json.dumps(numbers, indent=2) + "\n")
    name = (*evaluation.scene.marker_names, "object")[0]
    table = [["", *evaluation.kinds, "seed report"]]
    for label, key in (
        ("RMSE (px at 512)", f"{name}_rmse_px512"),
        ("Mean error (px at 512)", f"{name}_mean_px512"),
        ("Median error (px at 512)", f"{name}_median_px512"),
        ("Max error (px at 512)", f"{name}_max_px512"),
        ("Detection rate", "detection_rate"),
        ("Episodes", "episodes"),
    ):
        values = [numbers.get(f"{kind}_{key}", np.nan) for kind in evaluation.kinds]
        seed = f"{SEED_REPORT_RMSE}" if label.startswith("RMSE") else "-"
        table.append([label, *("-" if np.isnan(value) else f"{value:.4g}" for value in values), seed])
    text = "\n".join("".join(f"{cell:<26}" if i == 0 else f"{cell:>14}" for i, cell in enumerate(r)) for r in table)
    with replacing(out / "tracking_metrics.txt") as path:
        path.write_text(
            f"Tracking metrics of the {name}, dreamed against real, {evaluation.horizon} open-loop steps\n\n{text}\n\n"
            "One strict detector for real and dreamed frames; a dreamed frame without a detection keeps the last\n"
            "dreamed position. The seed report's figure is its own, by a detector that also accepts grey pictures.\n"
        )


def write_html(
    out: str | os.PathLike[str],
    evaluation: Evaluation,
    world_model: WorldModel,
    dataset: EpisodeDataset,
    command: str,
    agent: Mapping[str, Any] | None = None,
) -> Path:
    """Write `report.html`, which shows the pictures and the video that lie beside it.

    Args:
        out: Folder with `trajectory.png`, `error_vs_horizon.png`, `dream_vs_real.mp4` and `cube_positions.csv`.
        evaluation: What was measured.
        world_model: What was measured with.
        dataset: What was measured on.
        command: What to type to measure again.
        agent: What an agent trained in the dream did in both worlds: "algorithm", "steps", "episodes", "goal_cm", and
            for "dream" and "real" a success rate with its interval, (rate, low, high); None for no such part. Its video
            is `agent.mp4`.
    """
    out = Path(out)
    numbers = evaluation.numbers()
    name = (*evaluation.scene.marker_names, "object")[0]
    episodes = [
        {
            "number": track.number,
            "kind": track.kind,
            "rmse": track.rmse_px(),
            "static": float(np.sqrt(np.nanmean(track.reference.baseline_errors["static"] ** 2))),
            "detected": float(track.detected[:, 0].mean()),
            "millimetres": float(np.nanmedian(track.errors_mm())) if np.isfinite(track.errors_mm()).any() else np.nan,
        }
        for track in evaluation.tracks
        if np.isfinite(track.rmse_px())
    ]
    cards = [
        {
            "kind": kind,
            "episodes": len(evaluation.of_kind(kind)),
            "rmse": numbers.get(f"{kind}_{name}_rmse_px512"),
            "median": numbers.get(f"{kind}_{name}_median_px512"),
            "last": numbers.get(f"{kind}_{name}_median_px512_at_last_step"),
            "floor": numbers.get(f"{kind}_floor_rmse_px512"),
            "static": numbers.get(f"{kind}_static_rmse_px512"),
        }
        for kind in evaluation.kinds
    ]
    template = files("cosmos_isaac_wm.configs").joinpath("report.html.j2").read_text()
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        template
    )
    with replacing(out / "report.html") as path:
        path.write_text(
            page.render(
                scene=evaluation.scene,
                horizon=evaluation.horizon,
                object=name,
                cards=cards,
                seed_rmse=SEED_REPORT_RMSE,
                rows=rows(evaluation),
                episodes=episodes,
                notes=evaluation.notes(),
                agent=agent,
                context=world_model.dynamics.context_length,
                made=[
                    ("measured by", command),
                    ("world model", str(world_model.path or "in memory")),
                    ("its fingerprint", world_model.fingerprint()),
                    ("the episodes' fingerprint", dataset.fingerprint()),
                    ("seed", evaluation.seed),
                    ("cosmos-isaac-wm", version("cosmos-isaac-wm")),
                    ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
                    *((f"model's {key}", value) for key, value in world_model.provenance.items()),
                ],
            ),
            encoding="utf-8",
        )
    return out / "report.html"
