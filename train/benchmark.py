"""Measure the speed of the dream: `cosmos-wm benchmark --json FILE`.

Everything that is compared is measured in turns, in one run on one machine: machines are noisy, ratios less so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import psutil
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.data.windows import encode_dataset
from cosmos_isaac_wm.dynamics import ResNetRollout, to_seed_state_dict
from cosmos_isaac_wm.envs import DreamVectorEnv
from cosmos_isaac_wm.envs.real_env import own_simulator
from cosmos_isaac_wm.perception import BundleError, Perception
from cosmos_isaac_wm.policies.sb3 import DreamVecEnv, one_thread_each
from cosmos_isaac_wm.precision import has_bfloat16
from cosmos_isaac_wm.protocols import Prediction
from cosmos_isaac_wm.reporting.report import judge
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.sims.mujoco import OpenGLError
from cosmos_isaac_wm.train import cli, peers
from cosmos_isaac_wm.train import fit_dynamics as fit_dynamics_command
from cosmos_isaac_wm.training.dynamics import fit_dynamics
from cosmos_isaac_wm.training.losses import rollout_loss
from cosmos_isaac_wm.training.validation import validate
from cosmos_isaac_wm.world_model import Contexts, WorldModel

# Figure: (bar, aim).
BARS = {
    "vector_env_over_forward": (0.90, 0.97),
    "sb3_over_forward": (0.85, 0.95),
    "forward_share_of_peak": (0.70, 0.90),
    "seed_speedup_64_b1": (8.0, 12.0),
    "seed_speedup_64_b8": (1.9, 2.05),
    "default_over_seed_16_b64": (2.5, 4.0),
    "over_simulusion": (2.5, 5.0),
    "over_real": (10.0, 30.0),
    "over_isaac_lab": (50.0, 100.0),
    "fit_speedup": (2.5, 4.0),
    "import_s": (0.5, 0.2),
    "first_step_s": (3.0, 1.5),
}
_LEARNED = 0.9  # share of a still picture's error at which a dynamics counts as having learned something


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured thing.

    Attributes:
        group: What it was measured in turns with.
        name: What it is.
        batch: Environments that advance together, B.
        seconds: Of one call, one per repeat.
        over: Its speed as a multiple of the first of its group at the same batch, the median over the repeats.
    """

    group: str
    name: str
    batch: int
    seconds: tuple[float, ...]
    over: float = 1.0

    @property
    def steps_per_s(self) -> float:
        """Environment steps per second, from the median."""
        return self.batch / statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median."""
        low, middle, high = np.quantile(self.seconds, (0.25, 0.5, 0.75))
        return float((high - low) / middle)


class SeedForm(nn.Module):
    """The report's network as its report describes it: Conv3d over a time axis of length one, contiguous, float32.

    Args:
        model: Whose weights it has; of the report's shape.
    """

    def __init__(self, model: ResNetRollout):
        super().__init__()
        config = model.config
        width, groups = config.width, config.groups
        inputs = config.context_length * config.channels

        def layer(channels: int) -> list[nn.Module]:
            return [nn.Conv3d(channels, width, 3, padding=1), nn.GroupNorm(groups, width)]

        self.first = nn.Sequential(*layer(inputs))
        self.blocks = nn.ModuleList(nn.Sequential(*layer(width), *layer(width)) for _ in range(config.blocks))
        self.last = nn.Conv3d(width, config.channels, 3, padding=1)
        weights = to_seed_state_dict(model).values()
        self.load_state_dict(dict(zip(self.state_dict(), weights, strict=True)))

    def forward(self, context: Tensor) -> Tensor:
        """Context (B, K, C, h, w) to the next latent (B, C, h, w)."""
        act = nn.functional.silu
        x = act(self.first(torch.cat(list(context.unbind(1)), dim=1).unsqueeze(2)))
        for block in self.blocks:
            x = x + act(block[2:](act(block[:2](x))))  # type: ignore[index]
        latent: Tensor = self.last(x).squeeze(2)
        return latent


class SeedLoop:
    """The report's dream: a concatenated context, shifted by copying.

    Args:
        network: Its network.
        context: Where to begin, (B, K, C, h, w).
    """

    def __init__(self, network: SeedForm, context: Tensor):
        self.network, self.context = network, context.clone()

    @torch.no_grad()
    def step(self) -> Tensor:
        """Advance; the new latents (B, C, h, w)."""
        latent: Tensor = self.network(self.context)
        self.context = torch.cat([self.context[:, 1:], latent.unsqueeze(1)], dim=1)
        return latent


class Bench:
    """Measures groups of calls in turns, and remembers.

    Args:
        repeats: How often each call is measured.
        seconds: How long each measurement takes at least, where a call is short.
        device: To wait for.
    """

    def __init__(self, repeats: int, seconds: float, device: torch.device):
        self._repeats, self._seconds, self._device = repeats, seconds, device
        self.rows: list[Row] = []

    def compare(self, group: str, batch: int, calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
        """Measure calls in turns; the speed of each as a multiple of the first's."""
        counts: dict[str, int] = {}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for name, call in calls.items():
            call()  # memory and caches are warm, compilers done
            counts[name] = max(1, math.ceil(self._seconds / self._time(call, 1)))
        for _ in range(self._repeats):
            for name, call in calls.items():
                times[name].append(self._time(call, counts[name]))
        first = np.array(next(iter(times.values())))
        over = {name: float(np.median(first / np.array(seconds))) for name, seconds in times.items()}
        self.rows += [Row(group, name, batch, tuple(seconds), over[name]) for name, seconds in times.items()]
        return over

    def _time(self, call: Callable[[], Any], count: int) -> float:
        """Seconds of one of `count` calls."""
        self._wait()
        start = time.perf_counter()
        for _ in range(count):
            call()
        self._wait()
        return (time.perf_counter() - start) / count

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def run(
    out: Path = Path("benchmark-out"),
    world_model: str = "default",
    batches: list[int] | None = None,
    repeats: int = 5,
    seconds: float = 0.5,
    growth_steps: int = 10_000,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = True,
    device: str = "auto",
    seed: int = 0,
) -> dict[str, float]:
    """Measure the dream's speed beside its bare network, the report's form of it, and the real simulator.

    Writes `benchmark.json` and `benchmark.png` to OUT and prints the table. Nothing else should run meanwhile.

    Args:
        out: Folder for the results.
        world_model: A shipped bundle's name, a folder, or "hf://owner/repository".
        batches: Numbers of environments; 1, 8, 64, 256 and 1024 when not given.
        repeats: How often each thing is measured, in turns with what it is compared with.
        seconds: How long each measurement takes at least.
        growth_steps: Steps of the run that looks for leaks.
        dtype: Precision of the dream's network.
        compile: Compile it.
        device: "auto", "cpu" or "cuda".
        seed: Seed of actions and start contexts.
    """
    model = WorldModel.load(world_model, device)
    bench = Bench(repeats, seconds, model.device)
    numbers: dict[str, float] = {}
    options: dict[str, Any] = {"dtype": dtype, "compile": compile}
    parts: list[Callable[[], dict[str, float]]] = [
        lambda: start_up(world_model, repeats),
        lambda: growth(model, growth_steps, options, seed),  # first: what other parts leave behind would hide a leak
        lambda: matrix_peak(bench, model.device),
        lambda: environments(bench, model, batches or [1, 8, 64, 256, 1024], options, numbers, seed),
        lambda: observations(bench, model, options, seed),
        lambda: seed_form(bench, model, options),
        lambda: other_libraries(bench, model, options, seed),
        lambda: real_simulator(bench, model, options, seed),
        lambda: training(model, seed),
    ]
    for part in tqdm(parts, desc="benchmark", unit="part"):
        numbers |= part()
    print(table(bench.rows, numbers))
    out.mkdir(parents=True, exist_ok=True)
    rows = [dataclasses.asdict(row) | {"steps_per_s": row.steps_per_s, "spread": row.spread} for row in bench.rows]
    described = {"machine": machine(model.device), "options": options, "figures": numbers, "rows": rows}
    cli.write_json(out / "benchmark.json", described)
    draw(bench.rows, out / "benchmark.png")
    print(f"\nbenchmark.json and benchmark.png in {out}")
    return numbers


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


def matrix_peak(bench: Bench, device: torch.device, size: int = 2048) -> dict[str, float]:
    """Floating point operations per second of a large matrix product, by precision."""
    calls: dict[str, Callable[[], Any]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        calls[str(dtype).removeprefix("torch.")] = partial(torch.matmul, left, right)
    bench.compare("matrix product", 1, calls)
    return {
        f"matmul_{row.name}_gflops": 2 * size**3 / statistics.median(row.seconds) / 1e9
        for row in bench.rows
        if row.group == "matrix product"
    }


def environments(
    bench: Bench,
    model: WorldModel,
    batches: Sequence[int],
    options: dict[str, Any],
    peaks: Mapping[str, float],
    seed: int,
) -> dict[str, float]:
    """The bare network, the vector environment and the Stable-Baselines3 adapter."""
    found: dict[str, float] = {}
    shares, vector, adapter = [], [], []
    for batch in batches:
        env = DreamVectorEnv(batch, world_model=model, **options)
        env.reset(seed=seed)
        same_step = DreamVectorEnv(batch, world_model=model, autoreset_mode=AutoresetMode.SAME_STEP, **options)
        sb3 = DreamVecEnv(same_step)
        sb3.seed(seed)
        sb3.reset()
        actions = draw_actions(model, batch, seed)
        env.step(actions), sb3.step(actions)  # compiled from here on
        engine = DreamEngine(model, batch, **options)
        over = bench.compare(
            f"environments, {batch}",
            batch,
            {
                "bare network": bare_forward(engine, env.context, actions),
                "vector environment, pose": partial(env.step, actions),
                "Stable-Baselines3 adapter, pose": partial(sb3.step, actions),
            },
        )
        row = bench.rows[-3]
        precision = str(engine.network.dtype).removeprefix("torch.")
        flops = count_flops(model, actions)
        shares.append(flops / statistics.median(row.seconds) / 1e9 / peaks[f"matmul_{precision}_gflops"])
        found[f"forward_b{batch}_steps_per_s"] = row.steps_per_s
        found[f"forward_b{batch}_share_of_peak"] = shares[-1]
        found[f"vector_env_b{batch}_steps_per_s"] = bench.rows[-2].steps_per_s
        found[f"sb3_b{batch}_steps_per_s"] = bench.rows[-1].steps_per_s
        if batch >= 64:
            vector.append(over["vector environment, pose"])
            adapter.append(over["Stable-Baselines3 adapter, pose"])
    found["forward_share_of_peak"] = max(shares)
    if vector:  # the worst of them counts
        found |= {"vector_env_over_forward": min(vector), "sb3_over_forward": min(adapter)}
    return found


def observations(
    bench: Bench, model: WorldModel, options: dict[str, Any], seed: int, batch: int = 64
) -> dict[str, float]:
    """What each kind of observation costs."""
    actions = draw_actions(model, batch, seed)
    calls: dict[str, Callable[[], Any]] = {}
    for obs_type in ("pose", "latent", "latent16", "rgb"):
        env = DreamVectorEnv(batch, world_model=model, obs_type=obs_type, **options)
        env.reset(seed=seed)
        env.step(actions)  # compiled from here on
        calls.setdefault("bare network", bare_forward(DreamEngine(model, batch, **options), env.context, actions))
        calls[f"vector environment, {obs_type}"] = partial(env.step, actions)
    over = bench.compare(f"observations, {batch}", batch, calls)
    return {f"{name.split(', ')[1]}_over_forward_b{batch}": value for name, value in over.items() if ", " in name}


def seed_form(bench: Bench, model: WorldModel, options: dict[str, Any]) -> dict[str, float]:
    """The report's network in its own form and in ours, same weights; and the default model beside it."""
    torch.manual_seed(0)
    folded = ResNetRollout().eval().requires_grad_(False).to(model.device)
    seed_network = SeedForm(folded).eval().requires_grad_(False).to(model.device)
    folded = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found: dict[str, float] = {}
    for grid, batch in ((64, 1), (64, 8), (16, 64)):
        ours = stretched(model, folded, grid)
        torch.manual_seed(1)
        context = torch.randn(batch, *ours.contexts.latents.shape[1:], device=model.device)
        actions = torch.zeros(batch, model.scene.action_dim, device=model.device)
        # At the report's size a single dream is arithmetic enough for bfloat16.
        quick = options["dtype"] == "bfloat16" or (options["dtype"] == "auto" and has_bfloat16(model.device))
        fast: dict[str, Any] = {"dtype": torch.bfloat16 if quick else torch.float32}
        engine = DreamEngine(ours, batch, **(options | fast))
        engine.reset(context)
        theirs = SeedLoop(seed_network, context)
        calls: dict[str, Callable[[], Any]] = {
            "the report's form (Conv3d, float32)": theirs.step,
            "folded, our engine": partial(engine.step, actions),
        }
        if grid == 16:
            default = DreamEngine(model, batch, **options)
            default.reset(model.contexts.latents[:1].float().expand(batch, -1, -1, -1, -1))
            calls["the default model, our engine"] = partial(default.step, actions)
        over = bench.compare(f"the report's network on {grid} x {grid} latents, {batch}", batch, calls)
        found[f"seed_speedup_{grid}_b{batch}"] = over["folded, our engine"]
        if grid == 16:
            found[f"default_over_seed_16_b{batch}"] = over["the default model, our engine"]
        exact = DreamEngine(ours, batch)
        exact.reset(context)
        rough = DreamEngine(ours, batch, **fast)
        rough.reset(context)
        expected = SeedLoop(seed_network, context).step()
        for name, other in (("float32", exact), ("fast", rough)):
            found[f"seed_difference_{grid}_b{batch}_{name}"] = float(
                (other.step(actions).latent - expected).abs().max()
            )
    return found


def other_libraries(
    bench: Bench, model: WorldModel, options: dict[str, Any], seed: int, batch: int = 32
) -> dict[str, float]:
    """Other libraries' environments for learned models, around the same network, beside our adapter."""
    actions = draw_actions(model, batch, seed)
    theirs = peers.installed(model, batch, actions)
    env = DreamVectorEnv(batch, world_model=model, autoreset_mode=AutoresetMode.SAME_STEP, **options)
    ours = DreamVecEnv(env)
    ours.seed(seed)
    ours.reset()
    over = bench.compare(
        f"other libraries, {batch}", batch, {"Stable-Baselines3 adapter, pose": partial(ours.step, actions), **theirs}
    )
    return {f"over_{name}": 1 / over[name] for name in theirs}


def real_simulator(
    bench: Bench, model: WorldModel, options: dict[str, Any], seed: int, batch: int = 64
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
    with one_thread_each():
        two = gym.make_vec(
            "CosmosReal-v0",
            num_envs=2,
            vectorization_mode="async",
            vector_kwargs={"context": "spawn"},  # a fork would inherit the locks of running threads
            world_model=str(model.path),
        )
        two.reset(seed=seed)
    dream = DreamVectorEnv(batch, world_model=model, **options)
    dream.reset(seed=seed)
    actions = draw_actions(model, batch, seed)

    def step_real() -> None:
        _, _, terminated, truncated, _ = real.step(actions[0])
        if terminated or truncated:
            real.reset()

    bench.compare(
        "the real simulator",
        1,
        {
            "CosmosReal-v0": step_real,
            "CosmosReal-v0, 2 processes": partial(two.step, actions[:2]),
            f"{batch} dreams": partial(dream.step, actions),
        },
    )
    one, pair, dreams = (statistics.median(row.seconds) for row in bench.rows[-3:])
    bench.rows[-2:] = [
        dataclasses.replace(bench.rows[-2], batch=2, over=one / pair * 2),
        dataclasses.replace(bench.rows[-1], batch=batch, over=one / dreams * batch),
    ]
    two.close()
    real.close()
    found = {"real_steps_per_s": 1 / one, "real_2_processes_steps_per_s": 2 / pair}
    return found | {"over_real": batch / dreams / max(found.values())}


def isaac_lab(bench: Bench, model: WorldModel, options: dict[str, Any], seed: int, batch: int) -> dict[str, float]:
    """Isaac Lab with drawing and encoding, by the number of tables that step together."""
    try:
        from cosmos_isaac_wm.sims.isaac_lab import IsaacLabTables
    except ImportError as error:
        print(f"the real simulator was not measured: {error}", file=sys.stderr)
        return {}
    dream = DreamVectorEnv(batch, world_model=model, **options)
    dream.reset(seed=seed)
    actions = draw_actions(model, batch, seed)
    found: dict[str, float] = {}
    over = []
    for count in (1, 4, 16, 64):
        with contextlib.closing(IsaacLabTables("push", count, model.scene.image_size)) as tables:
            some, seeds = draw_actions(model, count, seed), list(range(seed, seed + count))
            drawn = partial(_step_tables, tables, seeds, some, itertools.count())
            calls: dict[str, Callable[[], Any]] = {
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


def _call_in_turn(first: Callable[[], Any], then: Callable[[Any], Any]) -> Any:
    return then(first())


def _step_tables(
    tables: Any, seeds: list[int], actions: NDArray[np.float32], clock: Iterator[int]
) -> NDArray[np.uint8]:
    """Pictures (n, H, W, 3) after a step; now and then from new starts, or all pushers would stand at the wall."""
    if next(clock) % 32 == 0:
        tables.reset(seeds)
    tables.step(actions)
    frames: NDArray[np.uint8] = tables.render()
    return frames


def growth(model: WorldModel, steps: int, options: dict[str, Any], seed: int, batch: int = 8) -> dict[str, float]:
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
        env = DreamVectorEnv(many, world_model=model, **(options | {"compile": False}))
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


def training(model: WorldModel, seed: int, updates: int = 20) -> dict[str, float]:
    """Windows per second of `fit_dynamics` and of the report's loop: its network, batch of 32, rollouts of 4 steps."""
    try:
        held_out = model.held_out()
    except BundleError as error:
        print(f"training was not measured: {error}", file=sys.stderr)
        return {}
    sight = Perception(model.scene, model.perception.tokenizer).to(model.device)  # the report has no readout
    sight.mean.copy_(model.perception.mean)
    sight.std.copy_(model.perception.std)
    episodes = encode_dataset(held_out, "test", sight.encode, "", None)
    report = cli.recipe(fit_dynamics_command.run, "fit-dynamics", "seed.yaml").fit
    config = dataclasses.replace(report, epochs=0, validate_every=10**9)
    few = episodes.select(range(2))

    def ours(count: int) -> float:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            counted = dataclasses.replace(config, updates=count)
            fit_dynamics(ResNetRollout(), sight, episodes, few, counted, Path(work), seed, model.device.type)
        return time.perf_counter() - start

    def theirs(count: int) -> float:
        network = SeedForm(ResNetRollout()).to(model.device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        rng, length = np.random.default_rng(seed), 4
        start = time.perf_counter()
        for _ in range(count):
            rows = torch.from_numpy(rng.integers(len(episodes), size=(config.batch_size, 1)))
            last = int(episodes.lengths.min()) - 2 * length
            frames = torch.from_numpy(rng.integers(last, size=(config.batch_size, 1)))
            window = episodes.latents[rows, frames + torch.arange(2 * length)].float().to(model.device)
            context, loss = window[:, :length], window.new_zeros(())
            for step in range(length, 2 * length):
                latent = network(context)
                loss = loss + rollout_loss(latent, window[:, step], window[:, step - 1], latent, config).mean() / length
                context = torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
        return time.perf_counter() - start

    ratios, speeds = [], []
    for _ in range(5):  # what is done once cancels out in the difference
        slow = theirs(updates // 2)
        fast = (ours(2 * updates) - ours(updates)) / 2
        ratios.append(slow / fast)
        speeds.append(config.batch_size * updates / 2 / fast)
    found = {"fit_speedup": float(np.median(ratios)), "fit_windows_per_s": float(np.median(speeds))}
    return found | learning(model, held_out, found["fit_speedup"], 20 * updates, seed)


def learning(
    model: WorldModel, held_out: EpisodeDataset, loop_speedup: float, updates: int, seed: int
) -> dict[str, float]:
    """Seconds of training until a dynamics dreams better than standing still: by our recipe, and by the report's.

    Both learn from three quarters of the shipped episodes, in the first stage of their recipes. What counts is when
    their open-loop error on the other episodes is `_LEARNED` of a still picture's; a recipe that does not get there
    within the updates has no figure. The report's recipe takes the seconds that its own loop would.
    """
    encoded = encode_dataset(held_out, "test", model.perception.encode, "", None)
    fourth = np.arange(len(encoded)) % 4 == 3
    train, val = (encoded.select(np.flatnonzero(rows)) for rows in (~fourth, fourth))
    still = validate(_Still(model.dynamics.context_length), model.perception, val)["error"]
    found = {"still_error_px512": still}
    for name, slower in (("default", 1.0), ("seed", loop_speedup)):
        shipped = cli.recipe(fit_dynamics_command.run, "fit-dynamics", f"{name}.yaml")
        recipe = dataclasses.replace(
            shipped.fit, updates=updates, epochs=0, stages=shipped.fit.stages[:1], validate_every=max(1, updates // 20)
        )
        torch.manual_seed(seed)
        network = fit_dynamics_command.new_dynamics(shipped.model, shipped.dynamics, model.perception)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            curve = fit_dynamics(
                network, model.perception, train, val, recipe, Path(work), seed, model.device.type
            ).curve
        total = time.perf_counter() - start
        start = time.perf_counter()
        validate(network, model.perception, val)
        seconds = (total - len(curve) * (time.perf_counter() - start)) / updates * slower
        found[f"{name}_best_error_px512"] = min(row["error"] for row in curve)
        found[f"{name}_fit_s"] = seconds * updates
        reached = next((row["update"] for row in curve if row["error"] <= _LEARNED * still), None)
        if reached is not None:
            found[f"{name}_seconds_to_error"] = seconds * reached
    return found


class _Still(nn.Module):
    """Nothing ever moves."""

    def __init__(self, context_length: int):
        super().__init__()
        self.context_length = context_length

    def forward(self, context: Tensor, action: Tensor) -> Prediction:
        return Prediction(context[:, -1])


def draw_actions(model: WorldModel, batch: int, seed: int) -> NDArray[np.float32]:
    """Random actions (B, A)."""
    low, high = model.scene.action_low, model.scene.action_high
    return np.random.default_rng(seed).uniform(low, high, (batch, model.scene.action_dim)).astype(np.float32)


def bare_forward(engine: DreamEngine, context: Tensor, actions: Any) -> Callable[[], Any]:
    """A call of nothing but the network of an engine that does not look."""
    context = context.clone()
    scaled = engine.world_model.perception.scale_actions(torch.from_numpy(actions).to(context.device))

    @torch.inference_mode()
    def call() -> None:
        engine.network(context, scaled)

    return call


def count_flops(model: WorldModel, actions: Any) -> int:
    """Floating point operations of one forward pass."""
    latents = model.contexts.latents[:1].float().to(model.device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.dynamics(latents, torch.from_numpy(actions[:1]).to(model.device))
    return int(counter.get_total_flops()) * len(actions)


def stretched(model: WorldModel, dynamics: ResNetRollout, grid: int) -> WorldModel:
    """A world model of another dynamics, whose pictures have latents of `grid` x `grid` cells."""
    perception = model.perception
    side = grid * perception.tokenizer.compression
    scene = dataclasses.replace(model.scene, image_size=(side, side), markers=(), agent=None)
    sight = Perception(scene, perception.tokenizer).to(model.device)
    empty = torch.zeros(1, dynamics.context_length, dynamics.channels, grid, grid)
    number = torch.zeros(1, dtype=torch.int64)
    contexts = Contexts(empty, torch.zeros(1, dynamics.context_length, 0, 2), torch.zeros(1, 0), number, number, [""])
    return WorldModel(sight, dynamics, contexts)


def machine(device: torch.device) -> dict[str, Any]:
    """What it was measured on."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "bfloat16": has_bfloat16(device),
    }


def table(rows: Sequence[Row], numbers: Mapping[str, float]) -> str:
    """Rows, then figures with their bars, as aligned plain text."""
    lines = [("", "batch", "ms a step", "spread", "steps/s", "speed")]
    for row in rows:
        milliseconds = 1000 * statistics.median(row.seconds)
        lines.append(
            (
                f"{row.group.split(',')[0]}: {row.name}",
                str(row.batch),
                f"{milliseconds:.3g}",
                f"{row.spread:.0%}",
                f"{row.steps_per_s:,.0f}",
                f"{row.over:.2f}",
            )
        )
    lines.append(("", "", "", "", "", ""))
    for key, value in numbers.items():
        verdict = ""
        if key in BARS:
            bar, aim = BARS[key]
            verdict = f"{judge(value, bar, aim)} (bar {bar:g}, aim {aim:g})"
        lines.append((key, "", "", "", f"{value:.4g}", verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def draw(rows: Sequence[Row], picture: Path) -> None:
    """Steps per second of every row, as a PNG."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.group != "matrix product"]
    figure = Figure(figsize=(10, 0.28 * len(shown) + 1), layout="constrained")
    axis = figure.subplots()
    axis.barh(
        [f"{row.name}, {row.batch} ({row.group.split(',')[0]})" for row in shown], [row.steps_per_s for row in shown]
    )
    axis.set(xscale="log", xlabel="environment steps per second")
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(picture, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """The `cosmos-wm benchmark` command."""
    return cli.run(run, "benchmark", argv)


if __name__ == "__main__":
    sys.exit(main())
