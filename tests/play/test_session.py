"""Does a dream that is played step, go back, change hands, and leave demonstrations that can be learned from?"""

import numpy as np
import pytest

from cosmos_isaac_wm.data import DatasetError, EpisodeDataset, write_dataset
from cosmos_isaac_wm.play.demonstrations import Demonstrations
from cosmos_isaac_wm.play.session import Options, Session, source_of
from cosmos_isaac_wm.play.told import scene_of, state_of
from cosmos_isaac_wm.storage.lock import InUse
from cosmos_isaac_wm.training.material import Material
from tests.dots import dot_twin

RIGHT = np.array([1, 0], np.float32)


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


@pytest.mark.parametrize("acts", ["box", "discrete"])
def test_twins_are_played_with_their_own_actions(acts, tmp_path):
    model = dot_twin(acts=acts)
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
    assert play(Session(blind_model), 2).reward == 0


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
    session = Session(model, demonstrations=held)
    session.record(True)
    session.record(False)  # nothing was played
    assert session.recorded == 0
    session.record(True)
    play(session, 5)
    assert session.keep() == 1  # as at its end
    play(session, 2)
    session.record(False)
    assert session.recorded == 1


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
    other = tmp_path / "other"
    with Demonstrations(other, source_of(make_world_model(seed=1), "dream")):
        pass
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
    model = dot_twin()
    session = Session(model, Options(named="tests.dots:Dot-v0", pictures="real"))
    left = np.array([-1, 0.5], np.float32)
    play(session, 2, left)
    there = play(session, 2, left).true_frame
    session.rewind(2)
    assert (session.now.true_frame != there).any()
    np.testing.assert_equal(play(session, 2, left).true_frame, there)
    assert len(session.pictures()) == 2
    with pytest.raises(ValueError, match="real pictures"):
        session.set_real(False)


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
