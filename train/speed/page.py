"""How are speeds shown? As a table with its bars, as a picture, and with what they were measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from cosmos_isaac_wm.precision import has_bfloat16
from cosmos_isaac_wm.reporting.table import judge
from cosmos_isaac_wm.train.speed.harness import Row

# Figure: (bar, aim).
BARS = {
    "vector_env_over_forward": (0.93, 0.97),
    "sb3_over_forward": (0.85, 0.95),
    "forward_share_of_peak": (0.70, 0.90),
    "seed_speedup_64_b1": (8.0, 12.0),
    "seed_speedup_64_b8": (1.9, 2.05),
    "default_over_seed_16_b64": (2.5, 4.0),
    "over_simulusion": (2.5, 5.0),
    "over_real": (10.0, 30.0),
    "over_isaac_lab": (50.0, 100.0),
    "fit_speedup": (3.0, 4.0),
    "gpu_env_steps_per_s": (1e6, 2e6),
    "import_s": (0.5, 0.2),
    "first_step_s": (3.0, 1.5),
}


def machine(device: torch.device) -> dict[str, object]:
    """What it was measured on."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "bfloat16": has_bfloat16(device),
    }


def table(rows: Sequence[Row], numbers: Mapping[str, float]) -> str:
    """Rows, then figures with their bars, as aligned plain text."""
    lines = [("", "batch", "ms a step", "spread", "steps/s", "speed"), *map(_cells, rows), ("",) * 6]
    for key, value in numbers.items():
        verdict = ""
        if key in BARS:
            bar, aim = BARS[key]
            verdict = f"{judge(value, bar, aim)} (bar {bar:g}, aim {aim:g})"
        lines.append((key, "", "", "", f"{value:.4g}", verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    """A row's line of the table."""
    milliseconds = 1000 * statistics.median(row.seconds)
    name = f"{row.group.split(',')[0]}: {row.name}"
    return (
        name,
        str(row.batch),
        f"{milliseconds:.3g}",
        f"{row.spread:.0%}",
        f"{row.steps_per_s:,.0f}",
        f"{row.over:.2f}",
    )


def draw(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Steps per second of every row, as a PNG."""
    shown = [row for row in rows if row.group != "matrix product"]
    figure = Figure(figsize=(10, 0.28 * len(shown) + 1), layout="constrained")
    axis = figure.subplots()
    axis.barh(
        [f"{row.name}, {row.batch} ({row.group.split(',')[0]})" for row in shown], [row.steps_per_s for row in shown]
    )
    axis.set(xscale="log", xlabel="environment steps per second")
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
