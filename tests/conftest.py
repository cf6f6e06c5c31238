"""A toy world for the tests: a red square that moves as the action says, drawn without OpenGL, and a bundle of it."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.contexts import Contexts
from cosmos_isaac_wm.data import Episode, EpisodeDataset, write_dataset
from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.readout import Readout, ReadoutConfig
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.scene import TABLE, Scene
from cosmos_isaac_wm.sims.mujoco import MujocoTable, OpenGLError  # chooses the GL before a test imports mujoco
from cosmos_isaac_wm.world_model import WorldModel

TOY = dataclasses.replace(TABLE, name="toy", image_size=(32, 32), episode_steps=12)


def toy_episode(scene: Scene, seed: int, steps: int = 16, kind: str = "push") -> Episode:
    """A red cube drawn as a square at its projected position; the pusher, a blue one, follows the actions."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (steps, scene.action_dim)).astype(np.float32)
    pusher = np.clip(
        rng.uniform(-0.2, 0.2, 2) + np.cumsum(np.pad(actions, ((1, 0), (0, 0))), axis=0) * 0.02, -0.35, 0.35
    )
    cube = np.broadcast_to(rng.uniform(-0.2, 0.2, 2), (steps + 1, 2)) + np.linspace(0, 0.1, steps + 1)[:, None]
    frames = np.full((steps + 1, *scene.image_size, 3), 128, np.uint8)
    for track, colour in ((pusher, (20, 60, 230)), (cube, (220, 20, 20))):
        for frame, (column, row) in zip(frames, np.round(scene.to_pixels(track)).astype(int), strict=True):
            frame[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = colour
    positions = {"cube": cube.astype(np.float32), "pusher": pusher.astype(np.float32)}
    return Episode(frames, actions, kind, seed, positions)


def toy_world_model(scene: Scene = TOY, seed: int = 0) -> WorldModel:
    """Untrained networks of the smallest useful shapes around real encoded contexts."""
    torch.manual_seed(seed)
    tokenizer = TinyTokenizer(TinyTokenizerConfig(widths=(16, 16), blocks=1))
    assert scene.workspace_low is not None
    assert scene.workspace_high is not None
    config = ReadoutConfig(markers=len(scene.markers), width=8, headings=any(scene.symmetries))
    readout = Readout(config, scene.workspace_low, scene.workspace_high)
    perception = Perception(scene, tokenizer, readout).eval().requires_grad_(False)
    dynamics = ResNetRollout(ResNetRolloutConfig(action_dim=scene.action_dim, width=16, blocks=1, patch=2, blend=True))
    torch.nn.init.normal_(dynamics.out_projection.weight, std=0.02)
    episodes = [toy_episode(scene, number) for number in range(6)]
    contexts = Contexts(
        latents=torch.stack([perception.encode(episode.frames[:4]) for episode in episodes]).half(),
        positions=torch.stack([torch.from_numpy(e.marker_positions(scene.marker_names)[:4]) for e in episodes]),
        states=torch.zeros(len(episodes), 0, dtype=torch.float64),
        episodes=torch.arange(len(episodes)),
        starts=torch.zeros(len(episodes), dtype=torch.int64),
        kinds=[episode.kind for episode in episodes],
    )
    return WorldModel(perception, dynamics, contexts).eval().requires_grad_(False)


@functools.cache
def _draws() -> bool:
    """Whether MuJoCo can draw here."""
    simulator = MujocoTable("slide", (16, 16))
    try:
        simulator.render()
    except OpenGLError:
        return False
    finally:
        simulator.close()
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that draw are skipped without OpenGL, but never in CI, which has to have it; others without a GPU."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    if item.get_closest_marker("opengl") and "CI" not in os.environ and not _draws():
        pytest.skip("no off-screen OpenGL here; `apt-get install libosmesa6`")


@pytest.fixture(scope="session")
def scene() -> Scene:
    return TOY


@pytest.fixture(scope="session")
def make_episode() -> Callable[..., Episode]:
    return toy_episode


@pytest.fixture
def make_world_model() -> Callable[..., WorldModel]:
    return toy_world_model


@pytest.fixture(scope="session")
def world_model() -> WorldModel:
    return toy_world_model()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved toy bundle."""
    return toy_world_model().save(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """Ten toy episodes, eight of them for training, one each for val and test."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    splits = ["train"] * 8 + ["val", "test"]
    write_dataset(folder, (toy_episode(TOY, seed) for seed in range(10)), TOY, splits)
    return EpisodeDataset(folder)


@pytest.fixture(scope="session")
def model(world_model: WorldModel) -> WorldModel:
    """The toy world model, but sure that all markers are there, and with positions that differ from frame to frame."""
    sharp = copy.deepcopy(world_model)
    raw = sharp.contexts.latents.float()
    sharp.perception.mean.copy_(raw.mean(dim=(0, 1, 3, 4)))
    sharp.perception.std.fill_(float(raw.std(dim=(0, 1)).max()))
    sharp.contexts.latents = ((raw - sharp.perception.mean[:, None, None]) / sharp.perception.std[0]).half()
    sharp.perception.readout.features[-1].bias[3::6] = 8.0  # presence
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


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray cluster of one node; tests add others. It listens on loopback only, and sends nothing home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray's own switch for 127.0.0.1 as every node's address
        patch.delenv("RAY_ADDRESS", raising=False)
        ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'cosmos-isaac-wm[ray]'")
        from ray.cluster_utils import Cluster

        ray.cloudpickle.register_pickle_by_value(sys.modules[toy_episode.__module__])  # workers cannot import tests
        node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
        cluster = Cluster(
            initialize_head=True, head_node_args={**node, "node_name": "first", "include_dashboard": False}
        )
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch computes as on that cluster's nodes, to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def second_node(ray_cluster: Any) -> Iterator[Any]:
    """Another node of that cluster, for a test that may remove it."""
    node = ray_cluster.add_node(
        num_cpus=1, node_ip_address="127.0.0.1", node_name="second", object_store_memory=80 * 2**20
    )
    yield node
    if node in ray_cluster.worker_nodes:
        ray_cluster.remove_node(node)
