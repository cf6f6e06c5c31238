r"""How is PushT recorded, and how well is it planned in? gym-pusht's environment, who pushes, and the measurement.

    pip install gym-pusht
    cd docs/experiments
    cosmos-wm collect --env pusht_twin:PushTRelative-v0 --policy pusht_twin:pusher --size 96 --episodes 1000 --out data
    cosmos-wm fit-tokenizer --fit.minutes 10 --heads.updates 5000 --data data --out eyes
    cosmos-wm fit-dynamics --fit.minutes 25 --data data --perception eyes --out first
    cosmos-wm fit-dynamics --config refresh.yaml --fit.updates 1000000 --fit.minutes 20 --fit.mirror false \
        --data data --init first --out second
    cosmos-wm fit-dynamics --config refresh.yaml --fit.updates 1000000 --fit.minutes 20 --fit.mirror false \
        --data data --init second --out model
    python pusht_twin.py model data 50 0

`PushTRelative-v0` is `gym_pusht/PushT-v0` but for four things: an action says how far the agent shall move, as a share
of 64 of the 512 units, and not where to; pictures are the observed ones, without a mark where the last action led; an
episode has 100 steps; the block is where `reset_to_state` says.
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import numpy as np
from gym_pusht.envs.pusht import PushTEnv
from gymnasium import spaces
from tqdm import tqdm

REACH = 64.0  # units of the board that an action moves the agent by, at most
AHEAD, BUDGET = 25, 50  # steps from the start to the goal in the recording, and those that planning may take
NEAR, TURNED = 20.0, np.pi / 9  # units and radians by which the block may be off


class RelativePushT(PushTEnv):
    """PushT that shows the corners of the block, and where the agent is."""

    def __init__(self, render_mode: str | None = None):
        super().__init__(obs_type="environment_state_agent_pos", render_mode=render_mode)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def step(self, action: Any) -> Any:
        """Move the agent by an action, as far as the walls allow."""
        target = np.array(self.agent.position) + REACH * np.asarray(action, np.float64)
        return super().step(np.clip(target, 15, 497))

    def _set_state(self, state: Any) -> None:
        """Agent and block where asked: the angle first, as it turns the block about its mass, away from its place."""
        self.agent.position = list(state[:2])
        self.block.angle = state[4]
        self.block.position = list(state[2:4])
        self.space.step(self.dt)

    def render(self) -> Any:
        """The observed picture."""
        return self._render(visualize=False)


gym.register("PushTRelative-v0", "pusht_twin:RelativePushT", max_episode_steps=100)


def pusher(env: gym.Env[Any, Any]) -> Any:
    """Now to somewhere about the block, now anywhere, at changing speeds."""
    rng = np.random.default_rng(int(env.np_random.integers(2**31)))
    goal, speed, left = np.zeros(2), 0.0, 0

    def act(observation: dict[str, np.ndarray]) -> np.ndarray:
        nonlocal goal, speed, left
        block, here = observation["environment_state"].reshape(-1, 2).mean(axis=0), observation["agent_pos"]
        if left == 0:
            goal = block + rng.normal(0, 50, 2) if rng.random() < 0.85 else rng.uniform(20, 492, 2)
            speed, left = rng.uniform(15, 60), int(rng.integers(4, 12))
        left -= 1
        way = goal - here
        step = way * min(1.0, speed / max(1e-6, float(np.linalg.norm(way)))) + rng.normal(0, 5, 2)
        return np.clip(step / REACH, -1, 1).astype(np.float32)

    return act


def pose(corners: np.ndarray, at_rest: np.ndarray) -> np.ndarray:
    """Where the block is, (x, y, angle), by its corners (16,) and those of a block at (0, 0, 0)."""
    here, there = corners.reshape(-1, 2), at_rest.reshape(-1, 2)
    one, other = here - here.mean(axis=0), there - there.mean(axis=0)
    angle = np.arctan2((other[:, 0] * one[:, 1] - other[:, 1] * one[:, 0]).sum(), (other * one).sum())
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.array([*(here.mean(axis=0) - turn @ there.mean(axis=0)), angle])


def off(now: np.ndarray, goal: np.ndarray) -> tuple[float, float]:
    """Units and radians between two poses."""
    return float(np.linalg.norm(now[:2] - goal[:2])), float(abs((now[2] - goal[2] + np.pi) % (2 * np.pi) - np.pi))


def main(bundle: str, data: str, count: int, seed: int = 0) -> None:
    """Plan from states of held-out episodes, drawn by a seed, to the picture 25 steps later, and count successes."""
    from cosmos_isaac_wm import EpisodeDataset, WorldModel
    from cosmos_isaac_wm.envs import RealTwinEnv
    from cosmos_isaac_wm.policies.planners import ICEM, GoalStateCost, Planner

    model, dataset, rng = WorldModel.load(bundle), EpisodeDataset(data), np.random.default_rng(seed)
    env = RealTwinEnv(model, named="pusht_twin:PushTRelative-v0")
    core: Any = env.source.env.unwrapped
    core.reset()
    core._set_state([450, 450, 250, 250, 0])
    at_rest = core.get_keypoints(core._block_shapes).flatten() - 250
    weights = np.array([0.3] * 2 + [1.0] * 16, np.float32)  # agent, block
    rows = []
    test = dataset.indices("test")
    for number in tqdm(range(count), unit="episode"):
        while True:  # until one in which the block has to be moved
            episode = dataset[int(rng.choice(test))]
            start = int(rng.integers(0, len(episode) - AHEAD))
            states = [episode.observations["environment_state"][t] for t in (start, start + AHEAD)]
            begin, goal = (pose(state, at_rest) for state in states)
            if (far := off(begin, goal))[0] > NEAR or far[1] > TURNED:
                break
        state = [*episode.observations["agent_pos"][start], *begin]
        observation, _ = env.reset(seed=number, options={"reset_to_state": state})
        cost = GoalStateCost(model.perception, episode.frames[start + AHEAD], weights)
        planner = Planner(env, ICEM(population=96, iterations=3), horizon=8, replan=1, cost=cost, seed=number)
        reached = None
        for step in range(BUDGET):
            observation, *_ = env.step(planner.predict(observation)[0])
            now = np.array([*core.block.position, core.block.angle])
            distance, turned = off(now, goal)
            if distance < NEAR and turned < TURNED:
                reached = step + 1
                break
        rows.append((reached is not None, far[0], distance))
        print(
            number, "reached after" if reached else "missed,", reached or f"{distance:.0f} units, {turned:.2f} rad off"
        )
    won, far_at_first, far_at_last = np.mean(rows, axis=0)
    print(f"success {won:.2f} of {count}; from {far_at_first:.0f} units at first to {far_at_last:.0f}")


if __name__ == "__main__":
    import pusht_twin  # registers the environment under the name that recordings know

    pusht_twin.main(*sys.argv[1:3], *map(int, sys.argv[3:]))
