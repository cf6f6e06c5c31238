"""How does a planner act? It dreams many futures from where its environment is, and does what the best begins with."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from ...borders import detached, integer, ours, tensor_of
from ...precision import Compile, Precision
from ...rollout import DreamEngine
from ...spaces import own_actions
from ...worlds import LatentEnvironment
from .cost import Cost, Imagined, PushCost, RewardCost, doubt
from .search import ICEM, Search


class Planner:
    """Model predictive control in the dream, with Stable-Baselines3's `predict`, for either environment.

    Args:
        env: A `DreamEnv` or `RealEnv`, wrapped or not; the planner begins from its newest K latents and its goal.
        search: How to look for actions; `ICEM` when None.
        horizon: Steps of a plan, T.
        replan: Steps after which to plan anew.
        cost: Of dreamed futures; `PushCost` when None, and `RewardCost` in the twin of a foreign environment.
        pessimism: What a metre (of a twin, a standard deviation) costs besides by which a future may be off, on average
            over its steps, as the bundle's error bound has it; 0 trusts all futures alike.
        seed: Of the sampling.
        dtype: Precision of the dream, as of `FastModule`.
        compile: Whether to compile it, as of `FastModule`.

    Attributes:
        engine: The `DreamEngine` that dreams the futures; None where the search has no population.
        dreamed_steps: Steps dreamed so far, over all futures.
        seconds: Seconds spent on planning.

    Raises:
        ValueError: If the environment is no such one, or the bundle knows no positions and there is no cost.
    """

    @ours
    def __init__(
        self,
        env: gym.Env[Any, Any],
        search: Search | None = None,
        horizon: int = 12,
        replan: int = 3,
        cost: Cost | None = None,
        seed: int = 0,
        dtype: Precision = "auto",
        compile: Compile = "auto",
        pessimism: float = 0.0,
    ):
        core = env.unwrapped
        if not (isinstance(core, gym.Env) and isinstance(core, LatentEnvironment)):
            raise ValueError(f"a planner needs one CosmosDream-v0 or CosmosReal-v0 to plan for, not {core}")
        self._env: LatentEnvironment = core
        horizon, replan = integer(horizon, "horizon"), integer(replan, "replan")
        if not 1 <= replan <= horizon:
            raise ValueError(f"expected 1 <= replan <= horizon, got replan {replan} and horizon {horizon}")
        if isinstance(search, str):
            raise ValueError(f"expected a search such as ICEM() (or SEARCHES[{search!r}]()), got its name")
        self._model = core.world_model
        perception = self._model.perception
        if cost is None and perception.readout is None and perception.heads is None:
            raise ValueError("the bundle knows no positions: pass a cost of the dreamed latents")
        twin = perception.heads is not None
        self.cost: Cost = cost or (RewardCost(perception) if twin else PushCost(self._model.scene))
        self._choices = core.task.action_space if twin and isinstance(core.task.action_space, spaces.Discrete) else None
        self._pessimism, self._bound = pessimism, self._model.error_bound
        if pessimism and self._bound is None:
            raise ValueError("pessimism, but the bundle does not know how far its dreams may be off")
        self.search: Search = search or ICEM()
        self.horizon, self.replan = horizon, replan
        self._generator = torch.Generator().manual_seed(integer(seed, "seed"))
        scene = self._model.scene
        low, high = (torch.from_numpy(np.array(ends, np.float32)) for ends in (scene.action_low, scene.action_high))
        self._middle, self._reach = (low + high) / 2, (high - low) / 2
        self._plan = low.new_zeros(horizon, len(low))
        self._used = horizon
        self.dreamed_steps, self.seconds = 0, 0.0
        self.engine = self._new_engine(dtype, compile)

    @ours
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.float32], None]:
        """The next action of the plan, after planning anew if it is time to.

        Args:
            observation: Tells only whether a batch of one is meant: the planner looks at the environment itself.
            state: Ignored; part of Stable-Baselines3's signature.
            episode_start: Ignored: the environment knows.
            deterministic: Ignored.
        """
        self._env.must_have_started()
        if int(self._env.task.steps[0]) == 0:  # a new episode: what was planned for the last one is worth nothing
            self._plan, self._used = torch.zeros_like(self._plan), self.horizon
        if self._used >= self.replan:
            start = time.perf_counter()
            shifted = torch.zeros_like(self._plan)
            if self._used < self.horizon:
                shifted[: -self._used] = self._plan[self._used :]
                shifted[-self._used :] = self._plan[-1]
            self._plan, self._used = self._improve(shifted).clamp(-1, 1), 0
            self.seconds += time.perf_counter() - start
        vector = (self._middle + self._reach * self._plan[self._used]).numpy().astype(np.float32)
        action = own_actions(self._env.task.action_space, vector[None])[0]
        self._used += 1
        return (np.asarray(action)[None] if self._is_batch(observation) else action), None

    def _new_engine(self, dtype: Precision, compile: Compile) -> DreamEngine | None:
        return DreamEngine(self._model, self.search.population, dtype, compile, look=True)

    def _improve(self, mean: Tensor) -> Tensor:
        """A better sequence than `mean` (T, A), both in [-1, 1]."""
        self.search.begin(mean)
        for _ in range(self.search.iterations):
            sequences = self.search.sample(self._generator)
            costs = detached(self._costs(self._imagine(sequences))).float().cpu()
            finite = costs[costs.isfinite()]
            worse = finite.max() + 1 if len(finite) else costs.new_zeros(())
            self.search.update(sequences, torch.where(costs.isfinite(), costs, worse))  # than all that did not break
        return self.search.plan()

    def _imagine(self, sequences: Tensor) -> Imagined:
        """Dream what sequences (P, T, A) in [-1, 1] lead to."""
        engine = self.engine
        assert engine is not None
        actions = self._vectors(sequences)
        past = self._env.past.expand(len(actions), -1, -1)
        engine.reset(self._context().expand(len(actions), -1, -1, -1, -1), past=past)
        dreamed = [engine.step(actions[:, step]) for step in range(actions.shape[1])]
        self.dreamed_steps += actions.shape[0] * actions.shape[1]
        found = [each.located for each in dreamed if each.located is not None]
        return self._imagined(
            torch.stack([each.latent for each in dreamed], dim=1),
            actions,
            [each.positions for each in found],
            [each.presence for each in found],
        )

    def _imagined(self, latents: Tensor, actions: Tensor, positions: list[Tensor], presence: list[Tensor]) -> Imagined:
        nothing = latents.new_zeros(*latents.shape[:2], 0)
        return Imagined(
            latents,
            actions,
            torch.stack(positions, dim=1) if positions else nothing.unsqueeze(-1),
            torch.stack(presence, dim=1) if presence else nothing,
            self._env.task.goals[0].clone(),
            self._env.context,
            self._env.past,
        )

    def _vectors(self, sequences: Tensor) -> Tensor:
        """Actions as the network takes them, from sequences (P, T, A) in [-1, 1]; of choices the greatest counts."""
        if self._choices is not None:
            sequences = 2 * nn.functional.one_hot(sequences.argmax(dim=-1), sequences.shape[-1]).to(sequences) - 1
        return (self._middle + self._reach * sequences).to(self._model.device)

    def _costs(self, imagined: Imagined) -> Tensor:
        """What the futures cost, (P,), with the history that it may have.

        Raises:
            ValueError: If it is not one number for each.
        """
        given = self.cost(imagined)  # which may be a network, and write into what it is shown
        costs = given if isinstance(given, Tensor) else tensor_of(given, "what the cost returned", torch.float32)
        if costs.shape != (len(imagined.latents),):
            raise ValueError(f"a cost is one number for each of {len(imagined.latents)} futures, got {costs.shape}")
        if self._pessimism and self._bound is not None:
            costs = costs + self._pessimism * doubt(self._model.perception, self._bound, imagined)
        return costs

    def _context(self) -> Tensor:
        """The environment's newest K latents, (1, K, C, h, w)."""
        return self._env.context.unsqueeze(0)

    def _is_batch(self, observation: Any) -> bool:
        space = self._env.task.observation_space
        if observation is None:
            return False
        if isinstance(space, spaces.Dict):
            key = next(iter(space.spaces))
            space, observation = space[key], observation[key]
        return np.ndim(observation) > len(space.shape or ())
