import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.policies.agent import Agent, AgentError, new_policy
from cosmos_isaac_wm.policies.extractors import LatentExtractor, PoseExtractor

KWARGS = {"net_arch": [8], "extractor": "pose"}


@pytest.fixture
def agent(model):
    env = DreamEnv(model)
    torch.manual_seed(3)
    policy = new_policy("ppo", "MultiInputPolicy", KWARGS, env.observation_space, env.action_space)
    return Agent(policy, "ppo", "MultiInputPolicy", KWARGS, {"obs_type": "pose"}, trained={"world_model": "abc"})


def test_a_saved_agent_acts_the_same(agent, model, tmp_path):
    loaded = Agent.load(agent.save(tmp_path / "agent"))
    observation, _ = DreamEnv(model).reset(seed=0)
    assert np.array_equal(loaded.predict(observation)[0], agent.predict(observation)[0])
    assert (loaded.algorithm, loaded.env_kwargs, loaded.frame_stack) == ("ppo", {"obs_type": "pose"}, 1)
    assert loaded.trained["world_model"] == "abc"
    assert sorted(path.name for path in (tmp_path / "agent").iterdir()) == [
        "SHA256SUMS",
        "agent.yaml",
        "policy.safetensors",
    ]


@pytest.mark.parametrize("algorithm", ["sac", "td3", "sac_her"])
def test_every_algorithm_s_policy_is_saved(algorithm, model, tmp_path):
    env = DreamEnv(model)
    policy = new_policy(algorithm, "MultiInputPolicy", KWARGS, env.observation_space, env.action_space)
    loaded = Agent.load(Agent(policy, algorithm, "MultiInputPolicy", KWARGS).save(tmp_path / "agent"))
    observation, _ = env.reset(seed=0)
    assert np.array_equal(loaded.predict(observation)[0], policy.predict(observation, deterministic=True)[0])


def test_an_agent_says_which_spaces_it_was_trained_for(agent, model):
    agent.check(DreamEnv(model))
    with pytest.raises(AgentError, match=r"observation space Dict.*make the environment with \{'obs_type': 'pose'\}"):
        agent.check(DreamEnv(model, obs_type="latent", reward_fn=lambda outcome: np.zeros(1)))


def test_another_world_model_is_warned_of(agent, model):
    agent.check(DreamEnv(model), "abc")
    with pytest.warns(UserWarning, match="trained with world model abc, this one is def"):
        agent.check(DreamEnv(model), "def")


def test_a_missing_or_damaged_agent_is_named(agent, tmp_path):
    with pytest.raises(AgentError, match="no agent 'nobody'"):
        Agent.load("nobody")
    folder = agent.save(tmp_path / "agent")
    assert Agent.load(tmp_path).path == folder  # the folder of a run or a bundle will do
    (folder / "policy.safetensors").write_bytes(b"short")
    with pytest.raises(AgentError, match="damaged"):
        Agent.load(folder)
    (folder / "policy.safetensors").unlink()
    with pytest.raises(AgentError, match=r"has no policy\.safetensors"):
        Agent.load(folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dqn", "MlpPolicy", {}), "unknown algorithm 'dqn'"),
        (("ppo", "LstmPolicy", {}), "unknown policy 'LstmPolicy'"),
        (("ppo", "MlpPolicy", {"extractor": "eyes"}), "unknown extractor 'eyes'"),
    ],
)
def test_what_is_unknown_is_named(arguments, words):
    box = gym.spaces.Box(-1, 1, (2,))
    with pytest.raises(AgentError, match=words):
        new_policy(*arguments, box, box)


def test_pose_features_are_relative_and_of_order_one(model):
    space = DreamEnv(model).observation_space
    extractor = PoseExtractor(space)
    reach = space["desired_goal"].high[0]
    cube, pusher, goal = (torch.tensor([place]) for place in ((0.1, 0.0), (0.0, -0.1), (0.2, 0.1)))
    velocity = torch.full((1, 4), 0.3)
    features = extractor({"observation": torch.cat([cube, pusher, velocity], dim=1), "desired_goal": goal})
    assert features.shape == (1, extractor.features_dim)
    expected = [goal, cube, pusher, 4 * (cube - goal), 4 * (pusher - cube)]
    torch.testing.assert_close(features[:, :10], torch.cat(expected, dim=1) / reach)
    assert features[:, 10:].flatten().tolist() == pytest.approx([0.3 * 5 / model.scene.max_speed] * 4)


def test_extractors_refuse_other_observations(model):
    with pytest.raises(ValueError, match="obs_type='pose'"):
        PoseExtractor(gym.spaces.Box(-1, 1, (2,)))
    with pytest.raises(ValueError, match="obs_type='latent'"):
        LatentExtractor(DreamEnv(model).observation_space)


def test_the_latent_extractor_serves_stacked_latents(model):
    space = gym.spaces.Box(-20, 20, (64, 8, 8))
    assert LatentExtractor(space, 32)(torch.zeros(5, 64, 8, 8)).shape == (5, 32)
    env = DreamEnv(model, obs_type="latent", goal=(0.1, 0.1))
    learner = PPO("MlpPolicy", env, policy_kwargs={"features_extractor_class": LatentExtractor})
    assert learner.policy.predict(env.reset(seed=0)[0])[0].shape == (2,)
