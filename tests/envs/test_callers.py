"""What callers may do around and to an environment: their autograd mode, arrays, copies, threads and processes."""

import copy
import pickle
import subprocess
import sys
import textwrap
import threading

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from torch import nn

import cosmos_isaac_wm  # noqa: F401  (registers the environments)
from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv, RealEnv
from cosmos_isaac_wm.policies import make_dream_vec_env
from cosmos_isaac_wm.policies.planners import GradientPlanner, Planner
from cosmos_isaac_wm.policies.planners.search import CEM
from cosmos_isaac_wm.world_model import WorldModel

STILL = np.zeros(2, np.float32)
KINDS = ["dream", pytest.param("real", marks=pytest.mark.opengl)]


@pytest.fixture
def make(model):
    """An environment of either world."""
    return lambda kind, **options: (DreamEnv if kind == "dream" else RealEnv)(model, **options)


def same(one, other):
    """Whether two observations are equal."""
    return all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "mode",
    [
        torch.inference_mode,
        torch.no_grad,
        torch.enable_grad,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
    ],
    ids=["inference_mode", "no_grad", "enable_grad", "autocast", "default device"],
)
def test_torchs_modes_around_it_change_nothing(make, kind, mode):
    env = make(kind)
    env.reset(seed=0)
    expected = env.step(STILL)
    with mode():
        inside = make(kind)
        inside.reset(seed=0)
        seen = inside.step(STILL)
        context = inside.context
    assert same(seen[0], expected[0])
    assert seen[1:3] == expected[1:3]
    assert not context.is_inference()
    assert not context.requires_grad
    again, _ = inside.reset(seed=0)  # outside, on what was made inside
    assert same(again, env.reset(seed=0)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_another_default_type_changes_nothing(make, kind, folder):
    env = make(kind)
    expected = env.reset(seed=0)[0]
    try:
        torch.set_default_dtype(torch.float64)
        seen = make(kind).reset(seed=0)[0]
        loaded = WorldModel.load(folder)
        assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
        batch = DreamVectorEnv(2, folder)
        batch.reset(seed=0)
        batch.step(np.zeros((2, 2), np.float32))
        dream = DreamEnv(folder)
        planner = Planner(dream, CEM(4, 1, elites=2), horizon=3, replan=2)
        dream.step(planner.predict(dream.reset(seed=0)[0])[0])
        assert torch.get_default_dtype() == torch.float64  # it is the caller's
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(seen, expected)


def test_a_network_with_gradients_may_act_and_pay(model):
    policy, value = nn.Linear(8, 2), nn.Linear(16 * 16, 1)
    env = DreamVectorEnv(
        3, model, to_torch=True, reward_fn=lambda outcome: value(outcome.latents.flatten(1)).squeeze(1)
    )
    observation, _ = env.reset(seed=0)
    actions = policy(observation["observation"]).tanh()
    assert actions.requires_grad
    observation, rewards, *_ = env.step(actions)
    assert not rewards.requires_grad
    assert not observation["observation"].requires_grad
    with torch.inference_mode():
        env.step(policy(observation["observation"]).tanh())
    env.step(torch.zeros(3, 2))
    assert not env.context.is_inference()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("planner_type", [Planner, GradientPlanner])
def test_planners_plan_in_any_mode_with_a_cost_that_is_a_network(model, planner_type, mode):
    judge = nn.Linear(2, 1)
    env = DreamEnv(model)
    observation, _ = env.reset(seed=0)
    small = {"search": CEM(4, 1, elites=2)} if planner_type is Planner else {"restarts": 3, "iterations": 2}
    planner = planner_type(
        env, horizon=3, replan=2, cost=lambda seen: judge(seen.positions[:, -1, 0]).squeeze(1), **small
    )
    with mode():
        action, _ = planner.predict(observation)
    assert env.action_space.contains(action)
    assert judge.weight.grad is None  # planning trains nobody's network
    env.step(action)


def test_a_cost_without_a_gradient_is_refused_by_the_planner_that_follows_it(model):
    env = DreamEnv(model)
    env.reset(seed=0)
    planner = GradientPlanner(env, cost=lambda seen: seen.positions[:, -1, 0, 0].detach(), horizon=3, iterations=1)
    with pytest.raises(ValueError, match=r"no gradient.*search with a Planner"):
        planner.predict(None)


@pytest.mark.parametrize(
    "layout",
    [
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        np.asfortranarray,
        lambda a: a.astype(np.float64) if a.dtype != np.uint8 else a,
        lambda a: a.tolist() if a.dtype != np.uint8 else a,
        lambda a: (a.setflags(write=False), a)[1],
        torch.from_numpy,
    ],
    ids=["strided", "reversed", "big-endian", "Fortran", "float64", "lists", "read-only", "tensor"],
)
def test_arrays_come_as_numpy_gives_them(model, make_episode, layout):
    """One layout after the other wherever an array goes in: step, reset options, encode, compute_reward."""
    episode = make_episode(model.scene, 3)
    action, frames = episode.actions[0], episode.frames[:4]
    latents, goal = model.encode(frames).numpy(), np.array([0.1, -0.1], np.float32)
    env = DreamEnv(model)
    for options in ({"frames": frames}, {"latents": latents}):
        (name, plain), expected = *options.items(), env.reset(options={**options, "goal": goal})[0]
        seen, _ = env.reset(options={name: layout(plain.copy()), "goal": layout(goal.copy())})
        assert same(seen, expected)
        stepped = env.step(action)[0]
        env.reset(options={name: plain, "goal": goal})
        assert same(env.step(layout(action.copy()))[0], stepped)
    assert torch.equal(model.encode(layout(frames.copy())), model.encode(frames))
    batch = DreamVectorEnv(2, model)
    batch.reset(seed=0)
    batch.step(layout(np.stack([action, action])))
    goals = np.stack([goal, goal + 0.1])
    rewards = np.asarray(env.compute_reward(layout(goals.copy()), layout(goals[::-1].copy()), {}))
    assert np.allclose(rewards, env.compute_reward(goals, goals[::-1].copy(), {}))


@pytest.mark.parametrize("action", [["left", "right"], [[0.0], [0.0, 1.0]], None, {"x": 1}, [0.5j, 0.0]])
def test_what_is_no_array_is_refused_with_a_word(model, action):
    env = DreamEnv(model)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action: expected numbers"):
        env.step(action)


@pytest.mark.parametrize(
    ("frames", "advice"),
    [
        (np.zeros((4, 3, 32, 32), np.uint8), "channels come last"),
        (np.zeros((4, 32, 32, 3), np.float32), "255"),
        (np.zeros((4, 32, 32, 4), np.uint8), "fourth channel"),
    ],
)
def test_pictures_in_another_form_are_refused_with_the_conversion(model, frames, advice):
    with pytest.raises(ValueError, match=advice):
        model.encode(frames)
    with pytest.raises(ValueError, match=advice):
        DreamEnv(model).reset(options={"frames": frames})


@pytest.mark.parametrize("to_torch", [False, True])
def test_the_action_of_a_dream_that_is_restarted_is_not_looked_at(model, to_torch):
    env = DreamVectorEnv(2, model, max_episode_steps=2, to_torch=to_torch, autoreset_mode=AutoresetMode.NEXT_STEP)
    env.reset(seed=0)
    actions = torch.zeros(2, 2) if to_torch else np.zeros((2, 2), np.float32)
    env.step(actions)
    assert env.step(actions)[3].all()  # both at their limit
    env.step(actions * np.nan)
    env.check()
    with pytest.raises(ValueError, match="environment 0"):
        env.step(actions * np.nan), env.check()


def test_with_same_step_every_action_counts(model):
    env = DreamVectorEnv(2, model, max_episode_steps=1, to_torch=True, autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=0)
    env.step(torch.zeros(2, 2))
    env.step(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match="environment 0"):
        env.check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_a_copy_goes_on_from_where_it_is(make, kind, copied):
    env = make(kind)
    env.reset(seed=0)
    env.step(STILL)
    twin = copied(env)
    assert same(env.step(STILL)[0], twin.step(STILL)[0])
    assert same(env.reset(seed=1)[0], twin.reset(seed=1)[0])


def test_a_spec_names_the_model_and_the_time_limit(folder):
    loaded = WorldModel.load(folder)
    env = gym.make("CosmosDream-v0", world_model=loaded)
    spec = env.spec
    assert spec.kwargs["world_model"] == str(folder)
    assert spec.max_episode_steps == loaded.scene.episode_steps
    again = gym.make(type(spec).from_json(spec.to_json()))
    assert again.spec == spec
    assert same(again.reset(seed=0)[0], env.reset(seed=0)[0])
    wrapped = gym.wrappers.TimeAwareObservation(gym.make("CosmosDream-v0", world_model=loaded))
    wrapped.reset(seed=0)
    batch = gym.make_vec("CosmosDream-v0", num_envs=2, world_model=loaded)
    assert batch.spec.kwargs["world_model"] == str(folder)


def test_wrappers_share_a_model_that_is_in_memory_only(world_model):
    env = gym.make("CosmosDream-v0", world_model=world_model)
    for _ in range(8):
        env = gym.wrappers.RecordEpisodeStatistics(env)
    assert env.spec.kwargs["world_model"].world_model is world_model
    assert gym.make(env.spec).unwrapped.world_model is world_model


@pytest.mark.opengl
def test_the_real_environment_may_be_stepped_in_any_thread(make):
    env, seen, failed = make("real"), [], []
    env.reset(seed=0)

    def work():
        try:
            seen.append(env.step(STILL))
        except Exception as error:  # it would be lost with its thread
            failed.append(error)

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    env.step(STILL)
    thread = threading.Thread(target=env.close)
    thread.start()
    thread.join()
    assert not failed
    assert len(seen) == 2


def test_stable_baselines3_finds_what_it_asks_environments_for(model):
    env = make_dream_vec_env(2, world_model=model, render_mode="rgb_array")
    assert env.venv.metadata["render_fps"] == 10  # what `VecVideoRecorder` films at
    assert env.env_method("get_wrapper_attr", "world_model") == [model, model]
    assert env.env_method("has_wrapper_attr", "world_model", indices=[0]) == [True]
    env.env_method("set_wrapper_attr", "note", 3, indices=0)
    assert env.get_attr("note") == [3, 3]


FORKED = """
    import gymnasium as gym, numpy as np, torch, cosmos_isaac_wm
    from cosmos_isaac_wm.envs import DreamEnv
    torch.set_num_threads(2)
    torch.randn(400, 400) @ torch.randn(400, 400)  # the parent has threads, which no child will have
    def main():
        DreamEnv({folder!r}).reset(seed=0)
        env = gym.make_vec({name!r}, num_envs=2, vectorization_mode="async", world_model={folder!r},
                           vector_kwargs=dict(context="fork"))
        env.reset(seed=0)
        print(env.step(np.zeros((2, 2), np.float32))[1].shape)
        env.close()
    if __name__ == "__main__":
        main()
"""


@pytest.mark.parametrize(
    "name", ["CosmosDream-v0", pytest.param("CosmosReal-v0", marks=pytest.mark.opengl)], ids=["dream", "real"]
)
def test_forked_processes_of_a_parent_that_has_computed_do_not_hang(tmp_path, folder, name):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(FORKED.format(folder=str(folder), name=name)))
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout.strip() == "(2,)", run.stderr


def test_threads_under_another_default_type_do_not_meet(model):
    """The default type is the whole process's: nothing of ours may change it, even for a moment."""
    failed, seen = [], set()

    def work(seed):
        try:
            env = DreamEnv(model)
            env.reset(seed=seed)
            for _ in range(5):
                env.step(STILL)
        except Exception as error:
            failed.append(error)

    try:
        torch.set_default_dtype(torch.float64)
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            seen.add(torch.zeros(1).dtype)
    finally:
        torch.set_default_dtype(torch.float32)
    assert not failed
    assert seen <= {torch.float64}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_dreamed_before_a_reset(make, kind):
    env = make(kind, render_mode="rgb_array")
    planner = Planner(env, CEM(4, 1, elites=2), horizon=3, replan=2)
    for call in (lambda: env.step(STILL), env.render, lambda: planner.predict(None)):
        with pytest.raises(ResetNeeded):
            call()


def test_a_world_model_in_a_policy_that_trains_goes_on_dreaming_alike(make_world_model):
    world_model = make_world_model()
    policy = nn.ModuleDict({"world": world_model, "head": nn.Dropout(0.5)})
    policy.train()
    assert policy["head"].training
    assert not any(module.training for module in world_model.modules())


@pytest.mark.parametrize(
    "seed",
    [
        np.random.SeedSequence(0).generate_state(2),
        np.array([3, 4], np.int32),
        [np.int32(3), np.uint8(4)],
        torch.tensor([3, 4], dtype=torch.int32),
        np.int32(3),
        np.array(3),
        (3, None),
    ],
    ids=str,
)
def test_seeds_may_be_numpys(model, seed):
    env = DreamVectorEnv(2, model)
    observation, _ = env.reset(seed=seed)
    if np.ndim(seed) == 0:
        assert same(observation, env.reset(seed=int(seed))[0])
        assert same(DreamEnv(model).reset(seed=np.int64(3))[0], DreamEnv(model).reset(seed=3)[0])


@pytest.mark.parametrize("seed", [[1.5, 2.5], [np.nan, 1], 1.0, "12", ["a", "b"], True, [1, 2, 3]])
def test_what_is_no_seed_is_refused(model, seed):
    with pytest.raises(ValueError, match="seed"):
        DreamVectorEnv(2, model).reset(seed=seed)


def test_a_refused_reset_changes_nothing(model):
    env, undisturbed = DreamVectorEnv(2, model), DreamVectorEnv(2, model)
    for each in (env, undisturbed):
        each.reset(seed=0)
    for refused in ({"goal": [9, 9]}, {"episode": 99}):
        with pytest.raises(ValueError, match=r"goals|episode"):
            env.reset(seed=7, options=refused)
    assert same(env.reset()[0], undisturbed.reset()[0])


def test_loading_draws_nothing_from_the_callers_generator(folder):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    gym.make("CosmosDream-v0", world_model=folder)
    assert torch.equal(torch.rand(1), expected)


def test_a_bundle_by_a_relative_path_survives_another_working_directory(world_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world_model.save("mine")
    env = gym.make("CosmosDream-v0", world_model=WorldModel.load("mine"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    gym.make(env.spec).reset(seed=0)
    env.unwrapped.world_model.save_metrics()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_functions_of_the_callers_are_shown_is_theirs(model):
    def paid(outcome):
        outcome.latents.zero_()
        return np.zeros(1)

    env = DreamEnv(model, obs_type="latent", reward_fn=paid)
    env.reset(seed=0)
    assert np.abs(env.step(STILL)[0]).max() > 0
    posed = DreamEnv(model)
    posed.reset(seed=0)
    goal = posed.task.goals.clone()
    planner = Planner(
        posed, CEM(4, 1, elites=2), 3, 2, cost=lambda seen: seen.goal.add_(1)[0] * 0 + seen.presence[:, -1, 0]
    )
    planner.predict(None)
    assert torch.equal(posed.task.goals, goal)


def test_latents_may_be_arrays_and_their_shape_is_checked(model, make_episode):
    latents = model.encode(make_episode(model.scene, 0).frames[:2])
    drawn, again = (model.decode(each).int() for each in (latents.numpy(), latents))
    assert (drawn - again).abs().max() <= 1  # a layout of its own may round otherwise
    assert torch.allclose(model.locate(latents.tolist()).positions, model.locate(latents).positions, atol=1e-5)
    for wrong in (latents[:, :8], latents[None], latents[0]):
        for call in (model.decode, model.locate):
            with pytest.raises(ValueError, match=r"expected latents of shape \(B, 16, h, w\)"):
                call(wrong)
    with pytest.raises(ValueError, match="expected uint8 RGB frames"):
        model.encode(np.zeros((0, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="goals of one shape"):
        DreamEnv(model).compute_reward(np.zeros((5, 2)), np.zeros((4, 2)), {})


@pytest.mark.parametrize(
    "options", [{"episode": [0, 1]}, {"episode": []}, {"episode": {}}, {"episode": 1.5}, {"a": 1, 2: 3}, 5]
)
def test_reset_options_of_another_form_are_refused(model, options):
    with pytest.raises(ValueError, match="option"):
        DreamEnv(model).reset(options=options)


@pytest.mark.parametrize("arguments", [{"num_envs": 2.0}, {"num_envs": "4"}, {"max_episode_steps": 2.5}])
def test_numbers_that_are_not_whole_are_refused(model, arguments):
    with pytest.raises(ValueError, match="expected a whole number"):
        DreamVectorEnv(world_model=model, **arguments)


def test_stable_baselines3_is_not_given_tensors(model):
    with pytest.raises(ValueError, match="to_torch=False"):
        make_dream_vec_env(2, world_model=model, to_torch=True)


def test_a_cost_network_that_never_sees_the_actions_is_refused(model):
    judge = nn.Linear(2, 1)
    env = DreamEnv(model)
    env.reset(seed=0)
    cost = lambda seen: judge(seen.positions[:, -1, 0].detach()).squeeze(1)  # noqa: E731
    with pytest.raises(ValueError, match="no gradient"):
        GradientPlanner(env, cost=cost, horizon=3, iterations=1).predict(None)
