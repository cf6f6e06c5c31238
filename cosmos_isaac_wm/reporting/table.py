"""Which figures are shown, and which bars do they reach? For the terminal and for `report.html` alike.

Bars are what the shipped world model is held to, aims what would be better still; other people's scenes have neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..evaluation import Evaluation

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
    ("heading_deg_at_32", "{object} heading error at step 32", "°"),
    ("heading_length_at_last_step", "length of the heading that is read at the last step (1 is sure)", ""),
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
    ("knowable_rmse_px512", "knowable floor (velocities are uncertain, too), RMSE", "px"),
    ("over_knowable", "{object} RMSE over knowable floor", "times"),
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
