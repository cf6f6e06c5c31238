import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import cosmos_isaac_wm  # noqa: F401  (registers the environments)
from cosmos_isaac_wm.dynamics import ProbabilisticPlus, ProbabilisticPlusConfig
from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv
from cosmos_isaac_wm.world_model import WorldModel

N = 3
FAR = (0.39, 0.39)  # where the toy cube never comes


def actions(steps, seed=0, count=N):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, count, 2)).astype(np.float32)


def flat(observation):
    return np.concatenate(list(observation.values()), axis=-1) if isinstance(observation, dict) else observation


class StaggeredEnds(DreamVectorEnv):
    """Dream i also ends after i + 1 steps, so that not all end together."""

    def advance(self, actions):
        observation, rewards, terminated, truncated, info = super().advance(actions)
        terminated = terminated | (self.task.steps == np.arange(self.num_envs) + 1)
        return observation, rewards, terminated, truncated, info


class StaggeredDream(DreamEnv):
    """The single environment with the same ends, for Gymnasium's own vectoriser."""

    def __init__(self, last, **kwargs):
        super().__init__(**kwargs)
        self.last = last

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or info["dream_step"] == self.last, truncated, info


def assert_same_infos(ours, theirs):
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        if isinstance(value, dict):
            assert_same_infos(ours[key], value)
        elif key != "final_obs":
            assert np.allclose(ours[key], value, atol=1e-5), key


def test_make_vec_gives_the_native_batched_environment(folder):
    envs = gym.make_vec("CosmosDream-v0", num_envs=N, world_model=folder, max_episode_steps=5)
    assert isinstance(envs, DreamVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.reset(seed=0)[0] in envs.observation_space
    assert envs.task.max_episode_steps == 5


@pytest.mark.parametrize("obs_type", ["pose", "latent", "latent16", "rgb"])
def test_single_and_batched_stepping_agree(model, obs_type):
    batch = DreamVectorEnv(N, world_model=model, obs_type=obs_type)
    singles = [DreamEnv(model, obs_type=obs_type) for _ in range(N)]
    together = batch.reset(seed=7)[0]
    alone = [env.reset(seed=7 + i)[0] for i, env in enumerate(singles)]
    tolerance = {"rgb": 1, "latent16": 1e-2}.get(obs_type, 1e-5)  # a rounded pixel; a half-precision digit
    for step in actions(8):
        assert np.allclose(
            flat(together),
            [np.concatenate(list(o.values())) if isinstance(o, dict) else o for o in alone],
            atol=tolerance,
        )
        together, rewards, *_ = batch.step(step)
        results = [env.step(action) for env, action in zip(singles, step, strict=True)]
        alone = [result[0] for result in results]
        assert np.allclose(rewards, [result[1] for result in results], atol=1e-5)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_autoreset_is_that_of_gymnasiums_own_vectoriser(model, mode):
    ours = StaggeredEnds(N, world_model=model, goal=FAR, autoreset_mode=mode)
    theirs = SyncVectorEnv(
        [lambda i=i: StaggeredDream(i + 1, world_model=model, goal=FAR) for i in range(N)], autoreset_mode=mode
    )
    observed, expected = ours.reset(seed=3), theirs.reset(seed=3)
    assert np.allclose(flat(observed[0]), flat(expected[0]))
    assert_same_infos(observed[1], expected[1])
    for step in actions(9):
        observed, expected = ours.step(step), theirs.step(step)
        assert np.allclose(flat(observed[0]), flat(expected[0]), atol=1e-5)
        assert np.allclose(observed[1], expected[1], atol=1e-5)
        assert np.array_equal(observed[2], expected[2])
        assert np.array_equal(observed[3], expected[3])
        assert_same_infos(observed[4], expected[4])
        for last, theirs_last in zip(observed[4].get("final_obs", []), expected[4].get("final_obs", []), strict=True):
            assert (last is None) == (theirs_last is None)
            assert last is None or all(np.allclose(last[key], theirs_last[key], atol=1e-5) for key in last)


def test_next_step_returns_the_new_first_observation_with_no_reward_one_step_after_the_end(model):
    envs = DreamVectorEnv(N, world_model=model, goal=FAR, max_episode_steps=2)
    envs.reset(seed=0)
    envs.step(actions(1)[0])
    assert envs.step(actions(1)[0])[3].all()  # all end together
    _, rewards, terminated, truncated, info = envs.step(actions(1)[0])
    assert not rewards.any()
    assert not (terminated | truncated).any()
    assert info["dream_step"].tolist() == [0] * N


def test_same_step_returns_the_new_first_observation_and_the_last_one_in_the_infos(model):
    envs = DreamVectorEnv(N, world_model=model, goal=FAR, max_episode_steps=2, autoreset_mode="SameStep")
    envs.reset(seed=0)
    envs.step(actions(1)[0])
    observation, _, _, truncated, info = envs.step(actions(1)[0])
    assert truncated.all()
    assert info["dream_step"].tolist() == [0] * N
    assert info["final_info"]["dream_step"].tolist() == [2] * N
    assert observation in envs.observation_space
    assert all(last in envs.single_observation_space for last in info["final_obs"])
    assert "final_obs" not in envs.step(actions(1)[0])[4]


def test_with_autoreset_disabled_a_mask_restarts_only_its_dreams(model):
    envs = StaggeredEnds(N, world_model=model, goal=FAR, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    before, _, terminated, *_ = envs.step(actions(1)[0])
    assert terminated.tolist() == [True, False, False]
    with pytest.raises(ResetNeeded, match=r"dreams \[0\] have ended"):
        envs.step(actions(1)[0])
    contexts = envs.context.clone()
    after, info = envs.reset(options={"reset_mask": terminated})
    assert np.array_equal(flat(after)[1:], flat(before)[1:])
    assert not np.array_equal(flat(after)[0], flat(before)[0])
    assert (envs.context[1:] == contexts[1:]).all()
    assert info["_dream_step"].tolist() == [True, False, False]
    assert envs.step(actions(1)[0])[4]["dream_step"].tolist() == [1, 2, 2]


def test_a_restart_draws_a_new_context_and_goal_for_every_dream(model):
    envs = DreamVectorEnv(8, world_model=model, max_episode_steps=1)
    goals = [envs.reset(seed=0)[0]["desired_goal"]]
    goals += [envs.step(step)[0]["desired_goal"] for step in actions(4, count=8)]
    assert np.array_equal(goals[0], goals[1])
    assert not np.isclose(goals[1], goals[2]).any()
    assert len(np.unique(goals[0], axis=0)) == 8


def test_a_list_of_seeds_seeds_each_dream_on_its_own(model):
    envs = DreamVectorEnv(N, world_model=model)
    first = flat(envs.reset(seed=[5, 6, 5])[0])
    assert np.array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])
    assert np.array_equal(flat(envs.reset(seed=5)[0])[:2], first[:2])
    with pytest.raises(ValueError, match="3 of them, got 2"):
        envs.reset(seed=[1, 2])


def test_every_dream_can_have_an_episode_frames_and_a_goal_of_its_own(model):
    envs = DreamVectorEnv(N, world_model=model)
    goals = np.array([[0.1, 0.1], [-0.1, 0.1], [0.1, -0.1]])
    observation, _ = envs.reset(options={"episode": [3, 1, 3], "goal": goals})
    assert np.allclose(observation["desired_goal"], goals)
    assert np.allclose(envs.context.numpy(), model.contexts.latents[[3, 1, 3]].float().numpy())
    frames = np.random.default_rng(0).integers(0, 256, (N, 4, 32, 32, 3), dtype=np.uint8)
    envs.reset(options={"frames": frames})
    assert np.allclose(envs.context[2].numpy(), model.encode(frames[2]).numpy(), atol=1e-5)
    envs.reset(options={"frames": frames[1]})
    assert np.allclose(envs.context[2].numpy(), model.encode(frames[1]).numpy(), atol=1e-5)


def test_a_wrong_action_names_its_environment(model):
    envs = DreamVectorEnv(N, world_model=model)
    envs.reset(seed=0)
    bad = actions(1)[0]
    bad[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"environment 1.*nan"):
        envs.step(bad)
    with pytest.raises(ValueError, match=r"shape \(3, 2\), got \(2, 2\)"):
        envs.step(bad[:2])


@pytest.mark.parametrize("mask", [np.zeros(N, bool), np.ones(N, int), np.ones(N + 1, bool), [True]])
def test_a_wrong_reset_mask_is_an_error(model, mask):
    envs = DreamVectorEnv(N, world_model=model)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"boolean array of shape \(3,\)"):
        envs.reset(options={"reset_mask": mask})


def test_stepping_or_masking_before_the_first_reset_is_an_error(model):
    envs = DreamVectorEnv(N, world_model=model)
    with pytest.raises(ResetNeeded, match="reset"):
        envs.step(actions(1)[0])
    with pytest.raises(ResetNeeded, match="all dreams"):
        envs.reset(options={"reset_mask": np.array([True, False, False])})


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_tensors_are_those_of_the_arrays(model, mode):
    kwargs = {"world_model": model, "goal": FAR, "max_episode_steps": 3, "autoreset_mode": mode}
    arrays, tensors = DreamVectorEnv(N, **kwargs), DreamVectorEnv(N, to_torch=True, **kwargs)

    def compare(tree, expected):
        if isinstance(expected, dict):
            if "_final_obs" in tree and "_final_obs" not in expected:  # always there in tensors, if only to say nobody
                assert not tree["_final_obs"].any()
                tree = {key: value for key, value in tree.items() if "final" not in key}
            assert set(tree) == set(expected)
            for key, value in expected.items():
                compare(tree[key], value)
        elif expected.dtype == object:  # "final_obs": one by one there, a batch here
            for index, last in enumerate(expected):
                compare({key: value[index] for key, value in tree.items()}, last)
        else:
            assert isinstance(tree, torch.Tensor)
            assert np.array_equal(tree.numpy(), expected)

    for first, expected in zip(tensors.reset(seed=0), arrays.reset(seed=0), strict=True):
        compare(first, expected)
    for number, step in enumerate(actions(8)):
        if mode == AutoresetMode.DISABLED and number in (3, 6):
            mask = np.ones(N, bool)
            tensors.reset(options={"reset_mask": torch.from_numpy(mask)}), arrays.reset(options={"reset_mask": mask})
        for ours, expected in zip(tensors.step(torch.from_numpy(step)), arrays.step(step), strict=True):
            compare(ours, expected)


def test_in_tensor_mode_the_users_reward_sees_tensors(model):
    def reward_fn(outcome):
        assert all(isinstance(value, torch.Tensor) for value in (outcome.actions, outcome.goals))
        return -(outcome.positions["cube"] - outcome.goals).norm(dim=1)

    envs = DreamVectorEnv(N, world_model=model, reward_fn=reward_fn, to_torch=True)
    envs.reset(seed=0)
    assert (envs.step(torch.zeros(N, 2))[1] < 0).all()


def test_actions_on_another_device_are_refused(model):
    envs = DreamVectorEnv(N, world_model=model, to_torch=True)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="expected actions on cpu, where the world model is, got meta"):
        envs.step(torch.zeros(N, 2, device="meta"))


def test_what_is_done_to_returned_arrays_does_not_change_the_dream(model):
    careful, careless = (DreamVectorEnv(N, world_model=model) for _ in range(2))
    for envs in (careful, careless):
        envs.reset(seed=0)
    for step in actions(4):
        observation, rewards, _, _, info = careless.step(step)
        assert np.array_equal(rewards, careful.step(step)[1])
        for array in (*observation.values(), *info.values(), rewards):
            array[:] = 1


def test_what_was_returned_is_not_changed_by_later_steps(model):
    envs = DreamVectorEnv(N, world_model=model, obs_type="latent", autoreset_mode="SameStep")
    kept, _ = envs.reset(seed=0)
    copy = kept.copy()
    for step in actions(3):
        envs.step(step)
    assert np.array_equal(kept, copy)


@pytest.fixture
def stochastic(model, tmp_path):
    """A world model that leaves something open."""
    torch.manual_seed(0)
    dynamics = ProbabilisticPlus(ProbabilisticPlusConfig(action_dim=2, width=16, blocks=2, noise_dim=3))
    torch.nn.init.normal_(dynamics.noise_projection.weight, std=1.0)
    return WorldModel(model.perception, dynamics, model.contexts).eval().requires_grad_(False)


def dreamed(world_model, taken, **options):
    env = DreamVectorEnv(N, world_model=world_model, obs_type="latent", **options)
    env.reset(seed=5)
    return np.stack([env.step(action)[0] for action in taken], axis=1)


def test_a_sampled_dream_follows_its_seed_and_leaves_the_mean(stochastic):
    taken = actions(4)
    mean, first, second = (dreamed(stochastic, taken, sample=sample) for sample in (False, True, True))
    assert np.array_equal(first, second)
    assert np.abs(first - mean).max() > 1e-3
    alone = DreamEnv(stochastic, obs_type="latent", sample=True)
    alone.reset(seed=6)
    for step in range(4):
        np.testing.assert_allclose(alone.step(taken[step, 1])[0], first[1, step], atol=1e-4)


def test_a_stochastic_bundle_is_saved_and_loaded(stochastic, tmp_path):
    loaded = WorldModel.load(stochastic.save(tmp_path / "open"))
    assert np.array_equal(*(dreamed(each, actions(2), sample=True) for each in (stochastic, loaded)))


def test_a_deterministic_bundle_has_nothing_to_sample(model):
    with pytest.raises(ValueError, match="nothing to sample"):
        DreamVectorEnv(2, world_model=model, sample=True)


def test_every_dream_is_drawn(model):
    envs = DreamVectorEnv(N, world_model=model, render_mode="rgb_array")
    envs.reset(seed=0)
    frames = envs.render()
    assert len(frames) == N
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((32, 32, 3), "uint8")}
