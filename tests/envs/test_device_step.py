"""A step on the device: one graph, and nothing of it a matter of the host."""

import copy
import pickle
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from torch.utils._python_dispatch import TorchDispatchMode

from cosmos_isaac_wm.envs import DreamVectorEnv
from cosmos_isaac_wm.precision import FastCall
from tests.dots import dot_twin

N = 5


class HostTrips(TorchDispatchMode):
    """Counts what waits for the device: reading a number, finding indices, copying to the host."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        self.seen[name] += name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::_to_copy") and (
            name != "aten::_to_copy" or str((kwargs or {}).get("device")) == "cpu"
        )
        return function(*args, **(kwargs or {}))


def make(model, **more):
    envs = DreamVectorEnv(N, world_model=model, max_episode_steps=3, to_torch=True, **more)
    envs.reset(seed=0)
    return envs


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("obs_type", ["pose", "latent16", "rgb"])
def test_steps_and_restarts_in_tensors_never_wait_for_the_host(model, mode, obs_type):
    goal = None if obs_type == "pose" else (0.3, 0.3)
    envs, actions, ended = make(model, autoreset_mode=mode, obs_type=obs_type, goal=goal), torch.zeros(N, 2), []
    with HostTrips() as trips:
        for _ in range(9):
            _, _, terminated, truncated, _ = envs.step(actions)
            ended.append(terminated | truncated)
    assert torch.stack(ended).sum() >= 2 * N  # there were restarts
    assert +trips.seen == Counter()


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("obs_type", ["pose", "latent"])
def test_the_whole_step_is_one_graph(model, mode, obs_type):
    goal = None if obs_type == "pose" else (0.3, 0.3)
    plain, compiled = (make(model, autoreset_mode=mode, obs_type=obs_type, goal=goal) for _ in range(2))
    torch._dynamo.reset()  # which compiles the same code for so many environments only
    graph = torch.compile(compiled._step, backend="eager", fullgraph=True, dynamic=False)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3 if mode == AutoresetMode.DISABLED else 8):
        actions = torch.rand(N, 2, generator=generator) * 2 - 1
        expected, seen = torch.utils._pytree.tree_leaves(plain._step(actions)), graph(actions)
        for one, other in zip(expected, torch.utils._pytree.tree_leaves(seen), strict=True):
            torch.testing.assert_close(other, one)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("kinds", [("vector", "box"), ("both", "box"), ("dict", "choice")])
def test_a_twins_step_is_one_graph_and_does_not_wait_for_the_host_either(mode, kinds):
    twin = dot_twin(observes=kinds[0], acts=kinds[1])
    plain, compiled = (make(twin, autoreset_mode=mode) for _ in range(2))
    torch._dynamo.reset()  # which compiles the same code for so many environments only
    graph = torch.compile(compiled._step, backend="eager", fullgraph=True, dynamic=False)
    checked, _ = plain.task.bound_actions(torch.from_numpy(plain.action_space.sample()))
    with HostTrips() as trips:
        seen = [torch.utils._pytree.tree_leaves(plain._step(checked)) for _ in range(8)]
    assert +trips.seen == Counter()
    for expected in seen:
        for one, other in zip(expected, torch.utils._pytree.tree_leaves(graph(checked)), strict=True):
            torch.testing.assert_close(other, one)


@pytest.mark.parametrize(("obs_type", "tolerance"), [("pose", 1e-4), ("rgb", 1)])
def test_a_compiled_step_dreams_what_a_plain_one_does(model, obs_type, tolerance):
    plain, compiled = (make(model, obs_type=obs_type, compile=each) for each in (False, True))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the dreams go on without compilation")
        assert_alike(plain, compiled, tolerance)
    for copied in (copy.deepcopy, lambda envs: pickle.loads(pickle.dumps(envs))):  # no compiled code goes with it
        twin = copied(compiled)
        twin._fast_step = FastCall(twin._step, N, False)  # nor is it compiled here, which takes half a minute
        assert_alike(plain, twin, tolerance)


def assert_alike(plain, compiled, tolerance):
    """Both see the same, seven steps and two ends long."""
    for envs in (plain, compiled):
        envs.reset(seed=4)
    for step in torch.rand(7, N, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1:
        pairs = zip(*(torch.utils._pytree.tree_leaves(envs.step(step)[:4]) for envs in (plain, compiled)), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one.float(), other.float(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("wrong", [float("nan"), 1.5])
def test_a_wrong_action_in_tensors_is_refused_soon_and_hurts_no_dream(model, wrong):
    envs, actions = make(model), torch.zeros(N, 2)
    actions[3, 1] = wrong
    observation = envs.step(actions)[0]["observation"]
    assert observation.isfinite().all()
    with pytest.raises(ValueError, match="an action of environment 3 in the last 1 steps was not finite or not within"):
        envs.check()
    envs.check()  # it has been said
    envs.step(actions)
    for _ in range(63):
        envs.step(torch.zeros(N, 2))
    with pytest.raises(ValueError, match="environment 3 in the last 65 steps"):
        envs.step(torch.zeros(N, 2))


def test_an_array_is_refused_before_anything_moves(model):
    envs = DreamVectorEnv(N, world_model=model)
    envs.reset(seed=0)
    before = envs.context
    with pytest.raises(ValueError, match="the action of environment 2"):
        envs.step(np.where(np.arange(N)[:, None] == 2, np.nan, np.zeros((N, 2))))
    assert torch.equal(envs.context, before)


def test_stepping_on_after_an_end_without_autoreset_is_told_in_tensors_too(model):
    envs, actions = make(model, autoreset_mode=AutoresetMode.DISABLED), torch.zeros(N, 2)
    for _ in range(4):
        envs.step(actions)
    with pytest.raises(ResetNeeded, match="have ended"):
        envs.check()


def test_a_reset_that_fails_leaves_the_episode_as_it_was(model):
    envs = DreamVectorEnv(N, world_model=model)
    envs.reset(seed=0)
    envs.step(np.zeros((N, 2), np.float32))
    before = envs.task.observe(envs.engine.newest)
    with pytest.raises(ValueError, match="workspace"):
        envs.reset(options={"goal": (9.0, 9.0)})
    assert envs.task.steps.tolist() == [1] * N
    for key, value in envs.task.observe(envs.engine.newest).items():
        assert torch.equal(value, before[key])


def test_the_options_of_the_task_are_known_by_name(model):
    with pytest.raises(TypeError, match="unexpected keyword argument 'obs_typ'; did you mean 'obs_type'"):
        DreamVectorEnv(N, world_model=model, obs_typ="pose")


def test_what_cannot_be_compiled_anew_goes_on_as_it_was(monkeypatch):
    """As where `torch.set_default_device` is called between two steps."""
    from torch._dynamo.exc import Unsupported

    calls = []

    def compiled(call, whole):
        def once(*arguments):
            calls.append(arguments)
            if len(calls) > 1:
                raise Unsupported("torch is set otherwise")
            return call(*arguments)

        return once

    monkeypatch.setattr("cosmos_isaac_wm.precision._compiled", compiled)
    double = FastCall(lambda x: 2 * x, 1, True)
    assert double(torch.ones(())) == 2
    with pytest.warns(RuntimeWarning, match="go on without compilation: torch is set otherwise"):
        assert double(torch.ones(())) == 2
    assert double(torch.ones(())) == 2
    assert len(calls) == 2
