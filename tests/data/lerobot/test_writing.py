"""What is written as a LeRobotDataset is what was there, but the last picture of every episode."""

import dataclasses
import json

import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, write_dataset
from cosmos_isaac_wm.data.lerobot import layout, writing
from cosmos_isaac_wm.data.lerobot.reading import LeRobotFolder
from cosmos_isaac_wm.data.lerobot.writing import write_lerobot
from cosmos_isaac_wm.train import export_lerobot, import_lerobot
from tests.conftest import TOY, toy_episode
from tests.dots import recorded_dots


def info_of(folder):
    return json.loads((folder / layout.INFO).read_text())


@pytest.mark.parametrize("use_videos", ["true", "false"])
def test_it_is_read_again(tmp_path, recorded, use_videos):
    folder = tmp_path / "out"
    assert export_lerobot.main([str(recorded), "--out", str(folder), "--use_videos", use_videos]) == 0
    assert import_lerobot.main([str(folder), "--out", str(tmp_path / "again")]) == 0
    before, after = EpisodeDataset(recorded), EpisodeDataset(tmp_path / "again")
    assert after.splits == ["train"] * 4 + ["val", "test"]
    chosen = [index for split in ("train", "val", "test") for index in before.indices(split)]
    for index, found in zip(chosen, after.episodes(range(6)), strict=True):
        told = before[index]
        assert len(found) == len(told) - 1
        assert np.abs(found.frames.astype(int) - told.frames[:-1]).mean() < (1 if use_videos == "true" else 1e-9)
        assert np.array_equal(found.actions, told.actions[:-1])
        assert np.array_equal(found.observations["state"], told.observations["state"][:-1])
        assert np.allclose(found.rewards, told.rewards[:-1])
        assert np.array_equal(found.infos["is_success"], told.infos["is_success"][:-1])
    assert info_of(folder)["features"]["observation.state"]["names"] == ["0", "1"]
    assert info_of(folder)["splits"] == {"train": "0:4", "val": "4:5", "test": "5:6"}


def test_many_files_are_read_as_one(tmp_path, recorded, monkeypatch):
    monkeypatch.setattr(writing, "_DATA_BYTES", 1)
    monkeypatch.setattr(writing, "_VIDEO_BYTES", 1)
    monkeypatch.setattr(layout, "FILES_PER_CHUNK", 4)
    source = EpisodeDataset(recorded)
    write_lerobot(tmp_path / "out", source)
    assert len([*(tmp_path / "out/data").glob("*/*.parquet")]) == 6
    assert len([*(tmp_path / "out/videos").rglob("*.mp4")]) > 1  # x264 holds frames back: not one for each
    found = [*LeRobotFolder(tmp_path / "out").episodes()]
    assert sum(map(len, found)) == sum(source.lengths) - 6


def test_an_imported_one_keeps_names_tasks_and_what_it_did_not_know(tmp_path, recorded):
    folder = tmp_path / "out"
    write_lerobot(folder, EpisodeDataset(recorded))
    info = info_of(folder)
    info["features"].pop("next.reward")
    info["features"]["action"]["names"] = ["shoulder", "elbow"]
    info["robot_type"] = "so101"
    (folder / layout.INFO).write_text(json.dumps(info))
    assert import_lerobot.main([str(folder), "--out", str(tmp_path / "data")]) == 0
    write_lerobot(tmp_path / "again", EpisodeDataset(tmp_path / "data"))
    again = info_of(tmp_path / "again")
    assert "next.reward" not in again["features"]
    assert again["robot_type"] == "so101"
    assert again["features"]["action"]["names"] == ["shoulder", "elbow"]
    assert LeRobotFolder(tmp_path / "again").metadata()["lerobot"]["tasks"] == ("Dot-v0",)


def test_our_table_has_positions_as_its_state_and_its_kinds_as_tasks(tmp_path):
    episodes = [toy_episode(TOY, 0), toy_episode(TOY, 1, kind="slide")]
    write_lerobot(tmp_path / "out", EpisodeDataset(write_dataset(tmp_path / "data", episodes, TOY)))
    features = info_of(tmp_path / "out")["features"]
    assert features["observation.state"]["names"] == ["cube_x", "cube_y", "pusher_x", "pusher_y"]
    assert "next.reward" not in features
    folder = LeRobotFolder(tmp_path / "out")
    assert folder.metadata()["lerobot"]["tasks"] == ("toy: push", "toy: slide")
    found = [*folder.episodes()]
    for before, after in zip(episodes, found, strict=True):
        positions = before.marker_positions(TOY.marker_names).reshape(-1, 4)
        assert np.array_equal(after.observations["state"], positions[:-1])


def test_choices_stay_choices(tmp_path):
    scene, episodes = recorded_dots(4, acts="discrete")
    write_lerobot(tmp_path / "out", EpisodeDataset(write_dataset(tmp_path / "data", episodes, scene)))
    feature = info_of(tmp_path / "out")["features"]["action"]
    assert (feature["dtype"], feature["shape"]) == ("int64", [1])


def test_statistics_are_those_of_all_rows(tmp_path, recorded):
    source = EpisodeDataset(recorded)
    write_lerobot(tmp_path / "out", source)
    told = json.loads((tmp_path / "out" / layout.STATS).read_text())
    episodes = [*source.episodes(range(6))]
    actions = np.concatenate([episode.actions for episode in episodes])
    frames = np.concatenate([episode.frames[:-1] for episode in episodes]) / 255
    for name, values, axes in (("action", actions, 0), ("observation.images.camera", frames, (0, 1, 2))):
        for key in ("min", "max", "mean", "std"):
            assert np.allclose(np.ravel(told[name][key]), getattr(values, key)(axis=axes), atol=1e-6)
        assert np.allclose(np.ravel(told[name]["q90"]), np.quantile(values, 0.9, axis=axes), atol=1e-6)
        assert told[name]["count"] == [len(actions)]


def test_nothing_is_overwritten_and_odd_pictures_need_tables(tmp_path, recorded):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="choose another folder"):
        write_lerobot(tmp_path, EpisodeDataset(recorded))
    scene = dataclasses.replace(TOY, image_size=(33, 32))
    dataset = EpisodeDataset(write_dataset(tmp_path / "data", [toy_episode(scene, 0)], scene))
    with pytest.raises(DatasetError, match=r"33 x 32 have an odd side, .*--use_videos false"):
        write_lerobot(tmp_path / "out", dataset)
    write_lerobot(tmp_path / "out", dataset, use_videos=False)
    assert next(LeRobotFolder(tmp_path / "out").episodes()).frames.shape == (16, 33, 32, 3)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"cameras": ["../../out"]}, "whose name is a path"),
        ({"cameras": 3}, "lerobot in the metadata of"),
    ],
)
def test_what_others_have_put_into_the_metadata_leads_nowhere(tmp_path, told, message):
    metadata = {"lerobot": told}
    dataset = EpisodeDataset(write_dataset(tmp_path / "data", [toy_episode(TOY, 0)], TOY, metadata=metadata))
    with pytest.raises(DatasetError, match=message):
        write_lerobot(tmp_path / "out", dataset)
    assert not (tmp_path / "out").exists()


def test_a_marker_that_some_kinds_lack_is_left_out_and_one_that_is_lost_is_an_error(tmp_path):
    slide = toy_episode(TOY, 1, kind="slide")
    slide.positions.pop("pusher")
    write_lerobot(tmp_path / "out", EpisodeDataset(write_dataset(tmp_path / "data", [toy_episode(TOY, 0), slide], TOY)))
    assert info_of(tmp_path / "out")["features"]["observation.state"]["names"] == ["cube_x", "cube_y"]
    lost = toy_episode(TOY, 1)
    lost.positions["pusher"][3] = np.nan
    dataset = EpisodeDataset(write_dataset(tmp_path / "lost", [toy_episode(TOY, 0), lost], TOY))
    with pytest.raises(DatasetError, match="an episode lacks positions of cube, pusher that others have"):
        write_lerobot(tmp_path / "never", dataset)
    assert not (tmp_path / "never").exists()


def test_episodes_that_know_other_things_are_an_error_that_names_them(tmp_path):
    scene, episodes = recorded_dots(2)
    episodes[1].infos.pop("is_success")
    dataset = EpisodeDataset(write_dataset(tmp_path / "data", episodes, scene))
    with pytest.raises(DatasetError, match=r"episodes differ in next\.success: some have it, others do not"):
        write_lerobot(tmp_path / "out", dataset)


def test_goals_and_rewards_without_a_state_are_kept(tmp_path, recorded):
    scene, episodes = recorded_dots(3, observes="goal")
    write_lerobot(tmp_path / "goals", EpisodeDataset(write_dataset(tmp_path / "data", episodes, scene)))
    features = info_of(tmp_path / "goals")["features"]
    assert features["observation.desired_goal"]["shape"] == [2]
    assert features["observation.state"]["shape"] == [4]
    write_lerobot(tmp_path / "out", EpisodeDataset(recorded))
    argv = [str(tmp_path / "out"), "--out", str(tmp_path / "again"), "--state", "null"]
    assert import_lerobot.main(argv) == 0
    write_lerobot(tmp_path / "more", EpisodeDataset(tmp_path / "again"))
    assert "next.reward" in info_of(tmp_path / "more")["features"]
