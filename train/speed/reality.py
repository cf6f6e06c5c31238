"""How much faster is the dream than the real simulator? With drawing and encoding, in MuJoCo or in Isaac Lab."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from cosmos_isaac_wm.envs import DreamVectorEnv
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.policies.sb3 import one_thread_each
from cosmos_isaac_wm.sims.mujoco import OpenGLError
from cosmos_isaac_wm.sims.tables import Tables
from cosmos_isaac_wm.train.speed.harness import Bench, DreamOptions
from cosmos_isaac_wm.train.speed.subjects import draw_actions
from cosmos_isaac_wm.world_model import WorldModel

Frames = NDArray[np.uint8]


def real_simulator(
    bench: Bench, model: WorldModel, options: DreamOptions, seed: int, batch: int = 64
) -> dict[str, float]:
    """`CosmosReal-v0` with drawing and encoding, in one process and in two; a word says so where it cannot run."""
    if own_simulator(model) == "isaac-lab":
        return isaac_lab(bench, model, options, seed, batch)
    try:
        real = gym.make("CosmosReal-v0", world_model=model)
        real.reset(seed=seed)
    except (OpenGLError, ValueError) as error:
        print(f"the real simulator was not measured: {error}", file=sys.stderr)
        return {}
    two = _two_processes(model, seed)
    dream = _dreams(model, batch, options, seed)
    actions = draw_actions(model, batch, seed)

    def step_real() -> None:
        _, _, terminated, truncated, _ = real.step(actions[0])
        if terminated or truncated:
            real.reset()

    calls: dict[str, Callable[[], object]] = {
        "CosmosReal-v0": step_real,
        "CosmosReal-v0, 2 processes": partial(two.step, actions[:2]),
        f"{batch} dreams": partial(dream.step, actions),
    }
    bench.compare("the real simulator", 1, calls)
    one, pair, dreams = (statistics.median(row.seconds) for row in bench.rows[-3:])
    bench.rows[-2:] = [
        dataclasses.replace(bench.rows[-2], batch=2, over=one / pair * 2),
        dataclasses.replace(bench.rows[-1], batch=batch, over=one / dreams * batch),
    ]
    two.close()
    real.close()
    found = {"real_steps_per_s": 1 / one, "real_2_processes_steps_per_s": 2 / pair}
    return found | {"over_real": batch / dreams / max(found.values())}


def _dreams(model: WorldModel, batch: int, options: DreamOptions, seed: int) -> DreamVectorEnv:
    """So many dreams, started."""
    env = DreamVectorEnv(batch, world_model=model, **options)
    env.reset(seed=seed)
    return env


def _two_processes(model: WorldModel, seed: int) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Two real environments, each in a process of its own, started."""
    with one_thread_each():
        two = gym.make_vec(
            "CosmosReal-v0",
            num_envs=2,
            vectorization_mode="async",
            vector_kwargs={"context": "spawn"},  # a fork would inherit the locks of running threads
            world_model=str(model.path),
        )
        two.reset(seed=seed)
    return two


def isaac_lab(bench: Bench, model: WorldModel, options: DreamOptions, seed: int, batch: int) -> dict[str, float]:
    """Isaac Lab with drawing and encoding, by the number of tables that step together."""
    try:
        from cosmos_isaac_wm.sims.isaac_lab import IsaacLabTables
    except ImportError as error:
        print(f"the real simulator was not measured: {error}", file=sys.stderr)
        return {}
    dream = _dreams(model, batch, options, seed)
    actions = draw_actions(model, batch, seed)
    found: dict[str, float] = {}
    over = []
    for count in (1, 4, 16, 64):
        with contextlib.closing(IsaacLabTables("push", count, model.scene.image_size)) as tables:
            some, seeds = draw_actions(model, count, seed), list(range(seed, seed + count))
            drawn = partial(_step_tables, tables, seeds, some, itertools.count())
            calls: dict[str, Callable[[], object]] = {
                "drawn": drawn,
                "drawn and encoded": partial(_call_in_turn, drawn, model.encode),
                f"beside {batch} dreams": partial(dream.step, actions),
            }
            bench.compare(f"Isaac Lab with {count} tables", count, calls)
        bare, real, dreams = bench.rows[-3:]
        bench.rows[-1] = dataclasses.replace(dreams, batch=batch, over=dreams.over * batch / count)
        found[f"isaac_lab_{count}_tables_drawn_steps_per_s"] = bare.steps_per_s
        found[f"isaac_lab_{count}_tables_steps_per_s"] = real.steps_per_s
        over.append(bench.rows[-1].over / real.over)
    return found | {"over_isaac_lab": min(over)}


def _call_in_turn(first: Callable[[], Frames], then: Callable[[Frames], object]) -> object:
    return then(first())


def _step_tables(tables: Tables, seeds: list[int], actions: NDArray[np.float32], clock: Iterator[int]) -> Frames:
    """Pictures (n, H, W, 3) after a step; now and then from new starts, or all pushers would stand at the wall."""
    if next(clock) % 32 == 0:
        tables.reset(seeds)
    tables.step(actions)
    return tables.render()
