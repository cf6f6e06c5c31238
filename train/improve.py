"""How do model and agent improve together? `cosmos-wm improve` collects with the agent, refreshes, trains again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.data.collection import seed_apart
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.policies.transfer.page import EXPLOITED
from cosmos_isaac_wm.scene import Scene
from cosmos_isaac_wm.sims.gymnasium_env import environment_of
from cosmos_isaac_wm.storage.atomic import write, write_json
from cosmos_isaac_wm.storage.lock import claim, holding
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.train.collect import Collect
from cosmos_isaac_wm.train.fit_dynamics import FitDynamics
from cosmos_isaac_wm.train.train_agent import TrainAgent
from cosmos_isaac_wm.train.transfer import Transfer
from cosmos_isaac_wm.world_model import WorldModel

_LEAST_EXPLORED = 0.2  # share of episodes without the agent in late rounds; half of the first round's are
_OF_TWINS = ("state_r2_mean", "picture_r2_mean_at_25", "reward_r2_at_25", "termination_f1")


@dataclass(frozen=True)
class Improve:
    """Improve model and agent together, in rounds: where the agent goes becomes data.

    Round 0 trains an agent in the given bundle. Every later one collects with the last agent in the real simulator,
    mixed with scripted pushes (half of the first round's episodes, a quarter of the second's, then a fifth), refreshes
    the model on all data so far, trains an agent in it from scratch, and measures that agent in both worlds. What is
    finished is kept in OUT and not done again. Needs OpenGL. With the twin of a foreign environment it is the same in
    that, where smooth random actions are mixed in instead of scripted pushes.

    Attributes:
        data: The dataset that the bundle was made from; its test split judges every model.
        out: Folder for everything, a folder for each round.
        world_model: The bundle to begin with.
        real: What the environment of a twin is called, "module:Name-v0", where Gymnasium does not know it by itself.
        rounds: How many rounds of collecting and refreshing.
        episodes: Collected per round.
        candidates: Planned for each of them; recorded are those that the model's dreams are least sure of, as of
            `cosmos-wm collect`; of our table only.
        updates: Of the dynamics per round, by `refresh.yaml`.
        algorithm: Of the agents.
        timesteps: Of each agent's training; its YAML's when not given.
        hyperparameters: Of the algorithm, as of `cosmos-wm train-agent`: "--hyperparameters.NAME VALUE" changes one.
        measured: Episodes in each world that an agent is measured by.
        despite_verdict: Train agents even in a model that has learned nothing, as of `cosmos-wm train-agent`.
        workers: Simulator processes, as of `cosmos-wm collect`.
        device: "auto", "cpu" or "cuda", for the model.
        seed: Of everything.
        ray: Collect and measure on a Ray cluster: "auto", or HOST:PORT of its head (docs/scale.md).
    """

    data: Path
    out: Path
    world_model: str = "default"
    real: str | None = None
    rounds: int = 2
    episodes: int = 150
    candidates: int = 1
    updates: int = 4000
    algorithm: Literal["ppo", "sac", "td3", "sac_her"] = "ppo"
    timesteps: int | None = None
    hyperparameters: dict[str, Any] | None = None
    measured: int = 100
    despite_verdict: bool = False
    workers: int | None = None
    device: str = "auto"
    seed: int = 0
    ray: str | None = None

    def run(self) -> dict[str, float]:
        """Do every round, or what is left of it, and say what each gained; the figures of each round."""
        if self.rounds < 1:
            raise ValueError(f"expected one round or more, got {self.rounds}")
        model = WorldModel.load(self.world_model, self.device)
        if model.scene.environment is not None:
            if self.candidates > 1:
                raise ValueError(
                    "candidates are planned on our table only; a twin's episodes are recorded as they come"
                )
            environment_of(model.scene, self.real).close()  # one that is not here is an error now
        with holding(self.out):
            return self._improved(model)

    def _improved(self, model: WorldModel) -> dict[str, float]:
        """Every round, or what is left of it."""
        claim(self.out / "improvement.json", self._settings(model))
        datasets, bundle, results = [self.data], self.world_model, list[dict[str, float]]()
        for number in range(self.rounds + 1):
            if number:
                datasets += self._collect(number, datasets, bundle, model)
                bundle = self._refresh(number, datasets, bundle)
            self._train(number, bundle)
            results.append(self._measure(number, bundle))
        text = table(results)
        write(self.out / "improvement.md", text + "\n")
        print(text)
        return {f"round_{number}_{key}": value for number, row in enumerate(results) for key, value in row.items()}

    def _settings(self, model: WorldModel) -> dict[str, object]:
        """What rounds that are gone on with must have been begun with."""
        return {
            "data": EpisodeDataset(self.data).fingerprint(),
            "world_model": model.fingerprint(),
            "episodes": self.episodes,
            **({"candidates": self.candidates} if self.candidates > 1 else {}),
            **({"hyperparameters": self.hyperparameters} if self.hyperparameters else {}),
            "updates": self.updates,
            "algorithm": self.algorithm,
            "timesteps": self.timesteps,
            "measured": self.measured,
            "seed": self.seed,
        }

    def _folder(self, number: int) -> Path:
        return self.out / f"round_{number}"

    def _collect(self, number: int, datasets: Sequence[Path], bundle: str, model: WorldModel) -> list[Path]:
        """Collect with the agent of the round before, and without it; where that is."""
        agent, folder = str(self._folder(number - 1) / "run" / "agent"), self._folder(number)
        explore = max(_LEAST_EXPLORED, 0.5**number)
        print(f"round {number}: collecting with {agent}, {explore:.0%} of the episodes without it", flush=True)
        known = {seed for each in datasets for seed in EpisodeDataset(each).seeds}
        if model.scene.environment is not None:
            return self._collect_env(number, agent, explore, known, model.scene)
        Collect(
            folder / "data",
            self.episodes,
            kind="push",
            sim=own_simulator(model),
            workers=self.workers,
            size=model.scene.image_size[0],
            agent=agent,
            world_model=bundle,
            explore=explore,
            candidates=self.candidates,
            seed=seed_apart(known, self.seed + number),
            ray=self.ray,
        ).run()
        return [folder / "data"]

    def _collect_env(self, number: int, agent: str, explore: float, known: set[int], scene: Scene) -> list[Path]:
        """Collect in the environment of a twin, looking with its own eyes: by the agent, and by smooth actions."""
        told = scene.environment
        assert told is not None
        explored = round(explore * self.episodes)
        folders = []
        for name, policy, episodes in (("data", agent, self.episodes - explored), ("explored", "smooth", explored)):
            if not episodes:
                continue
            folders.append(self._folder(number) / name)
            Collect(
                folders[-1],
                episodes,
                env=self.real or told.id,
                env_kwargs=None if self.real is None else told.kwargs,  # else they are those of the registered one
                policy=policy,
                workers=self.workers,
                size=scene.image_size[0] if told.picture is None else None,
                seed=seed_apart(known, self.seed + number),
                ray=self.ray,
            ).run()
            known |= set(EpisodeDataset(folders[-1]).seeds)
        return folders

    def _refresh(self, number: int, datasets: Sequence[Path], init: str) -> str:
        """Fit the dynamics further on all data; the new bundle's path."""
        out, cache = self._folder(number) / "world_model", self.out / "encoded"
        if not out.is_dir() or not WorldModel.load(str(out), "cpu").metrics:
            shipped = cli.recipe(FitDynamics, "fit-dynamics", "refresh.yaml")
            fit = replace(shipped.fit, updates=self.updates, validate_every=max(1, self.updates // 8))
            heads = replace(shipped.heads, updates=min(shipped.heads.updates, self.updates))
            cache.mkdir(parents=True, exist_ok=True)
            replace(
                shipped,
                data=list(datasets),
                out=out,
                init=init,
                fit=fit,
                heads=heads,
                cache=cache,
                device=self.device,
                seed=self.seed + number,
            ).run()
        return str(out)

    def _train(self, number: int, bundle: str) -> None:
        """Train an agent from scratch."""
        out = self._folder(number) / "run"
        if not (out / "finished.json").exists():
            shipped = cli.recipe(TrainAgent, "train-agent", f"{self.algorithm}.yaml")
            timesteps = shipped.timesteps if self.timesteps is None else self.timesteps
            agent = replace(
                shipped,
                out=out,
                world_model=bundle,
                real=self.real,
                timesteps=timesteps,
                hyperparameters={**(shipped.hyperparameters or {}), **(self.hyperparameters or {})},
                despite_verdict=self.despite_verdict,
                seed=self.seed,
            )
            write_json(out / "finished.json", agent.run())

    def _measure(self, number: int, bundle: str) -> dict[str, float]:
        """Figures of a round's model and agent."""
        folder = self._folder(number)
        agent = str(folder / "run" / "agent")
        transfer = Transfer(
            [agent], folder / "transfer", bundle, self.real, self.measured, seed=self.seed, ray=self.ray
        )
        found, metrics = transfer.run(), WorldModel.load(bundle, "cpu").metrics
        measure = "success" if f"{agent}_real_success" in found else "return"
        row = {f"{world}_{measure}": found[f"{agent}_{world}_{measure}"] for world in ("dream", "real")}
        pushes = [key for key in metrics if key.startswith("push_") and key.endswith("_rmse_px512")]
        return row | {key: metrics[key] for key in (*pushes, *_OF_TWINS) if key in metrics}


def table(results: Sequence[Mapping[str, float]]) -> str:
    """A line for each round, and what it gained, as Markdown."""
    keys = list(dict.fromkeys(key for row in results for key in row))
    real, dream = (next(key for key in keys if key.startswith(world)) for world in ("real_", "dream_"))
    lines = ["| round | " + " | ".join(keys) + " | gained in reality |", "|---" * (len(keys) + 2) + "|"]
    for number, row in enumerate(results):
        gained = f"{row[real] - results[number - 1][real]:+.2f}" if number else ""
        cells = [str(number), *(f"{row[key]:.3g}" if key in row else "" for key in keys), gained]
        lines.append(f"| {' | '.join(cells)} |")
    for number, row in enumerate(results):
        gap = row[dream] - row[real]
        if real == "real_success" and gap > EXPLOITED:
            lines.append(f"\n**Exploitation:** round {number}'s agent succeeds more often in the dream, by {gap:.2f}.")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm improve` command."""
    return cli.run(Improve, "improve", argv)


if __name__ == "__main__":
    sys.exit(main())
