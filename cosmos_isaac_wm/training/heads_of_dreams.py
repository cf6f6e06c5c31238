"""How do heads learn to read dreams? From what a trained dynamics dreams along recorded actions, and what was true.

Dreams drift from what the encoder makes of pictures; heads that have seen how read them better. Then they learn what to
carry on from one observation to the next, and how far to believe it against the picture. Whether either helps is
measured on validation episodes: heads that it does not are left as they were.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..borders import ours, training_mode
from ..data.windows import EncodedEpisodes, join
from ..dynamics.network import history_of, with_history
from ..perception import Perception
from ..perception.heads import Heads
from .heads import HeadsFitConfig, about_as_good, fit_heads, judge_heads
from .optimizer import descend
from .validation import scaled_actions, validate

_HORIZON = 25  # dreamed steps
_WINDOWS = 1000  # that are dreamed at most
_AT_ONCE = 128
_CARRY_LR = 2e-3


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
    best, kept, told = before, copy.deepcopy(heads.state_dict()), judge_heads(heads, val, perception.scale_actions, device)
    dynamics.eval()
    dreams = _windows(dynamics, perception, train)
    heads.requires_grad_(True)
    fit_heads(heads, [train, dreams], perception.scale_actions, config, seed, device, "fit heads to dreams")
    heads.requires_grad_(False)
    after = validate(dynamics, perception, val)
    still = about_as_good(told, judge_heads(heads, val, perception.scale_actions, device))  # real ones as well as ever
    better = after["error"] < best["error"] and still
    _say("heads that have seen dreams", after, best, better)
    if better:
        best = after
    else:
        heads.load_state_dict(kept)
    if not (heads.config.acts and heads.config.observed):
        return best
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        perception.heads = heads.carrying()
    sets = [_readings(perception, each) for each in (dreams, _windows(None, perception, train, dreams))]
    _fit_carry(perception.heads, sets, config, seed)
    after = validate(dynamics, perception, val)
    better = after["error"] < best["error"]
    _say("heads that carry on what they observe", after, best, better)
    if not better:
        perception.heads = heads
    return after if better else best


def _say(who: str, after: dict[str, float], before: dict[str, float], better: bool) -> None:
    print(
        f"{who} read validation dreams to {after['error']:.3f} std, others to {before['error']:.3f}: "
        f"{'kept' if better else 'left as they were'}"
    )


@dataclass
class _Readings:
    """What heads read along T steps of n windows.

    Attributes:
        read: In the pictures alone, before the first step and after each, (n, T + 1, D).
        acted: The scaled actions that led there, (n, T + 1, A); 0 where none is known.
        truth: What was observed, normalised, (n, T + 1, D).
        there: Whether the episode lasted so long, (n, T + 1).
    """

    read: Tensor
    acted: Tensor
    truth: Tensor
    there: Tensor


def _readings(perception: Perception, windows: EncodedEpisodes) -> _Readings:
    heads, device = perception.heads, perception.device
    assert heads is not None
    frames, first = heads.config.frames, windows.rest
    rows, last = torch.arange(len(windows)), windows.latents.shape[1]
    shown = torch.arange(first - frames + 1, last).clamp(min=0)
    actions, known = windows.led(rows, shown.expand(len(rows), -1))
    acted = perception.scale_actions(actions.to(device)) * known.to(device).unsqueeze(2)
    read = []
    for part in rows.split(_AT_ONCE):
        latents = windows.latents[part][:, shown].float().to(device)
        seen = heads.embed(latents.flatten(0, 1), acted[part].flatten(0, 1)).unflatten(0, latents.shape[:2])
        read.append(heads.read(seen.unfold(1, frames, 1).transpose(2, 3).flatten(0, 1)).unflatten(0, (len(part), -1)))
    truth = heads.normalised(windows.observed[:, first:].to(device))
    there = torch.arange(first, last) < windows.lengths[:, None]
    return _Readings(torch.cat(read), acted[:, frames - 1 :], truth, there.to(device))


@training_mode()
def _fit_carry(heads: Heads, sets: Sequence[_Readings], config: HeadsFitConfig, seed: int) -> None:
    """Train what carrying heads carry on, in place, along whole windows of equally many of each set."""
    assert heads.carry is not None
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        chosen = [torch.randint(len(each.read), (config.batch_size,), generator=generator) for each in sets]
        read, acted, truth, there = (
            torch.cat([getattr(each, name)[rows] for each, rows in zip(sets, chosen, strict=True)])
            for name in ("read", "acted", "truth", "there")
        )
        observed, missed = read[:, 0], []
        for step in range(1, read.shape[1]):
            observed = heads.carried(observed, read[:, step], acted[:, step - 1], acted[:, step])
            missed.append(F.smooth_l1_loss(observed, truth[:, step], beta=0.1, reduction="none").mean(dim=1))
        counted = there[:, 1:].float()
        return (torch.stack(missed, dim=1) * counted).sum() / counted.sum().clamp(min=1)

    descend(heads.carry, loss, config.updates, _CARRY_LR, "fit what heads carry on")


def _windows(
    dynamics: nn.Module | None, perception: Perception, episodes: EncodedEpisodes, like: EncodedEpisodes | None = None
) -> EncodedEpisodes:
    """Windows of episodes, evenly spread: a real context, then dreamed frames, and what is true of them.

    Without a dynamics the frames are real ones, with contexts as long as those of others (`like`).
    """
    length = like.rest + 1 if like is not None else int(dynamics.context_length)  # type: ignore[arg-type, union-attr]
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
    dynamics: nn.Module | None,
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
    if dynamics is not None:
        context = latents[:, :length].float().to(perception.device)
        scaled = scaled_actions(perception, episodes)[rows[:, None], steps]
        history = history_of(dynamics)
        actions = with_history(scaled[:, length - 1 - history :], history)
        for step in range(_HORIZON):
            latent = dynamics(context, actions[:, step]).latent.float()
            context = torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)
            latents[:, length + step] = latent.half().cpu()
    kinds = [episodes.kinds[row] for row in rows.tolist()]
    sources = episodes.sources[rows]
    return EncodedEpisodes(latents, **of_frames, **of_steps, lengths=lengths, sources=sources, kinds=kinds)
