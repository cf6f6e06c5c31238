"""How fast is the network? Beside the machine's matrix product, and beside the form that the report gives it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from cosmos_isaac_wm.dynamics import ResNetRollout
from cosmos_isaac_wm.precision import has_bfloat16
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.train.speed.harness import Bench, DreamOptions
from cosmos_isaac_wm.train.speed.subjects import SeedForm, SeedLoop, stretched
from cosmos_isaac_wm.world_model import WorldModel


def matrix_peak(bench: Bench, device: torch.device, size: int = 2048) -> dict[str, float]:
    """Floating point operations per second of a large matrix product, by precision."""
    calls: dict[str, Callable[[], object]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        calls[str(dtype).removeprefix("torch.")] = partial(torch.matmul, left, right)
    bench.compare("matrix product", 1, calls)
    return {
        f"matmul_{row.name}_gflops": 2 * size**3 / statistics.median(row.seconds) / 1e9
        for row in bench.rows
        if row.group == "matrix product"
    }


def seed_form(bench: Bench, model: WorldModel, options: DreamOptions) -> dict[str, float]:
    """The report's network in its own form and in ours, same weights; and the default model beside it."""
    torch.manual_seed(0)
    folded = ResNetRollout().eval().requires_grad_(False).to(model.device)
    seed_network = SeedForm(folded).eval().requires_grad_(False).to(model.device)
    folded = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # At the report's size a single dream is arithmetic enough for bfloat16.
    quick = options["dtype"] == "bfloat16" or (options["dtype"] == "auto" and has_bfloat16(model.device))
    fast: DreamOptions = {"dtype": torch.bfloat16 if quick else torch.float32, "compile": options["compile"]}
    found: dict[str, float] = {}
    for grid, batch in ((64, 1), (64, 8), (16, 64)):
        ours = stretched(model, folded, grid)
        torch.manual_seed(1)
        context = torch.randn(batch, *ours.contexts.latents.shape[1:], device=model.device)
        actions = torch.zeros(batch, model.scene.action_dim, device=model.device)
        calls: dict[str, Callable[[], object]] = {
            "the report's form (Conv3d, float32)": SeedLoop(seed_network, context).step,
            "folded, our engine": partial(_started(ours, context, fast).step, actions),
        }
        if grid == 16:
            start = model.contexts.latents[:1].float().expand(batch, -1, -1, -1, -1)
            calls["the default model, our engine"] = partial(_started(model, start, options).step, actions)
        over = bench.compare(f"the report's network on {grid} x {grid} latents, {batch}", batch, calls)
        found[f"seed_speedup_{grid}_b{batch}"] = over["folded, our engine"]
        if grid == 16:
            found[f"default_over_seed_16_b{batch}"] = over["the default model, our engine"]
        expected = SeedLoop(seed_network, context).step()
        exact: DreamOptions = {"dtype": "float32", "compile": False}
        rough: DreamOptions = {"dtype": fast["dtype"], "compile": False}
        for name, how in (("float32", exact), ("fast", rough)):
            step = _started(ours, context, how).step(actions)
            found[f"seed_difference_{grid}_b{batch}_{name}"] = float((step.latent - expected).abs().max())
    return found


def _started(model: WorldModel, context: Tensor, options: DreamOptions) -> DreamEngine:
    """A dream for each context (B, K, C, h, w)."""
    engine = DreamEngine(model, len(context), **options)
    engine.reset(context)
    return engine
