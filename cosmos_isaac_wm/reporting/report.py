"""What is written of an evaluation? Metrics, pictures, the video, and `report.html`, which shows them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined

from ..data.dataset import EpisodeDataset
from ..evaluation import Evaluation
from ..storage.atomic import replacing, write
from ..world_model import WorldModel
from .figures import Footage, draw_error_vs_horizon, draw_trajectories, write_video
from .table import SEED_REPORT_RMSE, rows


def write_metrics(out: str | os.PathLike[str], evaluation: Evaluation) -> None:
    """Write `metrics.json` (flat numbers) and the seed-style `tracking_metrics.txt`."""
    out = Path(out)
    numbers = evaluation.numbers()
    write(out / "metrics.json", json.dumps(numbers, indent=2) + "\n")
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


def write_outputs(out: str | os.PathLike[str], evaluation: Evaluation, footage: Sequence[Footage]) -> None:
    """Write what a comparison of dream and reality shows, except for the log itself.

    These are `metrics.json`, `tracking_metrics.txt`, `trajectory.png`, `error_vs_horizon.png`, `dream_vs_real.mp4`.
    """
    out = Path(out)
    write_metrics(out, evaluation)
    draw_trajectories(out / "trajectory.png", footage)
    draw_error_vs_horizon(out / "error_vs_horizon.png", evaluation)
    write_video(out / "dream_vs_real.mp4", footage, evaluation.scene.control_hz)


def write_html(
    out: str | os.PathLike[str],
    evaluation: Evaluation,
    world_model: WorldModel,
    dataset: EpisodeDataset,
    command: str,
    agent: Mapping[str, Any] | None = None,
    trust: Mapping[str, float] | None = None,
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
        trust: As of `trust_figures`, with `trust.png` beside it; None for no such part.
    """
    out = Path(out)
    return render(
        out,
        "report.html.j2",
        scene=evaluation.scene,
        horizon=evaluation.horizon,
        object=(*evaluation.scene.marker_names, "object")[0],
        cards=_cards(evaluation),
        seed_rmse=SEED_REPORT_RMSE,
        rows=rows(evaluation),
        episodes=_episodes(evaluation),
        notes=evaluation.notes(),
        agent=agent,
        trust=sorted((trust or {}).items()),
        context=world_model.dynamics.context_length,
        made=[("measured by", command), ("seed", evaluation.seed), *made(world_model, dataset)],
    )


def render(out: Path, template: str, **values: Any) -> Path:
    """Write `report.html` into a folder from one of the shipped templates."""

    def source(name: str) -> str:
        return files("cosmos_isaac_wm.configs").joinpath(name).read_text(encoding="utf-8")

    page = Environment(
        loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    with replacing(out / "report.html") as path:
        path.write_text(page.get_template(template).render(**values), encoding="utf-8")
    return out / "report.html"


def _cards(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The headline figures of each kind of episode."""
    numbers = evaluation.numbers()
    name = (*evaluation.scene.marker_names, "object")[0]
    return [
        {
            "kind": kind,
            "episodes": len(evaluation.of_kind(kind)),
            "rmse": numbers.get(f"{kind}_{name}_rmse_px512"),
            "median": numbers.get(f"{kind}_{name}_median_px512"),
            "last": numbers.get(f"{kind}_{name}_median_px512_at_last_step"),
            "floor": numbers.get(f"{kind}_floor_rmse_px512"),
            "knowable": numbers.get(f"{kind}_knowable_rmse_px512"),
            "static": numbers.get(f"{kind}_static_rmse_px512"),
        }
        for kind in evaluation.kinds
    ]


def _episodes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A line for each episode that could be compared."""
    return [
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


def made(world_model: WorldModel, dataset: EpisodeDataset) -> list[tuple[str, Any]]:
    """What was measured, with what, and when."""
    return [
        ("world model", str(world_model.path or "in memory")),
        ("its fingerprint", world_model.fingerprint()),
        ("the episodes' fingerprint", dataset.fingerprint()),
        ("cosmos-isaac-wm", version("cosmos-isaac-wm")),
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        *((f"model's {key}", value) for key, value in world_model.provenance.items()),
    ]
