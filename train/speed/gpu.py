"""How fast is a step on a GPU, and in how many launches? Tensors in and out, restarts included; nothing elsewhere."""

from __future__ import annotations

import statistics
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from cosmos_isaac_wm.envs import DreamVectorEnv
from cosmos_isaac_wm.train.speed.harness import Bench, DreamOptions
from cosmos_isaac_wm.train.speed.subjects import draw_actions
from cosmos_isaac_wm.world_model import WorldModel

DREAMS = 4096


def device_steps(
    bench: Bench, model: WorldModel, options: DreamOptions, seed: int, batch: int = DREAMS
) -> dict[str, float]:
    """Environment steps per second of many dreams with poses, and what a step launches; nothing on a processor.

    Args:
        bench: Measures.
        model: The bundle.
        options: How the network is run.
        seed: Of starts and actions.
        batch: Number of dreams.
    """
    if model.device.type != "cuda":
        return {}
    env = DreamVectorEnv(batch, world_model=model, to_torch=True, **options)
    env.reset(seed=seed)
    actions = torch.from_numpy(draw_actions(model, batch, seed)).to(model.device)
    for _ in range(3):  # compiled, recorded, replayed
        env.step(actions)
    bench.compare(f"on the GPU, {batch}", batch, {"vector environment, tensors": partial(env.step, actions)})
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        env.step(actions)
        torch.cuda.synchronize(model.device)
    calls = {event.key: event.count for event in profiled.key_averages()}
    return {
        "gpu_env_steps_per_s": batch / statistics.median(bench.rows[-1].seconds),
        "gpu_graph_launches_a_step": float(calls.get("cudaGraphLaunch", 0)),
        "gpu_other_launches_a_step": float(calls.get("cudaLaunchKernel", 0)),  # actions in, results out
    }
