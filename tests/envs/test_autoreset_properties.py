"""Whatever is asked of a batch of dreams, dream i is what a single environment that is reset by hand would be."""

import copy
import dataclasses
import os

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from cosmos_isaac_wm.dynamics import DynamicsNetwork
from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.readout import Located
from cosmos_isaac_wm.protocols import Prediction
from cosmos_isaac_wm.world_model import WorldModel

N = 3
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
QUIET = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=not THOROUGH)
SETTINGS = settings(QUIET, max_examples=500 if THOROUGH else 10, stateful_step_count=40 if THOROUGH else 20)


class Billiards(DynamicsNetwork):
    """Cube and pusher slide on and obey the action; exact for any batch, and all ends occur within a few steps."""

    unsure = False

    def __init__(self, noisy):
        super().__init__()
        self.context_length, self.channels, self.action_dim, self.noise_dim = 4, 16, 2, 2 if noisy else 0

    def forward(self, context, action, target=None, noise=None):
        last = context[:, -1]
        following = last + 0.5 * (last - context[:, 2]) + 0.2 * (context[:, 1] - context[:, 0])
        following[:, 0:2, 0, 0] += 0.12 * action + (0 if noise is None else 0.05 * noise)
        following[:, 2:4, 0, 0] -= 0.12 * action
        broken = (following[:, 0, 0, 0] < -0.3) & (following[:, 1, 0, 0] > 0.2)
        following = torch.where(broken[:, None, None, None], torch.nan, following)
        return Prediction(following, last[:, 4, 0, 0].abs() if self.unsure else None)


class Look(torch.nn.Module):
    """Reads positions off the latent. The cube is hidden in one corner, the pusher behind one edge."""

    def forward(self, latent):
        positions = latent[:, :4, 0, 0].unflatten(1, (2, 2)).float()
        hidden = torch.stack([(positions[:, 0] > 0.2).all(-1), positions[:, 1, 0] < -0.25], dim=1)
        return Located(positions, 1.0 - hidden.float())


@pytest.fixture(scope="module")
def worlds(world_model):
    """The toy world, but lively: a deterministic one and a stochastic one."""
    scene = dataclasses.replace(world_model.scene, goal_radius=0.1)
    generator = torch.Generator().manual_seed(0)
    latents = 0.15 * torch.randn(6, 4, *world_model.perception.latent_shape, generator=generator)
    latents[:, 1:] = latents[:, :1] + 0.1 * latents[:, 1:].cumsum(1)
    told = {"episodes": torch.arange(6) // 2, "starts": torch.arange(6) % 2, "kinds": ["push", "slide"] * 3}
    contexts = dataclasses.replace(world_model.contexts, latents=latents.half(), **told)
    perception = Perception(scene, world_model.perception.tokenizer, Look())
    return [WorldModel(perception, Billiards(noisy), contexts).eval().requires_grad_(False) for noisy in (False, True)]


def moved(outcome):
    """A reward of the user's own, of arrays or tensors: it needs to know what was before."""
    apart = outcome.positions["cube"] - outcome.previous_positions["cube"]
    apart[apart != apart] = 0.0
    return apart[:, 0] + outcome.actions[:, 1]


def own_starts(number, one):
    """Frames, or latents, of the user's own: for all dreams alike, or for each."""
    rng = np.random.default_rng(number)
    frames = rng.integers(0, 256, (N, 4, 32, 32, 3), dtype=np.uint8)
    latents = rng.normal(0, 0.15, (N, 4, 16, 4, 4)).astype(np.float32)
    return {"frames": frames[0] if one else frames} if number % 2 else {"latents": latents[0] if one else latents}


def each_its_own(values):
    return st.lists(values, min_size=N, max_size=N)


goals = st.tuples(*[st.sampled_from([-0.3, -0.1, 0.0, 0.1, 0.3])] * 2)
episodes, seeds = st.integers(0, 2), st.integers(0, 9)
starts = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"episode": episodes | each_its_own(episodes)}, optional={"start": st.integers(0, 1)}),
    st.builds(own_starts, st.integers(0, 5), st.booleans()),
)
asked_goals = st.just({}) | st.fixed_dictionaries({"goal": goals | each_its_own(goals)})
any_seeds = st.none() | seeds | each_its_own(st.none() | seeds)
masks = st.none() | each_its_own(st.booleans()).filter(any)
all_actions = each_its_own(st.tuples(*[st.sampled_from([0.0, -1.0, 1.0, 0.25])] * 2))
ignored_actions = st.sampled_from([0.0, 7.0, np.nan])
impossible = [
    {"seed": [1] * (N + 1)},
    {"options": {"goal": (9.0, 9.0)}},
    {"options": {"frames": own_starts(1, True)["frames"][:3]}},
    {"options": {"latents": own_starts(0, False)["latents"] * np.nan, "goal": (0.1, 0.1)}},
    {"options": {"reset_mask": np.arange(N) == 1, "goal": [(0.0, 0.0)] * (N + 1)}},
]
made_with = st.builds(
    dict,
    obs_type=st.sampled_from(["pose", "latent", "latent16", "rgb"]),
    reward_type=st.sampled_from(["dense", "sparse", "progress"]),
    reward_fn=st.sampled_from([None, None, moved]),
    max_episode_steps=st.integers(1, 5),
    goal=st.none() | goals,
    kind=st.sampled_from([None, "slide"]),
    sample=st.booleans(),
)


def of_one(options, slot):
    """The reset options of a single environment: an option of a batch is for all alike, or has a row for each."""
    dimensions = {"goal": 1, "episode": 0, "start": 0, "frames": 4, "latents": 4}
    return {key: v if np.ndim(v) == dimensions[key] else v[slot] for key, v in options.items()}


def leaves(results):
    """All arrays and tensors in what was handed out; "final_obs" is an array of objects, of which some are None."""
    for leaf in torch.utils._pytree.tree_leaves(results):
        of_objects = isinstance(leaf, np.ndarray) and leaf.dtype.hasobject
        yield from leaves([last for last in leaf if last is not None]) if of_objects else [leaf]


def row(tree, slot):
    """What observations or infos of a batch say of one environment; infos have masks beside them."""
    if not isinstance(tree, dict):
        return tree[slot]
    own = [key for key in tree if not key.startswith("_") and tree.get(f"_{key}", [True] * N)[slot]]
    return {key: row(tree[key], slot) for key in own}


def assert_same(seen, expected):
    """Up to the last digits, of half precision too, and a rounded pixel."""
    if isinstance(expected, dict):
        assert set(seen) == set(expected)
        for key, value in expected.items():
            assert_same(seen[key], value)
        return
    seen, expected = np.asarray(seen), np.asarray(expected)
    tolerance = {np.uint8: 1, np.float16: 1e-2}.get(expected.dtype.type, 1e-4)
    assert seen.shape == expected.shape
    assert np.isclose(seen.astype(float), expected.astype(float), atol=tolerance, rtol=0, equal_nan=True).all()


class BesideSingles(RuleBasedStateMachine):
    """A batch of dreams, and as many single ones, of which everything is asked that is asked of the batch."""

    def __init__(self, worlds, mode):
        super().__init__()
        self.worlds, self.mode = worlds, mode

    @initialize(options=made_with, to_torch=st.booleans(), seed=seeds | each_its_own(seeds))
    def begin(self, options, to_torch, seed):
        options["world_model"] = self.worlds[options["sample"]]
        self.make = lambda: DreamEnv(render_mode="rgb_array", **options)
        more = {"autoreset_mode": self.mode, "to_torch": to_torch, "compile": False, "render_mode": "rgb_array"}
        self.batch = DreamVectorEnv(N, **options, **more)
        self.singles = [self.make() for _ in range(N)]
        self.over, self.shown = [False] * N, [None] * N
        self.origin = [None] * N  # seed, episodes since, what the last began with
        self.returned, self.copies, self.wrong, self.late = [], [], False, False
        self.reset(None, seed, {}, {}, False)

    def keep(self, results):
        self.returned.append(results)
        self.copies.append(copy.deepcopy(results))
        return results

    def restart(self, slot, seed=None, options=None):
        """By hand, as Gymnasium says."""
        observation, info = self.singles[slot].reset(seed=seed, options=options)
        self.over[slot], self.shown[slot] = False, observation
        before, count, _ = (seed, 0, None) if seed is not None else self.origin[slot]
        self.origin[slot] = before, count + 1, observation if not options else None
        return observation, info

    @rule(mask=masks, seed=any_seeds, start=starts, goal=asked_goals, tensor=st.booleans())
    def reset(self, mask, seed, start, goal, tensor):
        options = start | goal
        which = {} if mask is None else {"reset_mask": torch.tensor(mask) if tensor else np.array(mask)}
        observations, infos = self.keep(self.batch.reset(seed=seed, options=options | which or None))
        for slot in range(N):
            if mask is None or mask[slot]:
                own = seed[slot] if isinstance(seed, list) else None if seed is None else seed + slot
                observation, info = self.restart(slot, own, of_one(options, slot))
                assert_same(row(observations, slot), observation)
                assert_same(row(infos, slot), info)
            else:
                assert_same(row(observations, slot), self.shown[slot])
                assert row(infos, slot) == {}

    def one_step(self, slot, action):
        """Of a single environment: a step, or a restart in its place, and what was last seen where it is not shown."""
        if self.over[slot] and self.mode == AutoresetMode.NEXT_STEP:
            observation, info = self.restart(slot)
            return observation, 0.0, False, False, info
        observation, reward, terminated, truncated, info = self.singles[slot].step(action)
        self.over[slot], self.shown[slot] = terminated or truncated, observation
        if self.over[slot] and self.mode == AutoresetMode.SAME_STEP:
            first, its_info = self.restart(slot)
            return first, reward, terminated, truncated, its_info | {"final_obs": observation, "final_info": info}
        return observation, reward, terminated, truncated, info

    @rule(steps=st.lists(st.tuples(all_actions, st.booleans(), ignored_actions), min_size=1, max_size=4))
    def go_on(self, steps):
        for actions, tensor, ignored in steps:
            given = np.array(actions, np.float32)
            if self.mode == AutoresetMode.NEXT_STEP:
                given[self.over] = ignored
            passed = torch.from_numpy(given) if tensor else given
            if self.mode == AutoresetMode.DISABLED and any(self.over):
                if not (tensor and self.batch.to_torch):
                    with pytest.raises(ResetNeeded, match="have ended"):
                        self.batch.step(passed)
                    continue
                self.late = True
            self.compare(self.batch.step(passed), given)

    def compare(self, results, actions):
        observations, rewards, terminated, truncated, infos = self.keep(results)
        if not self.batch.to_torch:
            assert observations in self.batch.observation_space
            assert ("final_obs" in infos) == (self.mode == AutoresetMode.SAME_STEP and (terminated | truncated).any())
        for slot, action in enumerate(actions):
            observation, *judged, info = self.one_step(slot, action)
            assert_same(row(observations, slot), observation)
            assert_same([each[slot] for each in (rewards, terminated, truncated)], judged)
            assert_same(row(infos, slot), info)

    @precondition(lambda self: not any(self.over))
    @rule(actions=all_actions, slot=st.integers(0, N - 1), bad=st.sampled_from([np.nan, np.inf]), tensor=st.booleans())
    def take_a_wrong_action(self, actions, slot, bad, tensor):
        """It is refused, and nothing has happened; in tensors it counts as the middle, and is refused later."""
        given = np.array(actions, np.float32)
        given[slot, 1] = bad
        if tensor and self.batch.to_torch:
            results = self.batch.step(torch.from_numpy(given))
            given[slot, 1], self.wrong = 0.0, True
            self.compare(results, given)
        else:
            with pytest.raises(ValueError, match=f"the action of environment {slot} is"):
                self.batch.step(torch.from_numpy(given) if tensor else given)

    @rule(asked=st.sampled_from(impossible), seed=seeds)
    def ask_for_the_impossible(self, asked, seed):
        """It is refused, and nothing has happened."""
        with pytest.raises(ValueError):
            self.batch.reset(**({"seed": seed} | asked))

    @rule(slot=st.integers(0, N - 1), copied=st.booleans())
    def look(self, slot, copied):
        if copied:
            self.batch = copy.deepcopy(self.batch)
        if self.late or self.wrong:  # what steps in tensors have let pass is told once
            with pytest.raises(ResetNeeded if self.late else ValueError):
                self.batch.check()
            self.wrong = self.late = False
        self.batch.check()
        assert_same(self.batch.context[slot], self.singles[slot].context)
        assert_same(self.batch.render()[slot], self.singles[slot].render())
        seed, count, first = self.origin[slot]
        if first is not None:  # an episode depends on nothing but the seed, and how many there have been since
            other = self.make()
            observations = [other.reset(seed=None if number else seed)[0] for number in range(count)]
            assert_same(observations[-1], first)
        for now, then in zip(leaves(self.returned), leaves(self.copies), strict=True):
            assert isinstance(now, torch.Tensor if self.batch.to_torch else np.ndarray)
            assert_same(now, then)  # what was handed out has not changed since
            now[...] = 1  # and is the caller's, to do with what they like
        self.returned, self.copies = [], []


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_dream_of_a_batch_is_the_single_one_that_is_reset_by_hand(worlds, mode):
    run_state_machine_as_test(lambda: BesideSingles(worlds, mode), settings=SETTINGS)


def test_a_model_that_is_unsure_says_so_where_dreams_restart(worlds, monkeypatch):
    monkeypatch.setattr(Billiards, "unsure", True)
    envs = DreamVectorEnv(N, worlds[0])
    envs.reset(seed=0)
    assert "uncertainty" in envs.step(np.zeros((N, 2), np.float32))[4]


def test_a_tensor_beyond_its_bound_counts_as_the_bound(worlds):
    beyond, at = (DreamVectorEnv(N, worlds[0], to_torch=True) for _ in range(2))
    for envs in (beyond, at):
        envs.reset(seed=0)
    assert_same(beyond.step(torch.full((N, 2), 1.5))[0], at.step(torch.ones(N, 2))[0])
