"""Does a dream say how far it may be off, end or pay less where that is too far, and go on with it when forked?"""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv
from cosmos_isaac_wm.error_bound import ErrorBound, ErrorBoundConfig
from cosmos_isaac_wm.perception import BundleError
from cosmos_isaac_wm.storage.bundle import seal
from cosmos_isaac_wm.world_model import WorldModel
from tests.dots import dot_twin


def bounded(model, outputs, seen, kinds=("push", "slide")):
    """The bundle with an error bound that was never trained: of nine validation episodes a kind, factor 2."""
    torch.manual_seed(0)
    shape = ErrorBoundConfig(seen, model.scene.action_dim, outputs, 8, kinds, (9,) * len(kinds), 20)
    bound = ErrorBound(shape).eval().requires_grad_(False)
    bound.scores.fill_(2.0)
    bound.least.fill_(0.01)
    again = WorldModel(model.perception, model.dynamics, model.contexts, error_bound=bound)
    return again.eval().requires_grad_(False)


@pytest.fixture
def table(world_model):
    return bounded(world_model, 1, 6)


@pytest.fixture
def twin():
    return bounded(dot_twin(), 2, 2, ("episode",))


def test_every_step_tells_it_in_metres(table):
    env = DreamEnv(table)
    _, info = env.reset(seed=0)
    assert info["error_bound"] == 0
    _, _, _, _, info = env.step(env.action_space.sample())
    assert isinstance(info["error_bound"], float)
    assert 0.02 <= info["error_bound"] < 1  # twice the least at least


def test_of_a_twin_it_is_in_the_units_of_its_observation(twin):
    env = DreamEnv(twin)
    env.reset(seed=0)
    _, _, _, _, info = env.step(env.action_space.sample())
    assert info["error_bound"].shape == (2,)
    least = 0.02 * twin.perception.heads.std[:2].numpy()
    assert (info["error_bound"] >= least).all()
    check_env(env, skip_render_check=True)


def test_alone_and_in_a_batch_it_is_the_same(table):
    batch, alone = DreamVectorEnv(3, table), DreamEnv(table)
    batch.reset(seed=5)
    alone.reset(seed=6)
    for step in range(4):
        action = np.full(2, 0.1 * step, np.float32)
        _, _, _, _, infos = batch.step(np.tile(action, (3, 1)))
        _, _, _, _, info = alone.step(action)
        assert infos["error_bound"][1] == pytest.approx(info["error_bound"], rel=1e-4)
        assert infos["_error_bound"].all()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_dream_that_begins_anew_knows_where_it_is(table, mode):
    env = DreamVectorEnv(4, table, autoreset_mode=mode, max_episode_steps=3)
    env.reset(seed=0)
    told = np.stack([env.step(env.action_space.sample())[4]["error_bound"] for _ in range(4)])
    assert (told[1] > 0).all()
    assert (told[2 if mode == "SameStep" else 3] == 0).all()


def test_it_ends_where_trust_ends(table):
    never = DreamEnv(table, trust="truncate", max_error=100.0)
    soon = DreamEnv(table, trust="truncate", max_error=0.021)
    for env, expected in ((never, False), (soon, True)):
        env.reset(seed=0)
        assert env.step(np.ones(2, np.float32))[3] is expected


def test_pessimism_is_paid_for(table):
    plain, wary = DreamEnv(table), DreamEnv(table, trust="penalise", trust_weight=3.0)
    for env in (plain, wary):
        env.reset(seed=0)
    (_, paid, *_), (_, less, _, _, info) = (env.step(np.ones(2, np.float32)) for env in (plain, wary))
    assert less == pytest.approx(paid - 3 * info["error_bound"], abs=1e-5)


def test_a_fork_goes_on_with_it(table):
    env = DreamEnv(table)
    env.reset(seed=0)
    env.step(np.ones(2, np.float32))
    state = env.get_state()
    _, _, _, _, first = env.step(np.ones(2, np.float32))
    _, info = env.set_state(state)
    assert info["error_bound"] > 0
    _, _, _, _, again = env.step(np.ones(2, np.float32))
    assert first["error_bound"] == again["error_bound"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trust": "blindly"}, "expected one of"),
        ({"trust": "truncate", "max_error": 0.001}, "any dream may be off by 0.02"),
        ({"trust": "truncate", "max_error": -1.0}, "any dream may be off"),
        ({"trust": "penalise", "trust_weight": float("nan")}, "finite"),
        ({"max_error": 0.1}, "ends nothing with trust='report'"),
        ({"trust": "truncate", "trust_weight": 2.0}, "costs nothing with trust='truncate'"),
    ],
)
def test_impossible_trust_is_refused(table, options, words):
    with pytest.raises(ValueError, match=words):
        DreamEnv(table, **options)


def test_a_bundle_that_does_not_know_is_not_trusted_to_end(world_model):
    with pytest.raises(ValueError, match="does not know how far its dreams may be off"):
        DreamEnv(world_model, trust="truncate")
    env = DreamEnv(world_model, trust="report")
    env.reset(seed=0)
    assert "error_bound" not in env.step(np.ones(2, np.float32))[4]


def test_gymnasium_takes_its_options(table):
    env = gym.make("CosmosDream-v0", world_model=table, trust="truncate", max_error=0.021)
    env.reset(seed=0)
    assert env.step(np.ones(2, np.float32))[3]


def test_it_is_saved_with_the_bundle(table, tmp_path):
    known = table.fingerprint()
    table.save(tmp_path / "bundle")
    again = WorldModel.load(tmp_path / "bundle", "cpu")
    assert again.error_bound.config == table.error_bound.config
    assert all(
        torch.equal(own, other)
        for own, other in zip(
            again.error_bound.state_dict().values(), table.error_bound.state_dict().values(), strict=True
        )
    )
    assert again.fingerprint() == known == WorldModel(table.perception, table.dynamics, table.contexts).fingerprint()
    path = tmp_path / "bundle" / "error_bound.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    seal(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"error_bound\.safetensors"):
        WorldModel.load(tmp_path / "bundle", "cpu")
