"""Where does an episode begin in both worlds? At a drawn state of the simulator, with a drawn goal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from ...envs.real_env import RealEnv

APART = 0.10  # metres that agent and goal are away from the object at the start, at least


@dataclass(frozen=True)
class Start:
    """Where an episode begins, in both worlds.

    Attributes:
        seed: Of the simulator's state.
        latents: What its first K pictures were encoded to, (K, C, h, w).
        goal: (x, y) in metres, (2,).
        subject: Where the object is at first, (x, y) in metres.
    """

    seed: int
    latents: NDArray[np.float32]
    goal: NDArray[np.float64]
    subject: NDArray[np.float64]


def draw_starts(env: RealEnv, count: int, seed: int) -> list[Start]:
    """Random states of the simulator with random goals, of which nothing begins too near to anything.

    Args:
        env: Draws and encodes the first pictures.
        count: How many.
        seed: Of all of them.
    """
    rng, starts = np.random.default_rng(seed), list[Start]()
    names, agent = env.world_model.scene.marker_names, env.world_model.scene.agent
    with tqdm(total=count, desc="starts", unit="start") as bar:
        while len(starts) < count:
            own = int(rng.integers(2**31))
            goal = rng.uniform(*env.task.goal_area)
            _, info = env.reset(seed=own, options={"goal": goal})
            subject = info[f"{names[0]}_position"]
            places = [goal] if agent is None else [goal, info[f"{agent}_position"]]
            if all(far(place, subject) for place in places):
                starts.append(Start(own, env.context.cpu().numpy(), goal, subject))
                bar.update()
    return starts


def far(place: ArrayLike, other: ArrayLike) -> bool:
    """Whether two places (x, y) in metres are `APART`."""
    return float(np.linalg.norm(np.subtract(place, other))) >= APART
