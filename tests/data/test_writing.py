import dataclasses

import minari
import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, assign_splits, write_dataset
from cosmos_isaac_wm.data.writing import ship


def same(first, second):
    assert (first.kind, first.seed) == (second.kind, second.seed)
    for name in ("frames", "actions"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    for name in ("positions", "infos"):
        written, read = getattr(first, name), getattr(second, name)
        assert written.keys() == read.keys()
        assert all(np.array_equal(written[key], read[key]) for key in written)


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


def test_headings_without_a_pose_are_stored(tmp_path, scene, make_episode):
    angles = {"cube": np.linspace(0, 1, 17, dtype=np.float32)}
    turning = dataclasses.replace(make_episode(scene, 0), headings=angles)
    read = EpisodeDataset(write_dataset(tmp_path / "turning", [turning], scene))[0]
    np.testing.assert_array_equal(read.headings["cube"], angles["cube"])
    assert not read.infos


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


def test_relative_folders_will_do(tmp_path, monkeypatch, scene, make_episode):
    monkeypatch.chdir(tmp_path)
    write_dataset("some/where", [make_episode(scene, seed) for seed in range(2)], scene)
    assert assign_splits("some/where", seed=0) == EpisodeDataset("some/where").splits
    assert len(EpisodeDataset("some/where")[1]) == 16


def test_the_first_held_out_episodes_of_each_kind_are_shipped(tmp_path, scene, make_episode):
    episodes = [make_episode(scene, seed, kind=("push", "slide")[seed % 2]) for seed in range(10)]
    write_dataset(tmp_path / "whole", episodes, scene, ["train"] * 4 + ["test"] * 6, {"simulator": "toy"})
    ship(EpisodeDataset(tmp_path / "whole"), tmp_path / "shipped", 4)
    shipped = EpisodeDataset(tmp_path / "shipped")
    assert shipped.kinds == ["push", "push", "slide", "slide"]
    assert shipped.indices("test") == [0, 1, 2, 3]
    assert shipped.metadata["sources"] == [4, 6, 5, 7]
    assert (shipped.metadata["simulator"], shipped.scene) == ("toy", scene)
    same(shipped[2], episodes[5])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda e: dataclasses.replace(e, frames=e.frames[:1], actions=e.actions[:0]), "an action at least"),
        (lambda e: dataclasses.replace(e, rewards=np.zeros(3)), "rewards of shape"),
        (lambda e: dataclasses.replace(e, terminations=np.array([True])), "terminations of shape"),
        (lambda e: dataclasses.replace(e, actions=e.actions * np.nan), "not finite"),
        (lambda e: dataclasses.replace(e, actions=e.actions.astype(str)), "not finite numbers"),
        (lambda e: dataclasses.replace(e, positions={"cube": np.zeros((17, 3))}), r"of \(x, y\)"),
        (lambda e: dataclasses.replace(e, infos={"note": np.array(["a"] * 17)}), "expected numbers"),
    ],
)
def test_what_could_not_be_read_back_is_refused(tmp_path, scene, make_episode, change, word):
    with pytest.raises(DatasetError, match=word):
        write_dataset(tmp_path / "data", [make_episode(scene, 0), change(make_episode(scene, 1))], scene)
    assert not (tmp_path / "data" / "data").exists()


@pytest.mark.parametrize(
    "beside",
    [
        {"splits": ["train", "validation"]},
        {"splits": "train"},
        {"splits": ["train"]},
        {"splits": ["train"] * 3},
        {"metadata": {"scene": "x"}},
        {"metadata": {"x": np.float32(1)}},
    ],
)
def test_splits_and_metadata_are_checked(tmp_path, scene, make_episode, beside):
    with pytest.raises(DatasetError):
        write_dataset(tmp_path / "data", [make_episode(scene, seed) for seed in (0, 1)], scene, **beside)
    with pytest.raises(DatasetError, match="an episode"):
        write_dataset(tmp_path / "none", [], scene)
