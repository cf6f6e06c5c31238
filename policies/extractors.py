"""What do Stable-Baselines3's policies make of poses and latents? Features of the order of one."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class PoseExtractor(BaseFeaturesExtractor):
    """Poses as a small network learns from them soonest: of the order of one, and relative to one another.

    Gives positions as a share of the workspace, where the object is from its goal and the others from the object in
    units of a quarter of it, and velocities as a share of what is usual.

    Args:
        observation_space: Of `obs_type="pose"`.

    Raises:
        ValueError: If the observations are not poses.
    """

    _markers: int
    centre: Tensor
    reach: Tensor
    usual_speed: Tensor

    def __init__(self, observation_space: spaces.Space[dict[str, Tensor]]):
        if not isinstance(observation_space, spaces.Dict) or "observation" not in observation_space.spaces:
            raise ValueError(f"PoseExtractor reads poses, not {observation_space}; use obs_type='pose'")
        pose, goal = observation_space["observation"], observation_space["desired_goal"]
        assert isinstance(pose, spaces.Box)
        assert isinstance(goal, spaces.Box)
        self._markers = pose.shape[0] // 4  # (x, y) of each, then their velocities
        super().__init__(observation_space, 2 * (3 * self._markers + 1))
        low, high = torch.from_numpy(goal.low), torch.from_numpy(goal.high)
        self.register_buffer("centre", (low + high) / 2)
        self.register_buffer("reach", (high - low) / 2)
        self.register_buffer("usual_speed", torch.tensor(float(pose.high[-1]) / 5))

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Observations of a batch to features (B, features_dim)."""
        goal = observations["desired_goal"]
        positions, velocities = observations["observation"].unflatten(1, (2, self._markers, 2)).unbind(1)
        subject = positions[:, 0]
        offsets = torch.cat([(subject - goal).unsqueeze(1), positions[:, 1:] - subject.unsqueeze(1)], dim=1)
        places = torch.cat([goal.unsqueeze(1), positions], dim=1)
        parts = [(places - self.centre) / self.reach, 4 * offsets / self.reach, velocities / self.usual_speed]
        return torch.cat([part.flatten(1) for part in parts], dim=1)


class LatentExtractor(BaseFeaturesExtractor):
    """A small conv net over latents, one or several stacked along the channels.

    Args:
        observation_space: Of `obs_type="latent"` or `"latent16"`: (C, h, w), or (n C, h, w) for n stacked ones.
        features_dim: Features that it gives.

    Raises:
        ValueError: If the observations are not latents.
    """

    def __init__(self, observation_space: spaces.Space[Tensor], features_dim: int = 128):
        shape = observation_space.shape
        if not isinstance(observation_space, spaces.Box) or shape is None or len(shape) != 3:
            raise ValueError(f"LatentExtractor reads latents (C, h, w), not {observation_space}; use obs_type='latent'")
        super().__init__(observation_space, features_dim)
        self.convolutions: nn.Module = nn.Sequential(
            nn.Conv2d(shape[0], 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, *shape)).shape[1]
        self.out: nn.Module = nn.Sequential(nn.Linear(size, features_dim), nn.SiLU())

    def forward(self, observations: Tensor) -> Tensor:
        """Latents (B, C, h, w) to features (B, features_dim)."""
        features: Tensor = self.out(self.convolutions(observations.float()))
        return features
