"""Records gym-pusht as a dataset: pictures, actions, where block and agent are, and how the block is turned.

pip install gym-pusht
python docs/experiments/record_pusht.py data/pusht 300
"""

import sys
from collections.abc import Iterator
from typing import Any

import gym_pusht  # noqa: F401  (registers the environment)
import gymnasium as gym
import numpy as np
from tqdm import tqdm

from cosmos_isaac_wm import Episode, Marker, Scene, write_dataset
from cosmos_isaac_wm.data.splits import draw_splits

BOARD = 512.0  # the edge of the environment's plane in its own units; here a metre
STEPS = 99

SCENE = Scene(
    name="pusht",
    control_hz=10.0,
    image_size=(96, 96),
    action_low=(0.0, 0.0),  # where the agent shall go, in the environment's units
    action_high=(BOARD, BOARD),
    markers=(
        Marker("block", hue=(150.0, 222.0), min_saturation=0.1, symmetry=1),
        Marker("agent", hue=(219.0, 235.0)),
    ),
    agent="agent",
    workspace_low=(0.0, 0.0),
    workspace_high=(1.0, 1.0),
    episode_steps=96,
)


def metres(place: Any) -> np.ndarray:
    """A place of the environment's, whose y points down, as (x, y) in metres, y up."""
    return np.array([place[0] / BOARD, 1 - place[1] / BOARD], np.float32)


def actions(core: Any, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Now to somewhere about the block, now anywhere, at changing speeds."""
    while True:
        block = np.array(core.block.position)
        goal = block + rng.normal(0, 50, 2) if rng.random() < 0.85 else rng.uniform(20, BOARD - 20, 2)
        speed = rng.uniform(25, 70)
        for _ in range(rng.integers(5, 12)):
            here = np.array(core.agent.position)
            way = goal - here
            step = way * min(1.0, speed / max(1e-6, float(np.linalg.norm(way)))) + rng.normal(0, 5, 2)
            yield np.clip(here + step, 0, BOARD).astype(np.float32)


def record(env: gym.Env[Any, Any], seed: int) -> Episode:
    """One episode."""
    observation, _ = env.reset(seed=seed)
    core: Any = env.unwrapped
    frames, taken, block, agent, angle = [], [], [], [], []

    def look(pixels: np.ndarray) -> None:
        frames.append(pixels)
        block.append(metres(core.block.position))
        agent.append(metres(core.agent.position))
        angle.append(-core.block.angle)

    look(observation["pixels"])
    for _, action in zip(range(STEPS), actions(core, np.random.default_rng(seed)), strict=False):
        observation, _, terminated, _, _ = env.step(action)
        taken.append(action)
        look(observation["pixels"])
        if terminated:
            break
    places = {"block": np.stack(block), "agent": np.stack(agent)}
    headings = {"block": np.array(angle, np.float32)}
    return Episode(np.stack(frames), np.stack(taken), seed=seed, positions=places, headings=headings)


if __name__ == "__main__":
    folder, count = sys.argv[1], int(sys.argv[2])
    environment = gym.make("gym_pusht/PushT-v0", obs_type="pixels_agent_pos", disable_env_checker=True)
    episodes = (record(environment, seed) for seed in tqdm(range(count), unit="episode"))
    write_dataset(folder, episodes, SCENE, draw_splits(["episode"] * count, seed=0))
