import dataclasses
import json
import os

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from cosmos_isaac_wm.contexts import Contexts
from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig
from cosmos_isaac_wm.perception import BundleError, Perception
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.storage.bundle import SUMS, seal, verify
from cosmos_isaac_wm.world_model import WorldModel


@pytest.fixture
def saved(world_model, tmp_path):
    """A bundle of this test's own, to be damaged."""
    return world_model.save(tmp_path / "bundle")


def edit(path, change):
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))
    seal(path.parent)


def test_a_saved_bundle_loads_as_the_same_model(world_model, bundle):
    loaded = WorldModel.load(bundle)
    actions = torch.rand(2, 5, 2) * 2 - 1
    dreams = [
        DreamEngine(model, 2).open_loop(model.contexts.latents[:2].float(), actions) for model in (world_model, loaded)
    ]
    torch.testing.assert_close(*dreams, atol=1e-5, rtol=1e-5)
    assert loaded.scene == world_model.scene
    assert loaded.contexts.kinds == world_model.contexts.kinds
    assert torch.equal(loaded.contexts.positions, world_model.contexts.positions)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_provenance_and_metrics_travel_with_the_bundle_and_its_card(make_world_model, tmp_path):
    model = make_world_model()
    model.provenance, model.metrics = {"seed": 7, "data": "abc"}, {"push_cube_rmse_px512": 5.25}
    folder = model.save(tmp_path / "bundle")
    loaded = WorldModel.load(folder)
    assert (loaded.provenance, loaded.metrics) == (model.provenance, model.metrics)
    card = (folder / "README.md").read_text()
    assert "seed: `7`" in card
    assert "| push_cube_rmse_px512 | 5.25 |" in card


def test_nothing_in_a_bundle_is_a_pickle(bundle):
    assert {path.suffix for path in bundle.iterdir()} == {".yaml", ".safetensors", ".json", ".md", ""}


def test_a_bundle_is_never_overwritten(world_model, bundle):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(FileExistsError, match="never overwritten"):
        world_model.save(bundle)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_a_save_that_fails_leaves_nothing(make_world_model, tmp_path):
    model = make_world_model()
    model.provenance = {"not plain": object()}
    with pytest.raises(yaml.YAMLError):
        model.save(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


FILES = ["config.yaml", "perception.yaml", "perception.safetensors", "dynamics.safetensors", "contexts.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(BundleError, match=name if name != "config.yaml" else "no world model bundle"):
        WorldModel.load(saved)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_file_is_named(saved, name, kept):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BundleError, match=f"{saved}.*{name}"):
        WorldModel.load(saved)


@pytest.mark.parametrize("name", [*FILES, "metrics.json"])
def test_no_bit_of_a_bundle_changes_unnoticed(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{saved / name} is damaged"):
        WorldModel.load(saved)
    with pytest.raises(BundleError, match=f"{saved / name} is damaged"):
        verify(saved)
    seal(saved)  # what it says now is meant
    assert verify(saved) == 7


def test_a_bundle_from_before_checksums_is_read(saved):
    (saved / SUMS).unlink()
    assert verify(saved) == 0
    WorldModel.load(saved)


@pytest.mark.parametrize("name", ["perception.yaml", "metrics.json", "dynamics.safetensors"])
def test_links_out_of_a_bundle_and_what_is_no_file_are_refused(saved, tmp_path, name):
    (saved / name).rename(tmp_path / "elsewhere")
    (saved / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="leads out of its folder"):
        WorldModel.load(saved)
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises(BundleError, match=f"{name} is no regular file"):
        WorldModel.load(saved)


def test_figures_replace_a_bundle_in_one_step(saved):
    model, inode = WorldModel.load(saved), (saved / "dynamics.safetensors").stat().st_ino
    model.metrics = {"push_cube_rmse_px512": 12.5}
    model.save_metrics()
    assert WorldModel.load(saved).metrics == model.metrics
    assert "12.5" in (saved / "README.md").read_text()
    assert (saved / "dynamics.safetensors").stat().st_ino == inode  # not written again
    assert {path.name for path in saved.parent.iterdir()} == {saved.name}


def test_everybody_may_read_a_bundle_as_the_umask_says(world_model, tmp_path):
    before = os.umask(0o022)
    try:
        world_model.save(tmp_path / "bundle")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "bundle").iterdir()} == {0o644}


@pytest.mark.parametrize("name", ["dynamics.safetensors", "perception.safetensors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(saved, name, value):
    state = load_file(saved / name)
    state[next(iter(state))].view(-1)[0] = value
    save_file(state, saved / name)
    seal(saved)
    with pytest.raises(BundleError, match=f"{name} holds NaN or infinite weights"):
        WorldModel.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=99), "bundle format 99; this version reads format 1"),
        (lambda c: c["dynamics"].update(type="warp_drive"), r"unknown dynamics 'warp_drive'; expected one of .*resnet"),
        (lambda c: c["dynamics"]["config"].update(widht=8), "widht"),
        (lambda c: c["dynamics"]["config"].update(width="64"), r"Expected `int`, got `str` - at `\$\.width`"),
        (lambda c: c["dynamics"]["config"].update(width=30_000), "width 30000 is out of reason"),
        (lambda c: c["dynamics"]["config"].update(blocks=10**7), "blocks 10000000 is out of reason"),
        (
            lambda c: c["dynamics"]["config"].update(width=8000),
            r"weights are described, but .*dynamics\.safetensors has",
        ),
        (lambda c: c.update(provenance=[1]), "provenance"),
        (lambda c: c["dynamics"]["config"].update(width=32), r"dynamics\.safetensors does not fit"),
        (lambda c: c["dynamics"]["config"].update(context_length=8), r"dynamics\.safetensors does not fit"),
        (lambda c: c.pop("dynamics"), "required field `dynamics`"),
        (lambda c: c["dynamics"].pop("config"), r"config\.yaml.*`config`"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(saved, change, message):
    edit(saved / "config.yaml", change)
    with pytest.raises(BundleError, match=message):
        WorldModel.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["tokenizer"].update(fingerprint="0123"), r"made with 0123\. Use the tokenizer it was fitted with"),
        (lambda c: c["tokenizer"].update(type="vqgan"), "enum value 'vqgan'"),
        (lambda c: c["tokenizer"]["config"].update(chanels=4), r"perception\.yaml.*chanels"),
        (lambda c: c["scene"].update(workspace_low=None), "workspace bounds"),
        (lambda c: c["scene"].update(contrl_hz=5.0), r"perception\.yaml.*contrl_hz"),
        (lambda c: c.pop("scene"), r"perception\.yaml.*`scene`"),
        (
            lambda c: c["scene"].update(image_size=[64, 64]),
            r"latents of shape \(4, 16, 4, 4\), expected \(4, 16, 8, 8\)",
        ),
        (lambda c: c["scene"].update(action_low=[-1.0] * 3, action_high=[1.0] * 3), "2 action dimensions.*scene has 3"),
    ],
)
def test_a_perception_that_does_not_fit_is_refused(saved, change, message):
    edit(saved / "perception.yaml", change)
    with pytest.raises(BundleError, match=message):
        WorldModel.load(saved)


def test_changed_tokenizer_weights_are_a_fingerprint_mismatch(saved):
    state = load_file(saved / "perception.safetensors")
    name = next(name for name in state if name.startswith("tokenizer."))
    save_file({**state, name: state[name] + 1e-3}, saved / "perception.safetensors")
    seal(saved)
    with pytest.raises(BundleError, match="fingerprint"):
        WorldModel.load(saved)


def test_contexts_of_another_shape_are_refused(world_model):
    contexts = dataclasses.replace(world_model.contexts, latents=world_model.contexts.latents[:, :3])
    with pytest.raises(BundleError, match=r"\(3, 16, 4, 4\), expected \(4, 16, 4, 4\)"):
        WorldModel(world_model.perception, world_model.dynamics, contexts)


def test_contexts_without_kinds_are_refused(saved):
    save_file(load_file(saved / "contexts.safetensors"), saved / "contexts.safetensors")
    with pytest.raises(BundleError, match=r"contexts\.safetensors"):
        Contexts.load(saved / "contexts.safetensors")


def test_dynamics_of_other_channels_are_refused(world_model):
    dynamics = ResNetRollout(ResNetRolloutConfig(channels=8))
    with pytest.raises(BundleError, match="8 latent channels, the tokenizer 16"):
        WorldModel(world_model.perception, dynamics, world_model.contexts)


def test_damaged_metrics_are_refused(saved):
    (saved / "metrics.json").write_text('{"a": ')
    with pytest.raises(BundleError, match=r"metrics\.json"):
        WorldModel.load(saved)


def test_an_unknown_device_is_refused(bundle):
    with pytest.raises(ValueError, match="device 'nonsense' is not available"):
        WorldModel.load(bundle, device="nonsense")


def test_actions_are_clipped_to_the_scenes_bounds_and_scaled(world_model):
    scene = dataclasses.replace(world_model.scene, action_low=(0.0, -2.0), action_high=(10.0, 2.0))
    perception = Perception(scene, world_model.perception.tokenizer, world_model.perception.readout)
    model = WorldModel(perception, world_model.dynamics, world_model.contexts)
    scaled = model.perception.scale_actions(torch.tensor([[0.0, -2.0], [5.0, 0.0], [99.0, 1.0], [-99.0, 99.0]]))
    torch.testing.assert_close(scaled, torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 0.5], [-1.0, 1.0]]))


def test_a_bundle_without_held_out_episodes_asks_for_a_dataset(bundle, world_model):
    with pytest.raises(BundleError, match=r"no held-out episodes; pass a dataset with --data"):
        WorldModel.load(bundle).held_out()


def test_latents_are_normalised_and_decoded_back(world_model, make_episode, scene):
    tokenizer, frames = world_model.perception.tokenizer, make_episode(scene, 0).frames
    raw = Perception(scene, tokenizer).encode(frames)
    mean, std = raw.mean(dim=(0, 2, 3)), raw.std(dim=(0, 2, 3))
    perception = Perception(scene, tokenizer, None, mean, std)
    latents = perception.encode(frames)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(16), atol=1e-4, rtol=0)
    difference = perception.decode(latents).int() - Perception(scene, tokenizer).decode(raw).int()
    assert difference.abs().max() <= 1  # a rounding apart


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((1, 30, 32, 3), np.uint8),
    ],
)
def test_frames_of_another_type_or_shape_are_refused(world_model, frames):
    with pytest.raises(ValueError, match=r"uint8 RGB frames|multiple of 8"):
        world_model.encode(frames)


def test_without_a_readout_asking_for_positions_says_what_to_do(world_model, scene):
    perception = Perception(scene, world_model.perception.tokenizer)
    with pytest.raises(ValueError, match="no readout"):
        perception.locate(torch.zeros(1, 16, 4, 4))


def test_metrics_are_plain_json(bundle):
    assert json.loads((bundle / "metrics.json").read_text()) == {}
