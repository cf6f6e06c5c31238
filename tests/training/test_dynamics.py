"""Fitting, on a world whose latents are the cube's position and whose dynamics are known."""

import contextlib
import dataclasses
import itertools
import time
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cosmos_isaac_wm.data.windows import EncodedEpisodes, WindowSampler, join
from cosmos_isaac_wm.dynamics import (
    LatentUNet,
    LatentUNetConfig,
    ProbabilisticPlus,
    ProbabilisticPlusConfig,
    ResNetRollout,
    ResNetRolloutConfig,
)
from cosmos_isaac_wm.dynamics.network import bounded
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.readout import Located, Readout, ReadoutConfig
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.protocols import LATENT_LIMIT, Prediction
from cosmos_isaac_wm.training import FitConfig, Stage, dynamics, fit_dynamics
from cosmos_isaac_wm.training.dreams import Dreams
from cosmos_isaac_wm.training.dynamics import self_fed_loss
from cosmos_isaac_wm.training.logbook import Losses
from cosmos_isaac_wm.training.optimizer import MovingAverage, new_optimizer
from cosmos_isaac_wm.training.processes import Processes
from cosmos_isaac_wm.training.validation import unit_of, validate
from cosmos_isaac_wm.training.verdict import Verdict

SPEED = 0.02  # metres per step at action 1; latents are decimetres
CONFIG = FitConfig(
    updates=12,
    batch_size=8,
    stages=(Stage(1), Stage(2, persistence=0.5)),
    lr=3e-3,
    ema=0.5,
    precision="fp32",
    validate_every=4,
    mirror=False,
)


class PositionReadout(nn.Module):
    def forward(self, latent: Tensor) -> Located:
        return Located(latent.mean(dim=(2, 3)).unsqueeze(1) / 10, torch.ones(len(latent), 1))


class TurningReadout(nn.Module):
    """The first latent channel is the angle."""

    def forward(self, latent: Tensor) -> Located:
        angle = latent.mean(dim=(2, 3))[:, :1]
        return Located(torch.zeros(len(latent), 1, 2), torch.ones(len(latent), 1), angles(angle))


def angles(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


class Oracle(nn.Module):
    """Knows the dynamics: the last latent plus what the action does, times a gain of one."""

    context_length, channels, action_dim = 4, 2, 2

    def __init__(self, gain: float = 1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, context: Tensor, action: Tensor) -> Prediction:
        return Prediction(context[:, -1] + self.gain * 10 * SPEED * action[:, :, None, None])


def walk(episodes: int, length: int = 30, seed: int = 0, kinds: tuple[str, ...] = ("push",)) -> EncodedEpisodes:
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (episodes, length - 1, 2))
    start = rng.uniform(-0.2, 0.2, (episodes, 1, 2))
    positions = np.concatenate([start, start + SPEED * np.cumsum(actions, axis=1)], axis=1)
    latents = torch.tensor(10 * positions)[..., None, None].expand(-1, -1, -1, 4, 4)
    return EncodedEpisodes(
        latents=latents.half(),
        actions=torch.tensor(actions, dtype=torch.float32),
        positions=torch.tensor(positions, dtype=torch.float32).unsqueeze(2),
        headings=torch.full((episodes, length, 1, 2), torch.nan),
        observed=torch.empty(episodes, length, 0),
        goals=torch.empty(episodes, length, 0),
        rewards=torch.zeros(episodes, length - 1),
        ends=torch.zeros(episodes, length - 1),
        lengths=torch.full((episodes,), length),
        sources=torch.arange(episodes),
        kinds=[kinds[i % len(kinds)] for i in range(episodes)],
    )


@pytest.fixture(scope="session")
def perception(scene):
    alone = dataclasses.replace(scene, markers=scene.markers[:1], agent=None)
    tokenizer = TinyTokenizer(TinyTokenizerConfig(channels=2, widths=(8, 8), blocks=1))
    return Perception(alone, tokenizer, PositionReadout())


def small_model():
    torch.manual_seed(0)
    return ResNetRollout(ResNetRolloutConfig(channels=2, action_dim=2, width=16, blocks=1, blend=True))


def dreams(episodes, config=CONFIG):
    return Dreams(episodes, config, 4, 0, 0, Processes("cpu"))


def test_short_episodes_do_not_cut_validation_short(perception):
    short, long = walk(2, length=8, kinds=("slide",)), walk(2, seed=1)
    mixed, alone = (validate(Oracle(0.5), perception, episodes) for episodes in (join([short, long]), long))
    for key in ("push_rmse", "push_median", "push_rmse_at_32"):
        assert mixed[key] == pytest.approx(alone[key])
    assert mixed["slide_rmse"] == pytest.approx(validate(Oracle(0.5), perception, short)["slide_rmse"])


def test_a_perfect_model_has_no_error_and_a_worse_one_a_larger_one(perception):
    episodes = walk(4, kinds=("push", "slide"))
    perfect, poor, still = (validate(Oracle(gain), perception, episodes) for gain in (1.0, 0.8, 0.0))
    assert perfect["error"] < 0.5  # px at 512: float16 latents
    assert perfect["error"] < poor["error"] < still["error"]
    assert {"push_rmse", "slide_rmse", "push_median", "push_rmse_at_16", "slide_rmse_at_32"} <= perfect.keys()


def test_the_validation_error_is_in_pixels_at_512(perception):
    episodes = walk(3)
    scene, truth = perception.scene, episodes.positions[:, 4:, 0].numpy()
    still = np.broadcast_to(episodes.positions[:, 3:4, 0].numpy(), truth.shape)
    pixels = np.linalg.norm(scene.to_pixels(still) - scene.to_pixels(truth), axis=-1) * 512 / 32
    numbers = validate(Oracle(0.0), perception, episodes)
    assert numbers["error"] == pytest.approx(pixels.mean(), rel=0.02)
    assert numbers["push_rmse"] == pytest.approx(np.sqrt((pixels**2).mean()), rel=0.02)
    assert numbers["push_rmse_at_16"] == pytest.approx(np.sqrt((pixels[:, :16] ** 2).mean()), rel=0.02)


def test_without_positions_the_validation_error_is_that_of_the_latents(perception):
    blind = Perception(perception.scene, perception.tokenizer)
    assert validate(Oracle(), blind, walk(2))["error"] < 0.01
    assert validate(Oracle(0.0), blind, walk(2))["error"] > 0.1


def test_a_validation_says_what_stands_beside_the_error(perception):
    episodes = walk(4)
    good, still, ignoring = (validate(model, perception, episodes) for model in (Oracle(), Oracle(0.0), Ignorant()))
    assert still["still"] == pytest.approx(still["error"], rel=1e-3)  # it is one
    assert good["still"] == pytest.approx(still["error"], rel=0.02)
    assert good["error"] < good["still"] < good["constant_velocity"]  # of a random walk
    assert good["response"] > 0.95
    assert still["response"] == pytest.approx(0, abs=1e-6)
    assert ignoring["response"] == pytest.approx(0, abs=1e-6)
    assert good["good_steps"] == good["steps"] == 26
    assert still["good_steps"] == 0
    assert good["growth"] == pytest.approx(1, abs=0.3)
    assert Verdict.of(good, "px").words().startswith("good to about 26 of 26 steps")
    assert Verdict.of(still, "px").faults == ["is no better than a still picture", "ignores actions"]


class Ignorant(Oracle):
    """Moves, whatever it is told."""

    def forward(self, context: Tensor, action: Tensor) -> Prediction:
        return Prediction(context[:, -1] + self.gain * 0.01)


class Runaway(Oracle):
    """Doubles its latents with every step, within what a dynamics may."""

    def forward(self, context: Tensor, action: Tensor) -> Prediction:
        return Prediction(bounded(context[:, -1] * (2 * self.gain)))


def test_without_positions_latents_are_compared_with_those_of_a_still_picture(perception):
    blind = Perception(perception.scene, perception.tokenizer)
    good, still = (validate(model, blind, walk(3)) for model in (Oracle(), Oracle(0.0)))
    assert unit_of(blind, walk(3)) == "latent"
    assert good["error"] < 0.05 * good["still"]
    assert still["error"] == pytest.approx(still["still"])
    assert good["response"] > 0.9
    assert "constant_velocity" not in good


def test_positions_without_a_camera_are_validated_in_millimetres(perception):
    scene = dataclasses.replace(perception.scene, camera=None)
    unseen = Perception(scene, perception.tokenizer, perception.readout)
    episodes = walk(3)
    moved = episodes.positions[:, 4:, 0] - episodes.positions[:, 3:4, 0]
    assert unit_of(unseen, episodes) == "mm"
    error = validate(Oracle(0.0), unseen, episodes)["error"]
    assert error == pytest.approx(1000 * moved.norm(dim=-1).mean().item(), rel=0.02)


def test_dreams_that_run_away_end_the_fit_with_a_word(perception, tmp_path):
    config = dataclasses.replace(CONFIG, lr=0.0, ema=0.0, position_weight=0.0)
    assert validate(Runaway(), perception, walk(2))["growth"] > 4
    with pytest.raises(ValueError, match=r"the dreams run away: at update 12.*best\.pt; fit again with a lower"):
        fit_dynamics(Runaway(), perception, walk(4), walk(2), config, tmp_path, 0)


@pytest.mark.parametrize(
    "network",
    [
        lambda: ResNetRollout(ResNetRolloutConfig(action_dim=2, width=16, blocks=1, blend=True)),
        lambda: ResNetRollout(ResNetRolloutConfig(action_dim=2, width=16, blocks=1)),
        lambda: ProbabilisticPlus(ProbabilisticPlusConfig(action_dim=2, width=16, blocks=2)),
        lambda: LatentUNet(LatentUNetConfig(context_length=4, action_dim=2, width=16, multipliers=(1, 2), blocks=1)),
    ],
)
def test_no_dream_runs_away_whatever_the_weights(network):
    torch.manual_seed(0)
    wild = network().eval()
    for parameter in wild.parameters():
        parameter.data.mul_(30)
    context, action = torch.randn(2, 4, 16, 8, 8), torch.ones(2, 2)
    with torch.no_grad():
        for _ in range(10_000 if isinstance(wild, ResNetRollout) else 200):
            latent = wild(context, action).latent
            context = torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)
    assert context.isfinite().all()
    assert context.abs().max() <= LATENT_LIMIT


def test_dreams_start_from_true_contexts_and_their_actions_lead_to_their_targets():
    batch = dreams(walk(5))
    batch.prepare(Stage(3, 0.0), 0)
    truth = batch.targets(3)
    torch.testing.assert_close(batch.context[:, -1], truth.latents[:, 0])
    torch.testing.assert_close(truth.latents[..., 0, 0] / 10, truth.positions[:, :, 0], atol=2e-3, rtol=0)
    torch.testing.assert_close(truth.latents.diff(dim=1)[..., 0, 0], 10 * SPEED * truth.actions, atol=5e-3, rtol=0)


def test_persistent_dreams_go_on_and_diverged_ones_restart():
    batch = dreams(walk(5, length=60))
    batch.prepare(Stage(2, 1.0), 0)
    batch.place[:, 1] = 10
    place, dreamed = batch.place.clone(), torch.full_like(batch.context, 7.0)
    alive = torch.tensor([True, False] * 4)
    batch.advance(dreamed, alive, 2)
    batch.prepare(Stage(2, 1.0), 1)
    assert (batch.context[alive] == 7.0).all()
    assert (batch.place[alive, 1] == place[alive, 1] + 2).all()
    assert (batch.context[~alive] != 7.0).any(dim=(1, 2, 3, 4)).all()
    latents = batch.targets(2).latents
    torch.testing.assert_close(batch.context[~alive][:, -1], latents[~alive][:, 0])


def test_a_dream_never_runs_past_the_end_of_its_episode():
    episodes = walk(3, length=12)
    batch = dreams(episodes)
    for update in range(20):
        batch.prepare(Stage(3, 1.0), update)
        assert (batch.place[:, 1] + 3 < 12).all()
        assert (batch.place[:, 1] >= 3).all()
        batch.advance(batch.context, torch.ones(8, dtype=torch.bool), 3)


def test_every_kind_has_an_equal_part_of_the_batch():
    episodes = walk(8, kinds=("push", "slide", "slide", "slide"))
    batch = dreams(episodes)
    for update in range(5):
        batch.prepare(Stage(2, 0.5), update)
        kinds = [episodes.kinds[index] for index in batch.place[:, 0].tolist()]
        assert kinds == ["push", "slide"] * 4
        batch.advance(batch.context, torch.ones(8, dtype=torch.bool), 2)


def test_dreams_of_what_has_come_to_rest_restart():
    episodes = walk(5, length=60)
    episodes.positions[:, 20:] = episodes.positions[:, 20:21]
    batch = dreams(episodes)
    batch.prepare(Stage(2, 1.0), 0)
    batch.place[:4, 1], batch.place[4:, 1] = 26, 27  # frame 20 is the last that moved, and eight more are dreamed
    batch.advance(torch.full_like(batch.context, 7.0), torch.ones(8, dtype=torch.bool), 0)
    batch.prepare(Stage(2, 1.0), 1)
    assert [(context == 7.0).all().item() for context in batch.context] == [True] * 4 + [False] * 4


def test_a_dream_that_is_off_already_is_judged_by_what_it_adds(perception):
    def position_loss(gain):
        losses = []
        for weight in (0.0, 1.0):
            config = dataclasses.replace(CONFIG, divergence=np.inf, position_weight=weight)
            batch = dreams(walk(5), config)
            batch.prepare(Stage(3, 0.0), 0)
            batch.context += 0.2  # two centimetres
            background = torch.zeros(1, 2, 4, 4)
            loss = self_fed_loss(Oracle(gain), perception, batch, background, config, 3, Processes("cpu"))
            losses.append(float(loss))
        return losses[1] - losses[0]

    assert position_loss(1.0) < 0.01  # decimetres
    assert position_loss(0.0) > 0.1


@pytest.fixture
def turning(scene):
    """Training on headings: episodes whose only change is how the cube is turned."""
    alone = dataclasses.replace(scene, markers=scene.markers[:1], agent=None)
    tokenizer = TinyTokenizer(TinyTokenizerConfig(channels=2, widths=(8, 8), blocks=1))
    perception = Perception(alone, tokenizer, TurningReadout())

    def update(gain, weight, off=0.0):
        episodes = walk(5)
        episodes.headings = angles(10 * episodes.positions[..., 0])
        episodes.positions[:] = 0.0
        config = dataclasses.replace(CONFIG, divergence=np.inf, heading_weight=weight)
        batch = dreams(episodes, config)
        batch.prepare(Stage(3, 0.0), 0)
        batch.context += off
        background = torch.zeros(1, 2, 4, 4)
        loss = self_fed_loss(Oracle(gain), perception, batch, background, config, 3, Processes("cpu"))
        return float(loss), batch.alive

    return update


@pytest.mark.parametrize("off", [0.0, 0.5])
def test_a_dream_is_judged_by_how_it_turns(turning, off):
    right, wrong = (turning(gain, 1.0, off)[0] - turning(gain, 0.0, off)[0] for gain in (1.0, 0.0))
    assert right < 0.01
    assert wrong > 0.1


def test_a_dream_whose_object_has_turned_away_is_given_up(turning):
    assert turning(1.0, 1.0, off=1.2)[1].all()
    assert not turning(1.0, 1.0, off=1.6)[1].any()


def test_without_persistence_every_dream_restarts():
    batch = dreams(walk(5))
    batch.prepare(Stage(2, 0.0), 0)
    batch.advance(torch.full_like(batch.context, 7.0), torch.ones(8, dtype=torch.bool), 2)
    batch.prepare(Stage(2, 0.0), 1)
    assert not (batch.context == 7.0).all(dim=(1, 2, 3, 4)).any()


def test_what_comes_after_a_dream_was_given_up_is_not_trained_on(perception):
    def loss(steps, divergence):
        config = dataclasses.replace(CONFIG, divergence=divergence)
        batch = dreams(walk(5), config)
        batch.prepare(Stage(3, 0.0), 0)
        background = torch.zeros(1, 2, 4, 4)
        return steps * float(self_fed_loss(Oracle(0.0), perception, batch, background, config, steps, Processes("cpu")))

    assert loss(3, divergence=1e-9) == pytest.approx(loss(1, divergence=1e-9))
    assert loss(3, divergence=np.inf) > 2 * loss(1, divergence=np.inf)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_short_fit_learns_what_actions_do(perception, tmp_path, optimizer):
    config = dataclasses.replace(CONFIG, updates=60, validate_every=20, optimizer=optimizer)
    still = validate(small_model(), perception, walk(2, seed=1))["error"]
    result = fit_dynamics(small_model(), perception, walk(6), walk(2, seed=1), config, tmp_path, seed=0)
    assert result.best["error"] < 0.7 * still
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    assert [row["rollout"] for row in result.curve] == [1, 2, 2]


@pytest.mark.parametrize(
    "model",
    [
        lambda: LatentUNet(LatentUNetConfig(channels=2, action_dim=2, width=16, multipliers=(1, 1), blocks=1)),
        lambda: ProbabilisticPlus(ProbabilisticPlusConfig(channels=2, action_dim=2, width=16, blocks=2, noise_dim=2)),
    ],
)
def test_the_reports_other_systems_learn_what_actions_do(perception, tmp_path, model):
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, updates=400, validate_every=40, gradient_weight=0.1)
    result = fit_dynamics(model(), perception, walk(6), walk(2, seed=1), config, tmp_path, seed=0)
    assert result.best["error"] < 0.7 * result.curve[0]["error"]


def test_what_the_posterior_knows_is_charged_beyond_the_free_bits(perception):
    def loss(free_bits):
        torch.manual_seed(0)
        model = ProbabilisticPlus(ProbabilisticPlusConfig(channels=2, action_dim=2, width=16, blocks=2, noise_dim=2))
        config = dataclasses.replace(CONFIG, kl_weight=10.0, free_bits=free_bits)
        batch = dreams(walk(5), config)
        batch.prepare(Stage(1, 0.0), 0)
        background = torch.zeros(1, 2, 4, 4)
        return float(self_fed_loss(model, perception, batch, background, config, 1, Processes("cpu")))

    assert loss(0.0) > loss(1e-3) >= loss(1e3)


def test_the_model_ends_with_the_best_validated_weights(perception, tmp_path):
    model, val = small_model(), walk(2, seed=1)
    result = fit_dynamics(model, perception, walk(6), val, CONFIG, tmp_path, seed=0)
    assert validate(model, perception, val)["error"] == pytest.approx(result.best["error"])
    assert result.best["error"] == min(row["error"] for row in result.curve)


def test_an_interrupted_fit_goes_on_to_the_same_weights(perception, tmp_path, monkeypatch):
    def fit(folder):
        model = small_model()
        result = fit_dynamics(model, perception, walk(6), walk(2, seed=1), CONFIG, tmp_path / folder, seed=0)
        return model.state_dict(), result

    whole, whole_result = fit("whole")
    update, calls = self_fed_loss, itertools.count()

    def interrupted(*arguments):
        if next(calls) == 6:
            raise KeyboardInterrupt
        return update(*arguments)

    with monkeypatch.context() as patch:
        ticks = iter(range(0, 10**6, 100))
        patch.setattr(time, "monotonic", lambda: next(ticks))  # a checkpoint after every update
        patch.setattr(dynamics, "self_fed_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit("resumed")
    done = []
    monkeypatch.setattr(dynamics, "self_fed_loss", lambda *arguments: done.append(1) or update(*arguments))
    resumed, resumed_result = fit("resumed")
    assert len(done) == 12 - 6
    for row, expected in zip(resumed_result.curve, whole_result.curve, strict=True):
        assert row == pytest.approx(expected)
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor)


def test_the_same_seed_fits_the_same_weights_and_another_does_not(perception, tmp_path):
    def fit(folder, seed):
        model = small_model()
        fit_dynamics(model, perception, walk(6), walk(2, seed=1), CONFIG, tmp_path / folder, seed=seed)
        return model.out_projection.weight

    first, second, other = fit("a", 0), fit("b", 0), fit("c", 1)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_epochs_count_passes_over_all_windows(perception, tmp_path):
    train = walk(4, length=12)  # 32 windows
    config = dataclasses.replace(CONFIG, updates=1, epochs=2, batch_size=8)
    result = fit_dynamics(small_model(), perception, train, walk(2), config, tmp_path, seed=0)
    assert result.curve[-1]["update"] == 8


def test_a_loss_that_is_not_finite_stops_the_fit_with_advice(perception, tmp_path):
    with pytest.raises(ValueError, match="loss is nan at update 0; lower the learning rate"):
        fit_dynamics(Oracle(float("nan")), perception, walk(4), walk(2), CONFIG, tmp_path, seed=0)


class RoundTrips(TorchDispatchMode):
    """Counts what a GPU would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        keywords = keywords or {}
        name = operation.overloadpacket.__name__
        asks = name in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "item")
        if asks or (name in ("_to_copy", "copy_") and keywords.get("device") is not None):
            self.seen.append(name)
        return operation(*arguments, **keywords)


@pytest.mark.parametrize("headings", [False, True])
def test_an_update_asks_the_device_for_nothing(scene, tmp_path, headings):
    """Draws, rollout, gradient, optimiser, moving average and the noting of the loss."""
    alone = dataclasses.replace(scene, markers=scene.markers[:1], agent=None)
    tokenizer = TinyTokenizer(TinyTokenizerConfig(channels=2, widths=(8, 8), blocks=1))
    readout = Readout(ReadoutConfig(2, 1, width=8, headings=headings), (-1.0, -1.0), (1.0, 1.0))
    sight = Perception(alone, tokenizer, readout)
    trainer = dynamics._Trainer(small_model(), sight, walk(5), walk(2), CONFIG, tmp_path, 0, "cpu")
    with RoundTrips() as counted:
        for update in range(6):
            trainer.update(update, update / 6)
    assert counted.seen == []
    with RoundTrips() as counted:
        trainer.logbook.losses.read()
    assert counted.seen == ["_local_scalar_dense"]


def moved(thing, device):
    """What a plain object holds, on another device."""
    for name, value in vars(thing).items():
        if isinstance(value, Tensor):
            setattr(thing, name, value.to(device))
    return thing


def test_an_update_needs_no_number_from_the_device(scene, monkeypatch):
    """On PyTorch's device without numbers, from which nothing can be copied to the host."""
    meta, processes = torch.device("meta"), Processes("cpu")
    monkeypatch.setattr(dynamics, "autocast", lambda *_: contextlib.nullcontext())  # which does not know that device
    processes.device = meta
    batch = moved(Dreams(walk(5), CONFIG, 4, 0, 0, processes), meta)
    batch._device = meta
    for part in (batch._episodes, *itertools.chain(*batch._samplers.values())):
        moved(part, meta)
    alone = dataclasses.replace(scene, markers=scene.markers[:1], agent=None)
    tokenizer = TinyTokenizer(TinyTokenizerConfig(channels=2, widths=(8, 8), blocks=1))
    readout = Readout(ReadoutConfig(2, 1, width=8, headings=True), (-1.0, -1.0), (1.0, 1.0))
    sight, model = Perception(alone, tokenizer, readout).to(meta), small_model().to(meta)
    optimizer, average, losses = new_optimizer(model, CONFIG), MovingAverage(model, 0.9), Losses(processes, "")
    for update in range(3):
        batch.prepare(Stage(2, 0.5), update)
        background = torch.zeros(1, 2, 4, 4, device=meta)
        loss = self_fed_loss(model, sight, batch, background, CONFIG, 2, processes)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.follow(model, update)
        losses.note(update, loss)
    with pytest.raises(RuntimeError, match="meta"):
        losses.read()


def test_a_loss_that_is_not_finite_is_found_when_it_is_read(tmp_path):
    losses = Losses(Processes("cpu"), "lower the learning rate.")
    for update, value in enumerate([1.0, 3.0, float("inf"), float("nan"), 1.0]):
        losses.note(update, torch.tensor(value))
        if update == 1:
            assert losses.read() == (4.0, 2)
    with pytest.raises(ValueError, match="the loss is nan at update 2; lower"):
        losses.read()


def test_what_a_slot_draws_depends_on_seed_and_update_only():
    def places(seed, update, size=8):
        config = dataclasses.replace(CONFIG, batch_size=size)
        batch = Dreams(walk(9, kinds=("push", "slide")), config, 4, 0, seed, Processes("cpu"))
        batch.prepare(Stage(2, 0.5), update)
        return batch.place

    assert torch.equal(places(0, 5), places(0, 5))
    assert torch.equal(places(0, 5, 16)[:8], places(0, 5))
    assert not torch.equal(places(0, 6), places(0, 5))
    assert not torch.equal(places(1, 5), places(0, 5))


def test_real_contexts_are_noisy_as_asked_and_dreamed_ones_are_left_alone():
    def contexts(noise, size=8, goes_on=False):
        config = dataclasses.replace(CONFIG, batch_size=size, context_noise=noise)
        batch = dreams(walk(9), config)
        batch.prepare(Stage(2), 5)
        if goes_on:
            batch.advance(torch.zeros_like(batch.context), torch.ones_like(batch.alive), 0)
            batch.prepare(Stage(1, persistence=1.0), 6)
        return batch.context

    added = contexts(0.5) - contexts(0.0)
    assert added.mean() == pytest.approx(0.0, abs=0.05)
    assert added.std() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(contexts(0.5, size=16)[:8], contexts(0.5))
    assert not contexts(0.5, goes_on=True).any()


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match="context_noise must not be negative, got -1"):
        dataclasses.replace(CONFIG, context_noise=-1)


def test_all_windows_are_drawn_equally_often_without_a_motion_bias():
    batch = Dreams(walk(4, length=12), dataclasses.replace(CONFIG, batch_size=4000), 4, 0, 0, Processes("cpu"))
    batch._samplers[0.0] = [WindowSampler(walk(4, length=12), "push", 4, 0.0)]
    batch.prepare(Stage(1, motion_bias=0.0), 0)
    counts = torch.bincount(batch.place[:, 0] * 12 + batch.place[:, 1])
    assert (counts > 0).sum() == 4 * 8  # the last context frame is 3 to 10
    assert counts[counts > 0].min() > 80  # of 125
    assert counts.max() < 170


def test_a_checkpoint_of_another_batch_is_refused(perception, tmp_path):
    fit_dynamics(small_model(), perception, walk(6), walk(2), CONFIG, tmp_path, seed=0)
    smaller = dataclasses.replace(CONFIG, batch_size=4, updates=20)
    with pytest.raises(ValueError, match="of a batch of 8 dreams, and this one has 4"):
        fit_dynamics(small_model(), perception, walk(6), walk(2), smaller, tmp_path, seed=0)


def test_a_budget_in_minutes_is_followed_by_the_whole_recipe(perception, tmp_path):
    config = dataclasses.replace(
        CONFIG, updates=10**6, minutes=4 / 60, validate_every=10**6, stages=(Stage(1), Stage(2))
    )
    began = time.monotonic()
    result = fit_dynamics(small_model(), perception, walk(6), walk(2, seed=1), config, tmp_path, seed=0)
    assert 3 < time.monotonic() - began < 6
    (last,) = result.curve
    assert 10 < last["update"] < 10**6
    assert last["rollout"] == 2  # the last stage came by the clock
    assert last["lr"] < 0.05 * CONFIG.lr  # and the cool-down
    again = fit_dynamics(small_model(), perception, walk(6), walk(2, seed=1), config, tmp_path, seed=0)
    assert again.curve == result.curve  # the time has been spent


def test_a_budget_without_time_for_a_validation_is_refused_before_the_work(perception, tmp_path):
    config = dataclasses.replace(CONFIG, minutes=1e-5)
    with pytest.raises(ValueError, match=r"--fit.minutes 1e-05 is too short: a single validation takes"):
        fit_dynamics(small_model(), perception, walk(6), walk(2), config, tmp_path, seed=0)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_compiled_fit_learns_alike(perception, tmp_path):
    def fit(compile):
        torch.manual_seed(0)
        model = ResNetRollout(ResNetRolloutConfig(channels=2, action_dim=2, width=16, blocks=1, dropout=0.0))
        config = dataclasses.replace(CONFIG, compile=compile, optimizer="adamw")
        return fit_dynamics(model, perception, walk(6), walk(2), config, tmp_path / str(compile), seed=0).curve

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training goes on without compilation")
        fast = fit(True)
    for row, expected in zip(fast, fit(False), strict=True):
        assert row == pytest.approx(expected, rel=1e-3)
