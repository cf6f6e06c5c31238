"""Does the dream start quickly, and does it stay fast? Over ten thousand steps, and with thousands of dreams."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import numpy as np
import psutil

from cosmos_isaac_wm.envs import DreamVectorEnv
from cosmos_isaac_wm.train.speed.harness import DreamOptions
from cosmos_isaac_wm.train.speed.subjects import draw_actions
from cosmos_isaac_wm.world_model import WorldModel


def start_up(world_model: str, repeats: int) -> dict[str, float]:
    """Seconds of the import, and from `gym.make` to the first step, in fresh processes."""
    script = (
        "import time; a = time.perf_counter(); import cosmos_isaac_wm; b = time.perf_counter(); "
        "import gymnasium as gym; c = time.perf_counter(); "
        f"env = gym.make('CosmosDream-v0', world_model={world_model!r}); env.reset(seed=0); "
        "env.step(env.action_space.sample()); d = time.perf_counter(); print(b - a, d - c)"
    )
    measured = []
    for _ in range(1 + repeats):
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        measured.append([float(value) for value in result.stdout.split()[-2:]])
    imported, stepped = np.median(measured[1:], axis=0)  # the first one warms the disk
    return {"import_s": float(imported), "first_step_s": float(stepped)}


def growth(model: WorldModel, steps: int, options: DreamOptions, seed: int, batch: int = 8) -> dict[str, float]:
    """Time per step and memory as the horizon grows, and as the number of dreams does."""
    env = DreamVectorEnv(batch, world_model=model, **options)
    env.reset(seed=seed)
    actions = draw_actions(model, batch, seed)
    for _ in range(100):
        env.step(actions)
    process = psutil.Process()
    before, blocks = process.memory_info().rss, []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(max(1, steps // 10)):
            env.step(actions)
        blocks.append(time.perf_counter() - start)
    after = process.memory_info().rss
    found = {"horizon_last_over_first": blocks[-1] / blocks[0], "horizon_growth_mib": (after - before) / 2**20}
    for many in (1, 4, 16, 64, 256, 1024, 4096):
        del env
        env = DreamVectorEnv(many, world_model=model, dtype=options["dtype"], compile=False)
        env.reset(seed=seed)
        actions, times = draw_actions(model, many, seed), []
        env.step(actions)
        for _ in range(5):
            start = time.perf_counter()
            env.step(actions)
            times.append(time.perf_counter() - start)
        found[f"growth_b{many}_ms_a_step"] = 1000 * statistics.median(times)
        found[f"growth_b{many}_process_mib"] = process.memory_info().rss / 2**20
    return found
