"""What can be known of a foreign environment, and what do its actions do? MuJoCo goes on from recorded states."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from ..borders import ours
from ..data.dataset import EpisodeDataset
from ..data.episodes import Episode
from ..data.stored import layout_of, observed
from ..scene import Scene
from ..sims.gymnasium_env import environment_of
from ..sims.mujoco import Simulated, coordinates, displace, restore
from ..spaces import Layout, own_actions, stacked
from ..training.heads import explained
from ..world_model import WorldModel
from .baselines import SENSITIVITY_STEPS, opposite
from .open_loop import dream, first_dreamed
from .twins import HORIZON, foretold

Floats = NDArray[Any]

_MOST = 40  # episodes
_AGREES = 0.999  # R² of a state that is restored and followed: what is less was not all of the state


@dataclass
class _World:
    """An environment that can be put into recorded states.

    Attributes:
        env: The environment.
        core: What MuJoCo simulates of it.
        scene: What a dataset says of it.
        layout: Of what it observes.
    """

    env: gym.Env[Any, Any]
    core: Any
    scene: Scene
    layout: Layout

    def follow(self, state: Floats, vectors: Floats, by: Floats | None = None) -> Floats:
        """Observations (T, D) under actions (T, A) from a state, or from a state displaced by (2 nv,)."""
        self.env.reset(seed=0)
        restore(self.core, np.asarray(state, np.float64))
        if by is not None:
            displace(self.core, by)
        rows = [self.core.step(own_actions(self.env.action_space, vector[None])[0])[0] for vector in vectors]
        if isinstance(rows[0], dict):
            return self.layout.vectors(stacked(rows))
        return self.layout.vectors(np.stack(rows))


@ours
def truth_figures(
    world_model: WorldModel,
    dataset: EpisodeDataset,
    indices: Sequence[int],
    read_r2: float,
    horizon: int = HORIZON,
    seed: int = 0,
) -> dict[str, float]:
    """What MuJoCo says of held-out episodes that its states were recorded of; nothing where that is not at hand.

    Args:
        world_model: A bundle with heads.
        dataset: Episodes of its environment.
        indices: Which of them; the first 40 count.
        read_r2: Mean R² of what the heads read in real pictures.
        horizon: Steps, H.
        seed: Of the noise.

    Returns:
        `knowable_r2_mean_at_<H>`: R² of observations along H steps of MuJoCo itself, restarted where the dream begins
        with every position and velocity as uncertain as the heads read them: noise of sqrt(1 - `read_r2`) spreads.
        `action_sensitivity`: how far opposite actions lead from the recorded ones over 16 steps, in the dream as a
        multiple of MuJoCo, where distances are in standard deviations of the observation; 1 is perfect.
    """
    first = first_dreamed(world_model)
    episodes = [dataset[index] for index in indices[:_MOST]]
    episodes = [each for each in episodes if "state" in each.infos and len(each) > first]
    world = _world(world_model.scene) if episodes else None
    if world is None:
        return {}
    try:
        known = _knowable(world, episodes, first, horizon, float(np.sqrt(max(0.0, 1 - read_r2))), seed)
        if known is None:
            return {}
        return {
            f"knowable_r2_mean_at_{horizon}": known,
            "action_sensitivity": _sensitivity(world_model, world, episodes, first),
        }
    finally:
        world.env.close()


def _knowable(
    world: _World, episodes: Sequence[Episode], first: int, horizon: int, noise: float, seed: int
) -> float | None:
    """R² of MuJoCo restarted with so much noise, in spreads; None, and a word, where it does not repeat a recording."""
    true = [observed(each, world.scene)[first:][:horizon] for each in episodes]
    begun = [(each.infos["state"][first - 1], each.actions[first - 1 :][:horizon]) for each in episodes]
    if (agreed := _r2([world.follow(*each) for each in begun], true)) < _AGREES:
        print(
            f"MuJoCo's state is not all that {world.scene.name} goes on from (restored, it agrees with the record to "
            f"R² {agreed:.3f}): no figures of what can be known",
            file=sys.stderr,
        )
        return None
    rng = np.random.default_rng(seed)
    spread = noise * coordinates(world.core, np.concatenate([each.infos["state"] for each in episodes])).std(axis=0)
    return _r2([world.follow(*each, spread * rng.standard_normal(len(spread))) for each in begun], true)


def _world(scene: Scene) -> _World | None:
    """The environment of recordings, where it is installed and MuJoCo simulates it."""
    layout = layout_of(scene)
    try:
        env = environment_of(scene)
    except (ValueError, ImportError, gym.error.Error):
        return None
    core = env.unwrapped
    if layout is None or not isinstance(core, Simulated) or core.observation_space != env.observation_space:
        env.close()
        return None
    return _World(env, core, scene, layout)


def _sensitivity(world_model: WorldModel, world: _World, episodes: Sequence[Episode], first: int) -> float:
    """How far opposite actions lead, dreamed, as a multiple of what they do in MuJoCo."""
    dreamed, real = 0.0, 0.0
    std = world_model.perception.heads.std[: world.layout.size].cpu().numpy()  # type: ignore[union-attr]
    for episode in episodes:
        led = episode.actions[first - 1 :][:SENSITIVITY_STEPS]
        ways, both = (led, opposite(led, world.scene)), []
        for way in ways:
            other = replace(episode, actions=np.concatenate([episode.actions[: first - 1], way]))
            latents = dream(world_model, [other], len(led), first=first)[0]
            both.append(foretold(world_model, other, latents, first).observed)
        dreamed += float((np.abs(both[0] - both[1]) / std).mean())
        went = [world.follow(episode.infos["state"][first - 1], way) for way in ways]
        real += float((np.abs(went[0] - went[1]) / std).mean())
    return dreamed / real if real else float("nan")


def _r2(read: Sequence[Floats], true: Sequence[Floats]) -> float:
    """Mean R² over components that vary, of rows (T, D) each."""
    r2, varies = explained(*(torch.from_numpy(np.concatenate(part).astype(np.float64)) for part in (read, true)))
    return float(r2[varies].mean()) if varies.any() else 1.0
