"""How faithful is a foreign environment's twin? What its heads read, in real pictures and along dreams of 25 steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..borders import ours
from ..data.dataset import EpisodeDataset
from ..data.episodes import Episode
from ..data.stored import desired, layout_of, observed
from ..perception.heads import Heads
from ..rollout import DreamEngine
from ..training.heads import explained, state_figures
from ..world_model import WorldModel

HORIZON = 25  # steps of a dream
_NEAR = 2  # steps by which an end may be dreamed too soon or too late
_AT_ONCE = 64  # windows that are dreamed together


@dataclass
class _Window:
    """A part of an episode: context, and T steps from there.

    Attributes:
        latents: Of the context's real frames, (K, C, h, w).
        past: The actions that led through them, (K - 1, A).
        actions: (T, A).
        observed: After each step, (T, D).
        rewards: Of each step, (T,).
        ends: Whether the last step ended the episode.
        goals: What was desired, (T, G).
    """

    latents: Tensor
    past: Tensor
    actions: Tensor
    observed: Tensor
    rewards: Tensor
    ends: bool
    goals: Tensor


@ours
def twin_figures(
    world_model: WorldModel, dataset: EpisodeDataset, indices: Sequence[int], horizon: int = HORIZON
) -> dict[str, float]:
    """Figures of held-out episodes; all dreams begin at real frames and follow the recorded actions.

    Args:
        world_model: A bundle with heads.
        dataset: Episodes of its environment.
        indices: Which of them.
        horizon: Steps of a dream, H.

    Returns:
        `state_r2_<component>` and `state_mae_<component>` (in its own units) of what is read in real pictures, and
        `state_r2_mean` and `state_r2_min` over components that vary. Along dreams `state_r2_mean_at_<H>`,
        `reward_r2_at_<H>` over all steps to H, `reward_mae_at_<H>`, and, where something ends, `termination_f1`,
        `termination_precision` and `termination_recall`: an end counts as foretold within two steps.
    """
    heads, device = world_model.perception.heads, world_model.device
    assert heads is not None
    windows, read, truth = list[_Window](), list[Tensor](), list[Tensor]()
    for index in tqdm(indices, desc="read and cut", unit="episode"):
        episode = dataset[index]
        latents = torch.cat([world_model.encode(part) for part in torch.from_numpy(episode.frames).split(64)])
        seen = torch.from_numpy(observed(episode, world_model.scene))
        led = world_model.perception.scale_actions(torch.from_numpy(episode.actions).to(device))
        windows += _cut(world_model, episode, latents.cpu(), seen, horizon)
        frames = heads.config.frames
        if len(latents) < frames:
            continue
        begun = heads.remember(latents[None, :frames], led[None, : frames - 1])
        after = led[None, frames - 1 :]
        memory = [begun, *heads.along(begun, heads.embed(latents[frames:], after[0])[None], after, real=True)]
        read.append(heads.in_units(heads.observe(torch.cat(memory))).cpu())
        truth.append(seen[heads.config.frames - 1 :])
    names = _names(world_model)
    found = state_figures(torch.cat(read), torch.cat(truth), names) if heads.config.observed and read else {}
    parts = [_dreamed(world_model, heads, windows[i : i + _AT_ONCE], device) for i in range(0, len(windows), _AT_ONCE)]
    return found | _of_dreams(windows, [row for part in parts for row in part], horizon)


def _cut(world_model: WorldModel, episode: Episode, latents: Tensor, seen: Tensor, horizon: int) -> list[_Window]:
    """An episode of T + 1 latents and observations (T + 1, D) as windows of at most so many steps."""
    length, steps, acted = world_model.dynamics.context_length, len(episode), torch.from_numpy(episode.actions)
    goals = torch.from_numpy(desired(episode, world_model.scene))
    ended = episode.terminations is not None and bool(episode.terminations.any())
    rewards = torch.from_numpy(np.zeros(steps) if episode.rewards is None else episode.rewards).float()
    windows = []
    for begin in range(length - 1, steps, horizon):
        end = min(begin + horizon, steps)
        windows.append(
            _Window(
                latents[begin - length + 1 : begin + 1],
                acted[begin - length + 1 : begin],
                acted[begin:end],
                seen[begin + 1 : end + 1],
                rewards[begin:end],
                ended and end == steps,
                goals[begin:end],
            )
        )
    return windows


@dataclass
class Foretold:
    """What heads make of T dreamed steps.

    Attributes:
        begun: What they read before the first, in the environment's units, (D,).
        observed: After each step, (T, D).
        rewards: Of each step, (T,).
        ends: Whether it ended the episode, (T,).
    """

    begun: NDArray[np.float32]
    observed: NDArray[np.float32]
    rewards: NDArray[np.float32]
    ends: NDArray[np.bool_]


def foretold(world_model: WorldModel, episode: Episode, latents: Tensor, first: int) -> Foretold:
    """What the heads read in a dream of an episode under its own actions, from its frame `first` on.

    Args:
        world_model: A bundle with heads.
        episode: One of its environment.
        latents: What was dreamed, (T, C, h, w).
        first: Index of the first dreamed frame.
    """
    heads, device = world_model.perception.heads, world_model.device
    assert heads is not None
    known = world_model.encode(torch.from_numpy(episode.frames[first - world_model.dynamics.context_length : first]))
    scaled = world_model.perception.scale_actions(torch.from_numpy(episode.actions).to(device))
    memory = heads.remember(known[None], scaled[None, first - len(known) : first - 1])
    goals = torch.from_numpy(desired(episode, world_model.scene)).to(device)
    now, rows = heads.observe(memory), []
    begun = heads.in_units(now)[0].cpu().numpy()
    for step in range(first - 1, first - 1 + len(latents)):
        action = scaled[step : step + 1]
        memory = heads.follow(memory, latents[step - first + 1, None].to(device).float(), action)
        before, now = now, heads.observe(memory)
        judged = heads.judge(before, now, memory, action, goals[step : step + 1])
        rows.append((heads.in_units(now), judged.rewards, judged.ends > 0))
    read, rewards, ends = (torch.cat(column).cpu().numpy() for column in zip(*rows, strict=True))
    return Foretold(begun, read, rewards, ends)


def _names(world_model: WorldModel) -> list[str]:
    layout = layout_of(world_model.scene)
    return [] if layout is None else [name.replace("/", "_") for name in layout.names]


def _dreamed(
    world_model: WorldModel, heads: Heads, windows: Sequence[_Window], device: torch.device
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of every window what its dream observes (T, D), earns (T,), whether it is over (T,), and shows (T, D)."""
    longest, perception = max(len(window.actions) for window in windows), world_model.perception
    engine = DreamEngine(world_model, len(windows))
    context = torch.stack([window.latents for window in windows]).to(device)
    past = perception.scale_actions(torch.stack([window.past for window in windows]).to(device))
    engine.reset(context, past=past)
    memory = heads.remember(context, past)
    now = heads.observe(memory)
    rows = []
    for step in range(longest):
        actions, goals = (
            torch.stack([getattr(window, name)[min(step, len(window.actions) - 1)] for window in windows]).to(device)
            for name in ("actions", "goals")
        )
        latent = engine.step(actions).latent
        scaled = perception.scale_actions(actions)
        memory = heads.follow(memory, latent, scaled)
        before, now = now, heads.observe(memory)
        judged = heads.judge(before, now, memory, scaled, goals)
        shown = heads.in_units(heads.read(memory))
        rows.append((heads.in_units(now).cpu(), judged.rewards.cpu(), judged.ends.cpu() > 0, shown.cpu()))
    columns = [torch.stack(column, dim=1) for column in zip(*rows, strict=True)]
    return [
        tuple(column[number, : len(window.actions)] for column in columns)  # type: ignore[misc]
        for number, window in enumerate(windows)
    ]


def _of_dreams(
    windows: Sequence[_Window], dreams: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], horizon: int
) -> dict[str, float]:
    """What comes of observations, rewards and ends along dreams."""
    when = f"_at_{horizon}"
    found: dict[str, float] = {}
    if windows[0].observed.shape[1]:
        truth = torch.cat([window.observed for window in windows])
        for name, part in (("state", 0), ("picture", 3)):
            r2, varies = explained(torch.cat([dream[part] for dream in dreams]), truth)
            found |= {f"{name}_r2_mean{when}": float(r2[varies].mean())} if varies.any() else {}
    earned, paid = torch.cat([dream[1] for dream in dreams]), torch.cat([window.rewards for window in windows])
    r2, varies = explained(earned[:, None], paid[:, None])
    found |= {f"reward_r2{when}": float(r2[0])} if varies[0] else {}
    found[f"reward_mae{when}"] = float((earned - paid).abs().mean())
    right = wrong = missed = 0
    for window, (_, _, over, _) in zip(windows, dreams, strict=True):
        first = int(over.float().argmax()) if over.any() else None
        near = window.ends and first is not None and first >= len(over) - 1 - _NEAR
        right += near
        wrong += first is not None and not near
        missed += window.ends and not near
    if right + wrong + missed:
        found["termination_f1"] = 2 * right / (2 * right + wrong + missed)
        found["termination_precision"] = right / (right + wrong) if right + wrong else 0.0
        found["termination_recall"] = right / (right + missed) if right + missed else 0.0
    return found


def twin_lines(figures: dict[str, float]) -> str:
    """The figures as aligned plain text."""
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {value:.4g}" for name, value in figures.items())
