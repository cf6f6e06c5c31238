"""Close the loop: `cosmos-wm improve` collects with the agent, refreshes the model, and trains the agent again."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.data.collection import plan
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.train import cli, collect, fit_dynamics, train_agent, transfer
from cosmos_isaac_wm.world_model import WorldModel

_MOST_EPISODES = 10_000  # that one collection is checked for
_LEAST_EXPLORED = 0.2  # share of scripted episodes in late rounds; half of the first round's are


def run(
    data: Path,
    out: Path,
    world_model: str = "default",
    rounds: int = 2,
    episodes: int = 150,
    updates: int = 4000,
    algorithm: Literal["ppo", "sac", "td3", "sac_her"] = "ppo",
    timesteps: int | None = None,
    measured: int = 100,
    workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
) -> dict[str, float]:
    """Improve model and agent together, in rounds: where the agent goes becomes data.

    Round 0 trains an agent in the given bundle. Every later one collects with the last agent in the real simulator,
    mixed with scripted pushes (half of the first round's episodes, a quarter of the second's, then a fifth), refreshes
    the model on all data so far, trains an agent in it from scratch, and measures that agent in both worlds. What is
    finished is kept in OUT and not done again. Needs OpenGL.

    Args:
        data: The dataset that the bundle was made from; its test split judges every model.
        out: Folder for everything, a folder for each round.
        world_model: The bundle to begin with.
        rounds: How many rounds of collecting and refreshing.
        episodes: Collected per round.
        updates: Of the dynamics per round, by `refresh.yaml`.
        algorithm: Of the agents.
        timesteps: Of each agent's training; its YAML's when not given.
        measured: Episodes in each world that an agent is measured by.
        workers: Simulator processes, as of `cosmos-wm collect`.
        device: "auto", "cpu" or "cuda", for the model.
        seed: Of everything.
    """
    if rounds < 1:
        raise ValueError(f"expected one round or more, got {rounds}")
    model = WorldModel.load(world_model, device)
    settings = {
        "data": EpisodeDataset(data).fingerprint(),
        "world_model": model.fingerprint(),
        "episodes": episodes,
        "updates": updates,
        "algorithm": algorithm,
        "timesteps": timesteps,
        "measured": measured,
        "seed": seed,
    }
    out.mkdir(parents=True, exist_ok=True)
    cli.claim(out / "improvement.json", settings)
    size = model.scene.image_size[0]
    datasets, bundle, results = [data], world_model, list[dict[str, float]]()
    for number in range(rounds + 1):
        folder = out / f"round_{number}"
        if number:
            agent = out / f"round_{number - 1}" / "run" / "agent"
            explore = max(_LEAST_EXPLORED, 0.5**number)
            datasets.append(folder / "data")
            print(f"round {number}: collecting with {agent}, {explore:.0%} of the episodes scripted", flush=True)
            if not (folder / "data" / "data").exists():
                apart = _seed_apart(datasets[:-1], seed + number)
                collect.run(
                    folder / "data",
                    episodes,
                    kind="push",
                    sim=own_simulator(model),
                    workers=workers,
                    size=size,
                    agent=str(agent),
                    world_model=bundle,
                    explore=explore,
                    seed=apart,
                )
            bundle = _refresh(folder / "world_model", datasets, bundle, out / "encoded", updates, device, seed + number)
        _train(folder / "run", algorithm, bundle, timesteps, seed)
        results.append(_measure(folder, bundle, measured, seed))
    text = table(results)
    (out / "improvement.md").write_text(text + "\n")
    print(text)
    return {f"round_{number}_{key}": value for number, row in enumerate(results) for key, value in row.items()}


def _seed_apart(folders: Sequence[Path], seed: int) -> int:
    """A seed of a collection that repeats no episode of these datasets: repeated ones would be in other splits."""
    known = {number for folder in folders for number in EpisodeDataset(folder).seeds}
    for attempt in itertools.count():
        found = int(np.random.SeedSequence([seed, attempt, 1]).generate_state(1)[0])
        if not known & {job.seed for job in plan(_MOST_EPISODES, "push", found, 1)}:
            return found
    raise AssertionError("unreachable")


def _refresh(out: Path, datasets: Sequence[Path], init: str, cache: Path, updates: int, device: str, seed: int) -> str:
    """Fit the dynamics further on all data; the new bundle's path."""
    if not out.is_dir():
        recipe = cli.recipe(fit_dynamics.run, "fit-dynamics", "refresh.yaml").fit
        fit = dataclasses.replace(recipe, updates=updates, validate_every=max(1, updates // 8))
        cache.mkdir(parents=True, exist_ok=True)
        fit_dynamics.run(list(datasets), out, init=init, fit=fit, cache=cache, device=device, seed=seed)
    return str(out)


def _train(out: Path, algorithm: str, bundle: str, timesteps: int | None, seed: int) -> None:
    options = cli.recipe(train_agent.run, "train-agent", f"{algorithm}.yaml").as_dict()
    options = {key: value for key, value in options.items() if key not in ("config", "json")}
    options |= {"out": out, "world_model": bundle, "seed": seed}
    if timesteps is not None:
        options["timesteps"] = timesteps
    if not (out / "finished.json").exists():
        cli.write_json(out / "finished.json", train_agent.run(**options))


def _measure(folder: Path, bundle: str, episodes: int, seed: int) -> dict[str, float]:
    """Figures of a round's model and agent."""
    agent = str(folder / "run" / "agent")
    found = transfer.run([agent], folder / "transfer", bundle, episodes=episodes, seed=seed)
    row = {"dream_success": found[f"{agent}_dream_success"], "real_success": found[f"{agent}_real_success"]}
    metrics = WorldModel.load(bundle, "cpu").metrics
    shown = (key for key in metrics if key.startswith("push_") and key.endswith("_rmse_px512"))
    return row | {key: metrics[key] for key in shown}


def table(results: Sequence[Mapping[str, float]]) -> str:
    """A line for each round, and what it gained, as Markdown."""
    keys = list(dict.fromkeys(key for row in results for key in row))
    lines = ["| round | " + " | ".join(keys) + " | gained in reality |", "|---" * (len(keys) + 2) + "|"]
    for number, row in enumerate(results):
        gained = f"{row['real_success'] - results[number - 1]['real_success']:+.2f}" if number else ""
        cells = [str(number), *(f"{row[key]:.3g}" if key in row else "" for key in keys), gained]
        lines.append(f"| {' | '.join(cells)} |")
    for number, row in enumerate(results):
        gap = row["dream_success"] - row["real_success"]
        if gap > transfer.EXPLOITED:
            lines.append(f"\n**Exploitation:** round {number}'s agent succeeds more often in the dream, by {gap:.2f}.")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm improve` command."""
    return cli.run(run, "improve", argv)


if __name__ == "__main__":
    sys.exit(main())
