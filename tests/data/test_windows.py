import dataclasses

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.data import DatasetError, Episode, EpisodeDataset, write_dataset
from cosmos_isaac_wm.data.windows import WindowSampler, encode_dataset, mirror_episode


def coarse(frames: torch.Tensor) -> torch.Tensor:
    """A stand-in for a tokenizer: every eighth pixel."""
    return frames[:, ::8, ::8].permute(0, 3, 1, 2).float()


@pytest.fixture
def counters(tmp_path, scene) -> EpisodeDataset:
    """Two episodes of known dynamics: every pixel of frame t + 1 is that of frame t plus ten times the action."""
    known = dataclasses.replace(scene, markers=(), agent=None, workspace_low=None, workspace_high=None)
    episodes = []
    for seed, steps in ((0, 6), (1, 9)):
        actions = np.random.default_rng(seed).integers(-10, 11, (steps, 2)).astype(np.float32) / 10
        values = 128 + np.cumsum([0, *(10 * actions[:, 0])])
        frames = np.broadcast_to(values[:, None, None, None], (steps + 1, 32, 32, 3)).astype(np.uint8)
        episodes.append(Episode(frames, actions))
    write_dataset(tmp_path / "counters", episodes, known, ["train", "train"])
    return EpisodeDataset(tmp_path / "counters")


def test_an_action_leads_from_its_frame_to_the_next(counters):
    encoded = encode_dataset(counters, "train", coarse, "f", None)
    for index, length in enumerate(encoded.lengths.tolist()):
        steps = encoded.latents[index, 1:length, 0, 0, 0] - encoded.latents[index, : length - 1, 0, 0, 0]
        torch.testing.assert_close(steps.float(), 10 * encoded.actions[index, : length - 1, 0])


def test_shorter_episodes_are_padded_with_their_last_frame(counters):
    encoded = encode_dataset(counters, "train", coarse, "f", None)
    assert encoded.latents.shape == (2, 10, 3, 4, 4)
    assert encoded.lengths.tolist() == [7, 10]
    assert (encoded.latents[0, 7:] == encoded.latents[0, 6]).all()


def test_without_markers_positions_are_empty(counters):
    assert encode_dataset(counters, "train", coarse, "f", None).positions.shape == (2, 10, 0, 2)


def test_the_cache_is_read_until_tokenizer_or_data_change(dataset, tmp_path):
    calls = []

    def encode(frames):
        calls.append(len(frames))
        return coarse(frames)

    first = encode_dataset(dataset, "train", encode, "tokenizer-1", tmp_path)
    assert len(calls) == 8
    again = encode_dataset(dataset, "train", encode, "tokenizer-1", tmp_path)
    assert len(calls) == 8
    assert torch.equal(first.latents, again.latents)
    assert first.kinds == again.kinds
    encode_dataset(dataset, "train", encode, "tokenizer-2", tmp_path)
    assert len(calls) == 16
    encode_dataset(dataset, "val", encode, "tokenizer-2", tmp_path)
    assert len(calls) == 17


def test_mirroring_doubles_the_episodes(dataset):
    encoded = encode_dataset(dataset, "train", coarse, "f", None, mirrored=True)
    assert len(encoded) == 16
    assert encoded.sources[:8].tolist() == encoded.sources[8:].tolist()
    torch.testing.assert_close(encoded.actions[8:], encoded.actions[:8] * torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(encoded.positions[8:], encoded.positions[:8] * torch.tensor([-1.0, 1.0]))


def test_a_scene_without_a_mirror_is_not_mirrored(tmp_path, scene, make_episode):
    lopsided = dataclasses.replace(scene, mirror_actions=None)
    write_dataset(tmp_path / "data", [make_episode(lopsided, 0)], lopsided, ["train"])
    encoded = encode_dataset(EpisodeDataset(tmp_path / "data"), "train", coarse, "f", None, mirrored=True)
    assert len(encoded) == 1
    with pytest.raises(ValueError, match="mirror_actions"):
        mirror_episode(make_episode(lopsided, 0), lopsided)


def test_a_mirrored_episode_shows_its_objects_at_the_mirrored_positions(scene, make_episode):
    mirrored = mirror_episode(make_episode(scene, 0), scene)
    for frame, (column, row) in zip(mirrored.frames, scene.to_pixels(mirrored.positions["cube"]).round(), strict=True):
        assert frame[int(row), int(column)].tolist() == [220, 20, 20]


def test_a_mirrored_cube_is_turned_the_other_way(scene, make_episode):
    angle = np.linspace(0.0, 3.0, 17, dtype=np.float32)
    episode = dataclasses.replace(make_episode(scene, 0), headings={"cube": angle})
    seen, mirrored = (each.marker_headings(scene)[:, 0] for each in (episode, mirror_episode(episode, scene)))
    np.testing.assert_allclose(mirrored, seen * [1.0, -1.0], atol=1e-5)


def chances(count):
    return torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_windows_have_a_whole_context_before_and_a_frame_after_them(dataset, counters):
    for episodes in (encode_dataset(data, "train", coarse, "f", None) for data in (dataset, counters)):
        starts = WindowSampler(episodes, episodes.kinds[0], 4, 1.0).draw(chances(2000))
        assert starts[:, 1].min() == 3
        for index, length in enumerate(episodes.lengths.tolist()):
            assert starts[starts[:, 0] == index, 1].max() == length - 2


def test_windows_where_the_object_moves_are_drawn_more_often(dataset):
    episodes = encode_dataset(dataset, "train", coarse, "f", None)
    episodes.positions[:] = 0.0
    episodes.positions[0, :, 0, 0] = 0.1 * torch.arange(17)  # a decimetre a step, in the first of eight episodes only
    sampler = WindowSampler(episodes, "push", 4, motion_bias=3.0, horizon=1)
    share = np.mean(sampler.draw(chances(4000))[:, 0].numpy() == 0)
    assert share == pytest.approx(4 / 11, abs=0.03)


def test_the_same_seed_draws_the_same_windows(dataset):
    sampler = WindowSampler(encode_dataset(dataset, "train", coarse, "f", None), "push", 4, 4.0)
    first, second = (sampler.draw(chances(9)) for _ in range(2))
    assert torch.equal(first, second)


def test_episodes_shorter_than_the_context_are_an_error(counters):
    with pytest.raises(DatasetError, match="longer than the context of 10 frames"):
        WindowSampler(encode_dataset(counters, "train", coarse, "f", None), "episode", 10, 1.0)


@pytest.mark.parametrize("damage", [lambda content: content[:1000], lambda content: content[:-9] + b"!" + content[-8:]])
def test_a_damaged_cache_is_made_anew_with_a_word(dataset, tmp_path, capsys, damage):
    encoded = encode_dataset(dataset, "train", coarse, "tokenizer-1", tmp_path)
    (path,) = tmp_path.glob("episodes-*")
    path.write_bytes(damage(path.read_bytes()))
    again = encode_dataset(dataset, "train", coarse, "tokenizer-1", tmp_path)
    assert torch.equal(encoded.latents, again.latents)
    assert "damaged" in capsys.readouterr().err
