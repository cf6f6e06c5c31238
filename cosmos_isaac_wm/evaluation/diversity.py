"""How far do samples of a stochastic dream spread? Beside it, how far the simulator's outcomes do."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.dataset import EpisodeDataset
from ..data.episodes import Episode
from ..protocols import RestartableSimulator
from ..rollout import DreamEngine
from ..world_model import WorldModel
from .baselines import resimulate, simulator_for
from .open_loop import first_dreamed
from .perception_metrics import locate

_SAMPLES, _EPISODES, _STEP = 16, 12, 32  # of each dream; test episodes; after so many steps


def diversity(world_model: WorldModel, dataset: EpisodeDataset, seed: int) -> dict[str, float]:
    """How far samples of a stochastic dream have spread after 32 steps, and real outcomes from perception-sized noise.

    Args:
        world_model: The bundle.
        dataset: Its test split is dreamed.
        seed: Of the noise.

    Returns:
        `sampled_spread_mm` and `real_spread_mm`, millimetres; nothing for a model without noise or a readout, or where
        no episode's simulator is at hand.
    """
    engine = DreamEngine(world_model, _SAMPLES)
    if not engine.noise_dim or world_model.perception.readout is None:
        return {}
    dreamed, real = [], []
    for number in dataset.indices("test")[:_EPISODES]:
        episode = dataset[number]
        simulator = simulator_for(dataset.metadata, episode, world_model.scene)
        if simulator is not None:
            dreamed.append(_spread(_dreamed_ends(engine, world_model, episode, seed + number)))
            real.append(_spread(_real_ends(simulator, world_model, episode, np.random.default_rng((seed, number)))))
    if not dreamed:
        return {}
    return {"sampled_spread_mm": 1000 * float(np.mean(dreamed)), "real_spread_mm": 1000 * float(np.mean(real))}


def _dreamed_ends(engine: DreamEngine, world_model: WorldModel, episode: Episode, seed: int) -> NDArray[np.float64]:
    """Where the object is in the samples, (n, 2)."""
    first = first_dreamed(world_model)
    context = world_model.encode(episode.frames[first - world_model.dynamics.context_length : first])
    actions = torch.from_numpy(episode.actions[first - 1 :][:_STEP]).to(world_model.device)
    latents = engine.open_loop(
        context.expand(_SAMPLES, -1, -1, -1, -1),
        actions.expand(_SAMPLES, -1, -1),
        torch.Generator().manual_seed(seed),
    )
    return locate(world_model, latents[:, -1])[:, 0]


def _real_ends(
    simulator: RestartableSimulator, world_model: WorldModel, episode: Episode, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Where the object is in the simulator's outcomes, (n, 2)."""
    last = first_dreamed(world_model) - 1
    state, actions = episode.infos["state"][last], episode.actions[last:][:_STEP]
    return np.stack([resimulate(simulator, state, actions, rng)[-1, 0] for _ in range(_SAMPLES)])


def _spread(points: NDArray[np.float64]) -> float:
    """Root mean square distance of points (n, 2) from their mean."""
    return float(np.sqrt(np.square(points - points.mean(axis=0)).sum(axis=1).mean()))
