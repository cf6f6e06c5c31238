"""Are observations carried on exactly where they tell their own future, in dreams and not in real pictures?"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.dynamics import ResNetRollout
from cosmos_isaac_wm.dynamics.network import inputs_along
from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv
from cosmos_isaac_wm.perception import BundleError
from cosmos_isaac_wm.perception.heads import HeadsConfig
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.training import carry
from cosmos_isaac_wm.training.carry import fit_carry
from cosmos_isaac_wm.training.heads import HeadsFitConfig, new_heads
from cosmos_isaac_wm.world_model import WorldModel
from tests.dots import dot_twin, encoded_dots

CPU, RECIPE = torch.device("cpu"), HeadsFitConfig(updates=3000, batch_size=128)


@pytest.fixture(scope="module")
def dots():
    perception, train = encoded_dots(100)
    _, val = encoded_dots(12, seed=1)
    torch.manual_seed(0)
    return perception, new_heads(train, 2, HeadsConfig(embedding=16, width=8, hidden=64, acts=True)), train, val


def test_a_place_that_actions_move_tells_its_future(dots, capsys, monkeypatch):
    monkeypatch.setattr(carry, "FORETOLD", 0.95)  # walls are sharp corners, which a smooth network learns slowly
    perception, heads, train, val = dots
    carrying, found = fit_carry(heads, train, val, perception.scale_actions, RECIPE, 0, CPU)
    assert found["carry_r2_min"] > 0.95
    assert carrying.config == replace(heads.config, carries=True)
    assert "they are carried on" in capsys.readouterr().out
    kept = {name: weight for name, weight in carrying.state_dict().items() if not name.startswith("carry.")}
    assert all(torch.equal(kept[name], weight) for name, weight in heads.state_dict().items())


def test_what_hangs_on_something_unseen_is_read_in_pictures(dots, capsys):
    perception, heads, train, val = dots
    generator = torch.Generator().manual_seed(0)
    gusts = [
        replace(each, observed=each.observed + 0.1 * torch.randn(each.observed.shape, generator=generator))
        for each in (train, val)
    ]
    same, found = fit_carry(heads, *gusts, perception.scale_actions, RECIPE, 0, CPU)
    assert same is heads
    assert found["carry_r2_min"] < 0.9
    assert "they are read in every picture" in capsys.readouterr().out


def test_the_same_seed_teaches_the_same(dots):
    perception, heads, train, _ = dots
    short = replace(RECIPE, updates=5)
    found = [fit_carry(heads, train, train, perception.scale_actions, short, 1, CPU)[1] for _ in range(2)]
    assert found[0] == found[1]


def test_dreams_carry_on_and_real_pictures_are_read(dots):
    _, heads, train, _ = dots
    carrying = heads.carrying()
    with torch.no_grad():
        carrying.carry[-1].bias.fill_(0.5)  # everything moves by half a standard deviation a step
        latents, actions = train.latents[:3, :5].float(), torch.zeros(3, 1, 2)
        begun = carrying.remember(latents[:, :4])
        assert torch.equal(carrying.observe(begun), heads.observe(heads.remember(latents[:, :4])))
        dreamed = carrying.follow(begun, latents[:, 4], actions[:, 0])
        real = carrying.follow(begun, latents[:, 4], actions[:, 0], real=True)
        seen = heads.follow(heads.remember(latents[:, :4]), latents[:, 4], actions[:, 0])
        assert torch.allclose(carrying.observe(dreamed), carrying.observe(begun) + 0.5)
        assert torch.allclose(carrying.observe(real), heads.observe(seen))
        assert torch.allclose(carrying.read(dreamed), heads.observe(seen))
        (along,) = carrying.along(begun, carrying.embed(latents[:, 4], actions[:, 0])[:, None], actions)
        assert torch.equal(along, dreamed)


def test_a_twin_that_carries_on_observes_what_follows_and_can_be_forked_and_saved(tmp_path):
    model = dot_twin()
    model.perception.heads = carrying = model.perception.heads.carrying().requires_grad_(False)
    with torch.no_grad():
        carrying.carry[-1].bias.copy_(torch.tensor([0.25, -0.25]))
    env = DreamEnv(model)
    first, _ = env.reset(seed=0)
    spread = carrying.std[:2].numpy()
    for step in range(1, 4):
        state = env.get_state()
        second = env.step(env.action_space.sample() * 0)[0]
        np.testing.assert_allclose(second, np.clip(first + 0.25 * step * spread * [1, -1], -1, 1), atol=1e-4)
    env.set_state(state)
    np.testing.assert_array_equal(env.step(env.action_space.sample() * 0)[0], second)
    model.save(tmp_path / "bundle")
    again = DreamEnv(str(tmp_path / "bundle"))
    again.reset(seed=0)
    again.set_state(state)
    np.testing.assert_array_equal(again.step(env.action_space.sample() * 0)[0], second)


def told_twin():
    """The dot's twin whose heads carry on and whose dynamics is told, both untrained but alive."""
    model = dot_twin()
    model.perception.heads = carrying = model.perception.heads.carrying().requires_grad_(False)
    torch.manual_seed(2)
    shape = replace(model.dynamics.config, observed=2)
    dynamics = ResNetRollout(shape).eval().requires_grad_(False)
    with torch.no_grad():
        carrying.carry[-1].bias.copy_(torch.tensor([0.25, -0.25]))
        dynamics.out_projection.weight.normal_(std=0.1)
        carrying.outcome[-1].bias[1] = -50.0  # nothing ends
    return WorldModel(model.perception, dynamics, model.contexts)


def test_pictures_follow_what_is_carried_on():
    model = told_twin()
    engine, actions = DreamEngine(model, 3, starts=model.contexts.latents.float()), torch.zeros(3, 2)
    context = model.contexts.latents[:3].float()
    engine.reset(context)
    heads = model.perception.heads
    assert torch.allclose(engine.observed, heads.read(heads.remember(context)), atol=1e-5)
    first, before = engine.step(actions).latent, engine.observed.clone()
    engine.reset(context)
    engine.observed += 1.0
    assert not torch.allclose(engine.step(actions).latent, first, atol=1e-3)
    assert torch.allclose(engine.observed, before + 1.0, atol=1e-5)
    engine.restart(torch.tensor([True, False, False]), torch.tensor([1, 0, 0]))
    assert torch.allclose(engine.observed[0], heads.read(heads.remember(context))[1], atol=1e-5)
    assert torch.allclose(engine.observed[1:], before[1:] + 1.0, atol=1e-5)


def test_what_is_told_along_is_what_an_engine_tells_its_dynamics():
    model = told_twin()
    actions = torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(0))
    context, heads = model.contexts.latents[:2].float(), model.perception.heads
    scaled = model.perception.scale_actions(actions)
    shown = inputs_along(
        model.dynamics, torch.cat([torch.zeros(2, 1, 2), scaled], dim=1), heads.told(context, None, scaled)
    )
    engine, along = DreamEngine(model, 2), context
    dreamed = engine.open_loop(context, actions)
    for step in range(6):
        along = torch.cat([along[:, 1:], model.dynamics(along, shown[:, step]).latent[:, None]], dim=1)
        assert torch.allclose(dreamed[:, step], along[:, -1], atol=1e-5)


def test_a_told_dream_is_forked_and_a_batch_is_its_single_dreams():
    model = told_twin()
    env, batch = DreamEnv(model, obs_type="latent"), DreamVectorEnv(2, model, obs_type="latent")
    env.reset(seed=5)
    seen = batch.reset(seed=[4, 5])[0]
    action = np.array([0.5, -1], np.float32)
    for _ in range(3):
        one, many = env.step(action)[0], batch.step(np.stack([action, action]))[0]
        np.testing.assert_allclose(one, many[1], atol=1e-4)
    state = env.get_state()
    assert state["observed"].shape == (1, 2)
    after = env.step(action)[0]
    env.step(action)
    env.set_state(state)
    np.testing.assert_array_equal(env.step(action)[0], after)
    assert not np.allclose(seen[1], after)


def test_a_told_dynamics_needs_heads_that_tell():
    model = dot_twin()
    with pytest.raises(BundleError, match="is told 2 observed components, the heads tell 0"):
        WorldModel(model.perception, ResNetRollout(replace(model.dynamics.config, observed=2)), model.contexts)
