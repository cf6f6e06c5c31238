"""Compare the report's four systems and ours: `cosmos-wm compare --data DIR --perception DIR --out results`.

All learn from the same episodes for the same time, through the same tokenizer, and are judged on the same test split.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.data.windows import EncodedEpisodes
from cosmos_isaac_wm.evaluation.baselines import resimulate, simulator_for
from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.evaluation.open_loop import (
    Reference,
    decode_frames,
    dream,
    first_dreamed,
    locate,
    measure,
    reference,
)
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.precision import choose_device
from cosmos_isaac_wm.reporting.comparison import (
    Result,
    draw_dreams,
    draw_horizons,
    draw_parameters,
    table,
    write_comparison_video,
    write_page,
)
from cosmos_isaac_wm.reporting.figures import Footage
from cosmos_isaac_wm.reporting.report import write_metrics
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.storage.atomic import replacing
from cosmos_isaac_wm.storage.bundle import find_perception
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.train.benchmark import Bench
from cosmos_isaac_wm.train.fit_dynamics import SHAPE_OPTIONS, encode, new_dynamics, train_bundle
from cosmos_isaac_wm.train.fit_dynamics import run as fit_command
from cosmos_isaac_wm.training.dynamics import fit_dynamics
from cosmos_isaac_wm.training.recipe import FitConfig, Stage
from cosmos_isaac_wm.world_model import WorldModel

SYSTEMS = ("default", "resnet_rollout", "probabilistic_plus", "rollout", "sharp_shooter")
# What is changed about resnet_rollout.yaml, one thing at a time; "episodes" of each kind are all that is learned from
ABLATIONS: dict[str, dict[str, Any]] = {
    "context_1": {"dynamics": {"context_length": 1}},
    "context_8": {"dynamics": {"context_length": 8}},
    "one_step": {"fit": {"stages": (Stage(1, motion_bias=0.0),)}},
    "unweighted": {"fit": {"motion_weight": 1.0}},
    "ten_times_the_weights": {"dynamics": {"width": 216}},
    "one_trajectory_a_kind": {"episodes": 1},
    "motion_weight_3": {"fit": {"motion_weight": 3.0}},
    "motion_weight_30": {"fit": {"motion_weight": 30.0}},
    "rate_0.0003": {"fit": {"lr": 3e-4}},
    "rate_0.003": {"fit": {"lr": 3e-3}},
}
_VALIDATED = 12  # episodes of each kind: a large network would spend its time on validation otherwise
_SAMPLES, _SAMPLED_EPISODES, _SAMPLED_STEP = 16, 12, 32
_TIMED_S = 2.0  # how much longer the longer of two timed trainings takes, at least
_PICTURED_STEPS = (1, 8, 16, 32, 64, 97)


def run(
    data: Path,
    perception: str,
    out: Path = Path("results"),
    systems: list[str] | None = None,
    ablation: bool = False,
    minutes_per_model: float = 20.0,
    contexts: int = 16,
    device: str = "auto",
    seed: int = 0,
) -> dict[str, float]:
    """Train the report's systems for the same time on the same episodes, judge them alike, and show them side by side.

    What is finished is kept in OUT and not done again; an interrupted training goes on from its checkpoint.

    Args:
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
    """
    names = list(dict.fromkeys([*(systems or SYSTEMS), *(ABLATIONS if ablation else ())]))
    for name in names:
        if name not in (*SYSTEMS, *ABLATIONS):
            near = difflib.get_close_matches(name, (*SYSTEMS, *ABLATIONS), n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"expected some of {[*SYSTEMS, *ABLATIONS]}"
            raise ValueError(f"unknown system {name!r}; {hint}")
    dataset, where = EpisodeDataset(data), choose_device(device)
    fitted = find_perception(perception)
    sight = Perception.load(fitted, where)
    _check(dataset, sight)
    out.mkdir(parents=True, exist_ok=True)
    compared = {
        "data": dataset.fingerprint(),
        "perception": sight.fingerprint(),
        "minutes_per_model": minutes_per_model,
        "seed": seed,
    }
    cli.claim(out / "comparison.json", compared)
    bundles = {name: out / f"dynamics_ckpts_{name}" / "bundle" for name in names}
    if missing := [name for name in names if not bundles[name].is_dir()]:
        cache = out if (fitted / "config.yaml").exists() else fitted  # as fit-tokenizer left it
        train = encode([dataset], "train", sight, cache, mirror=True)
        val = encode([dataset], "val", sight, cache, mirror=False)
        for name in missing:
            _train(name, bundles[name], sight, dataset, train, val, minutes_per_model, contexts, seed, where)
    models = {name: WorldModel.load(bundles[name], device) for name in names}
    first = max(first_dreamed(model) for model in models.values())
    truths: dict[int, Reference] = {}
    results = [_judge(name, models[name], dataset, out, first, seed, truths) for name in names]
    if any("ms_a_frame" not in result.numbers for result in results):
        _measure_speed(results, models)
        for result in results:
            result.save(_folder(out, result.name, first))
    _show(results, models, dataset, out, first)
    return {f"{result.name}_{key}": value for result in results for key, value in result.numbers.items()}


def _check(dataset: EpisodeDataset, sight: Perception) -> None:
    """Say now what would otherwise be found out after hours of training."""
    scene = dataset.scene
    dataset.indices("test")
    if not scene.action_dim:
        raise ValueError(f"{dataset.path} has no actions, and all systems here are driven by actions")
    if not scene.markers:
        raise ValueError(f"{dataset.path} has no tracked objects, and systems are compared by where these are dreamed")
    dataset.must_fit(sight.scene, "the perception")


def _folder(out: Path, name: str, first: int) -> Path:
    """Where a system's figures are kept that count from that frame on."""
    return out / f"dynamics_ckpts_{name}" / f"from_frame_{first}"


def recipe(name: str) -> tuple[str, Any, FitConfig, int | None]:
    """Kind of model, shape, training, and episodes of each kind (all when None) of a system or an ablation."""
    shipped = cli.recipe(fit_command, "fit-dynamics", f"{'resnet_rollout' if name in ABLATIONS else name}.yaml")
    changes = ABLATIONS.get(name, {})
    shape = getattr(shipped, SHAPE_OPTIONS[shipped.model])
    shape = dataclasses.replace(shape, **changes.get("dynamics", {}))
    return shipped.model, shape, dataclasses.replace(shipped.fit, **changes.get("fit", {})), changes.get("episodes")


def _train(
    name: str,
    bundle: Path,
    sight: Perception,
    dataset: EpisodeDataset,
    train: EncodedEpisodes,
    val: EncodedEpisodes,
    minutes: float,
    contexts: int,
    seed: int,
    where: torch.device,
) -> None:
    """Train one system for its time and write its bundle and `training_<name>.log`."""
    kind, shape, fit, episodes = recipe(name)
    work = bundle.parent
    work.mkdir(parents=True, exist_ok=True)
    print(f"{name}: training for {minutes:g} minutes", flush=True)
    if episodes is not None:
        train = _first_of_each_kind(train, episodes)
    val = _first_of_each_kind(val, _VALIDATED)
    plan = work / "plan.json"
    if not plan.exists():
        seconds = _seconds_an_update(kind, shape, sight, train, val, fit, seed, where)
        cli.write_json(plan, {"updates": max(1, round(60 * minutes / seconds)), "seconds_an_update": seconds})
    updates = int(json.loads(plan.read_text())["updates"])
    fit = dataclasses.replace(fit, updates=updates, epochs=0, validate_every=max(1, updates // 8))
    torch.manual_seed(seed)
    network = new_dynamics(kind, shape, sight)
    model, result = train_bundle(network, sight, [dataset], train, val, fit, work, contexts, seed, where)
    lines = [" ".join(f"{key}={value:.5g}" for key, value in row.items()) for row in result.curve]
    with replacing(work.parent / f"training_{name}.log") as log:
        log.write_text("\n".join(lines) + "\n")
    model.save(bundle)  # last: what has a bundle is finished


def _first_of_each_kind(episodes: EncodedEpisodes, count: int) -> EncodedEpisodes:
    rows = [[row for row, own in enumerate(episodes.kinds) if own == kind][:count] for kind in set(episodes.kinds)]
    return episodes.select(np.sort(np.concatenate(rows)))


def _seconds_an_update(
    kind: str,
    shape: Any,
    sight: Perception,
    train: EncodedEpisodes,
    val: EncodedEpisodes,
    fit: FitConfig,
    seed: int,
    where: torch.device,
) -> float:
    """Of a recipe, the mean over its stages; what is done once cancels out between a short and a longer run."""

    def spent(stage: Stage, count: int) -> float:
        config = dataclasses.replace(fit, stages=(stage,), updates=count, epochs=0, validate_every=10**9)
        with tempfile.TemporaryDirectory() as work:
            network = new_dynamics(kind, shape, sight)
            start = time.perf_counter()
            fit_dynamics(network, sight, train, val.select([0]), config, Path(work), seed, where.type)
            return time.perf_counter() - start

    def cost(stage: Stage) -> float:
        updates = 4
        while (difference := spent(stage, 2 * updates) - spent(stage, updates)) < _TIMED_S:
            updates *= 2
        return difference / updates

    spent(fit.stages[0], 1)  # what the process does once is not this recipe's
    return float(np.average([cost(stage) for stage in fit.stages], weights=[stage.share for stage in fit.stages]))


def _judge(
    name: str,
    model: WorldModel,
    dataset: EpisodeDataset,
    out: Path,
    first: int,
    seed: int,
    truths: dict[int, Reference],
) -> Result:
    """What was measured of a system, or measure it now, which also writes `tracking_metrics_<name>.txt`."""
    folder = _folder(out, name, first)
    known = Result.load(name, folder)
    if known is not None:
        return known
    evaluation = evaluate(model, dataset, dataset.indices("test"), seed=seed, first=first, truths=truths)
    folder.mkdir(parents=True, exist_ok=True)
    write_metrics(folder, evaluation)
    shutil.copy(folder / "tracking_metrics.txt", out / f"tracking_metrics_{name}.txt")
    more = {
        "parameters": float(sum(p.numel() for p in model.dynamics.parameters())),
        "train_minutes": float(model.provenance["minutes"]),
        **_diversity(model, dataset, seed),
    }
    result = Result.of(name, evaluation, **more)
    result.save(folder)
    return result


def _diversity(model: WorldModel, dataset: EpisodeDataset, seed: int) -> dict[str, float]:
    """How far samples of a stochastic dream have spread by step `_SAMPLED_STEP`.

    Beside it how far the simulator's outcomes have, restarted with perception-sized noise as often.
    """
    engine = DreamEngine(model, _SAMPLES)
    if not engine.noise_dim or model.perception.readout is None:
        return {}
    first, dreamed, real = first_dreamed(model), [], []
    for number in dataset.indices("test")[:_SAMPLED_EPISODES]:
        episode = dataset[number]
        simulator = simulator_for(dataset.metadata, episode, model.scene)
        if simulator is None:
            continue
        actions = episode.actions[first - 1 :][:_SAMPLED_STEP]
        context = model.encode(episode.frames[first - model.dynamics.context_length : first])
        latents = engine.open_loop(
            context.expand(_SAMPLES, -1, -1, -1, -1),
            torch.from_numpy(actions).to(model.device).expand(_SAMPLES, -1, -1),
            torch.Generator().manual_seed(seed + number),
        )
        rng = np.random.default_rng((seed, number))
        state = episode.infos["state"][first - 1]
        dreamed.append(_spread(locate(model, latents[:, -1])[:, 0]))
        real.append(_spread(np.stack([resimulate(simulator, state, actions, rng)[-1, 0] for _ in range(_SAMPLES)])))
    if not dreamed:
        return {}
    return {"sampled_spread_mm": 1000 * float(np.mean(dreamed)), "real_spread_mm": 1000 * float(np.mean(real))}


def _spread(points: NDArray[np.float64]) -> float:
    """Root mean square distance of points (n, 2) from their mean."""
    return float(np.sqrt(np.square(points - points.mean(axis=0)).sum(axis=1).mean()))


def _measure_speed(results: Sequence[Result], models: Mapping[str, WorldModel]) -> None:
    """Milliseconds a frame of a single dream in float32, medians of measurements in turns."""
    steps: dict[str, Callable[[], Any]] = {}
    for name, model in models.items():
        engine = DreamEngine(model, 1)
        engine.reset(model.contexts.latents[:1].float())
        steps[name] = partial(engine.step, torch.zeros(1, model.scene.action_dim, device=model.device))
    bench = Bench(repeats=5, seconds=0.1, device=next(iter(models.values())).device)
    bench.compare("systems", 1, steps)
    for result, row in zip(results, bench.rows, strict=True):
        result.numbers["ms_a_frame"] = 1000 * statistics.median(row.seconds)


def _show(
    results: Sequence[Result],
    models: Mapping[str, WorldModel],
    dataset: EpisodeDataset,
    out: Path,
    first: int,
) -> None:
    """Tables, plots, pictures, video and the page that shows them."""
    scene = dataset.scene
    name = (*scene.marker_names, "object")[0]
    kinds = sorted(results[0].errors)
    text = "\n\n".join(f"## {kind}\n\n{table(results, kind, name)}" for kind in kinds)
    (out / "comparison.md").write_text(f"# Comparison\n\n{text}\n")
    print(text)
    draw_horizons(out / "error_vs_horizon.png", results)
    draw_parameters(out / "error_vs_parameters.png", results, name)
    episodes = []
    for kind in kinds:
        numbers = dataset.indices("test", kind)
        errors = np.sqrt(np.nanmean(results[0].errors[kind] ** 2, axis=1))
        number = sorted(numbers)[int(np.argsort(errors)[len(errors) // 2])]  # the median one of the first system
        clips = {}
        for system, model in tqdm(models.items(), desc=f"dream {kind} {number}", unit="system"):
            clips[system] = _film(model, dataset, number, first)
        episodes.append(clips)
        draw_dreams(out / f"dream_{kind}.png", clips, _PICTURED_STEPS)
    write_comparison_video(out / "comparison.mp4", episodes, scene.control_hz)
    write_page(out / "report.html", results, kinds, name)
    print(f"\nreport: {(out / 'report.html').resolve()}")


def _film(model: WorldModel, dataset: EpisodeDataset, number: int, first: int) -> Footage:
    """An episode dreamed once more, for its pictures and its track."""
    episode = dataset[number]
    latents = dream(model, [episode], first=first)[0]
    track = measure(model, episode, number, latents, reference(model.scene, episode, first), first=first)
    return Footage(track, episode.kind, episode.frames[first:], decode_frames(model, latents))


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm compare` command."""
    return cli.run(run, "compare", argv)


if __name__ == "__main__":
    sys.exit(main())
