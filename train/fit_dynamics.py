"""How does a world model learn what comes next? `cosmos-wm fit-dynamics --data DIR --perception DIR --out BUNDLE`.

To refresh a model with new data: `cosmos-wm fit-dynamics --data '[OLD, NEW]' --init BUNDLE --out NEW_BUNDLE`.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from cosmos_isaac_wm.data import EpisodeDataset, open_datasets
from cosmos_isaac_wm.data.writing import ship
from cosmos_isaac_wm.dynamics import (
    DYNAMICS,
    DynamicsNetwork,
    LatentUNetConfig,
    ProbabilisticPlusConfig,
    ResNetRollout,
    ResNetRolloutConfig,
    grown,
)
from cosmos_isaac_wm.error_bound import ErrorBound
from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.evaluation.open_loop import first_dreamed
from cosmos_isaac_wm.evaluation.trust import doubted, trust_figures
from cosmos_isaac_wm.evaluation.twins import twin_figures
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.precision import choose_device
from cosmos_isaac_wm.reporting.curves import draw_curves
from cosmos_isaac_wm.storage.bundle import find_perception
from cosmos_isaac_wm.storage.lock import claim, holding
from cosmos_isaac_wm.storage.weights import fingerprint, must_be_buildable
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.training import FitConfig, FitResult, fit_dynamics
from cosmos_isaac_wm.training.error_bound import ErrorBoundFitConfig, fit_error_bound
from cosmos_isaac_wm.training.heads import HeadsFitConfig
from cosmos_isaac_wm.training.heads_of_dreams import fit_heads_on_dreams
from cosmos_isaac_wm.training.material import Material, draw_contexts
from cosmos_isaac_wm.training.processes import Processes
from cosmos_isaac_wm.training.verdict import Verdict
from cosmos_isaac_wm.world_model import WorldModel

_BOUND = "fit.json"
_MAY_CHANGE = "fit.minutes, fit.compile, the device and the number of processes"
Shape = ResNetRolloutConfig | ProbabilisticPlusConfig | LatentUNetConfig


@dataclass(frozen=True)
class FitDynamics:
    """Train the dynamics on its own rollouts and write a world model bundle, resumably.

    `accelerate launch` or `torchrun` let several processes share the batch; only the main one writes. Checkpoints,
    encoded episodes, TensorBoard scalars and the curves are kept beside the bundle in `OUT.fit`; an
    interrupted fit is continued from there.

    Attributes:
        data: A dataset folder, as written by `cosmos-wm collect`, or several; the first one's test split judges the
            result.
        out: Bundle folder to write; nothing but this very fit may be in it.
        perception: Folder written by `cosmos-wm fit-tokenizer`, or a bundle by folder or shipped name.
        init: A bundle to continue from: its dynamics and weights, and its perception unless `perception` is given too,
            which must see the same latents, or those of an encoder that has learned on from it (`cosmos-wm
            fit-tokenizer --init`).
        grow: What of a ResNet-Rollout's shape to enlarge first, with `init`: `blocks`, `history` or `context_length`.
        model: Which dynamics model, where a new one is made (without `init`).
        dynamics: Shape of a new "resnet_rollout". `action_dim` and `observed` (if above 0) and `channels` follow the
            data.
        probabilistic_plus: Shape of a new "probabilistic_plus".
        unet: Shape of a new "unet".
        fit: The training recipe.
        heads: How the heads of a foreign environment learn to read dreams, afterwards; 0 updates for not at all.
        error_bound: How it is learned, at last, how far dreams may be off; 0 updates for not at all.
        bound_data: Datasets that the dynamics has not seen, to learn that from: its own are dreamed better than others,
            and make a bound too sure of itself. Those of `data` when not given.
        contexts: Number of real start contexts to store in the bundle.
        ship_episodes: Held-out episodes to store in the bundle, in equal numbers per kind.
        cache: Folder of encoded episodes; the perception's, where fit-tokenizer has left them, or `OUT.fit`.
        device: "auto", "cpu" or "cuda".
        seed: Seed of weights, batches and stored contexts.
    """

    data: list[Path] | Path
    out: Path
    perception: str | None = None
    init: str | None = None
    grow: dict[str, int] = field(default_factory=dict)
    model: Literal["resnet_rollout", "probabilistic_plus", "unet"] = "resnet_rollout"
    dynamics: ResNetRolloutConfig = field(default_factory=ResNetRolloutConfig)
    probabilistic_plus: ProbabilisticPlusConfig = field(default_factory=ProbabilisticPlusConfig)
    unet: LatentUNetConfig = field(default_factory=LatentUNetConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    heads: HeadsFitConfig = field(default_factory=lambda: HeadsFitConfig(updates=1000, lr=5e-4))
    error_bound: ErrorBoundFitConfig = field(default_factory=ErrorBoundFitConfig)
    bound_data: list[Path] | Path | None = None
    contexts: int = 96
    ship_episodes: int = 0
    cache: Path | None = None
    device: str = "auto"
    seed: int = 0

    def run(self) -> dict[str, float]:
        """Fit, evaluate on the test split, and write the bundle; its figures."""
        if self.perception is None and self.init is None:
            raise ValueError("give --perception (a new model) or --init (refresh a bundle)")
        if self.grow and self.init is None:
            raise ValueError("--grow enlarges a trained dynamics: give --init, or shape a new one with --dynamics")
        processes = self._processes  # what is not there is an error now
        processes.slots(self.fit.batch_size)  # and so is what cannot be shared
        datasets = open_datasets(self.data)
        for other in self._unseen:
            other.must_fit(datasets[0].scene, str(datasets[0].path))
        torch.manual_seed(self.seed)
        eyes = find_perception(self.perception) if self.perception is not None else None
        sight, network = self._begun(None if eyes is None else Perception.load(eyes, self._where))
        out = self.out.absolute()
        if out.resolve() == Path.cwd():
            raise ValueError(f"--out {self.out} is the folder that you are in; name one for the bundle")
        work = out.with_name(out.name + ".fit")
        if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (work / _BOUND).is_file():
            raise FileExistsError(f"{out} exists and is not empty; a bundle is never overwritten, choose another name")
        if self.ship_episodes:
            datasets[0].indices("test")  # there are some to be shipped, or that is an error now
        with holding(work) if processes.main else nullcontext():
            with processes.main_first():
                begun = (work / "checkpoint.pt").exists() or out.exists()
                claim(work / _BOUND, self._settings(datasets, sight, network), begun, _MAY_CHANGE)
            if out.exists() and any(out.iterdir()):
                cli.going_on(f"the finished bundle {self.out}")
                return self._evaluated(WorldModel.load(out, self.device), datasets[0]) if processes.main else {}
            cache = work if eyes is None or (eyes / "config.yaml").exists() else eyes  # bundles stay as they are
            with processes.main_first():  # the others read what it has encoded
                least = network.context_length + 1
                material = Material.of(datasets, sight, self.cache or cache, self.fit.mirror, least)
            world_model, _ = self.train_bundle(network, material, work)
            if not processes.main:
                return {}
            world_model.save(out, partial(self._beside, work, datasets[0]))  # before anything that costs no training
            print(f"bundle in {self.out}; checkpoints and curves in {work}")
            return self._evaluated(world_model, datasets[0])

    def _settings(
        self, datasets: Sequence[EpisodeDataset], sight: Perception, network: DynamicsNetwork
    ) -> dict[str, Any]:
        """What a fit that is gone on with must have been begun with."""
        heads = {} if sight.heads is None else {"heads": dataclasses.asdict(self.heads)}
        return {
            "data": [dataset.fingerprint() for dataset in datasets],
            "perception": sight.fingerprint(),
            "init": None if self.init is None else fingerprint(network),
            "dynamics": dataclasses.asdict(network.config),
            "fit": {k: v for k, v in dataclasses.asdict(self.fit).items() if k not in ("minutes", "compile")},
            "contexts": self.contexts,
            "ship_episodes": self.ship_episodes,
            "seed": self.seed,
            "error_bound": dataclasses.asdict(self.error_bound),
            **({"bound_data": [other.fingerprint() for other in self._unseen]} if self._unseen else {}),
            **heads,
        }

    def _beside(self, work: Path, dataset: EpisodeDataset, folder: Path) -> None:
        """Put what else belongs to a bundle into its folder."""
        shutil.copy(work / "curves.png", folder)
        if self.ship_episodes:
            ship(dataset, folder / "episodes", self.ship_episodes)

    def _evaluated(self, world_model: WorldModel, dataset: EpisodeDataset) -> dict[str, float]:
        """The figures of a bundle, which are measured and written into it where it has none."""
        if world_model.metrics:
            return world_model.metrics
        judging = dataset.held_out("test", least=first_dreamed(world_model) + 1)
        world_model.metrics = evaluate(world_model, dataset, judging, seed=self.seed).numbers()
        if world_model.perception.heads is not None:
            world_model.metrics |= twin_figures(world_model, dataset, judging)
        world_model.metrics |= trust_figures(world_model.error_bound, doubted(world_model, dataset, judging))
        world_model.save_metrics()
        assert world_model.verdict is not None
        print(f"on {dataset.path}: {world_model.verdict.words()}")
        return world_model.metrics

    @cached_property
    def _unseen(self) -> list[EpisodeDataset]:
        return [] if self.bound_data is None else open_datasets(self.bound_data)

    @property
    def _processes(self) -> Processes:
        """Who trains: one process, or those that `accelerate launch` or `torchrun` have started."""
        return Processes(choose_device(self.device).type)

    @property
    def _where(self) -> torch.device:
        return choose_device(self.device)

    @property
    def shape(self) -> Shape:
        """Of a new model, as far as the options say."""
        shapes: dict[str, Shape] = {
            "resnet_rollout": self.dynamics,
            "probabilistic_plus": self.probabilistic_plus,
            "unet": self.unet,
        }
        return shapes[self.model]

    def new_network(self, sight: Perception) -> DynamicsNetwork:
        """An untrained model for what `sight` sees; a shape with actions takes as many as the scene has."""
        actions = sight.scene.action_dim if self.shape.action_dim else 0
        shape = dataclasses.replace(self.shape, channels=sight.tokenizer.channels, action_dim=actions)
        if isinstance(shape, ResNetRolloutConfig):
            tells = 0 if sight.heads is None else sight.heads.tells
            shape = dataclasses.replace(shape, observed=tells if shape.observed else 0)
        must_be_buildable(shape, lambda: DYNAMICS[self.model][0](shape))
        return DYNAMICS[self.model][0](shape)

    def _begun(self, sight: Perception | None) -> tuple[Perception, DynamicsNetwork]:
        """What to see with, and the network to train: a new one, or that of a bundle, whose latents must be the same.

        Args:
            sight: The perception that was asked for, if one was.
        """
        if self.init is None:
            assert sight is not None
            return sight, self.new_network(sight)
        base = WorldModel.load(self.init, self.device)
        sight = sight or base.perception
        mine, theirs = sight.latents_fingerprint(), base.perception.latents_fingerprint()
        if mine != theirs and sight.adapted_from == theirs:
            if self._processes.main:
                print(f"the encoder has learned on since {self.init} was fitted; the dynamics learns its latents anew")
        elif mine != theirs:
            raise ValueError(
                f"the latents of {self.perception} ({mine}) are not those of {self.init} ({theirs}); make the "
                f"perception with fit-tokenizer --init {self.init}"
            )
        network = base.dynamics
        if self.grow:
            if not isinstance(network, ResNetRollout):
                raise ValueError(f"only a ResNet-Rollout grows, and {self.init} has another dynamics")
            network = grown(network, self.grow)
        return sight, network.requires_grad_(True)

    def train_bundle(self, network: DynamicsNetwork, material: Material, work: Path) -> tuple[WorldModel, FitResult]:
        """Train a dynamics, resumably, and make a world model of it: neither evaluated nor saved.

        Args:
            network: To train.
            material: To learn from; start contexts are drawn from its first dataset.
            work: Folder for checkpoints and curves.
        """
        sight, train, val = material.sight, material.train, material.val
        result = fit_dynamics(network, sight, train, val, self.fit, work, self.seed, self._where.type)
        if self._processes.main:
            draw_curves(work / "curves.png", result)
        best = result.best
        learned = self.fit.updates or self.fit.epochs
        if result.unit == "std" and learned and self.heads.updates and self._processes.main:
            best = best | fit_heads_on_dreams(network, sight, train, val, self.heads, self.seed, result.best)
        bound = self._bound(network, material, work) if self._processes.main else None
        contexts = draw_contexts(material.datasets[0], train, network.context_length, self.contexts, self.seed)
        verdict = Verdict.of(best, result.unit, material.unseen)
        world_model = WorldModel(sight, network, contexts, verdict=verdict, error_bound=bound)
        world_model.eval().requires_grad_(False).to(self._where)
        world_model.provenance = {
            "command": "cosmos-wm fit-dynamics",
            "seed": self.seed,
            **material.origin(),
            "init": self.init,
            "fit": {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self.fit).items()},
            "minutes": round(result.seconds / 60, 2),
            "best_update": int(best["update"]),
            f"validation_error_{'px512' if result.unit == 'px' else result.unit}": best["error"],
            "versions": {name: version(name) for name in ("cosmos-isaac-wm", "torch", "numpy")},
        }
        return world_model, result

    def _bound(self, network: DynamicsNetwork, material: Material, work: Path) -> ErrorBound | None:
        """How far the dreams may be off; None, and a word, where there are no others to measure that on."""
        if not material.unseen:
            print("no error bound: there are no validation episodes that it could be measured on")
            return None
        if self._unseen:
            material = material.learning_from(self._unseen, self.cache or work, network.context_length + 1)
        return fit_error_bound(network, material.sight, material.train, material.val, self.error_bound, self.seed)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm fit-dynamics` command."""
    return cli.run(FitDynamics, "fit-dynamics", argv, defaults="default.yaml")


if __name__ == "__main__":
    sys.exit(main())
