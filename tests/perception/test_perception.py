import torch

from cosmos_isaac_wm.perception import Perception


def test_what_fit_tokenizer_saves_is_a_perception_without_dynamics(world_model, tmp_path, make_episode, scene):
    world_model.perception.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"perception.yaml", "perception.safetensors", "SHA256SUMS"}
    loaded, frames = Perception.load(tmp_path), make_episode(scene, 1).frames
    latents = world_model.perception.encode(frames)
    torch.testing.assert_close(loaded.encode(frames), latents)
    torch.testing.assert_close(loaded.locate(latents).positions, world_model.locate(latents).positions)
    torch.testing.assert_close(loaded.decode(latents), world_model.decode(latents))


def test_a_perception_without_a_readout_saves_and_loads(world_model, tmp_path, scene):
    Perception(scene, world_model.perception.tokenizer).save(tmp_path)
    assert Perception.load(tmp_path).readout is None
