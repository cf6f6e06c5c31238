"""Do twins keep their promise, from nothing? The commands of docs/twins.md for each world and seed, and their figures.

A killed campaign is repeated: commands go on where they were, and those that are done are not run again. Training in
the environment itself, by the same algorithm, comes last, as what the agent of the dream is held against.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cosmos_isaac_wm.envs import DreamVectorEnv, RealTwinEnv
from cosmos_isaac_wm.spaces import action_vectors
from cosmos_isaac_wm.world_model import WorldModel

_SAC = "train-agent --algorithm sac --n_envs 16 --eval_every 10000 --eval_episodes 16 --world_model model"
_PPO = (
    "train-agent --algorithm ppo --hyperparameters.gamma 0.99 --n_envs 32 --eval_every 30000 --eval_episodes 32"
    " --world_model model"
)
_JUDGED = "transfer --policies [agent/agent,outside/agent,random] --episodes 50 --out transfer --world_model model"

WORLDS = {
    "pendulum": f"""
        collect --env Pendulum-v1 --episodes 200 --out data
        fit-tokenizer --fit.minutes 5 --data data --out eyes
        fit-dynamics --fit.minutes 12 --data data --perception eyes --out model
        {_SAC} --timesteps 60000 --out agent
        evaluate --world_model model --data data
        {_SAC} --timesteps 60000 --out outside --env CosmosReal-v0
        {_JUDGED}""",
    "cartpole": f"""
        collect --env CartPole-v1 --episodes 500 --out data
        fit-tokenizer --fit.minutes 4 --data data --out eyes
        fit-dynamics --fit.minutes 8 --data data --perception eyes --out model
        {_PPO} --timesteps 200000 --out agent
        evaluate --world_model model --data data
        {_PPO} --timesteps 200000 --out outside --env CosmosReal-v0
        {_JUDGED}""",
    "reacher": f"""
        collect --env Reacher-v5 --episodes 800 --size 96 --out data
        fit-tokenizer --fit.minutes 9 --data data --out eyes
        fit-dynamics --fit.minutes 15 --data data --perception eyes --out model
        {_SAC} --timesteps 80000 --out agent
        evaluate --world_model model --data data
        {_SAC} --timesteps 80000 --out outside --env CosmosReal-v0
        {_JUDGED}""",
}
_SHOWN = ("carry_r2_min", "state_r2_mean", "state_r2_min", "picture_r2_mean_at_25", "reward_r2_at_25", "termination_f1")


def run(commands: str, seed: int, folder: Path, words: str) -> dict[str, float]:
    """Run what is left of some commands in a folder; all figures that they gave.

    Args:
        commands: One a line, such as those of `WORLDS`.
        seed: Of every command that names no other.
        folder: Of everything; next to what a command makes are its log and its figures.
        words: Of the progress bar.

    Raises:
        RuntimeError: If a command fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    spent = 0.0
    lines = [shlex.split(line) for line in commands.strip().splitlines()]
    for number, argv in enumerate(tqdm(lines, desc=f"{words}, seed {seed}", unit="command")):
        said = folder / f"{number}-{argv[0]}.json"
        if not said.exists():
            begun = time.monotonic()
            seeded = [] if "--seed" in argv else ["--seed", str(seed)]
            module = f"cosmos_isaac_wm.train.{argv[0].replace('-', '_')}"
            command = [sys.executable, "-m", module, *argv[1:], *seeded, "--json", f"{said.name}.new"]
            with said.with_suffix(".log").open("ab") as log:
                code = subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False).returncode
            if code:
                raise RuntimeError(f"{shlex.join(command)} ended with {code}; its words are in {log.name}")
            found = json.loads((folder / f"{said.name}.new").read_text())
            said.write_text(json.dumps(found | {"minutes_taken": (time.monotonic() - begun) / 60}, indent=2) + "\n")
        found = json.loads(said.read_text())
        spent += 0.0 if "outside" in argv else found["minutes_taken"]
        figures |= found
    return figures | {"minutes": spent}


def speed(folder: Path, seconds: float = 5.0) -> dict[str, float]:
    """Steps with pictures in a second: of 64 dreams, and of the environment itself, in turns; medians of five."""
    model = WorldModel.load(folder / "model", "cpu")
    dream, real = DreamVectorEnv(64, model, obs_type="rgb", autoreset_mode="SameStep"), RealTwinEnv(model).source
    counts: dict[str, list[float]] = {"dream": [], "real": []}
    dream.reset(seed=0)
    real.reset(0)

    def dreamed() -> int:
        dream.step(dream.action_space.sample())
        return dream.num_envs

    def stepped() -> int:
        action = real.env.action_space.sample()
        shown = real.step(action_vectors(real.env.action_space, np.asarray(action)[None])[0])
        if shown.terminated or shown.truncated:
            real.reset(0)
        return 1

    for _ in range(6):  # the first of each warms up
        for name, step in (("dream", dreamed), ("real", stepped)):
            begun, count = time.perf_counter(), 0
            while time.perf_counter() - begun < seconds / 5:
                count += step()
            counts[name].append(count / (time.perf_counter() - begun))
    rates = {f"{name} steps/s": float(np.median(rates[1:])) for name, rates in counts.items()}
    return rates | {"dream / real": rates["dream steps/s"] / rates["real steps/s"]}


def shown(figures: dict[str, float]) -> dict[str, float]:
    """What is asked of a world: how well it is read and dreamed, and what its agent earns outside."""
    told = {key: figures[key] for key in _SHOWN if key in figures}
    real = {name: figures[f"{name}_real_return"] for name in ("agent/agent", "outside/agent", "random")}
    ratio = (real["agent/agent"] - real["random"]) / (real["outside/agent"] - real["random"])
    told |= {"in the dream": figures["agent/agent_dream_return"], "outside": real["agent/agent"]}
    told |= {"trained outside": real["outside/agent"], "random": real["random"], "ratio": ratio}
    return told | {"minutes": figures["minutes"]}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.worlds", description=__doc__)
    parser.add_argument("--world", choices=[*WORLDS], nargs="+", default=[*WORLDS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True, help="folder of everything, continued if it is there")
    options = parser.parse_args()
    for world in options.world:
        folders = [options.out / world / str(seed) for seed in options.seeds]
        pairs = zip(options.seeds, folders, strict=True)
        rows = [shown(run(WORLDS[world], seed, folder, world)) for seed, folder in pairs]
        rows = [row | speed(folder) for row, folder in zip(rows, folders, strict=True)]
        print(f"\n| {world} | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " | median |")
        print("|---" * (len(rows) + 2) + "|")
        for key in rows[0]:
            values = [row[key] for row in rows]
            print(f"| {key} | " + " | ".join(f"{value:.4g}" for value in [*values, np.median(values)]) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
