import numpy as np
import pytest
import torch

from cosmos_isaac_wm.envs import DreamEnv
from cosmos_isaac_wm.policies.agent import Agent, new_policy
from cosmos_isaac_wm.policies.driver import AgentDriver


@pytest.fixture
def agent(model):
    """An untrained toy agent."""
    env = DreamEnv(model)
    policy = new_policy("ppo", "MultiInputPolicy", {"net_arch": [4]}, env.observation_space, env.action_space)
    return Agent(policy, "ppo", "MultiInputPolicy", {"net_arch": [4]}, {"obs_type": "pose"})


def test_an_agent_gets_another_goal_when_it_has_reached_one(agent, model):
    frame = np.full((32, 32, 3), 128, np.uint8)
    driver = AgentDriver(model, agent, frame, seed=0)
    driver._task.goals = driver._task._sight.positions[:, 0].clone()  # it is there
    first = driver._task.goals.clone()
    driver.see(frame, np.zeros(2, np.float32))
    assert not torch.equal(driver._task.goals, first)
    unmoved = driver._task.goals.clone()
    driver.see(frame, np.zeros(2, np.float32))
    assert torch.equal(driver._task.goals, unmoved)


def test_stacked_observations_cannot_collect(agent, model):
    agent.frame_stack = 3
    with pytest.raises(ValueError, match="frame_stack 1"):
        AgentDriver(model, agent, np.zeros((32, 32, 3), np.uint8), 0)
