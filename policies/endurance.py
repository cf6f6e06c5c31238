"""Does a dream hold for ten minutes? It is played without a restart, and every picture is looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import trange

from ..borders import ours
from ..envs import DreamEnv
from ..evaluation.ground_truth import detect_all
from ..evaluation.perception_metrics import decode_frames
from ..world_model import WorldModel
from .agent import Agent
from .env_recording import Smooth

_NEW_GOAL = 100  # steps after which an agent has another goal, or as soon as it has reached one
_AT_ONCE = 500  # latents that are decoded together


@ours
def play_figures(world_model: WorldModel, steps: int, seed: int = 0, agent: Path | None = None) -> dict[str, float]:
    """How often every object is found in a dream that nobody restarts, by the same strict detector as everywhere.

    Args:
        world_model: Of a scene with markers.
        steps: Of each of two dreams, under smooth random actions and under an agent with moving goals.
        seed: Of starts, actions and goals.
        agent: Folder of the agent; only random actions when None.

    Returns:
        `play_<marker>_detection_rate` of all frames; the same by driver, as `play_<marker>_detection_rate_random`;
        `play_<marker>_on_table`, the share of frames in which the readout sees it inside the workspace; and
        `play_<marker>_moved`, the metres that it has travelled per 1,000 steps, so that what froze is seen.
    """
    scene = world_model.scene
    drivers: dict[str, Agent | None] = {"random": None}
    if agent is not None:
        drivers["agent"] = own = Agent.load(agent)
        if own.frame_stack > 1:
            raise ValueError(f"the agent {agent} looks at {own.frame_stack} frames, which are not stacked here")
    seen, places = {}, {}
    for name, driver in drivers.items():
        frames, positions = _play(world_model, driver, steps, seed, name)
        seen[name], places[name] = np.isfinite(frames).all(axis=2), positions
    found: dict[str, float] = {}
    for index, marker in enumerate(scene.marker_names):
        rate = f"play_{marker}_detection_rate"
        found[rate] = float(np.mean([rows[:, index].mean() for rows in seen.values()]))
        found |= {f"{rate}_{name}": float(rows[:, index].mean()) for name, rows in seen.items()}
        tracks = [track[:, index] for track in places.values()]
        if scene.workspace_low is not None and scene.workspace_high is not None:
            inside = [((t >= scene.workspace_low) & (t <= scene.workspace_high)).all(axis=1).mean() for t in tracks]
            found[f"play_{marker}_on_table"] = float(np.mean(inside))
        went = [1000 * np.linalg.norm(np.diff(t, axis=0), axis=1).mean() for t in tracks]
        found[f"play_{marker}_moved"] = float(np.mean(went))
    return found


def _play(world_model: WorldModel, agent: Agent | None, steps: int, seed: int, name: str) -> tuple[Any, Any]:
    """Centroids (T, N, 2), NaN where nothing is found, and positions read, (T, N, 2), of one long dream."""
    task: dict[str, Any] = {"obs_type": "latent16"} if agent is None else agent.env_kwargs
    env = DreamEnv(world_model, max_episode_steps=steps + 1, **task)
    observation, _ = env.reset(seed=seed)
    act: Callable[[Any], Any] = Smooth(env.action_space, seed) if agent is None else lambda o: agent.predict(o)[0]
    rng, since, latents = np.random.default_rng(seed), 0, list[torch.Tensor]()
    centroids, positions = [], []
    for step in trange(steps, desc=f"play, {name}", unit="step"):
        observation, _, terminated, _, _ = env.step(act(observation))
        latents.append(env.engine.newest[0].clone())
        since += 1
        if terminated or (agent is not None and since == _NEW_GOAL):
            observation, since = _with_new_goal(env, rng), 0
        if len(latents) == _AT_ONCE or step == steps - 1:
            together = torch.stack(latents)
            centroids.append(detect_all(decode_frames(world_model, together), world_model.scene))
            positions.append(world_model.locate(together).positions.double().cpu().numpy())
            latents = []
    return np.concatenate(centroids), np.concatenate(positions)


def _with_new_goal(env: DreamEnv, rng: np.random.Generator) -> Any:
    """Let a dream go on where it is, towards another goal."""
    state = env.get_state()
    state["ended"] = torch.zeros_like(state["ended"])
    if env.task.goals.shape[1]:
        goal = torch.from_numpy(rng.uniform(*env.task.goal_area).astype(np.float32))
        state["task.goals"] = goal.to(state["task.goals"]).expand_as(state["task.goals"])
    return env.set_state(state)[0]
