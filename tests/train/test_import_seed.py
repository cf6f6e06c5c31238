"""The report's artefacts, here untrained and small: a Conv3d checkpoint, TorchScript tokenizers, dreamed latents."""

import json

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig, to_seed_state_dict
from cosmos_isaac_wm.perception.tokenizers import CosmosTokenizer
from cosmos_isaac_wm.train import evaluate, record
from cosmos_isaac_wm.train.import_seed import main
from cosmos_isaac_wm.world_model import WorldModel
from tests.torchscript import cosmos_files

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated:DeprecationWarning")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ResNetRollout(ResNetRolloutConfig(width=16, blocks=1)).eval()


@pytest.fixture
def command(network, tmp_path):
    """Everything but where dreams start."""
    torch.save({"model": to_seed_state_dict(network), "epoch": 500}, tmp_path / "resnet_rollout_best.pt")
    encoder, decoder = cosmos_files(tmp_path / "cosmos")
    files = ["--cosmos_encoder", encoder, "--cosmos_decoder", decoder]
    return [str(tmp_path / "resnet_rollout_best.pt"), *files, "--out", str(tmp_path / "bundle")]


@pytest.fixture
def latents(tmp_path):
    torch.manual_seed(1)
    torch.save(torch.randn(12, 16, 4, 4), tmp_path / "dreamed_latents.pt")
    return ["--latents", str(tmp_path / "dreamed_latents.pt")]


@pytest.fixture
def clip():
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)


def zero(outcome):
    return np.zeros(len(outcome.latents))


def test_a_bundle_is_made_of_the_reports_files_and_stepped(command, latents, network, tmp_path):
    assert main([*command, *latents, "--contexts", "3", "--json", str(tmp_path / "numbers.json")]) == 0
    assert json.loads((tmp_path / "numbers.json").read_text())["contexts"] == 3
    bundle, given = tmp_path / "bundle", torch.load(tmp_path / "dreamed_latents.pt", weights_only=True)
    model = WorldModel.load(bundle, "cpu")
    assert model.contexts.starts.tolist() == [0, 4, 8]
    torch.testing.assert_close(model.contexts.latents[1].float(), given[4:8], atol=1e-2, rtol=1e-2)
    with pytest.warns(UserWarning, match="no positions: rewards are 0 without a reward_fn"):
        env = gym.make("cosmos_isaac_wm:CosmosDream-v0", world_model=str(bundle))
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (1,))
    env.reset(options={"episode": 0, "start": 4}, seed=0)
    observation, reward, *_ = env.step(env.action_space.sample())
    assert reward == 0
    expected = network(model.contexts.latents[1:2].float(), torch.zeros(1, 0)).latent
    torch.testing.assert_close(torch.from_numpy(observation), expected[0].detach(), atol=1e-5, rtol=1e-4)


def test_its_action_does_nothing(command, latents, tmp_path):
    assert main([*command, *latents]) == 0
    env = gym.make(
        "cosmos_isaac_wm:CosmosDream-v0", world_model=str(tmp_path / "bundle"), obs_type="latent", reward_fn=zero
    )
    seen = []
    for action in (-1.0, 1.0):
        env.reset(seed=3)
        seen.append(env.step(np.array([action], np.float32))[0])
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("source", ["npy", "clips.npy", "folder", "gif"])
def test_starts_are_encoded_from_pictures_which_are_shipped_recorded_and_evaluated(command, clip, source, tmp_path):
    path = tmp_path / "frames"
    if source.endswith("npy"):
        path = tmp_path / "frames.npy"
        np.save(path, np.stack([clip, clip]) if "clips" in source else clip)
    elif source == "folder":
        path.mkdir()
        for number, frame in enumerate(clip):
            imageio.imwrite(path / f"{number:03}.png", frame)
    else:
        path = tmp_path / "frames.gif"
        imageio.imwrite(path, clip)
    assert main([*command, "--frames", str(path)]) == 0
    bundle = tmp_path / "bundle"
    model = WorldModel.load(bundle, "cpu")
    shipped = model.held_out()
    assert len(shipped) == (2 if "clips" in source else 1)
    expected = model.encode(shipped[0].frames[:4]).half()
    torch.testing.assert_close(model.contexts.latents[0], expected, atol=1e-2, rtol=1e-2)
    if source != "gif":  # which has 256 colours
        np.testing.assert_array_equal(shipped[0].frames, clip)
    assert evaluate.main(["--world-model", str(bundle), "--json", str(tmp_path / "figures.json"), "--device=cpu"]) == 0
    assert "latent_l1" in json.loads((tmp_path / "figures.json").read_text())
    replay = ["--world-model", str(bundle), "--episode", "0", "--out", str(tmp_path / "out"), "--device=cpu"]
    assert record.main(replay) == 0
    assert (tmp_path / "out" / "dream_vs_real.mp4").is_file()


def test_a_dataset_gives_scene_and_starts_and_its_objects_are_compared(command, dataset, tmp_path):
    assert main([*command, "--data", str(dataset.path), "--contexts", "4"]) == 0
    bundle = tmp_path / "bundle"
    model = WorldModel.load(bundle, "cpu")
    assert model.scene == dataset.scene
    assert len(model.contexts) == 4
    assert torch.isfinite(model.contexts.positions).all()
    arguments = ["--world-model", str(bundle), "--data", str(dataset.path), "--json", str(tmp_path / "f.json")]
    assert evaluate.main([*arguments, "--device=cpu"]) == 0
    assert "push_cube_rmse_px512" in json.loads((tmp_path / "f.json").read_text())


def test_a_video_tokenizer_sees_one_picture_at_a_time(command, clip, tmp_path):
    np.save(tmp_path / "frames.npy", clip)
    encoder, decoder = cosmos_files(tmp_path / "video", video=True)
    paths = ["--cosmos_encoder", encoder, "--cosmos_decoder", decoder, "--cosmos_video"]
    assert main([*command, "--frames", str(tmp_path / "frames.npy"), *paths]) == 0
    tokenizer = WorldModel.load(tmp_path / "bundle", "cpu").perception.tokenizer
    assert isinstance(tokenizer, CosmosTokenizer)
    assert tokenizer.video


def test_a_finished_import_is_left_as_it_is_and_another_is_refused(command, latents, tmp_path, capsys):
    assert main([*command, *latents]) == 0
    assert main([*command, *latents]) == 0
    assert "going on from the finished bundle" in capsys.readouterr().err
    assert main([*command, *latents, "--control_hz", "5"]) == 1
    assert "never overwritten" in capsys.readouterr().err


class Malicious:
    def __reduce__(self):
        import os

        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Malicious(), "loads without running code"),
        ({"latents": torch.zeros(12, 16, 4, 4)}, "holds a dict; expected a tensor"),
        (torch.zeros(12, 4, 16, 4), r"expected a tensor of floats (T, 16, h, w)"),
        (torch.zeros(12, 16, 4, 4, dtype=torch.int32), "holds torch.int32"),
        (torch.full((12, 16, 4, 4), torch.nan), "NaN or infinite"),
        (torch.zeros(3, 16, 4, 4), "starts from 4 frames in a row, and the longest clip has 3"),
    ],
    ids=["a program", "a dict", "channels elsewhere", "integers", "NaN", "too short"],
)
def test_latents_that_are_none_are_refused(command, content, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "latents.pt")
    assert main([*command, "--latents", str(tmp_path / "latents.pt")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
    assert not (tmp_path / "executed").exists()


def test_without_anywhere_to_start_nothing_is_made(command, capsys):
    assert main(command) == 1
    assert "where shall dreams start? Give --latents, --frames or --data" in capsys.readouterr().err


def test_a_checkpoint_of_other_latents_is_refused(command, latents, tmp_path, capsys):
    other = ResNetRollout(ResNetRolloutConfig(channels=8, width=16, blocks=1))
    torch.save(to_seed_state_dict(other), tmp_path / "resnet_rollout_best.pt")
    assert main([*command, *latents]) == 1
    assert "dreams latents of 8 channels" in capsys.readouterr().err


def test_the_reports_own_size_works(command, tmp_path):
    """64 x 64 latents of 512 x 512 pictures, 64 channels wide."""
    torch.manual_seed(0)
    torch.save(to_seed_state_dict(ResNetRollout()), tmp_path / "resnet_rollout_best.pt")
    torch.save(torch.randn(5, 16, 64, 64), tmp_path / "latents.pt")
    assert main([*command, "--latents", str(tmp_path / "latents.pt")]) == 0
    env = gym.make(
        "cosmos_isaac_wm:CosmosDream-v0", world_model=str(tmp_path / "bundle"), obs_type="rgb", reward_fn=zero
    )
    observation, _ = env.reset(seed=0)
    assert observation.shape == (512, 512, 3)
    env.step(env.action_space.sample())
