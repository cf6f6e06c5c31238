import pytest
import torch

from cosmos_isaac_wm.rollout import DreamEngine


@pytest.fixture
def contexts(world_model):
    return world_model.contexts.latents.float()


ACTIONS = torch.rand(6, 10, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_dream_equals_a_loop_written_by_hand(world_model, contexts):
    latents = list(contexts[:1].unbind(1))
    for step in range(10):
        context = torch.stack(latents[-4:], dim=1)
        latents.append(world_model.dynamics(context, ACTIONS[:1, step]).latent)
    dreamed = DreamEngine(world_model, 1).open_loop(contexts[:1], ACTIONS[:1])
    torch.testing.assert_close(dreamed, torch.stack(latents[4:], dim=1), atol=1e-5, rtol=1e-5)
    assert (dreamed[:, -1] - contexts[:1, -1]).abs().max() > 1e-3  # something happened


def test_a_batch_dreams_what_each_would_dream_alone(world_model, contexts):
    together = DreamEngine(world_model, 6).open_loop(contexts, ACTIONS)
    for index in range(6):
        alone = DreamEngine(world_model, 1).open_loop(contexts[index : index + 1], ACTIONS[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=1e-5)


def test_the_action_changes_the_dream(world_model, contexts):
    engine = DreamEngine(world_model, 1)
    assert not torch.equal(engine.open_loop(contexts[:1], ACTIONS[:1]), engine.open_loop(contexts[:1], -ACTIONS[:1]))


def test_the_newest_latent_of_the_context_is_the_prediction(world_model, contexts):
    engine = DreamEngine(world_model, 6)
    engine.reset(contexts)
    prediction = engine.step(ACTIONS[:, 0])
    assert torch.equal(engine.context[:, -1], prediction.latent)
    assert torch.equal(engine.context[:, :-1], contexts[:, 1:])


def test_the_context_is_the_last_latents_however_long_the_dream(world_model, contexts):
    engine, seen = DreamEngine(world_model, 6), list(contexts.unbind(1))
    engine.reset(contexts)
    for step in range(10):
        seen.append(engine.step(ACTIONS[:, step]).latent)
        assert torch.equal(engine.context, torch.stack(seen[-4:], dim=1))
        if step == 6:  # a restart in the middle
            engine.reset(contexts)
            seen = list(contexts.unbind(1))


def test_a_partial_reset_touches_only_its_slots(world_model, contexts):
    engine = DreamEngine(world_model, 3)
    engine.reset(contexts[:3])
    engine.step(ACTIONS[:3, 0])
    before = engine.context.clone()
    engine.reset(contexts[3:5], slots=torch.tensor([2, 0]))
    assert torch.equal(engine.context[1], before[1])
    assert torch.equal(engine.context[2], contexts[3])
    assert torch.equal(engine.context[0], contexts[4])


def test_resetting_copies_the_contexts(world_model, contexts):
    given = contexts[:2].clone()
    engine = DreamEngine(world_model, 2)
    engine.reset(given)
    engine.step(ACTIONS[:2, 0])
    assert torch.equal(given, contexts[:2])


@pytest.mark.parametrize("count", [1, 3])
def test_contexts_of_a_wrong_shape_are_refused(world_model, contexts, count):
    engine = DreamEngine(world_model, 2)
    with pytest.raises(ValueError, match=r"expected contexts of shape \(2, 4, 16, 4, 4\)"):
        engine.reset(contexts[:count])
    with pytest.raises(ValueError, match=r"expected contexts of shape \(1, 4, 16, 4, 4\)"):
        engine.reset(contexts[:2], slots=torch.tensor([0]))


def test_a_number_of_dreams_below_one_is_refused(world_model):
    with pytest.raises(ValueError, match="at least one dream"):
        DreamEngine(world_model, 0)


def test_in_bfloat16_the_dream_is_nearly_the_same_and_its_latents_stay_float32(world_model, contexts):
    exact = DreamEngine(world_model, 6).open_loop(contexts, ACTIONS[:, :3])
    quick = DreamEngine(world_model, 6, dtype=torch.bfloat16).open_loop(contexts, ACTIONS[:, :3])
    assert quick.dtype == torch.float32
    torch.testing.assert_close(quick, exact, atol=0.05, rtol=0.05)
