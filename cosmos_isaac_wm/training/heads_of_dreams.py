"""How do heads learn to read dreams? From what a trained dynamics dreams along recorded actions, and what was true.

Dreams drift from what the encoder makes of pictures; heads that have seen how read them better. Whether they do is
measured on validation episodes: heads that do not are left as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..borders import ours
from ..data.windows import EncodedEpisodes, join
from ..perception import Perception
from .heads import HeadsFitConfig, about_as_good, fit_heads, judge_heads
from .validation import dreamed, scaled_actions, validate

_HORIZON = 25  # dreamed steps
_WINDOWS = 1000  # that are dreamed at most
_AT_ONCE = 128


@ours
def fit_heads_on_dreams(
    dynamics: nn.Module,
    perception: Perception,
    train: EncodedEpisodes,
    val: EncodedEpisodes,
    config: HeadsFitConfig,
    seed: int,
    before: dict[str, float],
) -> dict[str, float]:
    """Train a perception's heads further, in place, on real episodes and on dreams of them, if that helps.

    Args:
        dynamics: Trained; dreams.
        perception: Whose heads they are.
        train: Training episodes.
        val: Validation episodes.
        config: The recipe.
        seed: Of batches and noise.
        before: What `validate` has found without.

    Returns:
        What `validate` finds of the heads as they are now; `before` where they were left as they were.
    """
    heads, device = perception.heads, perception.device
    assert heads is not None
    kept, told = copy.deepcopy(heads.state_dict()), judge_heads(heads, val, perception.scale_actions, device)
    dynamics.eval()
    both = [train, _dreams(dynamics, perception, train)]
    heads.requires_grad_(True)
    fit_heads(heads, both, perception.scale_actions, config, seed, device, "fit heads to dreams")
    heads.requires_grad_(False)
    after = validate(dynamics, perception, val)
    still = about_as_good(told, judge_heads(heads, val, perception.scale_actions, device))  # real ones as well as ever
    better = after["error"] < before["error"] and still
    print(
        f"heads that have seen dreams read validation dreams to {after['error']:.3f} std, others to "
        f"{before['error']:.3f}: {'kept' if better else 'left as they were'}"
    )
    if better:
        return after
    heads.load_state_dict(kept)
    return before


def _dreams(dynamics: nn.Module, perception: Perception, episodes: EncodedEpisodes) -> EncodedEpisodes:
    """Windows of episodes, evenly spread: a real context, then dreamed frames, and what is true of them."""
    length = int(dynamics.context_length)  # type: ignore[arg-type]
    windows = [
        (row, begin)
        for row, frames in enumerate(episodes.lengths.tolist())
        for begin in range(0, frames - length, _HORIZON)
    ]
    places = np.unique(np.linspace(0, len(windows) - 1, _WINDOWS).round().astype(int))
    chosen = [windows[place] for place in places]
    parts = [chosen[first : first + _AT_ONCE] for first in range(0, len(chosen), _AT_ONCE)]
    dreams = join([_dreamed(dynamics, perception, episodes, part, length) for part in parts])
    return replace(dreams, rest=length - 1)  # what led through the contexts is in the episodes


def _dreamed(
    dynamics: nn.Module,
    perception: Perception,
    episodes: EncodedEpisodes,
    windows: Sequence[tuple[int, int]],
    length: int,
) -> EncodedEpisodes:
    """Windows (row, first frame) as episodes of their own."""
    rows, begins = torch.tensor(windows).unbind(dim=1)
    lengths = (episodes.lengths[rows] - begins).clamp(max=length + _HORIZON)
    frames = begins[:, None] + torch.minimum(torch.arange(length + _HORIZON), lengths[:, None] - 1)
    steps = begins[:, None] + torch.minimum(torch.arange(length + _HORIZON - 1), lengths[:, None] - 2)

    def part(values: Tensor, which: Tensor) -> Tensor:
        return values[rows[:, None], which]

    of_frames: dict[str, Any] = {
        name: part(getattr(episodes, name), frames) for name in ("positions", "headings", "observed", "goals")
    }
    of_steps: dict[str, Any] = {name: part(getattr(episodes, name), steps) for name in ("actions", "rewards", "ends")}
    latents = part(episodes.latents, frames)
    context = latents[:, :length].float().to(perception.device)
    scaled = scaled_actions(perception, episodes)[rows[:, None], steps]
    followed = dreamed(dynamics, perception, context, scaled[:, : length - 1], scaled[:, length - 1 :])
    for step, latent in enumerate(followed):
        latents[:, length + step] = latent.half().cpu()
    kinds = [episodes.kinds[row] for row in rows.tolist()]
    sources = episodes.sources[rows]
    return EncodedEpisodes(latents, **of_frames, **of_steps, lengths=lengths, sources=sources, kinds=kinds)
