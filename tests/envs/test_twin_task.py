"""Is a twin the environment to its users? Spaces, actions, ends, batches; all kinds of observations and actions."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv, RealTwinEnv
from cosmos_isaac_wm.perception import BundleError
from cosmos_isaac_wm.policies.sb3 import make_dream_vec_env
from cosmos_isaac_wm.storage.bundle import seal
from cosmos_isaac_wm.world_model import WorldModel
from tests.dots import SIZE, DotEnv, dot_twin, recorded_dots

ALL = [("vector", "box"), ("dict", "box"), ("picture", "box"), ("both", "box")]
ALL += [("goal", "box"), ("vector", "discrete"), ("vector", "choice")]


@pytest.fixture(scope="module")
def twins():
    """Untrained bundles of the dot, by what it observes and how it acts."""
    return {(observes, acts): dot_twin(observes=observes, acts=acts) for observes, acts in ALL}


@pytest.fixture(scope="module")
def twin(twins):
    return twins["vector", "box"]


def ending(model, logit):
    """The bundle with steps that all end, or never."""
    model.perception.heads.outcome[-1].weight.data[1] = 0.0
    model.perception.heads.outcome[-1].bias.data[1] = logit
    return model


@pytest.mark.parametrize("kinds", ALL)
def test_the_twin_has_the_environments_own_spaces_and_passes_both_checks(twins, kinds):
    env, own = gym.make("CosmosDream-v0", world_model=twins[kinds]), DotEnv(*kinds)
    assert env.observation_space == own.observation_space
    assert env.action_space == own.action_space
    assert env.spec.max_episode_steps == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for own_fault in (".*symmetric and normalized", ".*non-zero start"):
            warnings.filterwarnings("ignore", own_fault)
        check_env(env.unwrapped, skip_render_check=True)
        if kinds[0] != "dict":  # Stable-Baselines3 knows no nested ones
            sb3_check_env(DreamEnv(twins[kinds]))


@pytest.mark.parametrize("kinds", ALL)
def test_a_batch_dreams_what_single_ones_dream(twins, kinds):
    model = ending(twins[kinds], -9.0)
    batch = DreamVectorEnv(3, model, dtype="float32", compile=False)
    single = DreamEnv(model)
    observation, _ = batch.reset(seed=7)
    alone, _ = single.reset(seed=9)
    single.action_space.seed(0)
    batch.action_space.seed(0)
    for _ in range(5):
        actions = batch.action_space.sample()
        observation, rewards, terminated, truncated, _ = batch.step(actions)
        alone, reward, *ends, _ = single.step(actions[2])
        for one, many in zip(leaves(alone), leaves(observation), strict=True):
            np.testing.assert_allclose(many[2], one, atol=1 if one.dtype == np.uint8 else 1e-4)
        assert rewards[2] == pytest.approx(reward, abs=1e-4)
        assert [terminated[2], truncated[2]] == ends
    assert observation in batch.observation_space


def leaves(tree):
    return [leaf for value in tree.values() for leaf in leaves(value)] if isinstance(tree, dict) else [tree]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("kinds", [("vector", "box"), ("both", "box"), ("picture", "box")])
def test_restarted_dreams_show_their_new_beginnings(twins, kinds, mode):
    model = ending(twins[kinds], -9.0)
    env = DreamVectorEnv(2, model, autoreset_mode=mode, max_episode_steps=2, dtype="float32")
    env.reset(seed=0)
    rest = np.zeros((2, 2), np.float32)
    env.step(rest)
    observation, _, _, truncated, info = env.step(rest)
    assert truncated.all()
    if mode == "NextStep":
        observation, *_ = env.step(rest)
    else:
        assert len(leaves(info["final_obs"][0])) == len(leaves(observation))
    state = env.get_state()
    again, _ = env.set_state(state)
    for one, other in zip(leaves(again), leaves(observation), strict=True):
        np.testing.assert_array_equal(one, other)


def test_ends_are_the_heads_and_the_time_limit_is_the_environments(twin):
    env = DreamEnv(ending(twin, 5.0))
    env.reset(seed=0)
    assert env.step(np.zeros(2, np.float32))[2:4] == (True, False)
    env = DreamEnv(ending(twin, -5.0))
    env.reset(seed=0)
    assert [env.step(np.zeros(2, np.float32))[2:4] for _ in range(12)] == [(False, False)] * 11 + [(False, True)]


@pytest.mark.parametrize(("obs_type", "shape"), [("latent", (16, 5, 6)), ("latent16", (16, 5, 6)), ("rgb", (*SIZE, 3))])
def test_latents_and_pictures_can_be_observed_instead(twin, obs_type, shape):
    env = DreamEnv(twin, obs_type=obs_type)
    observation, _ = env.reset(seed=0)
    assert observation.shape == shape
    assert env.step(env.action_space.sample())[0] in env.observation_space


def test_a_reward_function_replaces_the_reward(twin):
    env = DreamVectorEnv(2, twin, reward_fn=lambda outcome: outcome.actions[:, 0] * 3)
    env.reset(seed=0)
    _, rewards, *_ = env.step(np.array([[1, 0], [-1, 0]], np.float32))
    assert rewards.tolist() == [3.0, -3.0]


@pytest.mark.parametrize("actions", [[4, 7], [3, 4], [4.0, 5.0], [[4], [5]], [4]])
def test_choices_that_there_are_not_are_refused(twins, actions):
    env = DreamVectorEnv(2, twins["vector", "discrete"])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"choices from 4 on|whole numbers from 4 to 6"):
        env.step(np.array(actions))


def test_choices_in_tensors_are_looked_at_later(twins):
    env = DreamVectorEnv(2, twins["vector", "discrete"], to_torch=True)
    env.reset(seed=0)
    env.step(torch.tensor([4, 9]))
    with pytest.raises(ValueError, match="an action of environment 1 in the last 1 steps was none of the 3 choices"):
        env.check()


def test_a_twin_has_no_goals_and_says_which_options_there_are(twin):
    with pytest.raises(TypeError, match="the options of the task are"):
        DreamEnv(twin, goal=(0, 0))
    with pytest.raises(ValueError, match="unknown obs_type 'pose'; expected one of"):
        DreamEnv(twin, obs_type="pose")
    with pytest.raises(AttributeError):
        DreamEnv(twin).compute_reward  # noqa: B018


def test_stable_baselines_learns_in_twins(twins):
    PPO("MlpPolicy", make_dream_vec_env(4, world_model=twins["vector", "box"]), n_steps=8, batch_size=16).learn(64)
    DQN("MlpPolicy", DreamEnv(twins["vector", "choice"]), learning_starts=8).learn(32)


def test_a_saved_twin_is_the_same(twin, tmp_path):
    twin.save(tmp_path / "twin")
    loaded = WorldModel.load(tmp_path / "twin", "cpu")
    assert loaded.scene.environment == twin.scene.environment
    env, other = DreamEnv(twin), DreamEnv(loaded)
    np.testing.assert_array_equal(env.reset(seed=4)[0], other.reset(seed=4)[0])
    action = np.array([0.5, -1.5], np.float32)
    np.testing.assert_array_equal(env.step(action)[0], other.step(action)[0])
    assert env.step(action)[1] == other.step(action)[1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (('\'{"id": "Dot-v0"', '\'{"id": 7'), "a spec without id and kwargs"),
        (('\'{"id": "Dot-v0"', "'{"), "a spec that is no JSON"),
        (('"type": "Box"', '"type": "Box2"'), "a space is damaged"),
        (("  actions: 2", "  actions: 3"), "its heads are for another tokenizer, other actions"),
    ],
)
def test_a_bundle_whose_environment_is_damaged_is_refused(twin, tmp_path, wrong, told):
    folder = twin.save(tmp_path / "twin")
    text = (folder / "perception.yaml").read_text()
    assert wrong[0] in text
    (folder / "perception.yaml").write_text(text.replace(*wrong, 1))
    seal(folder)
    with pytest.raises(BundleError, match=told):
        WorldModel.load(folder, "cpu")


@pytest.mark.parametrize("kinds", ALL)
def test_the_environment_is_seen_through_the_twins_eyes(twins, kinds):
    env = RealTwinEnv(twins[kinds], named="tests.dots:Dot-v0")
    own = gym.make("Dot-v0", observes=kinds[0], acts=kinds[1], render_mode="rgb_array")
    observation, _ = env.reset(seed=5)
    own.reset(seed=5)
    assert observation in env.observation_space
    env.action_space.seed(1)
    for _ in range(4):
        action = env.action_space.sample()
        observation, *mine, _ = env.step(action)
        _, *theirs, _ = own.step(action)
        assert observation in env.observation_space
        assert mine == theirs
        np.testing.assert_array_equal(env.frame, own.render())


def test_the_real_environment_of_a_twin_is_that_itself(twin):
    with pytest.raises(ValueError, match=r"a twin of Dot-v0, so that is its real environment: gymnasium.make"):
        gym.make("CosmosReal-v0", world_model=twin)


def test_a_file_alone_makes_no_environment(twin):
    with pytest.raises(ValueError, match=r"the recordings are of Dot-v0 with .*: name the environment"):
        RealTwinEnv(twin)
    with pytest.raises(ValueError, match="the recordings are of Dot-v0, not of CartPole-v1"):
        RealTwinEnv(twin, named="CartPole-v1")


def test_the_actions_that_led_through_given_frames_are_not_forgotten():
    twin = dot_twin()
    _, episodes = recorded_dots()
    frames, led = episodes[0].frames[:4], episodes[0].actions[:3]
    env = DreamEnv(twin)
    told, _ = env.reset(options={"frames": frames, "actions": led})
    assert torch.equal(env.past, twin.perception.scale_actions(torch.from_numpy(led[-1:])))
    untold, _ = env.reset(options={"frames": frames})
    assert not env.past.any()
    assert not np.array_equal(told, untold)
    with pytest.raises(ValueError, match="3 actions between the frames"):
        env.reset(options={"frames": frames, "actions": led[:2]})
    with pytest.raises(ValueError, match="one of these, too"):
        env.reset(options={"actions": led})


def test_choices_that_led_through_frames_are_given_as_the_environment_has_them():
    twin = dot_twin(acts="discrete")
    _, episodes = recorded_dots(acts="discrete")
    env = DreamVectorEnv(2, twin)
    env.reset(options={"frames": episodes[0].frames[:4], "actions": [[4, 5, 6], [6, 5, 4]]})
    assert env.engine.past.argmax(dim=2).tolist() == [[2], [0]]


@pytest.mark.parametrize("led", [[4, 5, 7], [4, 5, 5.5], [3, 4, 5], [4, 5, float("nan")]])
def test_choices_that_are_none_are_refused(led):
    _, episodes = recorded_dots(acts="discrete")
    with pytest.raises(ValueError, match=r'options\["actions"\] must be'):
        DreamEnv(dot_twin(acts="discrete")).reset(options={"frames": episodes[0].frames[:4], "actions": led})
