import shutil
import warnings

import pytest
import torch

from cosmos_isaac_wm import precision, rollout
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


def test_more_dreams_than_memory_holds_are_refused_with_what_would_fit(world_model):
    with pytest.raises(MemoryError, match=r"1000000000 dreams need .* GiB free; [0-9]+ would fit"):
        DreamEngine(world_model, 10**9)


def test_a_deterministic_dream_takes_no_noise(world_model, contexts):
    engine = DreamEngine(world_model, 6)
    with pytest.raises(ValueError, match="this dynamics is deterministic"):
        engine.open_loop(contexts, ACTIONS, torch.Generator())


def test_a_large_batch_is_dreamed_in_pieces_of_equal_size(world_model, contexts, monkeypatch):
    sizes = []
    forward = type(world_model.dynamics).forward

    def counting(self, context, action):
        sizes.append(len(context))
        prediction = forward(self, context, action)
        prediction.uncertainty = action[:, 0]
        return prediction

    whole = DreamEngine(world_model, 6).open_loop(contexts, ACTIONS)
    monkeypatch.setattr(rollout, "_CELLS", 2 * 4 * 4)
    monkeypatch.setattr(type(world_model.dynamics), "forward", counting)
    engine = DreamEngine(world_model, 6)
    torch.testing.assert_close(engine.open_loop(contexts, ACTIONS), whole, atol=1e-5, rtol=1e-5)
    assert sizes == [2] * 30
    torch.testing.assert_close(engine.step(ACTIONS[:, 0]).uncertainty, ACTIONS[:, 0, 0])


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


def test_auto_takes_bfloat16_for_large_batches_where_the_device_has_it(world_model, monkeypatch):
    for there, large in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device, there=there: there)
        assert DreamEngine(world_model, 1, dtype="auto").network.dtype == torch.float32
        assert DreamEngine(world_model, 64, dtype="auto").network.dtype == large


@pytest.mark.parametrize("option", [{"dtype": "float16"}, {"dtype": torch.float64}, {"compile": "always"}])
def test_unknown_precisions_and_compile_options_are_refused(world_model, option):
    with pytest.raises(ValueError, match="unknown"):
        DreamEngine(world_model, 1, **option)


def test_another_number_of_actions_is_refused_and_changes_nothing(world_model, contexts):
    engine = DreamEngine(world_model, 2)
    engine.reset(contexts[:2])
    with pytest.raises(ValueError, match="expected 2 actions on cpu, got 3"):
        engine.step(ACTIONS[:3, 0])
    assert torch.equal(engine.context, contexts[:2])


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_engine_that_looks_tells_what_is_in_the_new_latents(world_model, contexts, monkeypatch, pieces):
    *_, height, width = world_model.perception.latent_shape
    monkeypatch.setattr(rollout, "_CELLS", 6 // pieces * height * width)
    engine = DreamEngine(world_model, 6, look=True)
    engine.reset(contexts)
    dreamed = engine.step(ACTIONS[:, 0])
    expected = world_model.perception.locate(dreamed.latent)
    torch.testing.assert_close(dreamed.located.positions, expected.positions)
    torch.testing.assert_close(dreamed.located.presence, expected.presence)
    assert DreamEngine(world_model, 6).step(ACTIONS[:, 0]).located is None


def test_a_shape_that_comes_later_is_compiled_with_constant_weights_too(monkeypatch):
    constant = []

    def backend(graph, inputs):
        constant.append(torch._inductor.config.freezing)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **options: real(network, backend=backend, **options))
    network = precision.FastModule(torch.nn.Linear(2, 3), 8, compile=True)
    for size in (8, 5):
        assert network(torch.zeros(size, 2)).shape == (size, 3)
    assert constant == [True, True]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_dream_is_the_same(world_model, contexts):
    expected = DreamEngine(world_model, 6).open_loop(contexts, ACTIONS)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the dreams go on without compilation")
        compiled = DreamEngine(world_model, 6, compile=True).open_loop(contexts, ACTIONS)
    torch.testing.assert_close(compiled, expected, atol=1e-4, rtol=1e-4)


def test_every_network_of_a_class_is_compiled_however_many_there_are(monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **options: real(network, backend=backend, **options))
    for size in range(1, 13):  # PyTorch's own limit is eight
        network = precision.FastModule(torch.nn.Linear(2, 3), size, compile=True)
        assert network(torch.zeros(size, 2)).shape == (size, 3)
    assert len(graphs) == 12


def test_auto_compiles_large_batches_in_long_runs_only(world_model, contexts, monkeypatch):
    calls = []
    monkeypatch.setattr(precision, "_LONG_RUN", 5)
    monkeypatch.setattr(torch, "compile", lambda network, **options: calls.append(len(done)) or network)
    for number, expected in ((1, []), (8, [5])):
        engine, done = DreamEngine(world_model, number, compile="auto"), []
        engine.reset(contexts[:1].expand(number, -1, -1, -1, -1))
        for step in range(10):
            engine.step(ACTIONS[:1, step].expand(number, -1))
            done.append(step)
        assert calls == expected


@pytest.mark.parametrize("half_way", [False, True])
def test_a_compiler_that_fails_is_said_once_and_the_dream_goes_on(world_model, contexts, monkeypatch, half_way):
    def broken(*arguments, **options):
        raise RuntimeError("the compiler said:\nno C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", lambda network, **options: broken if half_way else broken())
    expected = DreamEngine(world_model, 6).open_loop(contexts, ACTIONS)
    engine = DreamEngine(world_model, 6, compile=True)
    with pytest.warns(RuntimeWarning, match="go on without compilation: no C\\+\\+ compiler$") as caught:
        dreamed = engine.open_loop(contexts, ACTIONS)
    assert len(caught) == 1
    assert torch.equal(dreamed, expected)
