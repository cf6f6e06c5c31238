"""How does a planner follow the gradient of its cost, through readout and network, instead of searching?"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from ...borders import own_mode
from ...precision import Compile, Precision
from ...rollout import DreamEngine
from ...training.validation import dreamed
from .cost import Cost, Imagined
from .planner import Planner
from .search import CEM


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
        pessimism: As of `Planner`.
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
        pessimism: float = 0.0,
    ):
        self._lr = lr
        super().__init__(
            env, CEM(max(3, restarts), iterations, elites=2, beta=2.0), horizon, replan, cost, seed, pessimism=pessimism
        )
        if self._choices is not None:
            raise ValueError("choices have no gradient: plan discrete actions with a search, as Planner(env, MPPI())")

    def _new_engine(self, dtype: Precision, compile: Compile) -> DreamEngine | None:
        return None  # the engine keeps no graph to differentiate

    @own_mode(gradients=True)
    def _improve(self, mean: Tensor) -> Tensor:
        self.search.begin(mean)
        sequences = self.search.sample(self._generator).requires_grad_()
        optimizer = torch.optim.Adam([sequences], lr=self._lr)
        best, best_cost = mean, torch.inf
        for iteration in range(self.search.iterations + 1):
            costs = self._costs(self._imagine(sequences)).float()
            index = int(costs.detach().nan_to_num(torch.inf).argmin())
            if float(costs[index].detach()) < best_cost:
                best, best_cost = sequences.detach()[index].clone(), float(costs[index].detach())
            if iteration < self.search.iterations:
                # Not backward(), which would also leave gradients in whatever networks the cost is made of.
                sequences.grad = _gradient(costs, sequences)
                optimizer.step()
                sequences.data.clamp_(-1, 1)
        return best

    def _imagine(self, sequences: Tensor) -> Imagined:
        perception = self._model.perception
        actions = self._vectors(sequences)
        context = self._context().clone().expand(len(actions), -1, -1, -1, -1)
        past = self._env.past.expand(len(actions), -1, -1)
        latents, positions, presence = [], [], []
        for latent in dreamed(self._model.dynamics, perception, context, past, perception.scale_actions(actions)):
            latents.append(latent)
            if perception.readout is not None:
                located = perception.locate(latent)
                positions.append(located.positions)
                presence.append(located.presence)
        self.dreamed_steps += actions.shape[0] * actions.shape[1]
        return self._imagined(torch.stack(latents, dim=1), actions, positions, presence)


def _gradient(costs: Tensor, sequences: Tensor) -> Tensor:
    """Of the costs with respect to the action sequences.

    Raises:
        ValueError: If there is none.
    """
    gradient = None
    if costs.requires_grad:
        (gradient,) = torch.autograd.grad(costs.sum(), [sequences], allow_unused=True)
    if gradient is None:
        raise ValueError(
            "the cost has no gradient with respect to the actions: compute it from the tensors it is shown, without "
            "detaching them, or search with a Planner, which needs no gradient"
        )
    return gradient
