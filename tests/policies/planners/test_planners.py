import numpy as np
import pytest
import torch

from cosmos_isaac_wm.envs import DreamEnv, DreamVectorEnv
from cosmos_isaac_wm.policies.planners import (
    CEM,
    ICEM,
    MPPI,
    GoalPictureCost,
    GoalStateCost,
    GradientPlanner,
    Imagined,
    Planner,
    PushCost,
    RewardCost,
)
from cosmos_isaac_wm.policies.planners.cost import doubt
from cosmos_isaac_wm.rollout import DreamEngine
from cosmos_isaac_wm.scene import TABLE
from tests.dots import dot_twin
from tests.envs.test_trust import bounded

SEARCHES = [CEM, ICEM, MPPI]


def toward(actions):
    """The sequence that costs least is 0.5, -0.25 at every step."""
    return (actions - torch.tensor([0.5, -0.25])).square().sum(dim=(1, 2))


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_finds_what_costs_least(search):
    found = search(population=128, iterations=12)
    found.begin(torch.zeros(6, 2))
    generator = torch.Generator().manual_seed(0)
    for _ in range(found.iterations):
        sequences = found.sample(generator)
        assert sequences.shape == (128, 6, 2)
        assert sequences.abs().max() <= 1
        found.update(sequences, toward(sequences))
    assert float(toward(found.plan()[None])) < 0.25 * float(toward(torch.zeros(1, 6, 2)))


@pytest.mark.parametrize("search", SEARCHES)
def test_the_plan_so_far_is_tried_as_it_is(search):
    found, mean = search(population=16), torch.full((5, 2), 0.3)
    found.begin(mean)
    assert torch.equal(found.sample(torch.Generator().manual_seed(0))[0], mean)


def test_coloured_noise_goes_further_than_white():
    lengths = {}
    for beta in (0.0, 2.0):
        search = CEM(population=256, beta=beta, std=0.3)
        search.begin(torch.zeros(16, 2))
        lengths[beta] = float(search.sample(torch.Generator().manual_seed(0)).sum(dim=1).norm(dim=-1).mean())
    assert lengths[2.0] > 1.5 * lengths[0.0]


def test_elites_are_tried_again():
    search = ICEM(population=16, kept=3)
    search.begin(torch.zeros(4, 2))
    generator = torch.Generator().manual_seed(0)
    first = search.sample(generator)
    search.update(first, toward(first))
    best = first[toward(first).argsort()[:3]]
    assert torch.equal(search.sample(generator)[1:4], best)
    assert torch.equal(search.plan(), best[0])


def imagined(cube, pusher, goal=(0.2, 0.0), presence=1.0):
    latents, actions, positions = torch.zeros(1, 1, 16, 8, 8), torch.zeros(1, 1, 2), torch.tensor([[[cube, pusher]]])
    return Imagined(
        latents,
        actions,
        positions,
        torch.full((1, 1, 2), presence),
        torch.tensor(goal),
        latents[0],
        latents.new_zeros(0, 2),
    )


def test_the_cost_of_pushing_prefers_the_object_at_the_goal_and_the_agent_behind_it():
    cost = PushCost(TABLE)
    near, far = cost(imagined((0.1, 0.0), (0.04, 0.0))), cost(imagined((0.0, 0.0), (-0.06, 0.0)))
    assert near.tolist() == pytest.approx([0.2], abs=1e-6)  # 0.1 m, averaged and at the end, and nothing for the agent
    assert near < far
    assert near < cost(imagined((0.1, 0.0), (0.16, 0.0)))  # in front of it
    assert near < cost(imagined((0.1, 0.0), (0.04, 0.0), presence=0.2))


@pytest.fixture
def env(model):
    env = DreamEnv(model, goal=(0.1, 0.1))
    env.reset(seed=0)
    return env


def agent_goes_right(seen):
    """Minus how far right the actions go: what a toy network that knows nothing can still be asked for."""
    return -seen.actions[:, :, 0].sum(dim=1) + seen.latents.square().mean(dim=(1, 2, 3, 4)) * 0


@pytest.mark.parametrize("search", SEARCHES)
def test_a_planner_acts_by_its_cost(env, search):
    planner = Planner(env, search(population=16, iterations=5), horizon=5, cost=agent_goes_right, compile=False)
    actions = []
    observation = env.reset(seed=0)[0]
    for _ in range(4):
        action, state = planner.predict(observation)
        assert env.action_space.contains(action)
        assert state is None
        observation = env.step(action)[0]
        actions.append(action[0])
    assert np.mean(actions) > 0.4
    assert planner.dreamed_steps == 2 * planner.search.iterations * 16 * 5  # planned twice for four steps
    assert planner.seconds > 0


def test_planning_changes_nothing_in_the_environment_and_is_reproducible(env):
    observation = env.reset(seed=0)[0]
    before, actions = env.context.clone(), []
    for _ in range(2):
        planner = Planner(env, ICEM(population=16), horizon=4, seed=5, compile=False)
        actions.append(planner.predict(observation)[0])
    assert torch.equal(env.context, before)
    assert np.array_equal(*actions)


class Recorder(CEM):
    """Remembers what it is told."""

    def update(self, actions, costs):
        self.told = costs
        super().update(actions, costs)


def test_a_future_without_a_cost_is_worse_than_all_that_have_one(env):
    broken = torch.arange(16) % 3 == 0

    def cost(seen):
        return torch.where(broken, torch.nan, 1.0)

    search = Recorder(population=16, iterations=1)
    Planner(env, search, horizon=4, cost=cost, compile=False).predict(env.reset(seed=0)[0])
    assert (search.told[broken] > 1.0).all()
    assert (search.told[~broken] == 1.0).all()


def test_a_batch_of_one_gets_a_batch_of_one(env):
    planner = Planner(env, CEM(population=6, elites=2), horizon=3, compile=False)
    observation = {key: value[None] for key, value in env.reset(seed=0)[0].items()}
    assert planner.predict(observation)[0].shape == (1, 2)


def test_a_new_episode_begins_with_a_new_plan(env):
    planner = Planner(env, CEM(population=6, elites=2), horizon=6, replan=6, compile=False)
    observation = env.reset(seed=0)[0]
    env.step(planner.predict(observation)[0])
    dreamed = planner.dreamed_steps
    planner.predict(observation)
    assert planner.dreamed_steps == dreamed  # the plan goes on
    env.reset(seed=1)
    planner.predict(observation)
    assert planner.dreamed_steps == 2 * dreamed


def test_the_gradient_through_the_dream_lowers_the_cost(model):
    env = DreamEnv(model, goal=(0.1, 0.1))
    env.reset(seed=0)

    def cost(seen):
        return seen.positions[:, :, 1].square().sum(dim=(1, 2))  # the pusher to the middle, as far as it moves

    planner = GradientPlanner(env, restarts=3, iterations=8, horizon=4, cost=cost)
    still = torch.zeros(1, 4, 2)
    before = float(cost(planner._imagine(still)))
    plan = planner._improve(still[0])
    assert float(cost(planner._imagine(plan[None]))) < before
    assert plan.abs().max() <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"replan": 9, "horizon": 8}, "replan 9 and horizon 8"), ({"search": "icem"}, "a search such as ICEM")],
)
def test_impossible_arguments_are_refused(env, arguments, words):
    with pytest.raises(ValueError, match=words):
        Planner(env, **arguments)


def test_another_environment_is_refused(model):
    import gymnasium as gym

    with pytest.raises(ValueError, match="CosmosDream-v0 or CosmosReal-v0"):
        Planner(gym.make("Pendulum-v1"))
    with pytest.raises(ValueError, match="one CosmosDream-v0"):
        Planner(DreamVectorEnv(1, world_model=model))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MPPI(population=1), "2 sequences"),
        (lambda: CEM(population=8, elites=8), "elites are 2 or more of the population of 8"),
        (lambda: CEM(elites=1), "elites"),
        (lambda: ICEM(population=16, kept=16), "1 or more of the population of 16"),
    ],
)
def test_a_search_of_impossible_sizes_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("acts", ["box", "discrete"])
def test_a_twin_is_planned_for_by_its_rewards(acts):
    model = dot_twin(acts=acts)
    env = DreamEnv(model)
    observation, _ = env.reset(seed=0)
    planner = Planner(env, MPPI(population=8, iterations=2), horizon=5, replan=1)
    assert isinstance(planner.cost, RewardCost)
    for _ in range(3):
        action, _ = planner.predict(observation)
        assert action in env.action_space
        observation, *_ = env.step(action)


def test_rewards_are_summed_until_the_foretold_end():
    model = dot_twin()
    env = DreamEnv(model)
    env.reset(seed=0)
    heads, actions = model.perception.heads, torch.rand(3, 4, 2)
    heads.outcome[-1].weight.data.zero_()
    heads.outcome[-1].bias.data[0] = 1.0
    engine = DreamEngine(model, 3)
    engine.reset(env.context.expand(3, -1, -1, -1, -1))
    latents = torch.stack([engine.step(actions[:, step]).latent for step in range(4)], dim=1)
    nothing = torch.zeros(3, 4, 0, 2)
    futures = Imagined(latents, actions, nothing, nothing[..., 0], torch.zeros(0), env.context, env.past)
    paid = float(heads.std[-1] + heads.mean[-1])
    for logit, steps in ((-20.0, 4), (20.0, 1)):
        heads.outcome[-1].bias.data[1] = logit
        np.testing.assert_allclose(RewardCost(model.perception)(futures), -steps * paid, rtol=1e-4)


def test_choices_are_not_planned_for_by_gradients():
    with pytest.raises(ValueError, match="choices have no gradient"):
        GradientPlanner(DreamEnv(dot_twin(acts="choice")))


def test_a_goal_picture_is_nearest_to_itself():
    model = dot_twin()
    env = DreamEnv(model)
    env.reset(seed=0)
    pictures = [model.decode(latents)[0].numpy() for latents in model.contexts.latents[:2, -1:].float()]
    latents = torch.stack([model.encode(picture[None]).expand(5, -1, -1, -1) for picture in pictures])
    nothing = torch.zeros(2, 5, 0, 2)
    futures = Imagined(latents, torch.zeros(2, 5, 2), nothing, nothing[..., 0], torch.zeros(0), env.context, env.past)
    costs = GoalPictureCost(model.perception, pictures[1])(futures)
    assert costs[1] < 1e-6 < costs[0]


def test_a_goal_state_is_read_from_its_picture_and_components_count_as_much_as_they_are_said_to():
    model = dot_twin()
    env = DreamEnv(model)
    env.reset(seed=0)
    pictures = [model.decode(latents)[0].numpy() for latents in model.contexts.latents[:2, -1:].float()]
    latents = torch.stack([model.encode(picture[None]).expand(9, -1, -1, -1) for picture in pictures])
    nothing = torch.zeros(2, 9, 0, 2)
    futures = Imagined(latents, torch.zeros(2, 9, 2), nothing, nothing[..., 0], torch.zeros(0), env.context, env.past)
    at_rest, other = GoalStateCost(model.perception, pictures[1])(futures)[[1, 0]]
    assert at_rest < other
    one, two = (GoalStateCost(model.perception, pictures[1], weights)(futures) for weights in ([1, 0], [0, 1]))
    assert torch.allclose((one + two) / 2, GoalStateCost(model.perception, pictures[1])(futures), rtol=1e-4)
    with pytest.raises(ValueError, match="expected 2 weights, got"):
        GoalStateCost(model.perception, pictures[1], [1.0])
    with pytest.raises(ValueError, match="no heads that read an observation: use GoalPictureCost"):
        GoalStateCost(dot_twin(observes="picture").perception, pictures[1])


@pytest.mark.parametrize("twin", [False, True])
def test_pessimism_costs_as_much_as_the_dreams_themselves_tell(twin, world_model):
    model = bounded(dot_twin(), 2, 2, ("episode",)) if twin else bounded(world_model, 1, 6, ("push",))
    env = DreamEnv(model)
    env.reset(seed=0)
    engine, actions = DreamEngine(model, 3, look=True), torch.rand(3, 4, 2)
    engine.reset(env.context.expand(3, -1, -1, -1, -1), past=env.past.expand(3, -1, -1))
    steps = [engine.step(actions[:, step]) for step in range(4)]
    latents, nothing = torch.stack([each.latent for each in steps], dim=1), torch.zeros(3, 4, 0)
    positions, presence = nothing.unsqueeze(-1), nothing
    if not twin:
        positions, presence = (
            torch.stack([getattr(each.located, name) for each in steps], dim=1) for name in ("positions", "presence")
        )
    futures = Imagined(latents, actions, positions, presence, torch.zeros(2), env.context, env.past)
    doubts = doubt(model.perception, model.error_bound, futures)
    state = env.get_state()
    for row in range(3):
        env.set_state(state)
        told = [env.step(action)[4]["error_bound"] for action in actions[row].numpy()]
        units = model.perception.heads.std[:2].numpy() if twin else 1.0
        worst = np.max(np.reshape(told / np.asarray(units), (4, -1)), axis=1)
        assert float(doubts[row]) == pytest.approx(float(worst.mean()), rel=1e-3)
    planner = Planner(env, MPPI(population=4, iterations=1), 3, 1, lambda imagined: torch.zeros(4), pessimism=2.0)
    assert (planner._costs(planner._imagine(torch.zeros(4, 3, 2))) > 0).all()


def test_who_is_to_be_pessimistic_needs_a_bound(world_model):
    with pytest.raises(ValueError, match="does not know how far its dreams may be off"):
        Planner(DreamEnv(world_model), pessimism=1.0)
