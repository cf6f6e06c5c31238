"""Are dreams forked and restored exactly? Alone and in a batch, and is what does not fit refused?"""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from safetensors.torch import load_file, save_file

from cosmos_isaac_wm.dynamics import ProbabilisticPlus, ProbabilisticPlusConfig
from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv
from cosmos_isaac_wm.world_model import WorldModel

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (8, 6, 2)).astype(np.float32)


def dreamt(env, actions):
    """All that a dream shows under actions (T, A)."""
    return [env.step(action) for action in actions]


def equal(one, other):
    """Nested results are equal to the bit; final observations are arrays of objects."""
    np.testing.assert_equal(plain(one), plain(other))


def plain(tree):
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return plain(list(tree)) if isinstance(tree, np.ndarray) and tree.dtype == object else tree


@pytest.mark.parametrize("obs_type", ["pose", "latent"])
def test_one_dream_goes_on_from_where_it_was_as_often_as_wanted(model, obs_type):
    env = DreamEnv(model, obs_type=obs_type, reward_type="progress", max_episode_steps=7)
    env.reset(seed=3)
    dreamt(env, ACTIONS[0, :3])
    state = env.get_state()
    first = dreamt(env, ACTIONS[1, :5])
    assert [step[3] for step in first] == [False] * 3 + [True] * 2  # the steps so far are part of it
    env.set_state(state)
    equal(dreamt(env, ACTIONS[1, :5]), first)
    env.reset(seed=9)
    observation, info = env.set_state(state)
    equal(dreamt(env, ACTIONS[1, :5]), first)
    assert observation in env.observation_space
    assert info["dream_step"] == 3


def test_a_saved_state_begins_another_environment(model, tmp_path):
    env, other = (gym.make("CosmosDream-v0", world_model=model).unwrapped for _ in range(2))
    env.reset(seed=1)
    shown = dreamt(env, ACTIONS[0, :2])[-1][0]
    save_file(env.get_state(), tmp_path / "state.safetensors")
    then = dreamt(env, ACTIONS[1])
    observation, _ = other.set_state(load_file(tmp_path / "state.safetensors"))
    equal(observation, shown)
    equal(dreamt(other, ACTIONS[1]), then)


def test_a_dream_is_forked_into_a_batch_and_a_slot_is_taken_out(model):
    env, batch = DreamEnv(model), DreamVectorEnv(8, model, autoreset_mode="Disabled", dtype="float32")
    env.reset(seed=5)
    env.step(ACTIONS[0, 0])
    state = env.get_state()
    batch.set_state(state)
    for step in range(4):
        observation, *_ = batch.step(ACTIONS[:, step])
    for slot in (0, 7):
        env.set_state(state)
        alone = dreamt(env, ACTIONS[slot, :4])[-1][0]
        for key, value in alone.items():
            np.testing.assert_allclose(observation[key][slot], value, atol=1e-5)
    own = batch.get_state(7)
    observation, _ = env.set_state(own)
    np.testing.assert_allclose(observation["achieved_goal"], alone["achieved_goal"], atol=1e-5)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("to_torch", [False, True])
def test_slots_of_a_batch_go_on_and_the_others_are_not_touched(model, mode, to_torch):
    env = DreamVectorEnv(8, model, autoreset_mode=mode, to_torch=to_torch, max_episode_steps=8)
    env.reset(seed=0)
    for step in range(3):
        env.step(ACTIONS[:, step])
    slots = [6, 1]
    kept, others = env.get_state(slots), [slot for slot in range(8) if slot not in slots]
    for step in range(3, 5):
        env.step(ACTIONS[:, step])
    untouched = env.get_state(others)
    _, info = env.set_state(kept, slots)
    assert info["_dream_step"].tolist() == [slot in slots for slot in range(8)]
    for name, value in env.get_state(slots).items():
        assert torch.equal(value, kept[name]), name
    for name, value in env.get_state(others).items():
        assert torch.equal(value, untouched[name]), name
    again = [env.step(ACTIONS[:, step])[0]["achieved_goal"] for step in range(3, 6)]
    assert all(len(places) == 8 for places in again)


def test_a_whole_batch_goes_on_through_restarts_as_it_did(model):
    env = DreamVectorEnv(8, model, autoreset_mode="SameStep", max_episode_steps=3)
    env.reset(seed=0)
    env.step(ACTIONS[:, 0])
    state = env.get_state()
    first = [env.step(ACTIONS[:, step]) for step in range(1, 6)]
    env.set_state(state)
    for step, results in enumerate(first, start=1):
        equal(env.step(ACTIONS[:, step]), results)


def test_noise_is_sampled_as_it_was_and_other_keys_sample_other_noise(model):
    torch.manual_seed(0)
    config = ProbabilisticPlusConfig(action_dim=2, width=8, blocks=1)
    stochastic = WorldModel(model.perception, ProbabilisticPlus(config).eval(), model.contexts)
    env = DreamVectorEnv(8, stochastic, sample=True, obs_type="latent", reward_fn=lambda outcome: np.zeros(8))
    env.reset(seed=0)
    state = env.get_state(2)
    same = np.repeat(ACTIONS[:1, 0], 8, 0)
    env.set_state(state)
    forks = env.step(same)[0]
    assert (forks == forks[:1]).all()
    env.set_state(
        {name: value.repeat(8, *[1] * (value.ndim - 1)) for name, value in state.items()} | {"key": torch.arange(8)}
    )
    assert np.ptp(env.step(same)[0], axis=0).max() > 0


def test_what_does_not_fit_is_refused_and_changes_nothing(model, make_world_model):
    env = DreamVectorEnv(4, model)
    with pytest.raises(ResetNeeded):
        env.get_state()
    env.reset(seed=0)
    state = env.get_state()
    with pytest.raises(ResetNeeded):
        DreamVectorEnv(4, model).set_state({name: value[:1] for name, value in state.items()}, [0])
    three = {name: value[:3] for name, value in state.items()}
    for wrong, slots, told in (
        (three, None, "of 3 dreams, but 4 shall go on"),
        (state, [0, 4], r"different indices from 0 to 3, got \[0, 4\]"),
        (state, [1, 1], r"got \[1, 1\]"),
        (state, [True, False, False, True], "whole numbers"),
        ({name: value for name, value in state.items() if name != "key"}, None, "'key' is missing or too much"),
        (state | {"task.steps": state["task.steps"].float()}, None, "'task.steps' is torch.float32"),
        (state | {"context": state["context"][:, :2]}, None, "'context' is torch.float32"),
    ):
        with pytest.raises(ValueError, match=told):
            env.set_state(wrong, slots)
    with pytest.raises(ValueError, match="of another world model, whose latents mean something else"):
        DreamVectorEnv(4, make_world_model(seed=1)).set_state(state)
    for name, value in env.get_state().items():
        assert torch.equal(value, state[name]), name
