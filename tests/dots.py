"""What is the smallest foreign environment? A dot that actions move; `tests.dots:Dot-v0` in Gymnasium's registry."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from cosmos_isaac_wm.contexts import BEGINNING, Contexts
from cosmos_isaac_wm.data import Episode
from cosmos_isaac_wm.data.collection import Job
from cosmos_isaac_wm.data.windows import EncodedEpisodes, encode_episodes
from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.heads import HeadsConfig
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.policies.env_recording import environment, record_env_episodes
from cosmos_isaac_wm.scene import Scene
from cosmos_isaac_wm.training.heads import new_heads
from cosmos_isaac_wm.world_model import WorldModel

SIZE = (40, 48)


class DotEnv(gym.Env[Any, Any]):
    """A white dot on black, which the wind drives to the right edge; there its episode ends.

    Args:
        observes: "vector", "dict", "picture", "both" (place and picture), "goal" (a goal environment: a place to be at,
            which no picture shows) or "number" (which nobody can record).
        acts: "box", "discrete" (from 4 on), "choice" (from 0 on) or "several" (which nobody can record).
        draws: Whether pictures are of one size.
        render_mode: None or "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (as in the base class)

    def __init__(self, observes: str = "vector", acts: str = "box", draws: bool = True, render_mode: str | None = None):
        self.render_mode, self._observes, self._acts, self._draws = render_mode, observes, acts, draws
        place, picture = spaces.Box(-1, 1, (2,), np.float32), spaces.Box(0, 255, (*SIZE, 3), np.uint8)
        self.observation_space = {
            "vector": place,
            "dict": spaces.Dict({"now": spaces.Dict({"place": place}), "still": spaces.Box(0, 9, (1, 2), np.float64)}),
            "picture": picture,
            "both": spaces.Dict({"view": picture, "place": place}),
            "goal": spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), place)),
            "number": spaces.Discrete(3),
        }[observes]
        self.action_space = {
            "box": spaces.Box(np.array([-1, -2], np.float32), np.array([1, 2], np.float32)),
            "discrete": spaces.Discrete(3, start=4),
            "choice": spaces.Discrete(3),
            "several": spaces.MultiDiscrete([2, 2]),
        }[acts]
        self._place, self._steps = np.zeros(2, np.float32), 0
        self._goal = self._place

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._steps = self.np_random.uniform(-0.8, 0.95, 2).astype(np.float32), 0
        self._goal = self.np_random.uniform(-0.9, 0.9, 2).astype(np.float32)
        if options:
            self._place = np.array(options["place"], np.float32)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        push = np.asarray(action)
        if self._acts in ("discrete", "choice"):
            push = np.array([int(action) - int(self.action_space.start) - 1, 0])
        self._place = np.clip(self._place + 0.1 * push + np.array([0.08, 0]), -1, 1).astype(np.float32)
        self._steps += 1
        over = bool(self._place[0] >= 1)
        reward = -float(np.abs(self._place).sum())
        if self._observes == "goal":
            reward = float(self.compute_reward(self._place, self._goal, {}))
        return self._seen(), reward, over, False, {"is_success": over}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        assert self._observes == "goal"
        return -np.abs(achieved_goal - desired_goal).sum(axis=-1)

    def render(self) -> Any:
        rows, columns = SIZE if self._draws or not self._steps else (16, 16)
        picture = np.zeros((rows, columns, 3), np.uint8)
        row, column = np.rint((self._place[::-1] + 1) / 2 * (np.array([rows, columns]) - 7)).astype(int) + 3
        picture[row - 2 : row + 3, column - 2 : column + 3] = 255
        return picture

    def _seen(self) -> Any:
        place = self._place.copy()
        return {
            "vector": place,
            "dict": {"now": {"place": place}, "still": np.full((1, 2), 7.0)},
            "picture": self.render(),
            "both": {"view": self.render(), "place": place},
            "goal": {"observation": place, "achieved_goal": place.copy(), "desired_goal": self._goal.copy()},
            "number": 1,
        }[self._observes]


gym.register("Dot-v0", "tests.dots:DotEnv", max_episode_steps=12)
gym.register("DotGoal-v0", "tests.dots:DotEnv", max_episode_steps=12, kwargs={"observes": "goal"})


def recorded_dots(count: int = 6, seed: int = 0, name: str = "Dot-v0", **kwargs: Any) -> tuple[Scene, list[Episode]]:
    """Recorded episodes of the dot under random actions."""
    jobs, told = [Job(number, "episode", 100 * seed + number, 12) for number in range(count)], json.dumps(kwargs)
    episodes = [record_env_episodes([job], f"tests.dots:{name}", told, None, "random")[0] for job in jobs]
    return environment(f"tests.dots:{name}", told, None).scene, episodes


def encoded_dots(count: int = 6, seed: int = 0, **kwargs: Any) -> tuple[Perception, EncodedEpisodes]:
    """An untrained tokenizer of the dot, and recorded episodes encoded with it, of unit variance."""
    scene, episodes = recorded_dots(count, seed, **kwargs)
    torch.manual_seed(0)
    tokenizer = TinyTokenizer(TinyTokenizerConfig(widths=(16, 16), blocks=1))
    perception = Perception(scene, tokenizer).eval().requires_grad_(False)
    raw = torch.cat([perception.encode(episode.frames) for episode in episodes])
    perception.mean.copy_(raw.mean(dim=(0, 2, 3)))
    perception.std.copy_(raw.std(dim=(0, 2, 3)).clamp(min=1e-3))
    return perception, encode_episodes(episodes, scene, perception.encode)


def dot_twin(seed: int = 0, **kwargs: Any) -> WorldModel:
    """An untrained bundle of the dot: networks of the smallest useful shapes around real encoded beginnings."""
    perception, encoded = encoded_dots(**kwargs)
    torch.manual_seed(seed)
    perception.heads = new_heads(
        encoded, perception.scene.action_dim, HeadsConfig(embedding=16, width=8, hidden=16, acts=True)
    )
    perception.heads.eval().requires_grad_(False)
    shape = ResNetRolloutConfig(action_dim=perception.scene.action_dim, history=1, width=16, blocks=1)
    count = len(encoded)
    contexts = Contexts(
        latents=encoded.latents[:, :4],
        positions=torch.zeros(count, 4, 0, 2),
        states=torch.zeros(count, 0, dtype=torch.float64),
        episodes=torch.arange(count),
        starts=torch.zeros(count, dtype=torch.int64),
        kinds=[BEGINNING] * count,
    )
    return WorldModel(perception, ResNetRollout(shape), contexts).eval().requires_grad_(False)
