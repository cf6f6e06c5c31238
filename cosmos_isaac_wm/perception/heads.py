"""What does a latent mean to a foreign environment? Its observation, and with the action its reward and its end.

Every frame's latent becomes an embedding; the newest few embeddings together are what is observed, velocities included.
Where an observation tells its own future it is carried on from step to step: of slow motion pictures tell less.
Reward and end follow from what was observed before and after, and the action between; from the newest embedding, too,
only where that is not enough, as a dream's small flaws can look like anything. Trained on latents of real frames with
noise, so that dreamed ones are read as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

_FARTHEST = 100.0  # standard deviations that an observation can be carried off
_SHARPNESS = 8.0  # of learned maps: flat ones have hardly a gradient, and are learned three times as slowly
_SMALLEST = 4  # rows or columns of cells at which embedding stops to make pictures smaller


@dataclass(frozen=True)
class HeadsConfig:
    """Shape of `Heads`.

    Attributes:
        channels: Latent channels, C.
        rows: Of a latent, h.
        columns: Of a latent, w.
        observed: Components of an observation, D; 0 where pictures are all that is observed.
        goal: Components of a goal environment's goal, G, which is no part of D; 0 of any other.
        goals: How many recorded goals are kept, to draw from.
        actions: Dimensions of an action, A.
        acts: Whether an observation is read with the actions that led to the frames: a velocity may have changed with
            the last one before anything is seen of it.
        looks: Whether reward and end are judged from the newest embedding, too, and not from observations alone.
        carries: Whether an observation follows from the one before and the action, and in dreams not from pictures.
        frames: Newest frames that an observation is read from, F.
        places: Learned maps, each for the row and column of one thing in a frame.
        embedding: Numbers that a frame becomes, E.
        width: Channels of the convolutions.
        hidden: Width of the layers that read observations, rewards and ends.
    """

    channels: int = 16
    rows: int = 8
    columns: int = 8
    observed: int = 0
    goal: int = 0
    goals: int = 0
    actions: int = 1
    acts: bool = False
    looks: bool = True
    carries: bool = False
    frames: int = 3
    places: int = 0
    embedding: int = 128
    width: int = 64
    hidden: int = 256


@dataclass
class Judged:
    """What a step came to.

    Attributes:
        rewards: (B,), in the environment's units.
        ends: Logit of the probability that the episode is over, (B,).
    """

    rewards: Tensor
    ends: Tensor


class Heads(nn.Module):
    """Observation, reward and end from the newest latents and the action.

    Args:
        config: Their shape.
        mean: Of every component of observations, then of rewards, then of goals, (D + 1 + G,).
        std: The same, standard deviations.
        goals: Recorded ones, (n, G).

    Attributes:
        remembered: Numbers that are remembered of a frame, E': its embedding, the action that led there, and what is
            carried on from there.
        tells: Components of an observation that are carried on, and that a dynamics may be told: D or 0.
    """

    mean: Tensor
    std: Tensor
    goals: Tensor | None

    def __init__(
        self,
        config: HeadsConfig,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        goals: Tensor | None = None,
    ):
        super().__init__()
        self.config = config
        count = config.observed + 1 + config.goal
        self.register_buffer("mean", torch.zeros(count) if mean is None else mean)
        self.register_buffer("std", torch.ones(count) if std is None else std)
        if config.goal and goals is None:
            goals = torch.zeros(config.goals, config.goal)
        self.register_buffer("goals", goals if config.goal else None)
        rows, columns, layers, wide = config.rows, config.columns, list[nn.Module](), config.channels + 2
        while True:
            halves = min(rows, columns) >= 2 * _SMALLEST
            layers += [nn.Conv2d(wide, config.width, 3, 1 + halves, 1), nn.SiLU()]
            wide = config.width
            if not halves:
                break
            rows, columns = -(-rows // 2), -(-columns // 2)
        self.convolutions = nn.Sequential(*layers)
        self.maps = None
        if config.places:
            self.maps = _Maps(config.channels + 2, config.width // 2, config.places)
        self.to_embedding = nn.Linear(config.width * rows * columns + 2 * config.places, config.embedding)
        self._shown = config.embedding + config.acts * config.actions
        self.tells = config.carries * config.observed
        self.remembered = self._shown + self.tells
        wide = config.frames * self._shown
        self.observation = _mlp(wide, config.hidden, config.observed) if config.observed else None
        wide = config.observed + config.actions
        self.carry = _mlp(wide, config.hidden, config.observed) if config.carries else None
        wide = 2 * config.observed + config.actions + config.looks * config.embedding + config.goal
        self.outcome = _mlp(wide, config.hidden, 2)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latents that they read."""
        return self.config.channels, self.config.rows, self.config.columns

    def embed(self, latents: Tensor, actions: Tensor) -> Tensor:
        """What is seen of frames: normalised latents (n, C, h, w) and the scaled actions (n, A) that led there.

        Actions of 0 are unknown ones, or none. What is carried on is no part of it: see `follow`.
        """
        rows, columns = (torch.linspace(-1, 1, size, device=latents.device) for size in latents.shape[-2:])
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        seen = torch.cat([latents, grid.expand(len(latents), -1, -1, -1)], dim=1)
        features = self.convolutions(seen).flatten(1)
        if self.maps is not None:
            features = torch.cat([features, self.maps(seen, grid)], dim=1)
        embedded: Tensor = self.to_embedding(features)
        return torch.cat([embedded, actions.to(embedded)], dim=1) if self.config.acts else embedded

    def remember(self, contexts: Tensor, actions: Tensor | None = None) -> Tensor:
        """What is remembered, (n, F, E'), of the newest frames of contexts (n, K, C, h, w), oldest first.

        A context of fewer frames counts as if everything had rested before. Of the scaled actions (n, m, A) the
        last led to the newest frame; of those before them nothing is known.
        """
        frames = self.config.frames
        newest = contexts[:, -frames:]
        lacking = max(0, frames - newest.shape[1])
        newest = torch.cat([newest[:, :1].expand(-1, lacking, -1, -1, -1), newest], dim=1)
        led = newest.new_zeros(len(newest), frames, self.config.actions)
        if actions is not None:
            told = actions[:, -frames:]
            led[:, frames - told.shape[1] :] = told
        memory = self.embed(newest.flatten(0, 1), led.flatten(0, 1)).unflatten(0, newest.shape[:2])
        if self.carry is None:
            return memory
        return torch.cat([memory, self.read(memory).unsqueeze(1).expand(-1, frames, -1)], dim=2)

    def follow(self, memory: Tensor, latents: Tensor, actions: Tensor, real: bool = False) -> Tensor:
        """What is remembered, (B, F, E'), when scaled actions (B, A) have led to the next latents (B, C, h, w).

        Those of real frames are believed; dreamed ones are not by heads that carry observations on.
        """
        return self.append(memory, self.embed(latents, actions), actions, real)

    def append(self, memory: Tensor, seen: Tensor, actions: Tensor, real: bool = False) -> Tensor:
        """The same of what `embed` has made of latents and actions."""
        if self.carry is None:
            return torch.cat([memory[:, 1:], seen.unsqueeze(1)], dim=1)
        shown = torch.cat([memory[:, 1:, : self._shown], seen.unsqueeze(1)], dim=1)
        before = memory[:, -1, self._shown :]
        now = self.read(shown) if real else self.carried(before, actions)
        return torch.cat([memory[:, 1:], torch.cat([seen, now], dim=1).unsqueeze(1)], dim=1)

    def along(self, memory: Tensor, seen: Tensor, actions: Tensor, real: bool = False) -> list[Tensor]:
        """What is remembered, (B, F, E') each, after each of T frames that `embed` made (B, T, .) of; see `follow`."""
        found = list[Tensor]()
        for step in range(seen.shape[1]):
            found.append(memory := self.append(memory, seen[:, step], actions[:, step], real))
        return found

    def carried(self, before: Tensor, actions: Tensor) -> Tensor:
        """The normalised observations (n, D) that follow from those before and scaled actions (n, A)."""
        assert self.carry is not None
        change: Tensor = self.carry(torch.cat([before, actions.to(before)], dim=1))
        return (before + change).clamp(-_FARTHEST, _FARTHEST)

    def told(self, contexts: Tensor, past: Tensor | None, actions: Tensor) -> Tensor:
        """Normalised observations before each of T steps, (B, T, D): read at first, then carried on.

        Args:
            contexts: Before the first step, as of `remember`, and so is the next.
            past: See there.
            actions: Scaled actions of the steps, (B, T, A).
        """
        found = [self.read(self.remember(contexts, past))]
        for step in range(actions.shape[1] - 1):
            found.append(self.carried(found[-1], actions[:, step]))
        return torch.stack(found, dim=1)

    def read(self, memory: Tensor) -> Tensor:
        """What the pictures of the newest frames (B, F, E') alone tell, as normalised observations (B, D)."""
        if self.observation is None:
            return memory.new_zeros(len(memory), 0)
        observed: Tensor = self.observation(memory[:, :, : self._shown].flatten(1))
        return observed

    def observe(self, memory: Tensor) -> Tensor:
        """What is remembered of the newest frames (B, F, E'), oldest first, as normalised observations (B, D)."""
        return self.read(memory) if self.carry is None else memory[:, -1, self._shown :]

    def carrying(self) -> Heads:
        """These heads, carrying observations on; as they are until that is trained."""
        grown = Heads(replace(self.config, carries=True), goals=self.goals)
        assert grown.carry is not None
        for parameter in grown.carry[-1].parameters():
            nn.init.zeros_(parameter)
        grown.load_state_dict({**grown.state_dict(), **self.state_dict()})
        return grown.to(self.mean.device)

    def judge(
        self, before: Tensor, now: Tensor, memory: Tensor, actions: Tensor, goals: Tensor | None = None
    ) -> Judged:
        """What a step came to.

        Args:
            before: Normalised observations before it, (B, D).
            now: After it.
            memory: What is remembered after it, (B, F, E').
            actions: That it was taken with, scaled to [-1, 1], (B, A).
            goals: What was desired, in the environment's units, (B, G); only of a goal environment.
        """
        size = self.config.observed
        known = [before, now, actions, *([memory[:, -1, : self.config.embedding]] if self.config.looks else [])]
        if self.config.goal and goals is not None:
            known.append((goals - self.mean[size + 1 :]) / self.std[size + 1 :])
        rewards, ends = self.outcome(torch.cat(known, dim=1)).unbind(dim=1)
        return Judged(rewards * self.std[size] + self.mean[size], ends)

    def normalised(self, observations: Tensor) -> Tensor:
        """Observations (..., D) in standard deviations from their mean."""
        size = self.config.observed
        return (observations - self.mean[:size]) / self.std[:size]

    def in_units(self, normalised: Tensor) -> Tensor:
        """The inverse of `normalised`."""
        size = self.config.observed
        return normalised * self.std[:size] + self.mean[:size]


class _Maps(nn.Module):
    """Where things are: maps that look for them, and by how much each cell says that they are beside its middle.

    What has been learned of a small thing in one cell serves in all. A dense layer learns it for each, by heart where
    there are few recordings.

    Args:
        channels: Of what is seen.
        width: Of the convolutions.
        places: Things, P.
    """

    def __init__(self, channels: int, width: int, places: int):
        super().__init__()
        layers = nn.Conv2d(channels, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU()
        last = nn.Conv2d(width, 3 * places, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter[places:])
        self.layers, self._places = nn.Sequential(*layers, last), places

    def forward(self, seen: Tensor, grid: Tensor) -> Tensor:
        """Rows and columns (n, 2 P), as those of the grid (2, h, w), of what is seen (n, ., h, w)."""
        maps, beside = self.layers(seen).flatten(2).tensor_split([self._places], dim=1)
        weights = (_SHARPNESS * maps).softmax(dim=2)  # a spatial softmax
        beside = beside.unflatten(1, (self._places, 2))
        found = []
        for axis, middles in enumerate(grid):  # with numbers, not a tensor of both: a device's step waits for no copy
            cell = 2 / max(1, grid.shape[1 + axis] - 1)
            found.append((weights * (middles.flatten() + cell * beside[:, :, axis])).sum(dim=2))
        return torch.stack(found, dim=2).flatten(1)


def _mlp(wide: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(wide, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
    )
