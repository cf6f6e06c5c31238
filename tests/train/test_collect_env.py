"""Is any Gymnasium environment recorded as it is? With all that it shows; and what cannot be recorded is refused."""

import json

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium.wrappers import RescaleAction

from cosmos_isaac_wm.data import EpisodeDataset
from cosmos_isaac_wm.executors import Here
from cosmos_isaac_wm.sims.gymnasium_env import GymnasiumEnv, resized
from cosmos_isaac_wm.train import collect
from tests.dots import SIZE, DotEnv

DOT = "tests.dots:Dot-v0"


@pytest.fixture
def collected(tmp_path, monkeypatch):
    """Record episodes with the command."""

    def run(*more, env=DOT, out="dots", **kwargs):
        if not any(option.startswith("--workers") for option in more):  # processes take seconds to start
            monkeypatch.setattr(collect, "Processes", lambda workers: Here())
        arguments = [f"--out={tmp_path / out}", f"--env={env}", f"--env-kwargs={json.dumps(kwargs)}", "--seed=3"]
        status = collect.main([*arguments, "--episodes=4", "--workers=1", f"--json={tmp_path / 'n.json'}", *more])
        return EpisodeDataset(tmp_path / out) if status == 0 else None

    return run


def replayed(episode, env):
    """What an environment shows when an episode's actions are repeated."""
    shown = [env.reset(seed=episode.seed)[0]]
    outcomes = []
    for action in episode.actions:
        observation, *outcome, _ = env.step(action)
        shown.append(observation)
        outcomes.append(outcome)
    return shown, outcomes


def test_an_episode_is_what_the_environment_shows_under_its_actions(collected, tmp_path):
    dataset = collected("--policy=random")
    assert len(dataset) == 4
    assert dataset.scene.image_size == SIZE
    assert dataset.scene.action_high == (1.0, 2.0)
    assert dataset.scene.control_hz == 20
    assert dataset.scene.environment.id == "Dot-v0"
    env = gym.make("Dot-v0", render_mode="rgb_array")
    for episode in dataset.episodes(range(4)):
        shown, outcomes = replayed(episode, env)
        np.testing.assert_array_equal(episode.observations["state"], shown)
        np.testing.assert_array_equal(episode.frames[-1], env.render())
        rewards, terminated, truncated = zip(*outcomes, strict=True)
        np.testing.assert_allclose(episode.rewards, rewards)
        assert tuple(episode.terminations) == terminated
        assert tuple(episode.truncations) == truncated
        assert episode.terminations[-1] or len(episode) == 12
        assert episode.infos["is_success"][-1] == terminated[-1]
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["episodes"] == 4
    assert numbers["return_least"] < numbers["return_mean"] < 0
    assert (tmp_path / "dots" / "coverage.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("observes", "rest"),
    [("dict", {"now", "still"}), ("picture", set()), ("both", {"place"})],
)
def test_dicts_and_pictures_are_observed_too(collected, observes, rest):
    dataset = collected(observes=observes)
    episode = dataset[0]
    assert episode.observations.keys() == rest
    assert episode.frames.shape[1:] == (*SIZE, 3)
    assert episode.frames.max() == 255
    shown, _ = replayed(episode, DotEnv(observes=observes))
    if observes == "dict":
        np.testing.assert_array_equal(episode.observations["now"]["place"], [each["now"]["place"] for each in shown])
    else:
        own = shown if observes == "picture" else [each["view"] for each in shown]
        np.testing.assert_array_equal(episode.frames, own)


def test_discrete_actions_are_choices_in_the_dataset_and_one_hot_to_a_network(collected):
    dataset = collected(acts="discrete")
    episode = dataset[1]
    assert dataset.scene.action_dim == 3
    assert set(np.unique(episode.actions)) == {0.0, 1.0}
    (stored,) = dataset._storage.get_episodes([1])
    np.testing.assert_array_equal(stored["actions"], episode.actions.argmax(axis=1) + 4)


def test_minari_reads_the_dataset_and_makes_the_environment(collected, tmp_path):
    collected(observes="vector")
    dataset = minari.MinariDataset(tmp_path / "dots" / "data")
    assert dataset[0].observations["pixels"].shape[1:] == (*SIZE, 3)
    assert dataset.env_spec.id == "Dot-v0"
    assert dataset.recover_environment().observation_space == DotEnv().observation_space


def test_the_same_seed_records_the_same_whoever_does(collected):
    one = collected("--workers=1")
    other = collected("--workers=2", out="again")
    for first, second in zip(one.episodes(range(4)), other.episodes(range(4)), strict=True):
        np.testing.assert_array_equal(first.frames, second.frames)
        np.testing.assert_array_equal(first.actions, second.actions)


def to_the_left(env):
    """A policy by a function, as `module:function` names it."""
    assert isinstance(env.unwrapped, DotEnv)
    return lambda observation: np.array([-1.0, -np.sign(observation[1])], np.float32)


class Still:
    """A policy as other libraries have it."""

    def predict(self, observation, deterministic=False):
        return np.zeros(2, np.float32), None


def still(env):
    return Still()


@pytest.mark.parametrize(("name", "expected"), [("to_the_left", -1.0), ("still", 0.0)])
def test_anybodys_policy_acts(collected, name, expected):
    dataset = collected(f"--policy=tests.train.test_collect_env:{name}")
    assert all((actions[:, 0] == expected).all() for actions in dataset.actions)


def test_an_agent_of_the_environment_acts_and_one_of_another_is_refused(collected, tmp_path, capsys):
    from cosmos_isaac_wm.policies.agent import Agent, new_policy

    for name, env in (("own", DotEnv()), ("other", RescaleAction(DotEnv(), -3, 3))):
        policy = new_policy("sac", "MlpPolicy", {"net_arch": [8]}, env.observation_space, env.action_space)
        Agent(policy, "sac", "MlpPolicy", {"net_arch": [8]}).save(tmp_path / name)
    assert len(collected(f"--policy={tmp_path / 'own'}")) == 4
    assert collected(f"--policy={tmp_path / 'other'}", out="no") is None
    assert "has action_space Box(-3.0, 3.0" in capsys.readouterr().err


@pytest.mark.opengl
def test_mujocos_whole_state_is_recorded_and_leads_to_the_same_pictures(collected):
    import mujoco

    episode = collected("--size=48", env="Reacher-v5")[0]
    assert episode.frames.shape == (51, 48, 48, 3)
    env = gym.make("Reacher-v5", render_mode="rgb_array", width=48, height=48)
    env.reset(seed=0)
    core = env.unwrapped
    mujoco.mj_setState(core.model, core.data, episode.infos["state"][20], mujoco.mjtState.mjSTATE_INTEGRATION)
    observation, reward, *_ = env.step(episode.actions[20])
    np.testing.assert_allclose(observation, episode.observations["state"][21])
    assert reward == pytest.approx(episode.rewards[20])


def test_what_draws_larger_pictures_is_recorded_smaller_in_its_own_shape(collected):
    pytest.importorskip("pygame")
    dataset = collected(env="CartPole-v1")
    assert dataset.scene.image_size == (64, 96)
    assert dataset[0].frames.std(axis=(1, 2)).min() > 1
    assert dataset[0].terminations[-1]


def test_smaller_pixels_are_means_of_what_they_cover():
    picture = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    even = resized(picture, (6, 5))
    np.testing.assert_allclose(even, picture.reshape(6, 2, 5, 2, 3).mean(axis=(1, 3)), atol=0.51)
    odd = resized(np.full((50, 30, 3), 77, np.uint8), (7, 8))
    assert (odd == 77).all()


def test_the_environment_is_shown_in_its_own_words():
    shown = GymnasiumEnv(DOT, {"observes": "both"}).reset(0)
    assert shown.observation.keys() == {"view", "place"}
    assert shown.rest.keys() == {"place"}


@pytest.mark.parametrize(
    ("more", "kwargs", "told"),
    [
        (["--env=Dotty-v0"], {}, "there is no environment 'Dotty-v0' here"),
        (["--env=gym_pusht/PushT-v0"], {}, '`pip install gym-pusht`, and name it "gym_pusht:gym_pusht/PushT-v0"'),
        (["--env=nowhere.at.all:Dot-v0"], {}, "No module named 'nowhere'"),
        ([], {"colour": 3}, "unexpected keyword argument 'colour'"),
        ([], {"render_mode": "human"}, "render_mode is always 'rgb_array' here"),
        ([], {"acts": "several"}, "has actions MultiDiscrete([2 2]); supported are Box"),
        ([], {"observes": "number"}, "observes Discrete(3) as 'state'; supported are a Box"),
        ([], {"draws": False}, "has drawn a picture of (16, 16, 3) after one of (40, 48, 3)"),
        (["--size=16"], {"observes": "both"}, "observes pictures of (40, 48, 3), which are recorded as they are"),
        (["--policy=tests.dots:nobody"], {}, "module 'tests.dots' has no attribute 'nobody'"),
        (["--policy=tests.dots:SIZE"], {}, "'tests.dots:SIZE' is no function"),
        (["--policy=nobody/there"], {}, "nobody/there"),
        (["--kind=slide"], {}, "kind, sim and agent are those of our table"),
    ],
)
def test_what_cannot_be_recorded_is_one_line_before_the_work(collected, tmp_path, capsys, more, kwargs, told):
    assert collected(*more, **kwargs) is None
    error = capsys.readouterr().err
    assert told in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "dots" / "data").exists()


def test_options_of_another_environment_need_one(tmp_path, capsys):
    assert collect.main([f"--out={tmp_path}", "--policy=random"]) == 1
    assert "name it with --env" in capsys.readouterr().err
