"""How fast is training? In windows a second beside the report's loop, and in seconds until something is learned."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.data.windows import EncodedEpisodes, encode_dataset
from cosmos_isaac_wm.dynamics import ResNetRollout
from cosmos_isaac_wm.perception import BundleError, Perception
from cosmos_isaac_wm.train import cli
from cosmos_isaac_wm.train.fit_dynamics import FitDynamics
from cosmos_isaac_wm.train.speed.subjects import SeedForm, Still
from cosmos_isaac_wm.training import FitConfig, fit_dynamics
from cosmos_isaac_wm.training.losses import rollout_loss
from cosmos_isaac_wm.training.material import Material
from cosmos_isaac_wm.training.validation import validate
from cosmos_isaac_wm.world_model import WorldModel

_LEARNED = 0.9  # share of a still picture's error at which a dynamics counts as having learned something


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
    report = cli.recipe(FitDynamics, "fit-dynamics", "seed.yaml").fit
    config = dataclasses.replace(report, epochs=0, validate_every=10**9)
    few = episodes.select(range(2))

    def ours(count: int) -> float:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            counted = dataclasses.replace(config, updates=count)
            fit_dynamics(ResNetRollout(), sight, episodes, few, counted, Path(work), seed, model.device.type)
        return time.perf_counter() - start

    ratios, speeds = [], []
    for _ in range(5):  # what is done once cancels out in the difference
        slow = _report_seconds(episodes, config, updates // 2, seed, model.device)
        fast = (ours(2 * updates) - ours(updates)) / 2
        ratios.append(slow / fast)
        speeds.append(config.batch_size * updates / 2 / fast)
    found = {"fit_speedup": float(np.median(ratios)), "fit_windows_per_s": float(np.median(speeds))}
    return found | learning(model, held_out, found["fit_speedup"], 20 * updates, seed)


def _report_seconds(
    episodes: EncodedEpisodes, config: FitConfig, updates: int, seed: int, device: torch.device
) -> float:
    """Seconds of so many updates of the report's loop."""
    network = SeedForm(ResNetRollout()).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    rng, length = np.random.default_rng(seed), 4
    start = time.perf_counter()
    for _ in range(updates):
        rows = torch.from_numpy(rng.integers(len(episodes), size=(config.batch_size, 1)))
        last = int(episodes.lengths.min()) - 2 * length
        frames = torch.from_numpy(rng.integers(last, size=(config.batch_size, 1)))
        window = episodes.latents[rows, frames + torch.arange(2 * length)].float().to(device)
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


def learning(
    model: WorldModel, held_out: EpisodeDataset, loop_speedup: float, updates: int, seed: int
) -> dict[str, float]:
    """Seconds of training until a dynamics dreams better than standing still: by our recipe, and by the report's.

    Both learn from three quarters of the shipped episodes, in the first stage of their recipes. What counts is when
    their open-loop error on the other episodes is `_LEARNED` of a still picture's; a recipe that does not get there
    within the updates has no figure.

    Args:
        model: The bundle.
        held_out: Its episodes.
        loop_speedup: How much slower the report's own loop is: its recipe takes the seconds that this would.
        updates: Of each recipe.
        seed: Of weights and batches.
    """
    encoded = encode_dataset(held_out, "test", model.perception.encode, "", None)
    fourth = np.arange(len(encoded)) % 4 == 3
    train, val = (encoded.select(np.flatnonzero(rows)) for rows in (~fourth, fourth))
    material = Material(model.perception, [held_out], train, val)
    still = validate(Still(model.dynamics.context_length), model.perception, val)["error"]
    found = {"still_error_px512": still}
    for name, slower in (("default", 1.0), ("seed", loop_speedup)):
        curve, seconds = _learned(name, material, updates, seed, model.device)
        seconds *= slower
        found[f"{name}_best_error_px512"] = min(row["error"] for row in curve)
        found[f"{name}_fit_s"] = seconds * updates
        reached = next((row["update"] for row in curve if row["error"] <= _LEARNED * still), None)
        if reached is not None:
            found[f"{name}_seconds_to_error"] = seconds * reached
    return found


def _learned(
    name: str, material: Material, updates: int, seed: int, device: torch.device
) -> tuple[list[dict[str, float]], float]:
    """Train by a shipped recipe's first stage: its validations, and the seconds of an update without them."""
    shipped = cli.recipe(FitDynamics, "fit-dynamics", f"{name}.yaml")
    every = max(1, updates // 20)
    config = dataclasses.replace(
        shipped.fit, updates=updates, epochs=0, stages=shipped.fit.stages[:1], validate_every=every
    )
    sight, val = material.sight, material.val
    torch.manual_seed(seed)
    network = shipped.new_network(sight)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        curve = fit_dynamics(network, sight, material.train, val, config, Path(work), seed, device.type).curve
    total = time.perf_counter() - start
    start = time.perf_counter()
    validate(network, sight, val)
    return curve, (total - len(curve) * (time.perf_counter() - start)) / updates
