import dataclasses
import json
import os
import shutil

import gymnasium as gym
import h5py
import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, assign_splits, write_dataset


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


def test_episodes_are_counted_as_in_a_list(dataset):
    assert len(list(dataset)) == len(dataset)
    assert np.array_equal(dataset[-1].frames, dataset[len(dataset) - 1].frames)
    assert np.array_equal(dataset[np.int64(2)].frames, dataset[2].frames)
    with pytest.raises(IndexError, match="has episodes 0 to 9, not 99"):
        dataset[99]
    with pytest.raises(ValueError, match="episode: expected a whole number"):
        dataset["first"]


@pytest.fixture
def copied(dataset, tmp_path):
    """A copy of the toy dataset that may be damaged."""
    shutil.copytree(dataset.path, tmp_path / "copy")
    return tmp_path / "copy"


def test_no_environment_is_made_of_what_a_file_names(copied, tmp_path):
    path = copied / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    for name in ("observation_space", "action_space"):
        del metadata[name]
    command = ["touch", str(tmp_path / "executed")]
    spec = {"id": "X-v0", "entry_point": "subprocess:check_output", "kwargs": {"args": command}}
    metadata["env_spec"] = gym.envs.registration.EnvSpec(**spec).to_json()
    path.write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match=r"no observation_space and no action_space.*might be anything"):
        EpisodeDataset(copied)
    assert not (tmp_path / "executed").exists()


def test_an_episode_that_is_not_what_was_written_is_refused(copied):
    with h5py.File(copied / "data" / "main_data.hdf5", "r+") as file:
        file["episode_3/actions"][0, 0] += 0.125
    damaged = EpisodeDataset(copied)
    assert damaged[2].kind == "push"
    with pytest.raises(DatasetError, match=r"episode 3 of .*copy is damaged: it is not what was written"):
        damaged[3]


def test_a_scene_that_is_not_what_was_written_is_refused(copied):
    path = copied / "data" / "metadata.json"
    path.write_text(path.read_text().replace('"goal_radius": 0.04', '"goal_radius": 0.05'))
    with pytest.raises(DatasetError, match="is not what was written"):
        EpisodeDataset(copied)


def test_data_that_lies_in_another_file_is_refused(copied, tmp_path):
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["actions"] = np.zeros((16, 2), np.float32)
    with h5py.File(copied / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_0/actions"]
        file["episode_0/actions"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "actions")
    with pytest.raises(DatasetError, match="leads to another file"):
        EpisodeDataset(copied).actions  # noqa: B018
    with pytest.raises(DatasetError, match="leads to another file"):
        EpisodeDataset(copied)[0]


def test_a_pipe_is_not_waited_for(copied):
    (copied / "data" / "metadata.json").unlink()
    os.mkfifo(copied / "data" / "metadata.json")
    with pytest.raises(DatasetError, match="no regular file"):
        EpisodeDataset(copied)
