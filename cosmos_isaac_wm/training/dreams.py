"""Which dreams does training advance? A batch that persists from update to update, beside the truth of each.

Most dreams are not restarted after R steps but go on from where they are, so the model meets its own errors 50 steps
deep at the price of short gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.windows import EncodedEpisodes, WindowSampler
from .recipe import FitConfig, Stage

_STILL = 1e-3  # metres a step: what moves less is at rest
_AFTER_REST = 8  # steps that a dream goes on after everything has come to rest, to learn that it stays there


@dataclass
class Targets:
    """What is true of frames 0 to R of B dreams; frame 0 is where each dream is.

    Attributes:
        latents: (B, R + 1, C, h, w), normalised.
        positions: Of N markers in metres, (B, R + 1, N, 2), NaN where absent.
        headings: As of `Located`, (B, R + 1, N, 2), NaN where unknown.
        actions: In the scene's units, (B, R, A).
    """

    latents: Tensor
    positions: Tensor
    headings: Tensor
    actions: Tensor

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        return Targets(*(part.to(device) for part in (self.latents, self.positions, self.headings, self.actions)))


class Dreams:
    """The batch of dreams that training advances.

    Every kind of episode has an equal part of the batch, however many there are and however long they move.

    Args:
        episodes: Training episodes.
        config: The recipe.
        context_length: K.

    Attributes:
        place: Where each dream is: its episode, and the frame that its newest latent dreams, (B, 2).
        context: Its last K latents, real or dreamed, (B, K, C, h, w).
        alive: Whether it may go on, (B,).
    """

    def __init__(self, episodes: EncodedEpisodes, config: FitConfig, context_length: int):
        self._episodes, self._context_length = episodes, context_length
        biases = {stage.motion_bias for stage in config.stages}
        kinds = sorted(set(episodes.kinds))
        self._samplers = {
            (bias, kind): WindowSampler(episodes, kind, context_length, bias) for bias in biases for kind in kinds
        }
        self._ends = motion_ends(episodes)
        size = config.batch_size
        self._kinds = np.array([kinds[slot % len(kinds)] for slot in range(size)])
        self.place: NDArray[np.int64] = np.zeros((size, 2), dtype=np.int64)
        self.context = torch.zeros(size, context_length, *episodes.latents.shape[2:])
        self.alive: NDArray[np.bool_] = np.zeros(size, dtype=bool)

    def prepare(self, stage: Stage, rng: np.random.Generator) -> None:
        """Restart the dreams that ended, diverged or lost the draw."""
        ends = self._ends[self.place[:, 0]]
        go_on = self.alive & (self.place[:, 1] + stage.rollout < ends) & (rng.random(len(ends)) < stage.persistence)
        for kind in np.unique(self._kinds):
            fresh = np.flatnonzero(~go_on & (self._kinds == kind))
            self._restart(fresh, self._samplers[stage.motion_bias, kind].draw(len(fresh), rng), stage.rollout)

    def _restart(self, fresh: NDArray[np.int64], places: NDArray[np.int64], steps: int) -> None:
        last = self._episodes.lengths.numpy()[places[:, 0]] - 1
        places[:, 1] = np.maximum(np.minimum(places[:, 1], last - steps), self._context_length - 1)
        self.place[fresh] = places
        offsets = np.arange(-self._context_length + 1, 1)
        self.context[fresh] = self._gather(self._episodes.latents, places, offsets).float()

    def targets(self, steps: int) -> Targets:
        """The truth of the frames from where the dreams are to `steps` ahead."""
        ahead = np.arange(steps + 1)
        episodes = self._episodes
        return Targets(
            self._gather(episodes.latents, self.place, ahead).float(),
            self._gather(episodes.positions, self.place, ahead),
            self._gather(episodes.headings, self.place, ahead),
            self._gather(episodes.actions, self.place, ahead[:-1]),
        )

    def advance(self, context: Tensor, alive: Tensor, steps: int) -> None:
        """Keep the dreamed contexts for the next update."""
        self.context, self.alive = context.detach().float().cpu(), alive.cpu().numpy()
        self.place[:, 1] += steps

    def state_dict(self) -> dict[str, Tensor]:
        """Where every dream is, for the checkpoint."""
        return {
            "place": torch.from_numpy(self.place),
            "context": self.context,
            "alive": torch.from_numpy(self.alive),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with the dreams of a checkpoint."""
        self.place, self.alive = state["place"].numpy(), state["alive"].numpy()
        self.context = state["context"]

    @staticmethod
    def _gather(source: Tensor, place: NDArray[np.int64], offsets: NDArray[np.int64]) -> Tensor:
        limit = source.shape[1] - 1
        frames = np.clip(place[:, 1:] + offsets, 0, limit)
        return source[torch.from_numpy(place[:, :1]), torch.from_numpy(frames)]


def motion_ends(episodes: EncodedEpisodes) -> NDArray[np.int64]:
    """How many frames of each episode there are until everything has come to rest, (E,)."""
    lengths: NDArray[np.int64] = episodes.lengths.numpy()
    if not episodes.positions.shape[2]:
        return lengths
    moved = episodes.positions.diff(dim=1).norm(dim=-1).nan_to_num().amax(dim=2).numpy() > _STILL
    frames = np.arange(1, moved.shape[1] + 1)
    return np.minimum(lengths, (moved * frames).max(axis=1) + 1 + _AFTER_REST)
