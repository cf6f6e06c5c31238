"""Toy bundles for the environments: the object is always seen, and goals can be met."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.readout import Readout
from cosmos_isaac_wm.scene import Scene
from cosmos_isaac_wm.world_model import Contexts, WorldModel


@pytest.fixture(scope="session")
def model(world_model: WorldModel) -> WorldModel:
    """The toy world model, but sure that all markers are there, and with positions that differ from frame to frame."""
    sharp = copy.deepcopy(world_model)
    raw = sharp.contexts.latents.float()
    sharp.perception.mean.copy_(raw.mean(dim=(0, 1, 3, 4)))
    sharp.perception.std.fill_(float(raw.std(dim=(0, 1)).max()))
    sharp.contexts.latents = ((raw - sharp.perception.mean[:, None, None]) / sharp.perception.std[0]).half()
    sharp.perception.readout.features[-1].bias[3::4] = 8.0
    return sharp


@pytest.fixture(scope="session")
def folder(model: WorldModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That model as a bundle on disk."""
    return model.save(tmp_path_factory.mktemp("bundles") / "sure")


def _perception(model: WorldModel, scene: Scene, readout: Readout | None) -> Perception:
    eyes = model.perception
    return Perception(scene, eyes.tokenizer, readout, eyes.mean.clone(), eyes.std.clone()).eval()


@pytest.fixture(scope="session")
def large_model(model: WorldModel) -> WorldModel:
    """The same with 48x48 pictures, which are large enough for Stable-Baselines3's convolutional policy."""
    scene = dataclasses.replace(model.scene, image_size=(48, 48))
    perception = _perception(model, scene, model.perception.readout)
    frames = torch.randint(0, 256, (6 * 4, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    contexts = dataclasses.replace(model.contexts, latents=perception.encode(frames).unflatten(0, (6, 4)).half())
    return WorldModel(perception, model.dynamics, contexts)


@pytest.fixture(scope="session")
def blind_model(model: WorldModel) -> WorldModel:
    """A bundle made from data without positions: no markers, no readout, no workspace."""
    scene = dataclasses.replace(model.scene, markers=(), agent=None, workspace_low=None, workspace_high=None)
    perception = _perception(model, scene, None)
    count = len(model.contexts)
    contexts = Contexts(
        latents=model.contexts.latents,
        positions=torch.zeros(count, 4, 0, 2),
        states=torch.zeros(count, 0, dtype=torch.float64),
        episodes=model.contexts.episodes,
        starts=model.contexts.starts,
        kinds=["episode"] * count,
    )
    return WorldModel(perception, model.dynamics, contexts)
