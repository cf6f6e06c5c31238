"""Planners: they dream many futures from where the environment is, and do what the best of them begins with.

A `Planner` joins a search over action sequences (`CEM`, `ICEM`, `MPPI`) with a cost of what was dreamed; a
`GradientPlanner` follows the gradient of that cost through the network instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ..precision import Compile, Precision
from ..rollout import DreamEngine
from ..scene import Scene


@dataclass
class Imagined:
    """P dreamed futures of T steps.

    Attributes:
        latents: Normalised, (P, T, C, h, w).
        actions: In the scene's units, (P, T, A).
        positions: Where the readout sees the markers, (x, y) in metres, (P, T, N, 2); N is 0 without a readout.
        presence: Probability that they are there, (P, T, N).
        goal: Where the object shall go, (2,); meaningless without a readout.
    """

    latents: Tensor
    actions: Tensor
    positions: Tensor
    presence: Tensor
    goal: Tensor


Cost = Callable[[Imagined], Tensor]


class PushCost:
    """Metres from the object to its goal, and a little of those from the agent to where pushing begins.

    Both are averaged over the future and counted once more at its end. Pushing begins behind the object as seen from
    the goal: without this no short plan finds out that going around pays. A future that loses the object costs a metre.

    Args:
        scene: Whose agent it is about.
        standoff: Metres between the centres of object and agent where pushing begins.
        behind: Weight of the agent's distance from there.
    """

    def __init__(self, scene: Scene, standoff: float = 0.06, behind: float = 0.3):
        self._agent, self._standoff, self._behind = scene.agent_index, standoff, behind

    def __call__(self, imagined: Imagined) -> Tensor:
        """Costs (P,)."""
        subject = imagined.positions[:, :, 0]
        away = subject - imagined.goal
        distance = away.norm(dim=-1)
        cost = distance + (1 - imagined.presence[:, :, 0])
        if self._agent is not None:
            place = subject + self._standoff * away / distance.clamp(min=1e-6).unsqueeze(-1)
            cost = cost + self._behind * (imagined.positions[:, :, self._agent] - place).norm(dim=-1)
        return cost.mean(dim=1) + cost[:, -1]


class Search(Protocol):
    """A distribution over action sequences (T, A) in [-1, 1], which costs make better.

    Attributes:
        population: Sequences that are tried at once, P.
        iterations: How often per plan.
    """

    population: int
    iterations: int

    def begin(self, mean: Tensor) -> None:
        """Search anew around a sequence (T, A)."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """Sequences to try, (P, T, A)."""

    def update(self, actions: Tensor, costs: Tensor) -> None:
        """Learn what the tried ones (P, T, A) cost, (P,)."""

    def plan(self) -> Tensor:
        """The sequence to follow, (T, A)."""


class _Gaussian:
    """A Gaussian for every step, with noise that is correlated in time.

    Args:
        population: Sequences that are tried at once, P.
        iterations: How often per plan.
        std: Standard deviation to begin with, as a share of the greatest action.
        beta: Exponent of the noise's spectrum: 0 is white, 2 a random walk, which goes further.
    """

    def __init__(self, population: int, iterations: int, std: float, beta: float):
        if population < 2 or iterations < 1:
            raise ValueError(f"a search needs 2 sequences and 1 iteration or more, got {population} and {iterations}")
        self.population, self.iterations = population, iterations
        self._initial, self._beta = std, beta
        self._mean = self._std = torch.zeros(0, 0)

    def begin(self, mean: Tensor) -> None:
        """See `Search`."""
        self._mean, self._std = mean, torch.full_like(mean, self._initial)

    def sample(self, generator: torch.Generator) -> Tensor:
        """See `Search`; the first is the mean."""
        steps, dim = self._mean.shape
        white = torch.randn(self.population, dim, 2 * steps, generator=generator)
        frequencies = torch.fft.rfftfreq(2 * steps)
        frequencies[0] = frequencies[1]  # the slowest has a finite share
        coloured = torch.fft.irfft(torch.fft.rfft(white) * frequencies ** (-self._beta / 2), n=2 * steps)[..., :steps]
        noise = (coloured / coloured.std()).transpose(1, 2)
        actions = (self._mean + self._std * noise).clamp(-1, 1)
        actions[0] = self._mean
        return actions

    def plan(self) -> Tensor:
        """See `Search`."""
        return self._mean


class CEM(_Gaussian):
    """Cross-entropy method: the Gaussian is refitted to the cheapest sequences (Rubinstein and Kroese, 2004).

    Args:
        population: As of `Search`.
        iterations: As of `Search`.
        elites: How many sequences it is refitted to.
        std: Standard deviation to begin with.
        beta: Colour of the noise.
    """

    def __init__(self, population: int = 32, iterations: int = 2, elites: int = 8, std: float = 0.7, beta: float = 0.0):
        super().__init__(population, iterations, std, beta)
        if not 2 <= elites < population:
            raise ValueError(f"elites are 2 or more of the population of {population}, got {elites}")
        self._count = elites

    def update(self, actions: Tensor, costs: Tensor) -> None:
        """See `Search`."""
        elites = actions[costs.argsort()[: self._count]]
        self._mean, self._std = elites.mean(dim=0), elites.std(dim=0).clamp(min=0.05)


class ICEM(CEM):
    """Sample-efficient cross-entropy method: coloured noise, elites that are tried again, and the best one is followed.

    After Pinneri et al. (2020); the population stays as large as it is, which costs nothing in a batch.

    Args:
        population: As of `Search`.
        iterations: As of `Search`.
        elites: How many sequences the Gaussian is refitted to.
        std: Standard deviation to begin with.
        beta: Colour of the noise.
        kept: How many elites are tried again.
    """

    def __init__(
        self,
        population: int = 32,
        iterations: int = 2,
        elites: int = 8,
        std: float = 0.7,
        beta: float = 2.0,
        kept: int = 4,
    ):
        super().__init__(population, iterations, elites, std, beta)
        if not 1 <= kept < population:
            raise ValueError(f"1 or more of the population of {population} are kept, not {kept}")
        self._kept = kept
        self._elites = torch.zeros(0, 0, 0)

    def begin(self, mean: Tensor) -> None:
        """See `Search`."""
        super().begin(mean)
        self._elites = mean.new_zeros(0, *mean.shape)

    def sample(self, generator: torch.Generator) -> Tensor:
        """See `Search`."""
        actions = super().sample(generator)
        actions[1 : 1 + len(self._elites)] = self._elites
        return actions

    def update(self, actions: Tensor, costs: Tensor) -> None:
        """See `Search`."""
        super().update(actions, costs)
        self._elites = actions[costs.argsort()[: self._kept]]

    def plan(self) -> Tensor:
        """See `Search`."""
        return self._elites[0]


class MPPI(_Gaussian):
    """Model predictive path integral control: the mean of all, weighted by exp(-cost / temperature).

    After Williams et al. (2017).

    Args:
        population: As of `Search`.
        iterations: As of `Search`.
        temperature: In units of the costs' standard deviation.
        std: Standard deviation of the noise.
        beta: Colour of the noise.
    """

    def __init__(
        self,
        population: int = 32,
        iterations: int = 2,
        temperature: float = 0.2,
        std: float = 0.7,
        beta: float = 2.0,
    ):
        super().__init__(population, iterations, std, beta)
        self._temperature = temperature

    def update(self, actions: Tensor, costs: Tensor) -> None:
        """See `Search`."""
        scale = self._temperature * costs.std().clamp(min=1e-9)
        weights = torch.softmax(-costs / scale, dim=0)
        self._mean = torch.einsum("p,pta->ta", weights, actions)


SEARCHES: dict[str, type[CEM | ICEM | MPPI]] = {"cem": CEM, "icem": ICEM, "mppi": MPPI}


class Planner:
    """Model predictive control in the dream, with Stable-Baselines3's `predict`, for either environment.

    Args:
        env: A `DreamEnv` or `RealEnv`, wrapped or not; the planner begins from its newest K latents and its goal.
        search: How to look for actions; `ICEM` when None.
        horizon: Steps of a plan, T.
        replan: Steps after which to plan anew.
        cost: Of dreamed futures; `PushCost` when None.
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
    ):
        self._core = cast(Any, env.unwrapped)
        if not hasattr(self._core, "task") or getattr(self._core, "context", torch.empty(0)).ndim != 4:
            raise ValueError(f"a planner needs one CosmosDream-v0 or CosmosReal-v0 to plan for, not {self._core}")
        if not 1 <= replan <= horizon:
            raise ValueError(f"expected 1 <= replan <= horizon, got replan {replan} and horizon {horizon}")
        if isinstance(search, str):
            raise ValueError(f"expected a search such as ICEM() (or SEARCHES[{search!r}]()), got its name")
        self._model = self._core.world_model
        if cost is None and self._model.perception.readout is None:
            raise ValueError("the bundle knows no positions: pass a cost of the dreamed latents")
        self.cost: Cost = cost or PushCost(self._model.scene)
        self.search: Search = search or ICEM()
        self.horizon, self.replan = horizon, replan
        self._generator = torch.Generator().manual_seed(seed)
        low, high = self._core.action_space.low, self._core.action_space.high
        self._middle, self._reach = (torch.from_numpy(value) for value in ((low + high) / 2, (high - low) / 2))
        self._plan = torch.zeros(horizon, len(low))
        self._used = horizon
        self.dreamed_steps, self.seconds = 0, 0.0
        self.engine = self._new_engine(dtype, compile)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], None]:
        """The next action of the plan, after planning anew if it is time to.

        Args:
            observation: Tells only whether a batch of one is meant: the planner looks at the environment itself.
            state: Ignored; part of Stable-Baselines3's signature.
            episode_start: Ignored: the environment knows.
            deterministic: Ignored.
        """
        if int(self._core.task.steps[0]) == 0:  # a new episode: what was planned for the last one is worth nothing
            self._plan, self._used = torch.zeros_like(self._plan), self.horizon
        if self._used >= self.replan:
            start = time.perf_counter()
            shifted = torch.zeros_like(self._plan)
            if self._used < self.horizon:
                shifted[: -self._used] = self._plan[self._used :]
                shifted[-self._used :] = self._plan[-1]
            self._plan, self._used = self._improve(shifted).clamp(-1, 1), 0
            self.seconds += time.perf_counter() - start
        action = (self._middle + self._reach * self._plan[self._used]).numpy().astype(np.float32)
        self._used += 1
        return (action[None] if self._is_batch(observation) else action), None

    def _new_engine(self, dtype: Precision, compile: Compile) -> DreamEngine | None:
        return DreamEngine(self._model, self.search.population, dtype, compile, look=True)

    def _improve(self, mean: Tensor) -> Tensor:
        """A better sequence than `mean` (T, A), both in [-1, 1]."""
        self.search.begin(mean)
        for _ in range(self.search.iterations):
            sequences = self.search.sample(self._generator)
            costs = self.cost(self._imagine(sequences)).float().cpu()
            finite = costs[costs.isfinite()]
            worse = finite.max() + 1 if len(finite) else torch.tensor(0.0)
            self.search.update(sequences, torch.where(costs.isfinite(), costs, worse))  # than all that did not break
        return self.search.plan()

    @torch.inference_mode()
    def _imagine(self, sequences: Tensor) -> Imagined:
        """Dream what sequences (P, T, A) in [-1, 1] lead to."""
        engine = self.engine
        assert engine is not None
        actions = (self._middle + self._reach * sequences).to(self._model.device)
        engine.reset(self._context().expand(len(actions), -1, -1, -1, -1))
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
            self._core.task.goals[0],
        )

    def _context(self) -> Tensor:
        """The environment's newest K latents, (1, K, C, h, w)."""
        context: Tensor = self._core.context
        return context.unsqueeze(0)

    def _is_batch(self, observation: Any) -> bool:
        space = self._core.observation_space
        if isinstance(space, spaces.Dict):
            key = next(iter(space.spaces))
            space, observation = space[key], observation[key]
        return np.ndim(observation) > len(space.shape)


class GradientPlanner(Planner):
    """Follows the gradient of the cost with respect to the actions, through readout and network (Adam).

    Args:
        env: As of `Planner`.
        restarts: Sequences that are improved at once: the last plan, and others from noise around it.
        iterations: Gradient steps per plan.
        lr: Their size.
        horizon: As of `Planner`.
        replan: As of `Planner`.
        cost: As of `Planner`; must be differentiable.
        seed: As of `Planner`.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        restarts: int = 8,
        iterations: int = 6,
        lr: float = 0.2,
        horizon: int = 12,
        replan: int = 3,
        cost: Cost | None = None,
        seed: int = 0,
    ):
        self._lr = lr
        super().__init__(env, CEM(max(3, restarts), iterations, elites=2, beta=2.0), horizon, replan, cost, seed)

    def _new_engine(self, dtype: Precision, compile: Compile) -> DreamEngine | None:
        return None  # the engine keeps no graph to differentiate

    def _improve(self, mean: Tensor) -> Tensor:
        self.search.begin(mean)
        sequences = self.search.sample(self._generator).requires_grad_()
        optimizer = torch.optim.Adam([sequences], lr=self._lr)
        best, best_cost = mean, torch.inf
        for iteration in range(self.search.iterations + 1):
            costs = self.cost(self._imagine(sequences)).float()
            index = int(costs.detach().nan_to_num(torch.inf).argmin())
            if float(costs[index].detach()) < best_cost:
                best, best_cost = sequences.detach()[index].clone(), float(costs[index].detach())
            if iteration < self.search.iterations:
                optimizer.zero_grad()
                costs.sum().backward()
                optimizer.step()
                sequences.data.clamp_(-1, 1)
        return best

    def _imagine(self, sequences: Tensor) -> Imagined:
        perception = self._model.perception
        actions = (self._middle + self._reach * sequences).to(self._model.device)
        context = self._context().clone().expand(len(actions), -1, -1, -1, -1)
        latents, positions, presence = [], [], []
        for step in range(actions.shape[1]):
            latent = self._model.dynamics(context, perception.scale_actions(actions[:, step])).latent
            context = torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)
            latents.append(latent)
            if perception.readout is not None:
                located = perception.locate(latent)
                positions.append(located.positions)
                presence.append(located.presence)
        self.dreamed_steps += actions.shape[0] * actions.shape[1]
        return self._imagined(torch.stack(latents, dim=1), actions, positions, presence)
