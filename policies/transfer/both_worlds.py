"""How does a policy do in the dream and in reality, from the same starts? Its episodes, and a film of one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from ...reporting.figures import write_side_by_side
from ..planners import Planner
from .playing import Played, play
from .sources import Source, World, Worlds, known_goal, new_policy
from .starts import Start

BOTH: tuple[World, World] = ("dream", "real")


@dataclass
class PlayedInWorld:
    """A policy in one world.

    Attributes:
        played: Its episodes.
        steps_per_s: Of a planner: actions that it thought of per second.
    """

    played: Played
    steps_per_s: float | None = None


@dataclass
class BothWorlds:
    """A policy in both worlds.

    Attributes:
        dream: Its dreamed episodes.
        real: Its real ones.
        steps_per_s: Of a planner in the real simulator: actions that it thought of per second.
        clear: Dreamed ones whose goals were smaller; none where they were not played.
    """

    dream: Played
    real: Played
    steps_per_s: float | None = None
    clear: Played = field(default_factory=Played)

    @classmethod
    def of(cls, found: Mapping[World, PlayedInWorld]) -> BothWorlds:
        """What was played in one world and in the other."""
        clear = found["clear"].played if "clear" in found else Played()
        return cls(found["dream"].played, found["real"].played, found["real"].steps_per_s, clear)

    @property
    def foretelling(self) -> Played:
        """The dreamed episodes that foretell the real ones best: those of clear success, where they were played.

        An agent learns to come just near enough to the goal, so a dream that is off by a centimetre makes many of its
        successes out of none.
        """
        return self.clear if self.clear.success else self.dream


def play_both(name: str, source: Source, worlds: Worlds, starts: Sequence[Start], seed: int) -> BothWorlds:
    """Play a policy from the same starts in both worlds; one that knows only a fixed goal gets that goal.

    Args:
        name: For the progress bar.
        source: Of the policy.
        worlds: The two.
        starts: Where to begin.
        seed: Of the policy's draws.
    """
    return BothWorlds.of({world: play_in(world, name, source, worlds, starts, seed) for world in BOTH})


def play_in(
    world: World,
    name: str,
    source: Source,
    worlds: Worlds,
    starts: Sequence[Start],
    seed: int,
    real_episodes: int | None = None,
) -> PlayedInWorld:
    """Play a policy in one of both worlds, as `play_both` does; in the real one from the first so many starts only."""
    starts = known_goal(source, starts)
    if world == "real" and real_episodes is not None:
        starts = starts[:real_episodes]
    if not starts:
        return PlayedInWorld(Played())
    env = worlds.new_env(source, world, 1 if world == "real" else len(starts))
    policy = new_policy(source, env, seed)
    played = play(policy, env, starts, world != "real", f"{name}, {world}")
    env.close()
    return PlayedInWorld(played, sum(played.length) / policy.seconds if isinstance(policy, Planner) else None)


def film(path: str | os.PathLike[str], name: str, source: Source, worlds: Worlds, start: Start, seed: int) -> None:
    """An MP4 of a policy from one start, in the dream and in the real simulator, each until its own end.

    Args:
        path: Of the MP4.
        name: What to call the policy.
        source: Of the policy.
        worlds: The two.
        start: Where to begin.
        seed: Of the policy's draws.
    """
    clips: dict[str, list[Any]] = {}
    for world, words in zip(BOTH, ("dream", "real simulator"), strict=True):
        env = worlds.new_env(source, world, 1, render=True)
        frames = clips.setdefault(f"{name}, {words}", [])
        play(new_policy(source, env, seed), env, [start], world == "dream", "film", partial(_look, env, frames))
        env.close()
    write_side_by_side(path, clips, worlds.model.scene.control_hz)


def _look(env: VecEnv, frames: list[Any]) -> None:
    frames.append(env.get_images()[0])
