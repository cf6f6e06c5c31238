"""How do heads learn what latents mean to an environment? From real ones with noise; held-out ones show how well.

Reward and end are learned twice, from observations alone and with a look at the picture. Observations alone are kept
where they do: what looks at pictures takes flaws of dreams for ends that nothing else tells of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..borders import ours, training_mode
from ..data.windows import EncodedEpisodes
from ..perception.heads import Heads, HeadsConfig
from .optimizer import descend

_LEAST_STD = 1e-3  # of a component that hardly varies
_ENDS = 0.25  # of a batch are steps that end an episode, where some do
_MOST_GOALS = 256  # that are kept of the recorded ones
_LESS_R2, _LESS_F1 = 0.05, 0.15  # what judging without a look at pictures may cost; a few ends more or less are chance
_UNTOLD = 0.15  # of the steps come without the actions that led to the first of their frames
_AT_ONCE = 512  # windows that are judged together


@dataclass(frozen=True)
class HeadsFitConfig:
    """How heads are trained.

    Attributes:
        updates: Optimiser steps.
        batch_size: Steps of an environment in each.
        lr: Peak learning rate of AdamW under a one-cycle schedule.
        latent_noise: Noise on the normalised latents, at most; each example has its own, so that clear and imperfect
            pictures are read as well.
        reward_weight: Weight of the error of rewards.
        end_weight: Weight of the cross-entropy of ends.
    """

    updates: int = 4000
    batch_size: int = 128
    lr: float = 2e-3
    latent_noise: float = 0.2
    reward_weight: float = 1.0
    end_weight: float = 0.5


def new_heads(encoded: EncodedEpisodes, actions: int, config: HeadsConfig | None = None) -> Heads:
    """Untrained heads for what was encoded, with the statistics of its observations and rewards.

    Args:
        encoded: Training episodes.
        actions: A.
        config: Shape; what follows from the data is taken from there.
    """
    real = torch.arange(encoded.observed.shape[1]) < encoded.lengths[:, None]
    observed = encoded.observed[real].double()
    rewards = encoded.rewards[real[:, 1:]].double()
    desired = encoded.goals[:, 0].double()
    parts = [observed, rewards.view(-1, 1)] + ([desired] if desired.shape[1] else [])
    mean, std = torch.cat([p.mean(dim=0) for p in parts]), torch.cat([p.std(dim=0, correction=0) for p in parts])
    kept = desired[torch.linspace(0, len(desired) - 1, min(len(desired), _MOST_GOALS)).long()].float()
    _, channels, rows, columns = encoded.latents.shape[1:]
    base = config or HeadsConfig()
    sizes: dict[str, Any] = {
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "observed": observed.shape[1],
        "actions": actions,
    }
    if desired.shape[1]:
        sizes |= {"goal": desired.shape[1], "goals": len(kept)}
    return Heads(replace(base, **sizes), mean.float(), std.float().clamp(min=_LEAST_STD), kept)


class _Steps:
    """Steps of encoded episodes that heads can be shown: with F frames before and after.

    Args:
        encoded: Episodes.
        heads: What is shown them.
    """

    def __init__(self, encoded: EncodedEpisodes, heads: Heads):
        self._encoded, self._frames = encoded, heads.config.frames
        frame = torch.arange(1, encoded.latents.shape[1])
        first = max(self._frames, encoded.rest + 1)  # no action led from one frame of a rest to the next
        there = (frame >= first) & (frame < encoded.lengths[:, None])
        self.table = there.nonzero() + torch.tensor([0, 1])  # (episode, frame that a step leads to)
        self._ends = encoded.ends[self.table[:, 0], self.table[:, 1] - 1].nonzero().flatten()

    def surplus(self, count: int) -> float:
        """By how much ends are more likely in a batch than they are, in log odds: what their logits must do without."""
        natural, drawn = len(self._ends) / len(self.table), int(count * _ENDS) / count
        if not 0 < natural < 1:
            return 0.0
        together = drawn + (1 - drawn) * natural
        return math.log(together / (1 - together)) - math.log(natural / (1 - natural))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Numbers of steps, (count,)."""
        picks = torch.randint(len(self.table), (count,), generator=generator)
        if len(self._ends):
            some = int(count * _ENDS)
            picks[:some] = self._ends[torch.randint(len(self._ends), (some,), generator=generator)]
        return picks

    def show(self, picks: Tensor) -> tuple[Tensor, ...]:
        """What can be learned from steps.

        Returns:
            Latents (n, F + 1, C, h, w), the actions that led to them (n, F + 1, A), where one did (n, F + 1), what
            is observed before and after (n, 2, D), rewards, ends and goals.
        """
        episode, frame = self.table[picks].unbind(dim=1)
        encoded = self._encoded
        window = frame[:, None] + torch.arange(-self._frames, 1)
        latents = encoded.latents[episode[:, None], window].float()
        observed = encoded.observed[episode[:, None], window[:, -2:]]
        step = episode, frame - 1
        told = (values[step] for values in (encoded.rewards, encoded.ends, encoded.goals))
        return latents, *encoded.led(episode, window), observed, *told


@training_mode()
def fit_heads(
    heads: Heads,
    encoded: EncodedEpisodes | Sequence[EncodedEpisodes],
    scale_actions: Callable[[Tensor], Tensor],
    config: HeadsFitConfig,
    seed: int,
    device: torch.device,
    words: str = "fit heads",
    beside: Sequence[Heads] = (),
) -> float:
    """Train heads in place.

    Args:
        heads: The networks.
        encoded: Training episodes, or several sets of them, of which every batch has as much as there is of each.
        scale_actions: To [-1, 1], as of `Perception`.
        config: The recipe.
        seed: Of batches and noise.
        device: Where to train.
        words: Of the progress bar.
        beside: Others that share all with them but how they judge.

    Returns:
        The mean loss of the last tenth of the updates.
    """
    generator = torch.Generator().manual_seed(seed)
    sets = [_Steps(each, heads) for each in ([encoded] if isinstance(encoded, EncodedEpisodes) else encoded)]
    whole = sum(len(each.table) for each in sets)
    counts = [max(1, round(config.batch_size * len(each.table) / whole)) for each in sets]
    together = nn.ModuleList([heads, *beside]).to(device)
    surplus = torch.cat([torch.full((n,), each.surplus(n)) for each, n in zip(sets, counts, strict=True)]).to(device)

    def loss() -> Tensor:
        drawn = [each.show(each.draw(n, generator)) for each, n in zip(sets, counts, strict=True)]
        latents, *parts = (torch.cat(column) for column in zip(*drawn, strict=True))
        noise = torch.randn(latents.shape, generator=generator)
        noise *= config.latent_noise * torch.rand(len(latents), 1, 1, 1, 1, generator=generator)
        actions, known, observed, rewards, ends, goals = (each.to(device) for each in parts)
        noisy = (latents + noise).to(device)
        told = _Told(observed, _scaled(scale_actions, actions, known & _told(known, generator)), rewards, ends, goals)
        return _loss([heads, *beside], noisy, told, surplus, config)

    return descend(together, loss, config.updates, config.lr, words)


@dataclass
class _Told:
    """What is true of n steps.

    Attributes:
        observed: Before and after them, (n, 2, D).
        actions: That led to the frames, scaled to [-1, 1], (n, F + 1, A).
        rewards: (n,).
        ends: 1 or 0, (n,).
        goals: What was desired, (n, G).
    """

    observed: Tensor
    actions: Tensor
    rewards: Tensor
    ends: Tensor
    goals: Tensor


def _scaled(scale_actions: Callable[[Tensor], Tensor], actions: Tensor, known: Tensor) -> Tensor:
    """Actions (n, F + 1, A) in [-1, 1]; 0 where none is known."""
    return scale_actions(actions) * known.unsqueeze(2)


def _told(known: Tensor, generator: torch.Generator) -> Tensor:
    """Which actions (n, F + 1) heads are told: of some steps only the newest, as shortly after a dream has begun."""
    count, frames = known.shape
    untold = torch.randint(1, frames, (count,), generator=generator)
    untold[torch.rand(count, generator=generator) >= _UNTOLD] = 0
    return (torch.arange(frames) >= untold[:, None]).to(known.device)


def _loss(judges: Sequence[Heads], latents: Tensor, told: _Told, surplus: Tensor, config: HeadsFitConfig) -> Tensor:
    """Of heads that share all but how they judge, on latents (n, F + 1, C, h, w)."""
    heads = judges[0]
    memory = heads.embed(latents.flatten(0, 1), told.actions.flatten(0, 1)).unflatten(0, latents.shape[:2])
    before, now = heads.read(memory[:, :-1]), heads.read(memory[:, 1:])
    loss = latents.new_zeros(())
    if told.observed.shape[-1]:
        truth = heads.normalised(told.observed)
        loss = F.smooth_l1_loss(before, truth[:, 0], beta=0.1) + F.smooth_l1_loss(now, truth[:, 1], beta=0.1)
    spread = heads.std[heads.config.observed]
    for each in judges:
        judged = each.judge(before, now, memory[:, 1:], told.actions[:, -1], told.goals)
        missed = F.smooth_l1_loss(judged.rewards / spread, told.rewards / spread, beta=0.1)
        over = F.binary_cross_entropy_with_logits(judged.ends + surplus, told.ends)
        loss = loss + config.reward_weight * missed + config.end_weight * over
    return loss


def judging_alone(heads: Heads) -> Heads:
    """Untrained heads that judge from observations alone, and share everything else with these."""
    config = replace(heads.config, looks=False)
    alone = Heads(config, heads.mean.clone(), heads.std.clone(), None if heads.goals is None else heads.goals.clone())
    alone.convolutions, alone.maps, alone.to_embedding = heads.convolutions, heads.maps, heads.to_embedding
    alone.observation = heads.observation
    return alone


def about_as_good(looking: Mapping[str, float], alone: Mapping[str, float]) -> bool:
    """Whether other heads, such as those that judge from observations alone, do so about as well, by `judge_heads`."""

    def f1(figures: Mapping[str, float]) -> float:
        precision, recall = figures.get("end_precision", 0.0), figures.get("end_recall", 0.0)
        return 2 * precision * recall / max(precision + recall, 1e-9)

    rewards = alone.get("reward_r2", 1.0) >= looking.get("reward_r2", 1.0) - _LESS_R2
    return rewards and f1(alone) >= f1(looking) - _LESS_F1


@ours
def judge_heads(
    heads: Heads, encoded: EncodedEpisodes, scale_actions: Callable[[Tensor], Tensor], device: torch.device
) -> dict[str, float]:
    """How well heads read latents of real frames that they were not trained on.

    Returns:
        `state_r2_<component>` and `state_mae_<component>`, in its own units, by number; `state_r2_mean` and
        `state_r2_min` over components that vary; `reward_r2`, where rewards do, and `reward_mae`; `end_precision` and
        `end_recall`, where something ends or is said to.
    """
    steps = _Steps(encoded, heads)
    rows = []
    for picks in torch.arange(len(steps.table)).split(_AT_ONCE):
        latents, actions, known, observed, rewards, ends, goals = steps.show(picks)
        led = _scaled(scale_actions, actions.to(device), known.to(device))
        memory = heads.embed(latents.to(device).flatten(0, 1), led.flatten(0, 1)).unflatten(0, latents.shape[:2])
        before, now = heads.read(memory[:, :-1]), heads.read(memory[:, 1:])
        judged = heads.judge(before, now, memory[:, 1:], led[:, -1], goals.to(device))
        read = torch.cat([heads.in_units(now), judged.rewards[:, None]], dim=1).cpu()
        rows.append((read, torch.cat([observed[:, 1], rewards[:, None]], dim=1), judged.ends.cpu() > 0, ends > 0))
    read, truth, over, ended = (torch.cat(column) for column in zip(*rows, strict=True))
    components = range(heads.config.observed)
    found = state_figures(read[:, :-1], truth[:, :-1], [str(index) for index in components]) if components else {}
    r2, varies = explained(read[:, -1:], truth[:, -1:])
    right = float((over & ended).sum())
    found |= {"reward_r2": float(r2)} if varies else {}
    found["reward_mae"] = float((read - truth)[:, -1].abs().mean())
    found |= {"end_precision": right / float(over.sum())} if over.any() else {}
    return found | ({"end_recall": right / float(ended.sum())} if ended.any() else {})


def state_figures(read: Tensor, truth: Tensor, names: Sequence[str]) -> dict[str, float]:
    """R² and mean absolute error of every component of observations (n, D), and R² over those that vary."""
    r2, varies = explained(read, truth)
    mae = (read - truth).abs().mean(dim=0)
    found = {f"state_r2_{name}": float(value) for name, value in zip(names, r2, strict=True)}
    found |= {f"state_mae_{name}": float(value) for name, value in zip(names, mae, strict=True)}
    if varies.any():
        found |= {"state_r2_mean": float(r2[varies].mean()), "state_r2_min": float(r2[varies].min())}
    return found


def explained(read: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """R², the share of the variance that is explained, and whether there is any, by column of (n, D), (D,) each."""
    spread = (truth - truth.mean(dim=0)).double().square().sum(dim=0)
    r2 = 1 - (read - truth).double().square().sum(dim=0) / spread.clamp(min=1e-12)
    return r2, spread / len(truth) > _LEAST_STD**2
