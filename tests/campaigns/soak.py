"""Does a long dream stay finite, and the memory flat? Thousands of steps of a thousand dreams, restarts included."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gymnasium.spaces import Box
from tqdm import tqdm

from cosmos_isaac_wm.envs import DreamVectorEnv

_SETTLED = 500  # steps after which everything is compiled, and every dream has begun anew
_EVERY = 100  # steps between looks at the memory


def soak(steps: int, dreams: int, world_model: str, seed: int) -> dict[str, Any]:
    """Step dreams under random actions; what was seen.

    Args:
        steps: Of each dream, beyond those until everything has settled.
        dreams: Side by side.
        world_model: The bundle.
        seed: Of starts and actions.
    """
    env = DreamVectorEnv(dreams, world_model, compile=True, autoreset_mode="SameStep")
    env.reset(seed=seed)
    rng, process, space = np.random.default_rng(seed), psutil.Process(), env.single_action_space
    assert isinstance(space, Box)
    ends, bad, memory = 0, 0, []
    for step in tqdm(range(_SETTLED + steps), desc="soak", unit="step"):
        actions = rng.uniform(space.low, space.high, env.action_space.shape).astype(np.float32)
        observation, rewards, terminated, truncated, _ = env.step(actions)
        ends += int(np.sum(terminated | truncated))
        finite = [np.isfinite(values).all() for values in (rewards, *observation.values())]
        bad += not (all(finite) and bool(env.engine.newest.isfinite().all()))
        if step >= _SETTLED and step % _EVERY == 0:
            memory.append(process.memory_info().rss / 2**20)
    slope = float(np.polyfit(_EVERY * np.arange(len(memory)), memory, 1)[0]) if len(memory) > 1 else 0.0
    grown = float(np.mean(memory[-5:]) - np.mean(memory[:5]))
    return {
        "steps": steps,
        "dreams": dreams,
        "episodes_ended": ends,
        "steps_not_finite": bad,
        "growth_mib": grown,
        "mib_per_1000_steps": 1000 * slope,
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--dreams", type=int, default=1024)
    parser.add_argument("--world-model", default="default", help="a bundle; a toy one takes minutes instead of hours")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    found = soak(options.steps, options.dreams, options.world_model, options.seed)
    print("\n".join(f"{name:>20}  {value:,.4g}" for name, value in found.items()))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(found["steps_not_finite"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
