"""Which world model is better? `cosmos-wm compare --data DIR --perception DIR` sets the report's systems beside ours.

All learn from the same episodes for the same time, through the same tokenizer, and are judged on the same test split.
"""

from __future__ import annotations

import difflib
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch
from tqdm import tqdm

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.evaluation.diversity import diversity
from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.evaluation.ground_truth import Reference
from cosmos_isaac_wm.evaluation.open_loop import first_dreamed
from cosmos_isaac_wm.executors import Here, executor_for
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.precision import choose_device
from cosmos_isaac_wm.reporting.comparison import Result, tables, write_comparison
from cosmos_isaac_wm.reporting.report import write_metrics
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.storage.atomic import write, write_json
from cosmos_isaac_wm.storage.bundle import find_perception
from cosmos_isaac_wm.storage.lock import claim, holding
from cosmos_isaac_wm.storage.structured import read
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.train.fit_dynamics import FitDynamics
from cosmos_isaac_wm.train.speed.harness import Bench
from cosmos_isaac_wm.training.ablations import ABLATIONS
from cosmos_isaac_wm.training.error_bound import ErrorBoundFitConfig
from cosmos_isaac_wm.training.material import Material
from cosmos_isaac_wm.training.timing import seconds_an_update
from cosmos_isaac_wm.world_model import WorldModel

SYSTEMS = ("default", "resnet_rollout", "probabilistic_plus", "rollout", "sharp_shooter")
_FRAMES = 9  # that an episode must have: the longest context of the systems, and one more
_VALIDATED = 12  # episodes of each kind: a large network would spend its time on validation otherwise


@dataclass(frozen=True)
class Compare:
    """Train the report's systems for the same time on the same episodes, judge them alike, and show them side by side.

    What is finished is kept in OUT and not done again; an interrupted training goes on from its checkpoint. With `ray`
    every system is trained and judged on a node of its own, which needs DATA, PERCEPTION and OUT under the same paths.

    Attributes:
        data: Dataset folder, as written by `cosmos-wm collect`; its test split judges.
        perception: Folder written by `cosmos-wm fit-tokenizer`, or a bundle, by folder or shipped name.
        out: Folder for everything.
        systems: Which ones, of default, resnet_rollout, probabilistic_plus, rollout, sharp_shooter (all when not
            given) and of the ablations.
        ablation: ResNet-Rollout with one thing changed at a time as well. One of them looks back on eight frames, so
            then all dreams begin at frame 8.
        minutes_per_model: Training time of each, counted without validations: as many updates as fit into it.
        contexts: Number of start contexts in each bundle.
        device: "auto", "cpu" or "cuda".
        seed: Of weights, batches and noise.
        ray: Train and judge on a Ray cluster instead of one system after the other here: "auto" for the one that this
            machine is a node of, or HOST:PORT of its head (docs/scale.md).
    """

    data: Path
    perception: str
    out: Path = Path("results")
    systems: list[str] | None = None
    ablation: bool = False
    minutes_per_model: float = 20.0
    contexts: int = 16
    device: str = "auto"
    seed: int = 0
    ray: str | None = None

    def run(self) -> dict[str, float]:
        """Train what is not trained yet, judge what is not judged yet, and show all; the figures of each system."""
        names, dataset = self._names(), EpisodeDataset(self.data)
        sight = Perception.load(find_perception(self.perception), self._where)
        _check(dataset, sight)
        with holding(self.out):
            return self._compared(names, dataset, sight)

    def _compared(self, names: list[str], dataset: EpisodeDataset, sight: Perception) -> dict[str, float]:
        """Train, judge and show, or what is left of it."""
        system = self if self.ray is None else self._everywhere()
        needed = system.data, system.out, *([Path(system.perception)] if Path(system.perception).exists() else [])
        gpus = int(self._where.type == "cuda")
        with executor_for(self.ray, Here(), partial(_must_see, needed), cpus=None, gpus=gpus) as executor:
            claim(self.out / "comparison.json", self._settings(dataset, sight))
            missing = [name for name in names if not self._bundle(name).is_dir()]
            if len(missing) < len(names):
                cli.going_on(f"{len(names) - len(missing)} of {len(names)} systems, trained before, in {self.out}")
            if missing:
                _material(system.data, system.perception, system.out, self._where)  # jobs find it in its cache
            with tqdm(total=len(missing), desc="train", unit="system", disable=self.ray is None) as bar:
                executor.run(system._train, missing, lambda *_: bar.update())
            models = {name: WorldModel.load(self._bundle(name), self.device) for name in names}
            first = max(first_dreamed(model) for model in models.values())
            judged: dict[str, Result] = {}
            executor.run(partial(system._judge, first=first), names, judged.__setitem__)
        results = [judged[name] for name in names]
        if any("ms_a_frame" not in result.numbers for result in results):
            _measure_speed(results, models)
            for result in results:
                result.save(self._folder(result.name, first))
        print(tables(results, (*dataset.scene.marker_names, "object")[0]))
        report = write_comparison(self.out, results, models, dataset, first)
        print(f"\nreport: {report.resolve()}")
        return {f"{result.name}_{key}": value for result in results for key, value in result.numbers.items()}

    @property
    def _where(self) -> torch.device:
        return choose_device(self.device)

    def _names(self) -> list[str]:
        """Of the systems and ablations, each once."""
        known = (*SYSTEMS, *ABLATIONS)
        names = list(dict.fromkeys([*(self.systems or SYSTEMS), *(ABLATIONS if self.ablation else ())]))
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=2)
                hint = f"did you mean {' or '.join(near)}?" if near else f"expected some of {[*known]}"
                raise ValueError(f"unknown system {name!r}; {hint}")
        return names

    def _everywhere(self) -> Compare:
        """The same as other nodes understand it: paths that do not begin here, and the kind of device that is here."""
        perception = str(Path(self.perception).resolve()) if Path(self.perception).exists() else self.perception
        data, out = self.data.resolve(), self.out.resolve()
        return replace(self, data=data, out=out, perception=perception, device=self._where.type)

    def _settings(self, dataset: EpisodeDataset, sight: Perception) -> dict[str, object]:
        """What a comparison that is gone on with must have been begun with."""
        return {
            "data": dataset.fingerprint(),
            "perception": sight.fingerprint(),
            "minutes_per_model": self.minutes_per_model,
            "seed": self.seed,
        }

    def _bundle(self, name: str) -> Path:
        """Where a system's bundle is, when it is trained."""
        return self.out / f"dynamics_ckpts_{name}" / "bundle"

    def _folder(self, name: str, first: int) -> Path:
        """Where a system's figures are kept that count from that frame on."""
        return self.out / f"dynamics_ckpts_{name}" / f"from_frame_{first}"

    def _train(self, name: str) -> None:
        """Train one system for its time and write its bundle and `training_<name>.log`."""
        work = self._bundle(name).parent
        if not (self.out / "comparison.json").is_file():
            raise FileNotFoundError(f"{self.out} is another folder here than where the command runs; share the disk")
        work.mkdir(parents=True, exist_ok=True)
        print(f"{name}: training for {self.minutes_per_model:g} minutes", flush=True)
        material = _material(self.data, self.perception, self.out, self._where)
        material = material.fewer(_VALIDATED, ABLATIONS[name].episodes if name in ABLATIONS else None)
        system = replace(recipe(name), contexts=self.contexts, device=self.device, seed=self.seed)
        updates = self._updates(system, material, work / "plan.json")
        fit = replace(system.fit, updates=updates, epochs=0, validate_every=max(1, updates // 8))
        torch.manual_seed(self.seed)
        network = system.new_network(material.sight)
        model, result = replace(system, fit=fit, error_bound=ErrorBoundFitConfig(updates=0)).train_bundle(
            network, material, work
        )
        lines = [" ".join(f"{key}={value:.5g}" for key, value in row.items()) for row in result.curve]
        write(self.out / f"training_{name}.log", "\n".join(lines) + "\n")
        model.save(self._bundle(name))  # last: what has a bundle is finished

    def _updates(self, system: FitDynamics, material: Material, plan: Path) -> int:
        """How many a system has time for; measured once, and kept in a file."""
        if not plan.exists():
            new_network = partial(system.new_network, material.sight)
            seconds = seconds_an_update(new_network, material, system.fit, self.seed, self._where)
            count = max(1, round(60 * self.minutes_per_model / seconds))
            write_json(plan, {"updates": count, "seconds_an_update": seconds})
        return int(read(plan, dict[str, float])["updates"])

    def _judge(self, name: str, first: int) -> Result:
        """What was measured of a system, or measure it now, which also writes `tracking_metrics_<name>.txt`."""
        folder = self._folder(name, first)
        known = Result.load(name, folder)
        if known is not None:
            return known
        dataset, model = EpisodeDataset(self.data), WorldModel.load(self._bundle(name), self.device)
        truths = _truths(self.data, self.seed, first)
        evaluation = evaluate(
            model, dataset, dataset.held_out("test", _FRAMES), seed=self.seed, first=first, truths=truths
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_metrics(folder, evaluation)
        shutil.copy(folder / "tracking_metrics.txt", self.out / f"tracking_metrics_{name}.txt")
        more = {
            "parameters": float(sum(p.numel() for p in model.dynamics.parameters())),
            "train_minutes": float(model.provenance["minutes"]),
            **diversity(model, dataset, self.seed),
        }
        result = Result.of(name, evaluation, **more)
        result.save(folder)
        return result


@cache
def _material(data: Path, perception: str, out: Path, device: torch.device) -> Material:
    """What all systems learn from, read once in a process."""
    fitted = find_perception(perception)
    encoded = out if (fitted / "config.yaml").exists() else fitted  # as fit-tokenizer left it
    return Material.of([EpisodeDataset(data)], Perception.load(fitted, device), encoded, mirror=True, least=_FRAMES)


@cache
def _truths(data: Path, seed: int, first: int) -> dict[int, Reference]:
    """What is known in this process of the episodes that judge; `evaluate` adds to it."""
    return {}


def _must_see(folders: Sequence[Path]) -> None:
    """Say of a node that it does not share the disk that everything is read from and written to."""
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no folder {folder}; data, perception and out must be on a disk that all nodes share"
            )


def _check(dataset: EpisodeDataset, sight: Perception) -> None:
    """Say now what would otherwise be found out after hours of training."""
    scene = dataset.scene
    dataset.indices("test")
    if not scene.action_dim:
        raise ValueError(f"{dataset.path} has no actions, and all systems here are driven by actions")
    if not scene.markers:
        raise ValueError(f"{dataset.path} has no tracked objects, and systems are compared by where these are dreamed")
    dataset.must_fit(sight.scene, "the perception")


def recipe(name: str) -> FitDynamics:
    """How a system or an ablation is trained; what it is trained on, and where to, is still to be given."""
    if name not in ABLATIONS:
        return cli.recipe(FitDynamics, "fit-dynamics", f"{name}.yaml")
    whole, ablation = cli.recipe(FitDynamics, "fit-dynamics", "resnet_rollout.yaml"), ABLATIONS[name]
    return replace(whole, dynamics=replace(whole.dynamics, **ablation.dynamics), fit=replace(whole.fit, **ablation.fit))


def _measure_speed(results: Sequence[Result], models: Mapping[str, WorldModel]) -> None:
    """Milliseconds a frame of a single dream in float32, medians of measurements in turns."""
    steps: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        engine = DreamEngine(model, 1)
        engine.reset(model.contexts.latents[:1].float())
        steps[name] = partial(engine.step, torch.zeros(1, model.scene.action_dim, device=model.device))
    bench = Bench(repeats=5, seconds=0.1, device=next(iter(models.values())).device)
    bench.compare("systems", 1, steps)
    for result, row in zip(results, bench.rows, strict=True):
        result.numbers["ms_a_frame"] = 1000 * statistics.median(row.seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm compare` command."""
    return cli.run(Compare, "compare", argv)


if __name__ == "__main__":
    sys.exit(main())
