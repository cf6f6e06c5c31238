"""Which policy is meant by a name, and in which environment does it act? Agents, planners, scripted and random ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from ...envs import DreamEnv
from ...world_model import WorldModel
from ..agent import Agent
from ..named import EachAlone, imported, is_import
from ..planners import SEARCHES, GradientPlanner, Planner
from ..sb3 import make_vec_env
from ..scripted import GoalPusher, RandomPolicy
from .playing import Policy
from .starts import Start, far

PLANNERS = (*SEARCHES, "gradient")
Source = Agent | str  # what a policy is made of: an agent, or the name of what needs no file
World = Literal["dream", "clear", "real"]  # the second is a dream whose goals are smaller
CLEAR = 0.75  # of the goal's radius: a centimetre of the table's four is what a push is off by when it arrives


@dataclasses.dataclass(frozen=True)
class Worlds:
    """The dream and the real simulator that policies are played in.

    Attributes:
        model: The bundle to dream with, through whose eyes the real simulator is seen as well.
        simulator: Name of the real one.
        clear: Share of the goal's radius within which success in the dream is clear.
    """

    model: WorldModel
    simulator: str
    clear: float = CLEAR

    def new_env(self, source: Source, world: World, count: int, render: bool = False) -> VecEnv:
        """Environments as a policy wants them, rewarding progress, so that returns can be compared.

        Args:
            source: Of the policy.
            world: In which it acts.
            count: How many.
            render: Whether they shall show pictures.
        """
        more: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
        more |= {"world_model": self.model, "reward_type": "progress"}
        if world == "real":
            more["simulator"] = self.simulator
        elif world == "clear":
            more["goal_radius"] = self.clear * self.model.scene.goal_radius
        env_id = "CosmosReal-v0" if world == "real" else "CosmosDream-v0"
        if isinstance(source, Agent):
            return make_vec_env(env_id, count, None, source.frame_stack, **source.task_kwargs, **more)
        if world != "real" and source in PLANNERS:  # which look at one environment
            return DummyVecEnv([lambda: DreamEnv(**more)])
        return make_vec_env(env_id, count, **more)

    def find(self, name: str) -> Source:
        """The agent of a name, checked; the name itself for what needs no file.

        Raises:
            ValueError: If there is no such policy, or it is one for another environment.
        """
        if name in (*PLANNERS, "random", "scripted"):
            return name
        if is_import(name) and not Path(name).exists():
            imported(name)  # which is an error now if there is no such function
            return name
        agent = Agent.load(name)
        env = self.new_env(agent, "dream", 1)
        agent.check(env, self.model.fingerprint())
        env.close()
        return agent


def new_policy(source: Source, env: VecEnv, seed: int) -> Policy:
    """The policy of a source, for environments of `Worlds.new_env`; `seed` is that of its draws."""
    if isinstance(source, Agent):
        return source
    if source == "random":
        return RandomPolicy(env.action_space, seed)  # type: ignore[arg-type]
    if source == "scripted":
        return GoalPusher()
    if is_import(source):
        return EachAlone(source, env)
    single = env.get_attr("unwrapped")[0]
    if source == "gradient":
        return GradientPlanner(single, seed=seed)
    return Planner(single, SEARCHES[source](), seed=seed)


def identity(source: Source) -> str:
    """What a policy is known by: its weights' hash, or its name and, of a planner, its parameters."""
    if isinstance(source, Agent):
        return source.fingerprint()
    if source not in PLANNERS:
        return source
    parts = (GradientPlanner,) if source == "gradient" else (SEARCHES[source], Planner)
    defaults = [f"{key}={value.default}" for part in parts for key, value in signature(part).parameters.items()]
    return f"{source} {' '.join(text for text in defaults if 'empty' not in text)}"


def known_goal(source: Source, starts: Sequence[Start]) -> Sequence[Start]:
    """The starts with the goal that an agent was trained for, without those that it would begin too near to.

    Raises:
        ValueError: If none is left.
    """
    goal = source.env_kwargs.get("goal") if isinstance(source, Agent) else None
    if goal is None:
        return starts
    left = [dataclasses.replace(start, goal=np.array(goal)) for start in starts if far(start.subject, goal)]
    if not left:
        raise ValueError(
            f"all of the {len(starts)} starts are too near to the agent's goal {goal}; ask for more episodes"
        )
    return left
