import torch

from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.training.statistics import latent_statistics


def test_latents_are_normal_with_their_own_statistics(dataset, world_model):
    raw = Perception(dataset.scene, world_model.perception.tokenizer)
    mean, std = latent_statistics([dataset], raw)
    assert mean.shape == std.shape == (16,)
    seen = Perception(dataset.scene, world_model.perception.tokenizer, None, mean, std)
    latents = torch.cat([seen.encode(dataset[index].frames[::10]) for index in dataset.indices("train")])
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(16), atol=1e-3, rtol=0)
