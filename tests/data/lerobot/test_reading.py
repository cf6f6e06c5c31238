"""A dataset that LeRobot's own package wrote (official.py says how), and what may be wrong with one."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset
from cosmos_isaac_wm.data.lerobot import layout
from cosmos_isaac_wm.data.lerobot.reading import LeRobotFolder
from cosmos_isaac_wm.data.lerobot.tables import written
from cosmos_isaac_wm.train import import_lerobot

OFFICIAL = Path(__file__).with_name("official")
TOP, WRIST = "observation.images.top", "observation.images.wrist"


def check_official(dataset):
    """What official.py has written is what is there, both cameras side by side."""
    assert [len(episode) for episode in dataset.episodes(range(3))] == [19, 20, 21]  # a row more than actions
    scene = dataset.scene
    assert (scene.control_hz, scene.image_size, scene.episode_steps) == (20, (64, 88 + 64), 21)
    assert np.allclose([scene.action_low, scene.action_high], [[0, -1], [21 / 20, 1]])
    for number, episode in enumerate(dataset.episodes(range(3))):
        steps = np.arange(len(episode) + 1)
        assert np.allclose(episode.actions, np.stack([steps / 20, 0 * steps + number - 1], axis=1)[:-1])
        assert np.allclose(episode.observations["state"], np.stack([steps, 0 * steps + number, -steps], axis=1))
        assert np.allclose(episode.rewards, steps[:-1] / 10)
        assert not episode.terminations.any()  # what the last action led to was not recorded
        assert episode.infos["is_success"].tolist() == [False, *(steps[:-1] > 15)]
        assert (episode.infos["task_index"] == number % 2).all()
        seen = episode.frames.astype(int)
        for step in steps:
            bar = round((4 * step + 4) * 88 / 128)
            assert seen[step, 32, bar, 0] > 200  # red
            assert abs(seen[step, 32, (bar + 40) % 88].mean() - 20 * number) < 8
            assert abs(seen[step, 32, 88 + 32].mean() - 10 * step) < 8


def test_what_lerobot_wrote_is_read(tmp_path):
    argv = [str(OFFICIAL), "--out", str(tmp_path / "data"), "--cameras", "[top, wrist]"]
    assert import_lerobot.main(argv) == 0
    dataset = EpisodeDataset(tmp_path / "data")
    check_official(dataset)
    assert dataset.metadata["lerobot"]["tasks"] == ["push 0", "push 1"]
    assert dataset.metadata["lerobot"]["names"] == {"action": ["x", "y"], "observation.state": ["a", "b", "c"]}
    assert sorted(dataset.splits) == ["test", "train", "val"]  # it named none: they were drawn
    assert import_lerobot.main(argv) == 0  # finished before
    assert import_lerobot.main([*argv, "--size", "32"]) == 1


def test_a_dataset_on_the_hub_is_downloaded(tmp_path, monkeypatch):
    asked = []
    listed = SimpleNamespace(siblings=[SimpleNamespace(rfilename="meta/info.json")])
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, name, **more: listed)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, repo_type, **more: asked.append((name, repo_type)) or str(OFFICIAL),
    )
    argv = ["hf://me/mine", "--out", str(tmp_path / "data"), "--cameras", "wrist", "--size", "16"]
    assert import_lerobot.main(argv) == 0
    assert asked == [("me/mine", "dataset")]
    assert EpisodeDataset(tmp_path / "data").scene.image_size == (16, 16)


def test_without_rewards_or_state_it_says_what_is_missing(copy, tmp_path, capsys):
    change_info(copy, lambda info: info["features"].pop("next.reward"))
    argv = [str(copy), "--cameras", "top", "--out"]
    assert import_lerobot.main([*argv, str(tmp_path / "a")]) == 0
    assert "it tells no rewards" in capsys.readouterr().out
    assert import_lerobot.main([*argv, str(tmp_path / "b"), "--state", "null"]) == 0
    assert "without a state there is no twin" in capsys.readouterr().out
    assert EpisodeDataset(tmp_path / "b").scene.environment is None


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(OFFICIAL, tmp_path / "copy"))


def change_info(path, change):
    info = json.loads((path / layout.INFO).read_text())
    change(info)
    (path / layout.INFO).write_text(json.dumps(info))


def change_table(path, change):
    pq.write_table(change(pq.read_table(path)), path)


def replace(name, values):
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values))


def shorter(info):
    info["features"][TOP]["shape"] = [48, 128, 3]


def depth(info):
    info["features"][TOP]["info"]["video.is_depth_map"] = True


EPISODES = layout.EPISODES.format(chunk_index=0, file_index=0)
DATA = layout.DATA.format(chunk_index=0, file_index=0)
FILM = layout.VIDEO.format(video_key=TOP, chunk_index=0, file_index=0)
WRONG = {
    "a folder": (lambda path: shutil.rmtree(path / "meta"), "is no LeRobot dataset"),
    "version 2.1": (
        lambda path: change_info(path, lambda info: info.update(codebase_version="v2.1")),
        "of version v2.1, of which v3 is read: convert it with LeRobot's convert_dataset_v21_to_v30",
    ),
    "version 2.0": (
        lambda path: change_info(path, lambda info: info.update(codebase_version="v2.0")),
        "after its convert_dataset_v20_to_v21",
    ),
    "version 4": (lambda path: change_info(path, lambda info: info.update(codebase_version="v4.0")), "expected v3"),
    "a path": (
        lambda path: change_info(path, lambda info: info.update(video_path="/etc/{video_key}.mp4")),
        "has video_path '/etc/{video_key}.mp4'; expected 'videos/",
    ),
    "a name that is a path": (
        lambda path: change_info(path, lambda info: info["features"].update({"../x": {"dtype": "video"}})),
        "has the feature '../x', whose name is a path",
    ),
    "frames per second": (lambda path: change_info(path, lambda info: info.update(fps=0)), "has fps 0"),
    "no action": (lambda path: change_info(path, lambda info: info["features"].pop("action")), "has no action, but"),
    "no state": (
        lambda path: change_info(path, lambda info: info["features"].pop("observation.state")),
        "has no observation.state, but .*: choose by --state, or do without one by --state null",
    ),
    "an action of words": (
        lambda path: change_info(path, lambda info: info["features"]["action"].update(dtype="string")),
        "action of .* is string \\[2\\]; expected a vector of numbers",
    ),
    "a size": (lambda path: change_info(path, shorter), "has pictures of \\(96, 128\\), but meta/info.json tells of"),
    "depth": (lambda path: change_info(path, depth), "expected pictures of three colours"),
    "a film that is missing": (lambda path: (path / FILM).unlink(), "file-000.mp4 is not there"),
    "a film that is none": (lambda path: (path / FILM).write_bytes(b"none"), "is no video that can be read"),
    "a film that is a list of films": (
        lambda path: (path / FILM).write_text("ffconcat version 1.0\nfile other.mp4\n"),
        "is no video that can be read",
    ),
    "an episode below 0": (
        lambda path: change_table(path / DATA, replace("episode_index", [-1] * 63)),
        "the episodes of .* are not numbered 0, 1, 2",
    ),
    "an episode far away": (
        lambda path: change_table(path / DATA, replace("episode_index", [0] * 62 + [10**12])),
        "has 63 rows, and an episode 1000000000000: rows are missing",
    ),
    "tasks with a gap": (
        lambda path: change_table(path / layout.TASKS, replace("task_index", [0, 2])),
        "the tasks of .* are not numbered 0, 1, 2",
    ),
    "another film": (
        lambda path: change_table(path / EPISODES, replace(f"videos/{TOP}/to_timestamp", [1.0, 2.05, 9.15])),
        "episode 2 of .* has 22 rows, but 142.0 frames of observation.images.top",
    ),
    "a film that is too short": (
        lambda path: (
            change_table(path / EPISODES, replace(f"videos/{TOP}/from_timestamp", [9.0, 1.0, 2.05])),
            change_table(path / EPISODES, replace(f"videos/{TOP}/to_timestamp", [10.0, 2.05, 3.15])),
        ),
        "file-000.mp4 has 63 frames, but the table has rows for 200",
    ),
    "lengths": (
        lambda path: change_table(path / EPISODES, replace("length", [20, 30, 22])),
        "episode 1 of .* has 21 rows, but meta/episodes says 30",
    ),
    "an episode too few": (
        lambda path: change_table(path / EPISODES, lambda table: table.slice(0, 2)),
        "episode 2 of .* has 22 rows, but meta/episodes says 0",
    ),
    "another order": (
        lambda path: change_table(path / DATA, lambda table: table.take([*range(1, 63), 0])),
        "the rows of .* are not in order",
    ),
    "a column": (
        lambda path: change_table(path / DATA, lambda table: table.drop_columns("action")),
        "has no column action",
    ),
    "a number that is none": (
        lambda path: change_table(path / DATA, replace("action", [[0.0, 0.0]] * 30 + [[0.0, np.nan]] * 33)),
        "action of .* is not finite in row 30, of episode 1",
    ),
    "vectors of several lengths": (
        lambda path: change_table(path / DATA, replace("action", [[0.0, 0.0]] * 30 + [[0.0]] * 33)),
        "action of .* has rows of \\[1, 2\\] numbers; expected as many in each",
    ),
    "words": (
        lambda path: change_table(path / DATA, replace("action", ["left"] * 63)),
        "action of .* holds string; expected numbers",
    ),
    "a damaged table": (lambda path: (path / DATA).write_bytes(b"PAR1 none PAR1"), "file-000.parquet is damaged"),
    "no tables": (lambda path: shutil.rmtree(path / "data"), "there are no parquet files with action"),
    "no tasks": (lambda path: (path / layout.TASKS).unlink(), "tasks.parquet is not there"),
    "splits": (
        lambda path: change_info(path, lambda info: info.update(splits={"train": "0:2", "val": "2"})),
        "has the split val '2'; expected 'begin:end'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_before_any_work(copy, tmp_path, name, capsys):
    change, message = WRONG[name]
    change(copy)
    assert import_lerobot.main([str(copy), "--out", str(tmp_path / "data"), "--cameras", "top"]) == 1
    assert not (tmp_path / "data/data").exists()
    said = capsys.readouterr().err
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(said.splitlines()[-1])


def test_what_the_last_rows_tell_is_left_out_and_that_is_said(tmp_path, capsys):
    assert import_lerobot.main([str(OFFICIAL), "--out", str(tmp_path / "data"), "--cameras", "top"]) == 0
    assert "3 episodes tell in their last row of a reward, a success or an end" in capsys.readouterr().out


def test_its_own_splits_are_kept_and_others_are_not_kept_silently(copy, capsys):
    change_info(copy, lambda info: info.update(splits={"train": "0:2", "validation": "2:3"}))
    assert LeRobotFolder(copy, ["top"]).splits(0) == ["train", "train", "val"]
    change_info(copy, lambda info: info.update(splits={"train": "0:2", "holdout": "2:3"}))
    assert sorted(LeRobotFolder(copy, ["top"]).splits(0)) == ["test", "train", "val"]
    assert "has splits ['holdout'], others than" in capsys.readouterr().err


def test_cameras_are_chosen_or_put_side_by_side():
    with pytest.raises(DatasetError, match=f"has the cameras {TOP}, {WRIST}: choose by --cameras '\\[{TOP}\\]'"):
        LeRobotFolder(OFFICIAL)
    with pytest.raises(DatasetError, match="but no left"):
        LeRobotFolder(OFFICIAL, ["left"])
    assert LeRobotFolder(OFFICIAL, [WRIST, "top"], rows=32).scene.image_size == (32, 32 + 40)


def test_a_film_that_has_no_frame_for_a_row_is_an_error_when_it_is_read(copy):
    """Its header promises enough frames; they are not there when it is decoded."""
    film = copy / FILM
    film.write_bytes(film.read_bytes()[:-400] + bytes(400))
    with pytest.raises(DatasetError, match=r"file-000\.mp4"):
        list(LeRobotFolder(copy, ["top"]).episodes())


def test_pictures_in_tables_and_choices(tmp_path, copy):
    frames = np.zeros((63, 96, 128, 3), np.uint8)
    frames[:, :, :64] = np.arange(63, dtype=np.uint8)[:, None, None, None]
    choices = np.arange(63) % 3
    change_table(copy / DATA, lambda table: table.append_column(TOP, written({}, {TOP: frames})[TOP]))
    change_table(copy / DATA, replace("action", choices))
    change_info(copy, lambda info: info["features"][TOP].update(dtype="image"))
    change_info(copy, lambda info: info["features"]["action"].update(dtype="int64", shape=[1]))
    found = [*LeRobotFolder(copy, ["top"]).episodes()]
    assert (np.concatenate([each.frames[:, 32, 10, 0] for each in found]) == np.arange(63)).all()
    assert (found[1].actions.argmax(axis=1) == choices[20:40]).all()
    change_table(copy / DATA, replace("action", choices - 1))
    with pytest.raises(DatasetError, match="has choices from -1 to 1; expected 0 to 999"):
        _ = LeRobotFolder(copy, ["top"]).scene


def test_without_its_packages_it_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(layout, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match="LeRobot datasets need pyarrow and av: pip install 'cosmos-isaac-wm\\[lerobot\\]'"
    ):
        LeRobotFolder(OFFICIAL)


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_an_error_in_words_or_harms_nothing(copy, tmp_path, seed, capfd):
    """A file with other bytes, cut off, or with a piece twice: never a traceback, a hang, or half a dataset."""
    rng = np.random.default_rng(seed)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path.name != "stats.json")
    file = files[rng.integers(len(files))]
    data = bytearray(file.read_bytes())
    begin, end = sorted(rng.integers(0, len(data), 2))
    how = seed % 3
    if how == 0:
        for place in rng.integers(0, len(data), 8):
            data[place] = rng.integers(256)
    file.write_bytes((data, data[:begin], data[:end] + data[begin:])[how])
    status = import_lerobot.main([str(copy), "--out", str(tmp_path / "data"), "--cameras", "[top, wrist]"])
    assert status in (0, 1)
    assert (tmp_path / "data/data/metadata.json").exists() == (status == 0)
    assert "Traceback" not in capfd.readouterr().err
