"""Which dreams does training advance? A batch that persists from update to update, beside the truth of each.

Most dreams are not restarted after R steps but go on from where they are, so the model meets its own errors 50 steps
deep at the price of short gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..counter_rng import mixed, normal, uniform
from ..data.windows import EncodedEpisodes, WindowSampler
from .processes import Processes
from .recipe import FitConfig, Stage

_STILL = 1e-3  # metres a step: what moves less is at rest
_AFTER_REST = 8  # steps that a dream goes on after everything has come to rest, to learn that it stays there
_OF_NOISE = 2  # part of the keys of the noise, beyond the draws of going on and of the place
_UNTOLD = 0.15  # of the dreams that are restarted do not know what led there, as at a user's own frames


@dataclass
class Targets:
    """What is true of frames 0 to R of B dreams; frame 0 is where each dream is.

    Attributes:
        latents: (B, R + 1, C, h, w), normalised.
        positions: Of N markers in metres, (B, R + 1, N, 2), NaN where absent.
        headings: As of `Located`, (B, R + 1, N, 2), NaN where unknown.
        observed: What a foreign environment observed, (B, R + 1, D).
        actions: In the scene's units, with the H before them, (B, H + R, A).
        known: Which of these there were, (B, H + R).
    """

    latents: Tensor
    positions: Tensor
    headings: Tensor
    observed: Tensor
    actions: Tensor
    known: Tensor


class Dreams:
    """The batch of dreams that training advances, or this process's slots of it.

    Every kind of episode has an equal part of the batch, however many there are and however long they move. Everything
    is where the episodes are, and of static shape: an update asks the device for nothing. What a slot draws depends on
    seed, update and its number in the whole batch only.

    Args:
        episodes: Training episodes.
        config: The recipe.
        context_length: K.
        history: H.
        seed: Of the draws.
        processes: Who shares the batch.

    Attributes:
        place: Where each dream is: its episode, and the frame that its newest latent dreams, (B, 2).
        context: Its last K latents, real or dreamed, (B, K, C, h, w).
        alive: Whether it may go on, (B,).
        history: Actions before the current one that the network sees, H.
    """

    def __init__(
        self,
        episodes: EncodedEpisodes,
        config: FitConfig,
        context_length: int,
        history: int,
        seed: int,
        processes: Processes,
    ):
        self._episodes, self._context_length, self._processes = episodes, context_length, processes
        self.history = history
        self._device = device = episodes.lengths.device
        self._kinds, self._batch_size = sorted(set(episodes.kinds)), config.batch_size
        self._samplers = {
            bias: [WindowSampler(episodes, kind, context_length, bias) for kind in self._kinds]
            for bias in {stage.motion_bias for stage in config.stages}
        }
        self._ends = motion_ends(episodes)
        self._own = processes.slots(config.batch_size)
        self._slots = torch.arange(self._own.start, self._own.stop, device=device)
        self._seed, self._noise = torch.tensor(seed, device=device), config.context_noise
        size = len(self._own)
        self.place = torch.zeros(size, 2, dtype=torch.int64, device=device)
        self.context = torch.zeros(size, context_length, *episodes.latents.shape[2:], device=device)
        self.alive = torch.zeros(size, dtype=torch.bool, device=device)
        # Whether the actions that led to where a dream is are known; one tensor for all updates, as these are recorded.
        self._told = torch.ones(size, dtype=torch.bool, device=device)

    def prepare(self, stage: Stage, update: int) -> None:
        """Restart the dreams that ended, diverged or lost the draw, before update number `update`."""
        keys = mixed(mixed(self._seed, update), self._slots)
        goes_on = self.alive & (self.place[:, 1] + stage.rollout < self._ends[self.place[:, 0]])
        goes_on = goes_on & (uniform(keys, 0) < stage.persistence)
        self._told.copy_(goes_on | (uniform(keys, 3) >= _UNTOLD))
        fresh = self._drawn(stage, uniform(keys, 1))
        self.place = torch.where(goes_on.unsqueeze(1), self.place, fresh)
        offsets = torch.arange(-self._context_length + 1, 1, device=self._device)
        real = self._gather(self._episodes.latents, fresh, offsets).float()
        if self._noise:
            real = real + self._noise * normal(mixed(keys, _OF_NOISE), real[0].numel()).view_as(real)
        self.context = torch.where(goes_on[:, None, None, None, None], self.context, real)

    def _drawn(self, stage: Stage, chances: Tensor) -> Tensor:
        """A new place for every slot, of the kind that the slot is for, with room for a rollout where there is any."""
        places, kinds = torch.empty_like(self.place), len(self._kinds)
        for kind, sampler in enumerate(self._samplers[stage.motion_bias]):
            slots = slice((kind - self._own.start) % kinds, None, kinds)
            places[slots] = sampler.draw(chances[slots])
        episode, frame = places.unbind(dim=1)
        last = self._episodes.lengths[episode] - 1 - stage.rollout
        return torch.stack([episode, torch.minimum(frame, last).clamp(min=self._context_length - 1)], dim=1)

    def targets(self, steps: int) -> Targets:
        """The truth of the frames from where the dreams are to `steps` ahead."""
        ahead = torch.arange(steps + 1, device=self._device)
        episodes = self._episodes
        led = torch.arange(1 - self.history, steps + 1, device=self._device)
        actions, known = episodes.led(self.place[:, 0], self.place[:, 1:] + led)
        known[:, : self.history] &= self._told.unsqueeze(1)
        return Targets(
            self._gather(episodes.latents, self.place, ahead).float(),
            self._gather(episodes.positions, self.place, ahead),
            self._gather(episodes.headings, self.place, ahead),
            self._gather(episodes.observed, self.place, ahead),
            actions,
            known,
        )

    def advance(self, context: Tensor, alive: Tensor, steps: int) -> None:
        """Keep the dreamed contexts for the next update."""
        self.context, self.alive = context.detach().float(), alive
        self.place[:, 1] += steps

    def state_dict(self) -> dict[str, Tensor]:
        """Where every dream of the whole batch is, for the checkpoint; all processes have to ask for it together."""
        return {name: self._processes.gathered(getattr(self, name)) for name in ("place", "context", "alive")}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with this process's slots of a checkpoint, however many processes wrote it.

        Raises:
            ValueError: If it is of a batch of another size.
        """
        if len(state["place"]) != self._batch_size:
            raise ValueError(f"it is of a batch of {len(state['place'])} dreams, and this one has {self._batch_size}")
        own = slice(self._own.start, self._own.stop)
        self.place, self.context, self.alive = (
            state[name][own].to(self._device, copy=True) for name in ("place", "context", "alive")
        )

    def _gather(self, source: Tensor, place: Tensor, offsets: Tensor) -> Tensor:
        frames = (place[:, 1:] + offsets).clamp(0, source.shape[1] - 1)
        if source.device == place.device:
            return source[place[:, :1], frames]
        outside = source[place[:, :1].to(source.device), frames.to(source.device)]
        return outside.pin_memory().to(place.device, non_blocking=True)


def motion_ends(episodes: EncodedEpisodes) -> Tensor:
    """How many frames of each episode there are until everything has come to rest, (E,)."""
    if not episodes.positions.shape[2]:
        return episodes.lengths
    moved = episodes.positions.diff(dim=1).norm(dim=-1).nan_to_num().amax(dim=2) > _STILL
    frames = torch.arange(1, moved.shape[1] + 1, device=moved.device)
    return torch.minimum(episodes.lengths, (moved * frames).amax(dim=1) + 1 + _AFTER_REST)
