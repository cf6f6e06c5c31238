import dataclasses

import pytest
import torch

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, write_dataset
from cosmos_isaac_wm.training.material import Material


@pytest.fixture
def material(tmp_path, scene, make_episode, world_model):
    """Of eight episodes of two kinds."""
    episodes = [make_episode(scene, seed, kind=("push", "slide")[seed % 2]) for seed in range(8)]
    write_dataset(tmp_path / "data", episodes, scene, ["train"] * 4 + ["val"] * 4)
    return Material.of([EpisodeDataset(tmp_path / "data")], world_model.perception, tmp_path, mirror=True, least=5)


def test_training_episodes_alone_are_mirrored(material):
    assert (len(material.train), len(material.val)) == (8, 4)


def test_it_is_read_from_the_cache_the_second_time(material, monkeypatch):
    monkeypatch.setattr(material.sight, "encode", lambda frames: pytest.fail("encoded again"))
    again = Material.of(material.datasets, material.sight, material.datasets[0].path.parent, mirror=True, least=5)
    assert torch.equal(again.train.latents, material.train.latents)


def test_fewer_are_the_first_of_each_kind(material):
    fewer = material.fewer(val=1, train=2)
    assert sorted(fewer.train.kinds) == ["push", "push", "slide", "slide"]
    assert fewer.train.sources.tolist() == [0, 1, 2, 3]
    assert fewer.val.kinds == ["push", "slide"]
    assert material.fewer(val=1).train is material.train


def test_a_dataset_of_another_scene_is_refused(tmp_path, scene, make_episode, world_model):
    other = dataclasses.replace(scene, control_hz=50.0)
    write_dataset(tmp_path / "faster", [make_episode(other, 0)], other, ["train"])
    with pytest.raises(DatasetError, match="control_hz"):
        Material.of([EpisodeDataset(tmp_path / "faster")], world_model.perception, tmp_path, mirror=False, least=5)
