"""What is packaged: every shipped bundle, on a few of its own held-out episodes."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import cosmos_isaac_wm  # noqa: F401  (registers the environments)
from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.policies.agent import Agent
from cosmos_isaac_wm.policies.sb3 import make_dream_vec_env
from cosmos_isaac_wm.storage.bundle import find_perception
from cosmos_isaac_wm.world_model import WorldModel


@pytest.fixture(scope="module", params=[("default", "mujoco"), ("isaac", "isaac-lab")], ids=lambda param: param[0])
def shipped(request):
    """A shipped bundle, and the simulator that it was made from."""
    return WorldModel.load(request.param[0]), request.param[1]


def test_a_shipped_bundle_says_where_it_comes_from(shipped):
    model, simulator = shipped
    held_out = model.held_out()
    assert model.provenance["simulator"] == held_out.metadata["simulator"] == simulator
    assert set(held_out.kinds) == {"push", "slide"}
    assert len(held_out) >= 20
    assert held_out.indices("test") == list(range(len(held_out)))


def test_a_shipped_bundle_dreams_its_held_out_episodes_well(shipped):
    model, _ = shipped
    held_out = model.held_out()
    chosen = [index for kind in ("push", "slide") for index in held_out.indices("test", kind)[:3]]
    numbers = evaluate(model, held_out, chosen, horizon=16).numbers()
    for kind in ("push", "slide"):
        assert numbers[f"{kind}_detection_rate"] == 1.0
        error, still = (numbers[f"{kind}_{what}_rmse_px512"] for what in ("cube", "static"))
        assert error < 0.4 * still
        assert 0.0 < numbers[f"{kind}_floor_rmse_px512"] < still  # known without the simulator too
    assert numbers["readout_cube_mm"] < 6.0
    assert numbers["tokenizer_cube_px512"] < 1.5
    assert 0.8 < numbers["action_sensitivity"] < 1.2


def test_a_shipped_agent_plays_in_its_dream(shipped):
    model, _ = shipped
    agent = Agent.load(model.path.name)
    assert agent.trained["env"] == "CosmosDream-v0"
    assert agent.trained["world_model"] == model.fingerprint()
    dreams = make_dream_vec_env(16, seed=0, world_model=model, dtype="float32")
    observation = dreams.reset()
    first = np.full(16, -1)  # whether the first episode of each dream was solved; -1 while it goes on
    for _ in range(model.scene.episode_steps):
        observation, _, done, infos = dreams.step(agent.predict(observation)[0])
        first = np.where((first < 0) & done, [info["is_success"] for info in infos], first)
    assert (first >= 0).all()
    assert first.mean() > 0.7


def test_a_shipped_bundle_is_found_by_its_name(shipped):
    model, _ = shipped
    env = gym.make("CosmosDream-v0", world_model=model.path.name)
    assert env.unwrapped.world_model.fingerprint() == model.fingerprint()
    check_env(env.unwrapped)


def test_the_shipped_twin_is_pendulum_and_its_agent_learned_it_in_the_dream_alone():
    twin, real = gym.make("CosmosDream-v0", world_model="pendulum"), gym.make("Pendulum-v1")
    assert twin.observation_space == real.observation_space
    assert twin.action_space == real.action_space
    model = twin.unwrapped.world_model
    agent = Agent.load(model.path / "agent")
    assert agent.trained["env"] == "CosmosDream-v0"
    assert agent.trained["world_model"] == model.fingerprint()
    assert model.metrics["state_r2_min"] > 0.999
    assert model.metrics["reward_r2_at_25"] > 0.9
    for env, episodes in ((twin, 2), (real, 8)):
        returns = []
        for seed in range(episodes):
            observation, over, total = env.reset(seed=seed)[0], False, 0.0
            while not over:
                observation, reward, terminated, truncated, _ = env.step(agent.predict(observation)[0])
                total, over = total + reward, terminated or truncated
            returns.append(total)
        assert np.mean(returns) > -400  # at random -1,250


@pytest.mark.parametrize("bundle", ["default", "isaac", "pendulum"])
def test_the_general_tokenizer_sees_every_shipped_world_before_it_has_learned_it(bundle):
    eyes, held_out = Perception.load(find_perception("general")), WorldModel.load(bundle).held_out()
    frames = held_out[0].frames[::10]
    missed = np.square(eyes.decode(eyes.encode(frames)).numpy().astype(float) - frames).mean()
    assert 10 * np.log10(255**2 / missed) > 28
