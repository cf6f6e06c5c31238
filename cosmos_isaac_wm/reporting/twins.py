"""What is shown of a twin? Held-out episodes beside their dreams: what was observed and earned, pictures, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..borders import ours
from ..data.dataset import EpisodeDataset
from ..data.episodes import Episode
from ..data.stored import layout_of, observed
from ..evaluation.open_loop import dream, first_dreamed
from ..evaluation.perception_metrics import decode_frames
from ..evaluation.twins import foretold
from ..storage.atomic import replacing, write_json
from ..world_model import WorldModel
from .figures import DREAM, TRUTH, side_by_side, write_frames
from .log import STATES_NAME, state_columns, state_row, write_csv
from .report import made, render

_MOST_SHOWN = 12  # components in a picture
FILMED = 3  # episodes


@dataclass(frozen=True)
class Replay:
    """An episode and its dream from the first real frames, T steps.

    Attributes:
        number: Of the episode in its dataset.
        true: What was observed after each step, (T, D).
        dreamed: What the heads read in the dream, (T, D).
        paid: Recorded rewards, (T,), NaN where there are none.
        foretold: Those of the heads, (T,).
        ended: Whether the episode was over after each step, (T,), NaN where that was not recorded.
        over: Whether the heads say so, (T,).
        real: Pictures, uint8 (T, H, W, 3).
        decoded: Those of the dream, uint8 (T, H, W, 3).
    """

    number: int
    true: NDArray[np.float32]
    dreamed: NDArray[np.float32]
    paid: NDArray[np.float64]
    foretold: NDArray[np.float64]
    ended: NDArray[np.float64]
    over: NDArray[np.float64]
    real: NDArray[np.uint8]
    decoded: NDArray[np.uint8]


@ours
def replay(model: WorldModel, episode: Episode, number: int, latents: Tensor | None = None) -> Replay:
    """Dream an episode under its own actions.

    Args:
        model: A bundle with heads.
        episode: One of its environment.
        number: What to call it.
        latents: What was dreamed already, (T, C, h, w); dreamed now when None.
    """
    first = first_dreamed(model)
    steps = len(episode.frames) - first
    latents = dream(model, [episode], steps, first=first)[0] if latents is None else latents
    told = foretold(model, episode, latents, first)
    unknown = np.full(len(episode), np.nan)
    paid, ended = (unknown if true is None else true for true in (episode.rewards, episode.terminations))
    return Replay(
        number,
        observed(episode, model.scene)[first:],
        told.observed,
        np.asarray(paid[first - 1 :], np.float64),
        told.rewards.astype(np.float64),
        np.asarray(ended[first - 1 :], np.float64),
        told.ends.astype(np.float64),
        episode.frames[first:],
        decode_frames(model, latents),
    )


def write_log(out: Path, model: WorldModel, replays: Sequence[Replay]) -> None:
    """Write `states.csv`: of every step what was observed, earned and over, true and dreamed."""
    rows = []
    for each in replays:
        for step in range(len(each.true)):
            states = list(zip(each.true[step].tolist(), each.dreamed[step].tolist(), strict=True))
            outcome = (each.paid[step], each.foretold[step], each.ended[step], each.over[step])
            rows.append(state_row(each.number, step + 1, (step + 1) / model.scene.control_hz, states, *outcome))
    write_csv(out / STATES_NAME, rows, columns=state_columns(_names(model)))


def write_pictures(out: Path, model: WorldModel, replays: Sequence[Replay]) -> None:
    """Write `states.png` and `dream_vs_real.mp4` of the first three."""
    _draw_states(out / "states.png", _names(model), replays[:FILMED])

    def frames() -> Iterator[NDArray[np.uint8]]:
        for each in tqdm(replays[:FILMED], desc="draw video", unit="episode"):
            for step in range(len(each.real)):
                told = f"step {step + 1}   reward"
                yield side_by_side(
                    {
                        f"episode {each.number}   {told} {each.paid[step]:.3g}": each.real[step],
                        f"dream   {told} {each.foretold[step]:.3g}": each.decoded[step],
                    }
                )

    write_frames(out / "dream_vs_real.mp4", frames(), model.scene.control_hz)


def write_report(
    out: Path,
    model: WorldModel,
    dataset: EpisodeDataset,
    replays: Sequence[Replay],
    figures: Mapping[str, float],
    command: str,
    agent: Mapping[str, Any] | None = None,
    trust: Mapping[str, float] | None = None,
) -> Path:
    """Write the log, pictures, `metrics.json`, and `report.html`, which shows them.

    Args:
        out: Folder.
        model: What was measured with.
        dataset: What was measured on.
        replays: Of its episodes.
        figures: As of `evaluation.twins.twin_figures`.
        command: What to type to see the same again.
        agent: "algorithm", "steps", "episodes", and its mean return with its interval, (mean, low, high), by what it
            saw: "real", "pictures" and "dream"; None for no such part.
        trust: As of `trust_figures`, with `trust.png` beside it; None for no such part.
    """
    write_log(out, model, replays)
    write_pictures(out, model, replays)
    write_json(out / "metrics.json", dict(figures))
    return render(
        out,
        "twin.html.j2",
        scene=model.scene,
        episodes=len(replays),
        filmed=min(FILMED, len(replays)),
        context=model.dynamics.context_length,
        cards=[(label, figures[key]) for key, label in _CARDS.items() if key in figures],
        figures=sorted(figures.items()),
        agent=agent,
        trust=sorted((trust or {}).items()),
        made=[("measured by", command), *made(model, dataset)],
    )


_CARDS = {
    "state_r2_mean": "R² of what is observed, read in real pictures",
    "state_r2_mean_at_25": "R² of what is observed, along 25 dreamed steps",
    "picture_r2_mean_at_25": "R² of what its pictures show, along 25 dreamed steps",
    "reward_r2_at_25": "R² of rewards, along 25 dreamed steps",
    "termination_f1": "F1 of ends, foretold within two steps",
}


def _names(model: WorldModel) -> list[str]:
    layout = layout_of(model.scene)
    return [] if layout is None else layout.names


def _draw_states(path: Path, names: Sequence[str], replays: Sequence[Replay]) -> None:
    """Every component, and the reward, true and dreamed, over time."""
    shown = min(len(names), _MOST_SHOWN)
    figure = Figure(figsize=(4.4 * len(replays), 1.3 * (shown + 1) + 0.6), layout="constrained")
    axes = figure.subplots(shown + 1, len(replays), squeeze=False, sharex="col")
    for column, each in enumerate(replays):
        curves: list[tuple[str, NDArray[np.floating], NDArray[np.floating]]] = [
            (names[row], each.true[:, row], each.dreamed[:, row]) for row in range(shown)
        ]
        curves.append(("reward", each.paid, each.foretold))
        for axis, (name, true, dreamed) in zip(axes[:, column], curves, strict=True):
            steps = np.arange(1, len(true) + 1)
            axis.plot(steps, true, color=TRUTH, label="ground truth")
            axis.plot(steps, dreamed, color=DREAM, label="dream")
            axis.set_ylabel(name, fontsize=8)
            axis.grid(alpha=0.25)
        axes[0, column].set_title(f"episode {each.number}", fontsize=9)
        axes[-1, column].set_xlabel("dreamed steps")
    axes[0, 0].legend(fontsize=8, loc="upper right")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
