"""Does a dream that is played step, go back, change hands, and leave demonstrations that can be learned from?"""

import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, write_dataset
from cosmos_isaac_wm.data.lerobot.writing import write_lerobot
from cosmos_isaac_wm.play.demonstrations import Demonstrations
from cosmos_isaac_wm.play.session import Options, Session, source_of
from cosmos_isaac_wm.play.told import scene_of, state_of
from cosmos_isaac_wm.storage.lock import InUse
from cosmos_isaac_wm.training.material import Material
from tests.dots import dot_twin

RIGHT = np.array([1, 0], np.float32)
DOT = Options(named="tests.dots:Dot-v0", pictures="real")


def play(session, steps, action=RIGHT):
    for _ in range(steps):
        session.step(action)
    return session.now


@pytest.fixture
def held(model, tmp_path):
    with Demonstrations(tmp_path / "played", source_of(model, "dream")) as demonstrations:
        yield demonstrations


def test_a_dream_with_a_seed_is_the_same_again(model):
    session = Session(model)
    session.reset(seed=5)
    first = play(session, 3)
    session.reset(seed=5)
    np.testing.assert_equal(play(session, 3).frame, first.frame)


def test_it_goes_back_and_comes_to_the_same_again(model):
    session = Session(model)
    before = play(session, 2)
    after = play(session, 4)
    session.rewind(4)
    np.testing.assert_equal(session.now.frame, before.frame)
    assert state_of(session)["step"] == 2
    np.testing.assert_equal(play(session, 4).frame, after.frame)
    session.rewind(99)
    assert state_of(session)["step"] == 0


def test_it_says_how_it_stands(model):
    session = Session(model, Options(max_steps=3))
    assert scene_of(session)["controls"]["count"] == 2
    assert scene_of(session)["limit"] == 3
    assert state_of(session)["ended"] is None
    play(session, 3)
    told = state_of(session)
    assert (told["step"], told["ended"], told["action"]) == (3, "time", [1.0, 0.0])
    assert len(told["goal"]) == 2
    assert told["distance"] == pytest.approx(np.linalg.norm(np.subtract(told["object"], told["goal"])), abs=1e-3)
    assert play(session, 1).truncated  # one can play on


@pytest.mark.parametrize(("acts", "seed"), [("box", 1), ("discrete", 0)])
def test_twins_are_played_with_their_own_actions(acts, seed, tmp_path):
    model = dot_twin(seed, acts=acts)  # one that does not believe that it is over
    source = source_of(model, "dream")
    with Demonstrations(tmp_path / "played", source) as demonstrations:
        session = Session(model, demonstrations=demonstrations)
        session.record(True)
        play(session, 6, session.controls.action(1 if acts == "discrete" else [0.5, -0.5]))
        session.record(False)
        assert state_of(session)["action"] == (1 if acts == "discrete" else [0.5, -0.5])
        assert len(state_of(session)["observed"]) == 2
    dataset = EpisodeDataset(tmp_path / "played")
    dataset.must_fit(model.scene, "the bundle")
    assert set(dataset[0].observations) == {"state"}
    assert dataset[0].rewards.any()


def test_a_blind_bundle_is_played_for_its_pictures(blind_model):
    with pytest.warns(UserWarning, match="rewards are 0"):
        session = Session(blind_model)
    assert play(session, 2).reward == 0


def test_a_policy_takes_the_wheel_and_hands_it_back(model):
    session = Session(model, Options(policy="scripted"))
    session.set_wheel(True)
    assert (play(session, 3).action != RIGHT).any()
    session.set_wheel(False)
    np.testing.assert_equal(play(session, 1).action, RIGHT)
    assert [moment.by_policy for moment in session.past] == [False, True, True, True, False]


def test_without_a_policy_nobody_takes_the_wheel(model):
    with pytest.raises(ValueError, match="name a policy with --policy"):
        Session(model).set_wheel(True)


def test_a_demonstration_is_an_episode_that_can_be_learned_from(model, held, tmp_path):
    session = Session(model, Options(policy="scripted"), held)
    for _ in range(2):
        session.record(True)
        start = session.now.frame
        play(session, 5)
        session.rewind(2)  # what was wrong is not shown to anybody
        session.set_wheel(True)
        play(session, 3)
        session.set_wheel(False)
        session.record(False)
    assert session.recorded == 2
    held.write()
    dataset = EpisodeDataset(held.out)
    episode = dataset[1]
    assert dataset.splits == ["train", "train"]
    assert (episode.kind, episode.seed, len(episode)) == ("push", session.seed, 6)
    np.testing.assert_equal(episode.frames[0], start)
    np.testing.assert_equal(episode.actions[:3], np.tile(RIGHT, (3, 1)))
    assert set(episode.positions) == {"cube", "pusher"}
    assert episode.infos["by_policy"].tolist() == [False] * 4 + [True] * 3
    assert episode.truncations.tolist() == [False] * 5 + [True]
    (tmp_path / "cache").mkdir()
    material = Material.of([dataset], model.perception, tmp_path / "cache", mirror=False, least=5)
    assert len(material.train) == 2


def test_a_new_dream_throws_the_recording_away_and_a_short_one_is_not_kept(model, held):
    session = Session(model, demonstrations=held)
    session.record(True)
    play(session, 6)
    session.reset()
    play(session, 3)
    with pytest.raises(ValueError, match="a demonstration has 4 steps at least"):
        session.record(False)
    assert session.recorded == 0
    assert not session.recording


def test_a_demonstration_is_kept_once(model, held):
    session = Session(model, Options(max_steps=6), held)
    session.record(True)
    session.record(False)  # nothing was played
    assert session.recorded == 0
    session.record(True)
    play(session, 6)
    assert session.keep() == 1  # as at its end
    play(session, 2)
    assert session.over
    assert state_of(session)["ended"] is None  # it is played on
    session.rewind(3)
    session.record(False)
    assert session.recorded == 1


def test_another_way_from_the_middle_of_a_demonstration_is_another_one_of_the_same_split(model, held):
    session = Session(model, Options(max_steps=6), held)
    for _ in range(8):
        session.reset()
        play(session, 6)
        session.keep()
    session.rewind(2)
    play(session, 5, -RIGHT)  # beyond its end
    assert session.keep() == 9
    held.write()
    dataset = EpisodeDataset(held.out)
    first, other = dataset[7], dataset[8]
    assert first.seed == other.seed
    assert dataset.splits == ["train"] * 9  # the ninth would validate, but who trained knows its start
    np.testing.assert_equal(other.actions, np.stack([*[RIGHT] * 4, *[-RIGHT] * 2]))
    assert other.truncations.tolist() == [False] * 5 + [True]


def test_what_fails_leaves_the_dream_where_it_was(model, monkeypatch):
    session = Session(model)
    play(session, 2)
    monkeypatch.setattr(session, "_seen", lambda *seen: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        play(session, 1)
    monkeypatch.undo()
    assert int(session.env.task.steps[0]) == 2
    after = play(session, 1).frame
    session.rewind(1)
    np.testing.assert_equal(play(session, 1).frame, after)


def test_a_recording_outlives_a_full_disk_and_the_end_of_the_play(model, held, monkeypatch):
    session = Session(model, demonstrations=held)
    session.record(True)
    play(session, 5)
    with monkeypatch.context() as full:
        full.setattr(held, "add", lambda episode: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            session.record(False)
    assert session.recording
    session.close()
    assert len(held) == 1


def test_a_dream_that_cannot_begin_is_not_being_recorded(model, held, monkeypatch):
    session = Session(model, demonstrations=held)
    monkeypatch.setattr(session.env, "reset", lambda **asked: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        session.record(True)
    assert not session.recording


def test_dreams_of_another_evening_are_others(model, tmp_path):
    starts = []
    for _ in range(2):
        with Demonstrations(tmp_path / "played", source_of(model, "dream")) as held:
            session = Session(model, demonstrations=held)
            starts.append(session.seed)
            play(session, 4)
            session.keep()
    assert starts[0] != starts[1]


def test_one_that_takes_the_place_of_a_deleted_one_is_in_the_dataset(model, tmp_path):
    seeds = []
    for _ in range(2):
        with Demonstrations(tmp_path / "played", source_of(model, "dream")) as held:
            for file in (held.out / "demonstrations").iterdir():
                file.unlink()
            session = Session(model, demonstrations=held)
            session.reset(seed=len(seeds))
            play(session, 4)
            session.keep()
        seeds += EpisodeDataset(tmp_path / "played").seeds
    assert seeds == [0, 1]
    (file,) = (tmp_path / "played" / "demonstrations").iterdir()
    file.rename(file.with_name("episode_000000_5.npz"))  # another one, and the process was killed before the dataset
    with Demonstrations(tmp_path / "played", held.source):
        pass
    assert EpisodeDataset(tmp_path / "played").seeds == [5]


def test_a_folder_is_bound_by_its_first_demonstration(model, tmp_path):
    with Demonstrations(tmp_path / "played", source_of(model, "real")):
        pass
    with Demonstrations(tmp_path / "played", source_of(model, "dream")) as held:
        session = Session(model, demonstrations=held)
        play(session, 4)
        session.keep()
    with pytest.raises(DatasetError, match="another recording"), Demonstrations(held.out, source_of(model, "real")):
        pass


def test_more_demonstrations_can_be_played_later_and_none_changes_its_split(model, tmp_path):
    for count in (9, 11):
        with Demonstrations(tmp_path / "played", source_of(model, "dream")) as held:
            session = Session(model, demonstrations=held)
            while len(held) < count:
                session.reset()
                play(session, 4)
                session.keep()
        splits = EpisodeDataset(tmp_path / "played").splits
        assert splits == [*["train"] * 8, "val", "test", "train"][:count]


def test_a_folder_of_something_else_is_refused(model, make_world_model, dataset, held, scene, make_episode, tmp_path):
    with pytest.raises(InUse), Demonstrations(held.out, held.source):
        pass
    other, another = tmp_path / "other", make_world_model(seed=1)
    with Demonstrations(other, source_of(another, "dream")) as its:
        session = Session(another, demonstrations=its)
        play(session, 4)
        session.keep()
    with pytest.raises(DatasetError, match="holds another recording"), Demonstrations(other, held.source):
        pass
    write_dataset(tmp_path / "foreign", [make_episode(scene, 0)], scene)
    with pytest.raises(FileExistsError, match="not played there"), Demonstrations(tmp_path / "foreign", held.source):
        pass


def test_a_damaged_demonstration_is_named(model, tmp_path):
    with Demonstrations(tmp_path / "played", source_of(model, "dream")) as held:
        session = Session(model, demonstrations=held)
        play(session, 4)
        session.keep()
    (file,) = (tmp_path / "played" / "demonstrations").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-200])
    again = Demonstrations(tmp_path / "played", held.source)
    again.__enter__()
    (tmp_path / "played" / "demonstrations" / "episode_000001_7.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"episode_000000_\d+.npz is damaged"):
        again.__exit__(None, None, None)
    assert len(EpisodeDataset(tmp_path / "played")) == 1  # the dataset that was there stays


def test_a_table_without_stored_states_has_nothing_real_beside_it(model):
    with pytest.raises(ValueError, match="cannot start alike"):
        Session(model).set_real(True)


def test_the_environment_of_a_twin_goes_beside_it_and_back(tmp_path):
    session = Session(dot_twin(), DOT)
    left = np.array([-1, 0.5], np.float32)
    play(session, 2, left)
    there = play(session, 2, left).true_frame
    session.rewind(2)
    back = session.now.true_frame
    assert (back != there).any()
    np.testing.assert_equal(session.past[2].true_frame, back)
    np.testing.assert_equal(session.pictures()[1], back)
    np.testing.assert_equal(play(session, 2, left).true_frame, there)
    with pytest.raises(ValueError, match="real pictures"):
        session.set_real(False)
    session.set_real(True)  # it is already
    assert len(session.past) == 5


def test_with_real_pictures_all_that_a_twin_keeps_is_its_environments(tmp_path):
    model = dot_twin(seed=1)
    with Demonstrations(tmp_path / "played", source_of(model, "real")) as held:
        session = Session(model, DOT, held)
        session.record(True)
        session.reset(seed=2)  # far from the edge
        play(session, 12)  # to the right edge, where the environment is over, and on
        session.record(False)
    dataset = EpisodeDataset(tmp_path / "played")
    assert write_lerobot(tmp_path / "lerobot", dataset, use_videos=False) == dataset.lengths[0]
    episode = dataset[0]
    places = episode.observations["state"]
    assert places[-1, 0] == 1
    assert (places[:-1, 0] < 1).all()
    np.testing.assert_allclose(episode.rewards, -np.abs(places[1:]).sum(axis=1), rtol=1e-6)
    assert episode.terminations.tolist() == [*[False] * (len(episode) - 1), True]
    white = [np.argwhere(frame[..., 0] > 200).mean(axis=0)[1] for frame in episode.frames]
    np.testing.assert_allclose(white, (places[:, 0] + 1) / 2 * 41 + 3, atol=1)  # where it is seen to be


@pytest.mark.opengl
def test_the_real_table_starts_like_the_dream_and_is_recorded(tmp_path):
    from cosmos_isaac_wm import WorldModel

    model = WorldModel.load("default", "cpu")
    with Demonstrations(tmp_path / "played", source_of(model, "real")) as held:
        session = Session(model, Options(pictures="real"), held)
        assert np.abs(session.now.frame.astype(int) - session.now.true_frame).mean() < 6  # the tokenizer's own error
        play(session, 4)
        assert state_of(session)["gap"] < 0.05
        session.keep()
        frames = [moment.true_frame for moment in session.past]
        session.close()
    episode = EpisodeDataset(tmp_path / "played")[0]
    np.testing.assert_equal(episode.frames, np.stack(frames))
    assert set(episode.positions) == {"cube", "pusher"}
