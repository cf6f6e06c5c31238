"""Fit or refresh the dynamics and write a bundle: `cosmos-wm fit-dynamics --data DIR --perception DIR --out BUNDLE`.

To refresh a model with new data: `cosmos-wm fit-dynamics --data '[OLD, NEW]' --init BUNDLE --out NEW_BUNDLE`.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from cosmos_isaac_wm.data import EpisodeDataset, open_datasets, write_dataset
from cosmos_isaac_wm.data.windows import EncodedEpisodes, encode_dataset, join
from cosmos_isaac_wm.dynamics import DYNAMICS, LatentUNetConfig, ProbabilisticPlusConfig, ResNetRolloutConfig
from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.precision import choose_device
from cosmos_isaac_wm.storage.bundle import find_perception
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.training.dynamics import FitResult, fit_dynamics
from cosmos_isaac_wm.training.recipe import FitConfig
from cosmos_isaac_wm.world_model import Contexts, WorldModel

SHAPE_OPTIONS = {"resnet_rollout": "dynamics", "probabilistic_plus": "probabilistic_plus", "unet": "unet"}


def run(
    data: list[Path] | Path,
    out: Path,
    perception: str | None = None,
    init: str | None = None,
    model: Literal["resnet_rollout", "probabilistic_plus", "unet"] = "resnet_rollout",
    dynamics: ResNetRolloutConfig = ResNetRolloutConfig(),  # noqa: B008  (frozen)
    probabilistic_plus: ProbabilisticPlusConfig = ProbabilisticPlusConfig(),  # noqa: B008
    unet: LatentUNetConfig = LatentUNetConfig(),  # noqa: B008
    fit: FitConfig = FitConfig(),  # noqa: B008
    contexts: int = 96,
    ship_episodes: int = 0,
    cache: Path | None = None,
    device: str = "auto",
    seed: int = 0,
) -> dict[str, float]:
    """Train the dynamics on its own rollouts and write a world model bundle, resumably.

    Checkpoints, encoded episodes, TensorBoard scalars and the curves are kept beside the bundle in `OUT.fit`; an
    interrupted fit is continued from there.

    Args:
        data: A dataset folder, as written by `cosmos-wm collect`, or several; the first one's test split judges the
            result.
        out: Bundle folder to write; must not exist.
        perception: Folder written by `cosmos-wm fit-tokenizer`, or a bundle by folder or shipped name.
        init: A bundle to continue from: its dynamics and weights, and its perception unless `perception` is given too,
            which must see the same latents, or those of an encoder that has learned on from it (`cosmos-wm
            fit-tokenizer --init`).
        model: Which dynamics model, where a new one is made (without `init`).
        dynamics: Shape of a new "resnet_rollout". `action_dim` (if above 0) and `channels` follow the data.
        probabilistic_plus: Shape of a new "probabilistic_plus".
        unet: Shape of a new "unet".
        fit: The training recipe.
        contexts: Number of real start contexts to store in the bundle.
        ship_episodes: Held-out episodes to store in the bundle, in equal numbers per kind.
        cache: Folder of encoded episodes; the perception's, where fit-tokenizer has left them, or `OUT.fit`.
        device: "auto", "cpu" or "cuda".
        seed: Seed of weights, batches and stored contexts.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} exists and is not empty; a bundle is never overwritten, choose another name")
    if perception is None and init is None:
        raise ValueError("give --perception (a new model) or --init (refresh a bundle)")
    where = choose_device(device)
    datasets = open_datasets(data)
    torch.manual_seed(seed)
    eyes = find_perception(perception) if perception is not None else None
    sight = Perception.load(eyes, where) if eyes is not None else None
    if init is not None:
        base = WorldModel.load(init, device)
        sight, network = sight or base.perception, base.dynamics.requires_grad_(True)
        mine, theirs = sight.latents_fingerprint(), base.perception.latents_fingerprint()
        if mine != theirs and sight.adapted_from == theirs:
            print(f"the encoder has learned on since {init} was fitted, so the dynamics learns its latents anew")
        elif mine != theirs:
            raise ValueError(
                f"the latents of {perception} ({mine}) are not those of {init} ({theirs}); make the perception with "
                f"fit-tokenizer --init {init}"
            )
    else:
        assert sight is not None
        shapes = {"dynamics": dynamics, "probabilistic_plus": probabilistic_plus, "unet": unet}
        network = new_dynamics(model, shapes[SHAPE_OPTIONS[model]], sight)
    work = out.with_name(out.name + ".fit")
    work.mkdir(parents=True, exist_ok=True)
    encoded = cache or (work if eyes is None or (eyes / "config.yaml").exists() else eyes)  # bundles stay as they are
    train, val = (
        encode(datasets, split, sight, encoded, fit.mirror and split == "train") for split in ("train", "val")
    )
    world_model, _ = train_bundle(network, sight, datasets, train, val, fit, work, contexts, seed, where, init)
    world_model.metrics = evaluate(world_model, datasets[0], datasets[0].indices("test"), seed=seed).numbers()
    world_model.save(out)
    shutil.copy(work / "curves.png", out)
    if ship_episodes:
        ship(datasets[0], out / "episodes", ship_episodes)
    print(f"bundle in {out}; checkpoints and curves in {work}")
    return world_model.metrics


def train_bundle(
    network: nn.Module,
    sight: Perception,
    datasets: Sequence[EpisodeDataset],
    train: EncodedEpisodes,
    val: EncodedEpisodes,
    fit: FitConfig,
    work: Path,
    contexts: int,
    seed: int,
    where: torch.device,
    init: str | None = None,
) -> tuple[WorldModel, FitResult]:
    """Train a dynamics in the folder `work`, resumably, and make a world model of it: neither evaluated nor saved.

    Args:
        network: To train.
        sight: What it sees with.
        datasets: Where `train` and `val` come from; start contexts are drawn from the first.
        train: Training episodes.
        val: Validation episodes.
        fit: The recipe.
        work: For checkpoints and curves.
        contexts: Number of start contexts.
        seed: Of batches and contexts.
        where: The device.
        init: The bundle that `network` comes from, for the record.
    """
    result = fit_dynamics(network, sight, train, val, fit, work, seed, where.type)
    draw_curves(result, work / "curves.png")
    length = int(network.context_length)  # type: ignore[arg-type]
    world_model = WorldModel(sight, network, draw_contexts(datasets[0], train, length, contexts, seed))
    world_model.eval().requires_grad_(False).to(where)
    world_model.provenance = {
        "command": "cosmos-wm fit-dynamics",
        "seed": seed,
        "data": [dataset.fingerprint() for dataset in datasets],
        "simulator": " and ".join(dict.fromkeys(dataset.metadata.get("simulator", "unknown") for dataset in datasets)),
        "init": init,
        "fit": {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(fit).items()},
        "minutes": round(result.seconds / 60, 2),
        "best_update": int(result.best["update"]),
        "validation_error_px512": result.best["error"],
        "versions": {name: version(name) for name in ("cosmos-isaac-wm", "torch", "numpy")},
    }
    return world_model, result


def new_dynamics(kind: str, shape: Any, sight: Perception) -> nn.Module:
    """An untrained model for what `sight` sees; a shape with actions takes as many as the scene has.

    Args:
        kind: Its name in `DYNAMICS`.
        shape: The configuration that belongs to it.
        sight: Says how many channels and actions there are.
    """
    actions = sight.scene.action_dim if shape.action_dim else 0
    network: nn.Module = DYNAMICS[kind][0](
        dataclasses.replace(shape, channels=sight.tokenizer.channels, action_dim=actions)
    )
    return network


def encode(
    datasets: Sequence[EpisodeDataset], split: str, sight: Perception, cache: Path, mirror: bool
) -> EncodedEpisodes:
    """A split of several datasets as one, from the cache where it is there; mirrored too where a scene allows it."""
    for dataset in datasets:
        dataset.must_fit(sight.scene, "what this model sees with")
    latents = sight.latents_fingerprint()
    return join([encode_dataset(dataset, split, sight.encode, latents, cache, mirror) for dataset in datasets])


def draw_contexts(dataset: EpisodeDataset, encoded: EncodedEpisodes, length: int, count: int, seed: int) -> Contexts:
    """Random windows of encoded training episodes, of which the dataset's own, unmirrored, come first.

    With the simulator state of their last frame where it is known.
    """
    rng = np.random.default_rng(seed)
    available = min(len(dataset.indices("train")), len(encoded))
    rows = np.sort(rng.choice(available, min(count, available), replace=False))
    indices = encoded.sources[rows].tolist()
    starts = [int(rng.integers(0, int(encoded.lengths[row]) - length)) for row in rows]
    states = []
    for index, start in zip(indices, starts, strict=True):
        known = dataset[index].infos.get("state")
        states.append(torch.empty(0, dtype=torch.float64) if known is None else torch.tensor(known[start + length - 1]))
    return Contexts(
        latents=torch.stack([encoded.latents[row, s : s + length] for row, s in zip(rows, starts, strict=True)]),
        positions=torch.stack([encoded.positions[row, s : s + length] for row, s in zip(rows, starts, strict=True)]),
        states=torch.stack([_pad_nan(state, max(map(len, states))) for state in states]),
        episodes=torch.tensor(indices),
        starts=torch.tensor(starts),
        kinds=[encoded.kinds[row] for row in rows],
    )


def _pad_nan(state: torch.Tensor, length: int) -> torch.Tensor:
    return torch.cat([state.double(), torch.full((length - len(state),), torch.nan, dtype=torch.float64)])


def ship(dataset: EpisodeDataset, folder: Path, count: int) -> None:
    """Copy the first held-out episodes, in equal numbers per kind, as a dataset whose every episode is `test`."""
    kinds = sorted(set(dataset.kinds))
    chosen = [index for kind in kinds for index in dataset.indices("test", kind)[: -(-count // len(kinds))]]
    metadata = {key: value for key, value in dataset.metadata.items() if key != "scene"}
    write_dataset(
        folder, dataset.episodes(chosen), dataset.scene, ["test"] * len(chosen), {**metadata, "sources": chosen}
    )


def draw_curves(result: FitResult, picture: Path) -> None:
    """Training loss and validation errors against updates, as a PNG."""
    from matplotlib.figure import Figure

    updates = [row["update"] for row in result.curve]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(updates, [row["loss"] for row in result.curve])
    left.set(title="training loss", xlabel="update")
    for key in result.curve[0]:
        if key == "error" or key.endswith(("_median", "_rmse")):
            right.semilogy(updates, [row[key] for row in result.curve], label=key)
    right.axvline(result.best["update"], color="grey", linestyle=":", label="kept")
    right.set(title="open loop on val (px at 512)", xlabel="update")
    right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm fit-dynamics` command."""
    return cli.run(run, "fit-dynamics", argv, defaults="default.yaml")


if __name__ == "__main__":
    sys.exit(main())
