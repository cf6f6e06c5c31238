"""Files of Isaac Lab's RecorderManager, written here as it writes them; Isaac Lab is not needed."""

import dataclasses

import h5py
import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset
from cosmos_isaac_wm.data.importers.isaac import IsaacFile, IsaacKeys
from cosmos_isaac_wm.train import import_isaac

KEYS = IsaacKeys("obs/rgb", "actions", {"cube": "states/cube/root_pose"})


def episode(rng, steps=6, size=16):
    """What a cube on a table does that turns about the vertical: quaternions (x, y, z, w)."""
    yaw = np.cumsum(rng.uniform(0.2, 0.6, steps))
    pose = np.zeros((steps, 7), np.float32)
    pose[:, :2] = np.cumsum(rng.normal(0, 0.01, (steps, 2)), axis=0)
    pose[:, 2], pose[:, 5], pose[:, 6] = 0.04, np.sin(yaw / 2), np.cos(yaw / 2)
    return {
        "obs/rgb": rng.integers(0, 255, (steps, size, size, 4), np.uint8),
        "actions": rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        "states/cube/root_pose": pose,
    }


@pytest.fixture
def write(tmp_path):
    """Write such a file; `change` may alter an episode's arrays by its number."""

    def write(lengths=(6, 5, 2), change=lambda number, arrays: arrays):
        rng = np.random.default_rng(0)
        path = tmp_path / "recorded.hdf5"
        with h5py.File(path, "w") as file:
            for number, steps in enumerate(lengths):
                for key, values in change(number, episode(rng, steps)).items():
                    file.create_dataset(f"data/demo_{number}/{key}", data=values)
                file[f"data/demo_{number}"].attrs["seed"] = number + 7
            file.attrs["format_version"] = 1
        return path

    return write


def imported(path, out, *more):
    argv = [str(path), "--out", str(out), "--keys.poses", '{"cube": "states/cube/root_pose"}']
    argv += ["--hues", '{"cube": [345, 15]}', "--workspace", "[[-0.4, -0.4], [0.4, 0.4]]", *more]
    return import_isaac.main(argv)


def test_rows_become_episodes_in_which_actions_lead_from_frame_to_frame(write, tmp_path, capsys):
    path = write()
    assert imported(path, tmp_path / "out", "--control_hz", "20") == 0
    assert "2 episodes of (16, 16) pictures and 2 actions" in capsys.readouterr().out
    dataset = EpisodeDataset(tmp_path / "out")
    assert dataset.scene.control_hz == 20
    assert dataset.scene.marker_names == ("cube",)
    assert dataset.seeds == [7, 8]
    with h5py.File(path) as file:
        group = file["data/demo_0"]
        assert np.array_equal(dataset[0].frames, group["obs/rgb"][1:, ..., :3])
        assert np.array_equal(dataset[0].actions, group["actions"][1:-1])
        pose = group["states/cube/root_pose"][:-1]  # recorded after the step
    assert np.allclose(dataset[0].positions["cube"], pose[:, :2])
    assert np.allclose(dataset[0].infos["cube_pose"][:, 3:], pose[:, [6, 3, 4, 5]])  # ours begin with w
    yaw = 2 * np.arctan2(pose[:, 5], pose[:, 6])
    assert np.allclose(np.cos(dataset[0].headings["cube"]), np.cos(yaw), atol=1e-5)


def test_what_was_recorded_before_and_after_the_steps_is_brought_together(tmp_path, scene):
    """A world that counts: the picture, the state and the action all say at which moment they are."""
    with h5py.File(tmp_path / "counting.hdf5", "w") as file:
        group = file.create_group("data/demo_0")
        group["obs/rgb"] = np.tile(np.arange(6, dtype=np.uint8)[:, None, None, None], (1, 16, 16, 3))  # moments 0 to 5
        group["states/pose"] = np.tile(np.arange(1, 7, dtype=np.float32)[:, None], (1, 2)) / 100  # moments 1 to 6
        group["states/rgb"] = group["obs/rgb"][:] + 1
        group["actions"] = np.tile(np.arange(6, dtype=np.float32)[:, None], (1, 2)) / 10  # of moments 0 to 5
    scene = dataclasses.replace(scene, image_size=(16, 16))
    for frames, poses, moments in (
        ("obs/rgb", {"cube": "states/pose"}, range(1, 6)),
        ("obs/rgb", {}, range(6)),
        ("states/rgb", {"cube": "states/pose"}, range(1, 7)),
    ):
        source = IsaacFile(tmp_path / "counting.hdf5", IsaacKeys(frames, "actions", poses))
        (episode,) = source.episodes(scene)
        assert source.lengths == {"demo_0": len(moments) - 1}
        assert episode.frames[:, 0, 0, 0].tolist() == list(moments)
        assert np.allclose(10 * episode.actions[:, 0], list(moments)[:-1])
        for place in episode.positions.values():
            assert np.allclose(100 * place[:, 0], list(moments))


def test_missing_arrays_are_named_beside_those_that_are_there(write):
    with pytest.raises(DatasetError, match=r"no frames 'camera/rgb', no poses.cube 'cube' in data/demo_0") as error:
        IsaacFile(write(), IsaacKeys("camera/rgb", "actions", {"cube": "cube"}))
    assert "states/cube/root_pose: float32 (6, 7)" in str(error.value)


def test_quaternions_in_the_other_order_contradict_the_motion(write, tmp_path, capsys):
    path = write()
    assert imported(path, tmp_path / "out", "--keys.quaternion", "wxyz") == 1
    assert "turns over while it stays at its height" in (said := capsys.readouterr().err)
    assert "say --keys.quaternion xyzw" in said
    assert not (tmp_path / "out" / "data").exists()


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("obs/rgb", np.zeros((6, 16, 16, 3), np.float32), "expected uint8"),
        ("actions", np.full((6, 2), 3.0, np.float32), "say --action_low and --action_high"),
        ("actions", np.zeros((4, 2), np.float32), "4 actions, but 'obs/rgb' has 6 rows"),
        ("states/cube/root_pose", np.full((6, 7), np.nan), "not finite"),
        ("states/cube/root_pose", np.ones((6, 7)), "not of length 1"),
    ],
)
def test_arrays_that_are_not_what_they_should_be_are_refused(write, tmp_path, capsys, key, values, message):
    path = write(change=lambda number, arrays: arrays | {key: values} if number == 0 else arrays)
    assert imported(path, tmp_path / "out") == 1
    assert message in capsys.readouterr().err


def test_an_older_file_has_its_quaternions_in_the_other_order(write, tmp_path):
    path = write()
    with h5py.File(path, "a") as file:
        del file.attrs["format_version"]
        for group in file["data"].values():
            group["states/cube/root_pose"][:, 3:] = np.roll(group["states/cube/root_pose"][:, 3:], 1, axis=1)
    assert imported(path, tmp_path / "out", "--symmetries", '{"cube": 4}') == 0
    dataset = EpisodeDataset(tmp_path / "out")
    assert np.isfinite(dataset[0].marker_headings(dataset.scene)).all()
    with h5py.File(path) as file:
        pose = file["data/demo_0/states/cube/root_pose"][:-1]
    assert np.allclose(dataset[0].infos["cube_pose"], pose)


def test_an_episode_without_actions_is_named(write, tmp_path, capsys):
    def change(number, arrays):
        return {key: values for key, values in arrays.items() if number == 0 or key != "actions"}

    assert imported(write(change=change), tmp_path / "out") == 1
    assert "has no 'actions' in data/demo_1, unlike in data/demo_0" in capsys.readouterr().err


def test_pictures_of_another_size_are_refused(write, tmp_path, capsys):
    def change(number, arrays):
        return arrays | ({"obs/rgb": np.zeros((5, 8, 8, 3), np.uint8)} if number == 1 else {})

    assert imported(write(change=change), tmp_path / "out") == 1
    assert "demo_1" in (said := capsys.readouterr().err)
    assert "the first one uint8 (16, 16, 3)" in said


def test_a_truncated_file_is_named(write, tmp_path, capsys):
    path = write()
    path.write_bytes(path.read_bytes()[:500])
    assert imported(path, tmp_path / "out") == 1
    assert "no HDF5 file, or a truncated one" in capsys.readouterr().err


def test_without_poses_there_are_pictures_and_actions(write, tmp_path, capsys):
    assert import_isaac.main(["--file", str(write()), "--out", str(tmp_path / "out")]) == 0
    assert "need a reward_fn of your own" in capsys.readouterr().out
    assert EpisodeDataset(tmp_path / "out").scene.markers == ()


def test_an_object_needs_pose_hue_and_workspace(write, tmp_path, capsys):
    argv = ["--file", str(write()), "--out", str(tmp_path / "out"), "--hues", '{"cube": [345, 15]}']
    assert import_isaac.main(argv) == 1
    assert "a tracked object needs both" in capsys.readouterr().err


def test_a_recording_in_robomimics_layout_is_read(tmp_path):
    """As robomimic writes it: demos with `num_samples`, observations before each action, and what it made them with."""
    rng, path = np.random.default_rng(0), tmp_path / "image.hdf5"
    with h5py.File(path, "w") as file:
        group = file.create_group("data")
        group.attrs["total"], group.attrs["env_args"] = 15, '{"env_name": "Lift", "type": 1, "env_kwargs": {}}'
        for number, steps in enumerate((7, 8)):
            demo = group.create_group(f"demo_{number}")
            demo.attrs["num_samples"], demo.attrs["model_file"] = steps, "<mujoco/>"
            for prefix in ("obs", "next_obs"):
                demo[f"{prefix}/agentview_image"] = rng.integers(0, 255, (steps, 16, 16, 3), np.uint8)
                demo[f"{prefix}/robot0_eef_pos"] = rng.normal(size=(steps, 3))
            demo["actions"] = rng.uniform(-1, 1, (steps, 7))
            demo["rewards"], demo["dones"] = np.zeros(steps), np.arange(steps) == steps - 1
            demo["states"] = rng.normal(size=(steps, 32))
        file["mask/train"] = np.array([b"demo_0"])
    argv = [str(path), "--out", str(tmp_path / "data"), "--keys.frames", "obs/agentview_image"]
    argv += ["--keys.infos", '{"eef": "obs/robot0_eef_pos"}', "--control_hz", "20"]
    assert import_isaac.main(argv) == 0
    dataset = EpisodeDataset(tmp_path / "data")
    with h5py.File(path) as file:
        for number, episode in enumerate(dataset.episodes(range(2))):
            demo = file[f"data/demo_{number}"]
            assert np.array_equal(episode.frames, demo["obs/agentview_image"])
            assert np.allclose(episode.actions, demo["actions"][:-1])
            assert np.allclose(episode.infos["eef"], demo["obs/robot0_eef_pos"])
