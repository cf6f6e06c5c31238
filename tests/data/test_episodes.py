import dataclasses
import json

import minari
import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, assign_splits, write_dataset
from cosmos_isaac_wm.data.splits import draw_splits


def same(first, second):
    assert (first.kind, first.seed) == (second.kind, second.seed)
    for name in ("frames", "actions"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    for name in ("positions", "infos"):
        written, read = getattr(first, name), getattr(second, name)
        assert written.keys() == read.keys()
        assert all(np.array_equal(written[key], read[key]) for key in written)


@pytest.fixture
def folder(tmp_path, scene, make_episode):
    """A dataset of two episodes, the second longer and with a simulator state, without a split."""
    second = make_episode(scene, 1, steps=20, kind="slide")
    second = dataclasses.replace(second, infos={"state": np.random.default_rng(0).normal(size=(21, 7))})
    return write_dataset(tmp_path / "made", [make_episode(scene, 0), second], scene, metadata={"simulator": "toy"})


def test_what_is_written_is_read_back_bit_for_bit(folder, scene, make_episode):
    dataset = EpisodeDataset(folder)
    same(dataset[0], make_episode(scene, 0))
    assert np.array_equal(dataset[1].infos["state"], np.random.default_rng(0).normal(size=(21, 7)))
    assert (len(dataset), dataset.kinds, dataset.seeds) == (2, ["push", "slide"], [0, 1])
    assert dataset.scene == scene
    assert dataset.metadata["simulator"] == "toy"


def test_plain_minari_reads_it(folder, scene, make_episode):
    episodes = list(minari.MinariDataset(folder / "data").iterate_episodes())
    assert np.array_equal(episodes[0].observations, make_episode(scene, 0).frames)
    assert np.array_equal(episodes[0].actions, make_episode(scene, 0).actions)
    assert episodes[1].infos["cube_position"].shape == (21, 2)


def test_frames_are_compressed(tmp_path, scene, make_episode):
    large = dataclasses.replace(scene, image_size=(128, 128))
    episode = make_episode(large, 0, steps=60)
    folder = write_dataset(tmp_path / "large", [episode], large)
    assert (folder / "data" / "main_data.hdf5").stat().st_size < episode.frames.nbytes / 10


def test_a_missing_marker_has_positions_of_nan(scene, make_episode):
    episode = make_episode(scene, 0)
    alone = dataclasses.replace(episode, positions={"cube": episode.positions["cube"]})
    positions = alone.marker_positions(("cube", "pusher"))
    assert positions.shape == (17, 2, 2)
    assert np.isfinite(positions[:, 0]).all()
    assert np.isnan(positions[:, 1]).all()


def test_headings_are_read_from_stored_poses(tmp_path, scene, make_episode):
    yaw = np.linspace(-1, 1, 17)
    zero = np.zeros(17)
    pose = np.stack([zero, zero, zero, np.cos(yaw / 2), zero, zero, np.sin(yaw / 2)], axis=1)
    turning = dataclasses.replace(make_episode(scene, 0), infos={"cube_pose": pose, "ship_pose": np.zeros((17, 3))})
    read = EpisodeDataset(write_dataset(tmp_path / "turning", [turning], scene))[0]
    assert read.headings.keys() == {"cube"}
    np.testing.assert_allclose(read.headings["cube"], yaw, atol=1e-6)
    headings = read.marker_headings(scene)
    np.testing.assert_allclose(headings[:, 0], np.stack([np.cos(4 * yaw), np.sin(4 * yaw)], axis=1), atol=1e-5)
    assert np.isnan(headings[:, 1]).all()


def test_headings_without_a_pose_are_stored(tmp_path, scene, make_episode):
    angles = {"cube": np.linspace(0, 1, 17, dtype=np.float32)}
    turning = dataclasses.replace(make_episode(scene, 0), headings=angles)
    read = EpisodeDataset(write_dataset(tmp_path / "turning", [turning], scene))[0]
    np.testing.assert_array_equal(read.headings["cube"], angles["cube"])
    assert not read.infos


def test_a_dataset_without_a_split_says_how_to_get_one(folder):
    with pytest.raises(DatasetError, match="assign_splits"):
        EpisodeDataset(folder).indices("train")
    assert EpisodeDataset(folder).indices("all") == [0, 1]


def test_an_assigned_split_is_stored(folder):
    splits = assign_splits(folder, seed=0, shares=(0.5, 0.0))
    dataset = EpisodeDataset(folder)
    for name in set(splits):
        assert dataset.indices(name) == [i for i, split in enumerate(splits) if split == name]


def test_an_unknown_or_empty_split_is_refused(dataset, folder):
    with pytest.raises(DatasetError, match="unknown split 'validation'"):
        dataset.indices("validation")
    assign_splits(folder, seed=0, shares=(1.0, 0.0))
    with pytest.raises(DatasetError, match=r"'val' of .* is empty"):
        EpisodeDataset(folder).indices("val")


def test_splits_are_80_10_10_within_every_kind_and_drawn_from_the_seed():
    kinds = ["push"] * 200 + ["slide"] * 100
    splits = np.array(draw_splits(kinds, seed=3))
    for part, size in ((splits[:200], 200), (splits[200:], 100)):
        shares = [int((part == name).sum()) for name in ("train", "val", "test")]
        assert shares == [0.8 * size, 0.1 * size, 0.1 * size]
    assert splits.tolist() == draw_splits(kinds, seed=3)
    assert splits.tolist() != draw_splits(kinds, seed=4)


@pytest.mark.parametrize(
    "broken",
    [
        lambda e: dataclasses.replace(e, frames=e.frames[:-1]),
        lambda e: dataclasses.replace(e, frames=e.frames[:, :16]),
        lambda e: dataclasses.replace(e, frames=e.frames.astype(np.float32)),
    ],
    ids=["too few frames", "another size", "floats"],
)
def test_frames_that_do_not_fit_are_refused_and_nothing_is_left(tmp_path, scene, make_episode, broken):
    with pytest.raises(DatasetError, match=r"episode 1 has frames .* expected uint8 \(17, 32, 32, 3\)"):
        write_dataset(tmp_path / "made", [make_episode(scene, 0), broken(make_episode(scene, 1))], scene)
    assert list((tmp_path / "made").iterdir()) == []


def test_actions_and_positions_that_do_not_fit_are_refused(tmp_path, scene, make_episode):
    episode = make_episode(scene, 0)
    with pytest.raises(DatasetError, match=r"actions \(16, 3\); expected \(16, 2\)"):
        write_dataset(tmp_path / "a", [dataclasses.replace(episode, actions=np.zeros((16, 3), np.float32))], scene)
    short = {**episode.positions, "cube": episode.positions["cube"][:-1]}
    with pytest.raises(DatasetError, match=r"'cube_position'.*\(16, 2\).*17"):
        write_dataset(tmp_path / "b", [dataclasses.replace(episode, positions=short)], scene)


def test_an_interrupted_write_leaves_nothing(tmp_path, scene, make_episode):
    def episodes():
        yield make_episode(scene, 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "made", episodes(), scene)
    assert list((tmp_path / "made").iterdir()) == []


def test_a_dataset_is_never_overwritten(folder, scene, make_episode):
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_dataset(folder, [make_episode(scene, 5)], scene)
    assert len(EpisodeDataset(folder)) == 2


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no readable Minari dataset at .*nowhere"):
        EpisodeDataset(tmp_path / "nowhere")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_a_truncated_file_is_an_error_that_names_it(folder, kept):
    file = folder / "data" / "main_data.hdf5"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DatasetError, match=str(folder)):
        EpisodeDataset(folder)[1]


def test_a_dataset_of_others_without_our_metadata_explains_itself_by_its_spaces(folder):
    metadata = folder / "data" / "metadata.json"
    content = json.loads(metadata.read_text())
    del content["cosmos_isaac_wm"]
    metadata.write_text(json.dumps(content))
    foreign = EpisodeDataset(folder).scene
    assert (foreign.image_size, foreign.action_low, foreign.markers) == ((32, 32), (-1.0, -1.0), ())


def test_the_fingerprint_tells_datasets_apart(folder, dataset):
    before = EpisodeDataset(folder).fingerprint()
    assert before == EpisodeDataset(folder).fingerprint() != dataset.fingerprint()
    assign_splits(folder, seed=0)
    assert EpisodeDataset(folder).fingerprint() != before


def test_relative_folders_will_do(tmp_path, monkeypatch, scene, make_episode):
    monkeypatch.chdir(tmp_path)
    write_dataset("some/where", [make_episode(scene, seed) for seed in range(2)], scene)
    assert assign_splits("some/where", seed=0) == EpisodeDataset("some/where")._splits
    assert len(EpisodeDataset("some/where")[1]) == 16
