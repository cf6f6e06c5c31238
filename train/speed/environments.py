"""How much do environments cost beside their network? Ours, Stable-Baselines3's, and other libraries'."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from gymnasium.vector import AutoresetMode

from cosmos_isaac_wm.envs import DreamVectorEnv
from cosmos_isaac_wm.policies.sb3 import DreamVecEnv
from cosmos_isaac_wm.precision import FastModule
from cosmos_isaac_wm.train.speed import peers
from cosmos_isaac_wm.train.speed.harness import Bench, DreamOptions
from cosmos_isaac_wm.train.speed.subjects import bare_forward, count_flops, draw_actions
from cosmos_isaac_wm.world_model import WorldModel

_FINE = 4  # times as many turns: what is looked for is smaller than the noise of one


def environments(
    bench: Bench,
    model: WorldModel,
    batches: Sequence[int],
    options: DreamOptions,
    peaks: Mapping[str, float],
    seed: int,
) -> dict[str, float]:
    """The bare network, the vector environment and the Stable-Baselines3 adapter.

    Args:
        bench: Measures.
        model: The bundle.
        batches: Numbers of dreams.
        options: Of the dream's network.
        peaks: Figures of `matrix_peak`.
        seed: Of starts and actions.
    """
    found: dict[str, float] = {}
    shares, vector, adapter = [], [], []
    for batch in batches:
        over, share = _compare(bench, model, batch, options, peaks, seed)
        shares.append(share)
        forward, env, sb3 = bench.rows[-3:]
        found[f"forward_b{batch}_steps_per_s"] = forward.steps_per_s
        found[f"forward_b{batch}_share_of_peak"] = share
        found[f"vector_env_b{batch}_steps_per_s"] = env.steps_per_s
        found[f"sb3_b{batch}_steps_per_s"] = sb3.steps_per_s
        if batch >= 64:
            vector.append(over["vector environment, pose"])
            adapter.append(over["Stable-Baselines3 adapter, pose"])
    found["forward_share_of_peak"] = max(shares)
    if vector:  # the worst of them counts
        found |= {"vector_env_over_forward": min(vector), "sb3_over_forward": min(adapter)}
    return found


def _compare(
    bench: Bench, model: WorldModel, batch: int, options: DreamOptions, peaks: Mapping[str, float], seed: int
) -> tuple[dict[str, float], float]:
    """Measure so many dreams: speeds as multiples of the bare network's, and what share of the peak that reaches."""
    env = DreamVectorEnv(batch, world_model=model, **options)
    env.reset(seed=seed)
    sb3 = _adapter(model, batch, options, seed)
    actions = draw_actions(model, batch, seed)
    env.step(actions), sb3.step(actions)  # compiled from here on
    network = FastModule(model.dynamics, batch, **options)
    over = bench.compare(
        f"environments, {batch}",
        batch,
        {
            "bare network": bare_forward(network, model, env.context, actions),
            "vector environment, pose": partial(env.step, actions),
            "Stable-Baselines3 adapter, pose": partial(sb3.step, actions),
        },
    )
    flops_per_s = count_flops(model, actions) / statistics.median(bench.rows[-3].seconds)
    precision = str(network.dtype).removeprefix("torch.")
    return over, flops_per_s / 1e9 / peaks[f"matmul_{precision}_gflops"]


def _adapter(model: WorldModel, batch: int, options: DreamOptions, seed: int) -> DreamVecEnv:
    """Dreams for Stable-Baselines3, started."""
    env = DreamVecEnv(DreamVectorEnv(batch, world_model=model, autoreset_mode=AutoresetMode.SAME_STEP, **options))
    env.seed(seed)
    env.reset()
    return env


def observations(
    bench: Bench, model: WorldModel, options: DreamOptions, seed: int, batch: int = 64
) -> dict[str, float]:
    """What each kind of observation costs."""
    actions = draw_actions(model, batch, seed)
    calls: dict[str, Callable[[], object]] = {}
    for obs_type in ("pose", "latent", "latent16", "rgb"):
        env = DreamVectorEnv(batch, world_model=model, obs_type=obs_type, **options)
        env.reset(seed=seed)
        env.step(actions)  # compiled from here on
        calls.setdefault(
            "bare network", bare_forward(FastModule(model.dynamics, batch, **options), model, env.context, actions)
        )
        calls[f"vector environment, {obs_type}"] = partial(env.step, actions)
    over = bench.compare(f"observations, {batch}", batch, calls)
    return {f"{name.split(', ')[1]}_over_forward_b{batch}": value for name, value in over.items() if ", " in name}


def error_bounds(bench: Bench, model: WorldModel, options: DreamOptions, seed: int) -> dict[str, float]:
    """What it costs to say how far dreams may be off: time of a step with it, over one without, less 1."""
    if model.error_bound is None:
        return {}
    silent, found = WorldModel(model.perception, model.dynamics, model.contexts), dict[str, float]()
    for batch in (1, 64):
        actions = draw_actions(model, batch, seed)
        calls: dict[str, Callable[[], object]] = {}
        for name, each in (("with", model), ("without", silent)):
            env = DreamVectorEnv(batch, world_model=each, **options)
            env.reset(seed=seed)
            env.step(actions)  # compiled from here on
            calls[f"vector environment, {name} error bounds"] = partial(env.step, actions)
        over = bench.compare(f"error bounds, {batch}", batch, calls, turns=_FINE)
        found[f"error_bound_cost_b{batch}"] = over[next(reversed(calls))] - 1
    return found


def other_libraries(
    bench: Bench, model: WorldModel, options: DreamOptions, seed: int, batch: int = 32
) -> dict[str, float]:
    """Other libraries' environments for learned models, around the same network, beside our adapter."""
    actions = draw_actions(model, batch, seed)
    theirs = peers.installed(model, batch, actions)
    ours = _adapter(model, batch, options, seed)
    over = bench.compare(
        f"other libraries, {batch}", batch, {"Stable-Baselines3 adapter, pose": partial(ours.step, actions), **theirs}
    )
    return {f"over_{name}": 1 / over[name] for name in theirs}
