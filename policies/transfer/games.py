"""Which games are independent of each other? Each policy in each world: wherever jobs run, they run there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from tqdm import tqdm

from ...executors import Executor, Here
from .both_worlds import BothWorlds, PlayedInWorld, play_in
from .sources import Source, World, Worlds
from .starts import Start


@dataclass(frozen=True)
class Game:
    """All episodes of one policy in one world."""

    name: str
    world: World


def play_all(
    sources: Mapping[str, Source],
    worlds: Worlds,
    starts: Sequence[Start],
    seed: int,
    executor: Executor,
    keep: Callable[[str, BothWorlds], object],
    real_episodes: int | None = None,
) -> None:
    """Play policies from the same starts in both worlds.

    Args:
        sources: Of the policies, by name.
        worlds: The two.
        starts: Where to begin.
        seed: Of the policies' draws.
        executor: What runs the games. The figures are the same whatever it is.
        keep: Takes the episodes of a policy as soon as those of both worlds are there.
        real_episodes: How many of the starts, the first, are played in reality; all when None.
    """
    games = [Game(name, world) for name in sources for world in get_args(World)]
    found: dict[str, dict[World, PlayedInWorld]] = {name: {} for name in sources}

    def note(game: Game, played: PlayedInWorld) -> None:
        both = found[game.name]
        both[game.world] = played
        bar.update()
        if len(both) == len(get_args(World)):
            keep(game.name, BothWorlds.of(both))

    # Games that are played here show bars of their own.
    with tqdm(total=len(games), desc="transfer", unit="game", disable=isinstance(executor, Here)) as bar:
        play = partial(
            _play, sources=dict(sources), worlds=worlds, starts=starts, seed=seed, real_episodes=real_episodes
        )
        executor.run(play, games, note)


def _play(
    game: Game,
    sources: Mapping[str, Source],
    worlds: Worlds,
    starts: Sequence[Start],
    seed: int,
    real_episodes: int | None,
) -> PlayedInWorld:
    return play_in(game.world, game.name, sources[game.name], worlds, starts, seed, real_episodes)
