import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import cosmos_isaac_wm  # noqa: F401  (registers the environments)
from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.rollout import DreamEngine

ZERO = np.zeros(2, np.float32)


def zero_reward(outcome):
    return np.zeros(len(outcome.latents))


@pytest.mark.parametrize("obs_type", ["pose", "latent", "latent16", "rgb"])
def test_gymnasiums_check_passes_without_a_warning(folder, obs_type):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("CosmosDream-v0", world_model=folder, obs_type=obs_type, render_mode="rgb_array")
        check_env(env.unwrapped)


@pytest.mark.parametrize("obs_type", ["pose", "rgb"])
def test_stable_baselines_check_passes_without_a_warning(large_model, obs_type):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check_env(DreamEnv(large_model, obs_type=obs_type), skip_render_check=False)


def test_stable_baselines_has_only_its_advice_on_the_latents_shape(large_model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sb3_check_env(DreamEnv(large_model, obs_type="latent"))
    # It takes a latent for a picture: of a wrong type, with wrong bounds, too small.
    assert all("image" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("obs_type", ["pose", "latent", "latent16", "rgb"])
def test_all_bounds_are_finite_and_observations_keep_them(model, obs_type):
    env = DreamEnv(model, obs_type=obs_type)
    spaces = env.observation_space.values() if obs_type == "pose" else [env.observation_space]
    assert all(np.isfinite(space.low).all() and np.isfinite(space.high).all() for space in spaces)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(10):
        assert env.step(env.action_space.sample())[0] in env.observation_space


def test_the_same_seed_dreams_the_same_and_another_seed_something_else(model):
    def rollout(seed):
        env = DreamEnv(model)
        first, _ = env.reset(seed=seed)
        env.action_space.seed(5)
        steps = [env.step(env.action_space.sample())[0] for _ in range(6)]
        return np.stack([np.concatenate(list(observation.values())) for observation in [first, *steps]])

    assert np.array_equal(rollout(3), rollout(3))
    assert not np.array_equal(rollout(3), rollout(4))


def test_the_dream_steps_as_its_world_model_does(model):
    env = DreamEnv(model, obs_type="latent")
    env.reset(options={"episode": 2})
    actions = np.random.default_rng(0).uniform(-1, 1, (1, 5, 2)).astype(np.float32)
    dreamed = np.stack([env.step(action)[0] for action in actions[0]])
    expected = DreamEngine(model, 1).open_loop(model.contexts.latents[2:3].float(), torch.from_numpy(actions))[0]
    assert np.allclose(dreamed, expected.numpy(), atol=1e-5)


def test_a_stored_context_can_be_asked_for_by_episode_and_start(model):
    env = DreamEnv(model, obs_type="latent")
    for episode in (1, 4):
        observation, _ = env.reset(options={"episode": episode, "start": 0})
        assert np.allclose(observation, model.contexts.latents[episode, -1].numpy())


def test_frames_of_the_users_own_start_the_dream_from_their_latents(model):
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    env = DreamEnv(model)
    env.reset(options={"frames": frames})
    assert np.allclose(env.context.numpy(), model.encode(frames).numpy(), atol=1e-6)


def test_latents_start_the_dream_as_they_are(model):
    env, other = DreamEnv(model), DreamEnv(model)
    env.reset(seed=3)
    other.reset(options={"latents": env.context.numpy()})
    assert np.array_equal(other.context, env.context)


def test_a_goal_can_be_given(model):
    observation, info = DreamEnv(model).reset(options={"goal": (0.1, -0.2)})
    assert np.allclose(observation["desired_goal"], [0.1, -0.2])
    assert np.allclose(info["goal"], [0.1, -0.2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"episode": 99}, r"no context of episode 99; .*0: \[0\]"),
        ({"episode": 1, "start": 7}, "episode 1 that starts at frame 7"),
        ({"start": 0}, "needs options"),
        ({"goal": (2.0, 0.0)}, "workspace"),
        ({"goal": (0.0,)}, r"\(x, y\)"),
        ({"frame": 1}, r"unknown reset options \['frame'\].*frames"),
        ({"frames": np.zeros((3, 32, 32, 3), np.uint8)}, r"\(4, 32, 32, 3\).*got uint8 of shape \(3, "),
        ({"frames": np.zeros((4, 64, 64, 3), np.uint8)}, r"\(4, 32, 32, 3\).*\(4, 64, 64, 3\)"),
        ({"frames": np.zeros((4, 32, 32, 3), np.float32)}, "uint8.*got float32"),
        ({"frames": np.zeros((4, 32, 32, 3), np.uint8), "episode": 1}, "not both"),
        ({"latents": np.zeros((4, 16, 4, 4)), "start": 1}, "not both"),
        ({"latents": np.zeros((3, 16, 4, 4))}, r"\(4, 16, 4, 4\).*got shape \(3, 16, 4, 4\)"),
        ({"latents": np.full((4, 16, 4, 4), np.nan)}, "finite"),
    ],
)
def test_an_impossible_reset_option_is_named(model, options, words):
    with pytest.raises(ValueError, match=words):
        DreamEnv(model).reset(options=options)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ([np.nan, 0.0], "environment 0"),
        ([0.0, np.inf], "environment 0"),
        ([1.5, 0.0], r"bounds \[-1.0, -1.0\] and \[1.0, 1.0\]"),
        ([0.0], r"shape \(1, 2\), got \(1, 1\)"),
    ],
)
def test_a_wrong_action_is_an_error(model, action, words):
    env = DreamEnv(model)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=words):
        env.step(np.array(action, np.float32))


def test_an_action_beyond_its_bound_by_rounding_only_is_taken(model):
    env = DreamEnv(model)
    env.reset(seed=0)
    env.step(np.full(2, np.nextafter(np.float32(1), np.float32(2))))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "slide"}, r"kind 'slide'; it has the kinds \['push'\]"),
        ({"render_mode": "human"}, "render_mode 'human'"),
        ({"world_model": "defualt"}, "no world model bundle 'defualt'"),
        ({"obs_type": "state"}, "obs_type 'state'"),
        ({"device": "cuda:99"}, "not available"),
    ],
)
def test_a_wrong_argument_is_named(folder, arguments, words):
    with pytest.raises(ValueError, match=words):
        DreamEnv(**({"world_model": folder} | arguments))


def test_the_time_limit_is_the_bundles_own_unless_given(model):
    def length(**arguments):
        env = DreamEnv(model, goal=(0.39, 0.39), **arguments)
        env.reset(seed=0)
        steps = 1
        while not (ended := env.step(ZERO))[3]:
            assert not ended[2]
            steps += 1
        return steps

    assert length() == model.scene.episode_steps
    assert length(max_episode_steps=3) == 3


@pytest.mark.parametrize("reward_type", ["dense", "sparse"])
def test_compute_reward_of_many_goals_at_once_is_what_step_returned(model, reward_type):
    env = DreamEnv(model, reward_type=reward_type)
    steps = []
    for seed in range(3):
        env.reset(seed=seed)
        steps += [env.step(ZERO) for _ in range(5)]
    achieved, desired = (np.stack([step[0][key] for step in steps]) for key in ("achieved_goal", "desired_goal"))
    rewards = env.compute_reward(achieved, desired, np.array([step[4] for step in steps]))
    assert rewards.tolist() == [step[1] for step in steps]
    # Hindsight: had the goal been where the object is, it would have been reached.
    assert not env.compute_reward(achieved, achieved, {}).any()


def test_stable_baselines_hindsight_replay_learns_in_the_dream(model):
    from stable_baselines3 import SAC, HerReplayBuffer

    env = DreamEnv(model, reward_type="sparse")
    agent = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        learning_starts=13,
        policy_kwargs={"net_arch": [8]},
        seed=0,
        device="cpu",
    )
    agent.learn(16)
    assert agent.num_timesteps == 16


def test_only_goal_observations_without_an_own_reward_have_compute_reward(model):
    assert hasattr(DreamEnv(model), "compute_reward")
    assert not hasattr(DreamEnv(model, obs_type="latent"), "compute_reward")
    assert not hasattr(DreamEnv(model, reward_fn=zero_reward), "compute_reward")


def test_info_has_positions_goal_success_and_the_dream_step(model):
    env = DreamEnv(model)
    observation, info = env.reset(seed=0)
    assert info["dream_step"] == 0
    observation, *_, info = env.step(ZERO)
    assert set(info) == {"cube_position", "pusher_position", "goal", "is_success", "dream_step"}
    assert info["dream_step"] == 1
    assert np.allclose(info["cube_position"], observation["achieved_goal"])
    assert np.allclose(info["pusher_position"], observation["observation"][2:4])


def test_info_carries_the_uncertainty_of_a_model_that_has_one(model, monkeypatch):
    forward = type(model.dynamics).forward

    def unsure(self, context, action):
        prediction = forward(self, context, action)
        prediction.uncertainty = torch.full((len(context),), 0.25)
        return prediction

    monkeypatch.setattr(type(model.dynamics), "forward", unsure)
    env = DreamEnv(model)
    _, info = env.reset(seed=0)
    assert "uncertainty" not in info
    assert env.step(ZERO)[4]["uncertainty"] == 0.25


def test_the_picture_is_the_decoded_latent_with_the_goal_marked(model):
    env = DreamEnv(model, render_mode="rgb_array")
    env.reset(seed=0, options={"goal": (0.2, 0.1)})
    changed = (env.render() != model.decode(env.context[-1:]).numpy()[0]).any(-1)
    column, row = model.scene.to_pixels([0.2, 0.1])
    rows, columns = np.nonzero(changed)
    assert 0 < changed.sum() < 40
    assert np.hypot(columns - column, rows - row).max() < 4
    assert DreamEnv(model).render() is None


def test_a_bundle_without_positions_dreams_latents_and_frames_with_the_users_reward(blind_model):
    with pytest.raises(ValueError, match=r'without positions.*"latent" or "rgb".*reward_fn'):
        DreamEnv(blind_model, obs_type="pose", reward_fn=zero_reward)
    with pytest.raises(ValueError, match="pass a reward_fn"):
        DreamEnv(blind_model, reward_type="sparse")
    rewards = {
        "latent": lambda outcome: outcome.latents.mean(dim=(1, 2, 3)),
        "rgb": lambda outcome: outcome.frames.mean(axis=(1, 2, 3)),
    }
    for obs_type, reward_fn in rewards.items():
        env = DreamEnv(blind_model, obs_type=obs_type, reward_fn=reward_fn, render_mode="rgb_array")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env.reset(seed=0)
            observation, reward, terminated, truncated, info = env.step(ZERO)
        assert observation in env.observation_space
        assert np.isclose(reward, observation.mean(), atol=1e-4)
        assert (terminated, truncated, info) == (False, False, {"dream_step": 1})
        assert env.render().shape == (32, 32, 3)
        with pytest.raises(ValueError, match="no goal"):
            env.reset(options={"goal": (0.0, 0.0)})
