import dataclasses
import time

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from cosmos_isaac_wm.data import write_dataset
from cosmos_isaac_wm.data.dataset import EpisodeDataset
from cosmos_isaac_wm.perception.pictures import to_frames, to_images
from cosmos_isaac_wm.perception.tokenizers import TinyTokenizer, TinyTokenizerConfig
from cosmos_isaac_wm.training import clock
from cosmos_isaac_wm.training import tokenizer as fit
from cosmos_isaac_wm.training.optimizer import one_cycle
from cosmos_isaac_wm.training.pictures import foreground, importance
from cosmos_isaac_wm.training.processes import Processes
from cosmos_isaac_wm.training.tokenizer import TokenizerFitConfig, fit_tokenizer

CONFIG = TokenizerFitConfig(updates=8, batch_size=4, crop=16, frames_per_episode=4, precision="fp32")


@pytest.fixture
def fitted(dataset, tmp_path):
    """Fit a tiny tokenizer for a few updates into a folder and return it with its curve."""

    def run(name, config=CONFIG):
        torch.manual_seed(0)
        tokenizer = TinyTokenizer(TinyTokenizerConfig(widths=(16, 16), blocks=1))
        return tokenizer, fit_tokenizer(tokenizer, [dataset], tmp_path / name, config, seed=0, device="cpu")

    return run


def test_frames_survive_the_way_to_images_and_back():
    frames = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    images = to_images(frames)
    assert (images.min(), images.max()) == (-1.0, 1.0)
    assert torch.equal(to_frames(images), frames)


def test_the_foreground_is_what_moves(make_episode, scene):
    episodes = [make_episode(scene, seed) for seed in range(4)]
    masks = foreground(np.concatenate([episode.frames for episode in episodes]))
    cubes = scene.to_pixels(np.concatenate([episode.positions["cube"] for episode in episodes]))
    for mask, (column, row) in zip(masks, cubes.round(), strict=True):
        assert mask[int(row), int(column)]
    assert masks.mean() < 0.15
    assert not foreground(np.full((5, 16, 16, 3), 99, np.uint8)).any()


def test_a_small_thing_counts_like_a_large_one():
    mask = np.zeros((2, 24, 24), bool)
    mask[0, 2:10, 2:10], mask[0, 20:22, 20:24] = True, True  # 64 and 8 pixels
    mask[0, 15, 2] = True  # one alone may be noise
    counted = importance(mask)
    assert (counted[0, 5, 5], counted[0, 20, 20], counted[0, 15, 2]) == (1, 8, 16)
    assert counted[0, 2:10, 2:10].sum() == counted[0, 20:22, 20:24].sum()
    assert not counted[~mask].any()
    assert not counted[1].any()
    mask[1, ::3, ::3], mask[1, 3:12, 3:12] = True, True  # so many are noise
    assert set(np.unique(importance(mask)[1])) == {0, 1, 2}


def test_a_short_fit_lowers_the_loss(fitted):
    _, short = fitted("short", TokenizerFitConfig(**{**vars(CONFIG), "updates": 1, "lr": 3e-3}))
    _, longer = fitted("longer", TokenizerFitConfig(**{**vars(CONFIG), "updates": 200, "lr": 3e-3}))
    assert longer[-1][1] < 0.9 * short[-1][1]


def test_an_interrupted_fit_goes_on_to_the_same_weights(fitted, monkeypatch):
    whole, whole_curve = fitted("whole")
    batch = fit.Crops.batch

    def interrupted(self, update):
        if update == 5:
            raise KeyboardInterrupt
        return batch(self, update)

    with monkeypatch.context() as patch:
        ticks = iter(range(0, 10**6, 100))
        patch.setattr(clock.time, "monotonic", lambda: next(ticks))  # a checkpoint after every update
        patch.setattr(fit.Crops, "batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted("resumed")
    updates = []
    monkeypatch.setattr(fit.Crops, "batch", lambda self, update: updates.append(update) or batch(self, update))
    resumed, resumed_curve = fitted("resumed")
    assert updates == [5, 6, 7]
    assert dict(resumed_curve) == pytest.approx(dict(whole_curve))
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor)


def test_a_budget_in_minutes_is_followed_by_the_learning_rate(fitted, monkeypatch):
    rates, step = [], OneCycleLR.step
    monkeypatch.setattr(OneCycleLR, "step", lambda self: step(self) or rates.append(self.get_last_lr()[0]))
    config = dataclasses.replace(CONFIG, updates=10**6, minutes=2 / 60)
    began = time.monotonic()
    curve = fitted("timed", config)[1]
    assert 1.9 < time.monotonic() - began < 4
    assert 100 < curve[-1][0] < 10**6
    assert max(rates) == pytest.approx(config.lr, rel=0.05)
    assert rates[-1] < 0.01 * config.lr
    assert fitted("timed", config)[1] == curve  # the time has been spent


def test_the_learning_rate_goes_by_updates_otherwise(fitted, monkeypatch):
    rates, step = [], OneCycleLR.step
    monkeypatch.setattr(OneCycleLR, "step", lambda self: step(self) or rates.append(self.get_last_lr()[0]))
    fitted("counted")
    found = rates[1:]  # the first is that of its construction
    weight = torch.nn.Parameter(torch.zeros(1))
    expected = one_cycle(torch.optim.AdamW([weight]), CONFIG.lr, 8, warmup=0.05)
    for rate in found:
        expected.step()
        assert rate == pytest.approx(expected.get_last_lr()[0])


def test_drawing_crops_needs_no_number_from_the_device(dataset):
    """On PyTorch's device without numbers, from which nothing can be copied to the host."""
    crops = fit.Crops([dataset], CONFIG, 0, Processes("cpu"))
    for name, value in vars(crops).items():
        if isinstance(value, torch.Tensor):
            setattr(crops, name, value.to("meta"))
    images, weights = crops.batch(3)
    assert (images.shape, weights.shape) == ((4, 3, 16, 16), (4, 1, 16, 16))
    assert images.is_meta


def test_half_of_the_crops_are_around_the_foreground(dataset):
    crops = fit.Crops([dataset], dataclasses.replace(CONFIG, batch_size=400), 0, Processes("cpu"))
    images, weights = crops.batch(0)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert float(weights.mean()) == pytest.approx(1.0, abs=1e-5)
    whole = (crops._importance > 0).float().mean()
    assert (weights > weights.min()).float().mean() > 1.2 * whole
    assert not torch.equal(images, crops.batch(1)[0])
    assert torch.equal(images, crops.batch(0)[0])


def test_pictures_of_several_sizes_are_cropped_within_their_own(dataset, make_episode, scene, tmp_path):
    wide = dataclasses.replace(scene, image_size=(40, 56))
    episodes = [dataclasses.replace(make_episode(scene, 0), frames=np.full((17, 40, 56, 3), 255, np.uint8))]
    write_dataset(tmp_path / "wide", episodes, wide, ["train"])
    others = [EpisodeDataset(tmp_path / "wide"), dataset]
    crops = fit.Crops(others, dataclasses.replace(CONFIG, batch_size=400), 0, Processes("cpu"))
    images, _ = crops.batch(0)
    assert images.shape == (400, 3, 16, 16)
    white, darkest = (images == 1).all(dim=(1, 2, 3)), int(dataset[0].frames.min())
    assert 0.02 < white.float().mean() < 0.5  # 4 of 36 pictures, and those from corner to corner
    assert to_frames(images[~white]).min() >= darkest  # nothing of what fills up small pictures
    assert darkest > 0


def test_colours_are_exchanged_in_a_share_of_the_crops(dataset):
    plain, other = (
        fit.Crops([dataset], dataclasses.replace(CONFIG, batch_size=400, recoloured=share), 0, Processes("cpu"))
        for share in (0.0, 0.5)
    )
    (before, weights), (after, same) = plain.batch(0), other.batch(0)
    assert torch.equal(weights, same)
    changed = (before != after).flatten(1).any(dim=1)
    assert 0.35 < changed.float().mean() < 0.6  # one in twelve of the chosen ones stays as it is
    inverted = torch.isclose(after.mean(dim=(1, 2, 3)), -before.mean(dim=(1, 2, 3)), atol=1e-4)
    assert 0.15 < inverted.float().mean() < 0.35
    assert torch.isclose(after.mean(dim=(1, 2, 3)), before.mean(dim=(1, 2, 3)), atol=1e-4)[~inverted].all()


def test_a_loss_that_is_not_finite_stops_the_fit_with_advice(fitted):
    with pytest.raises(ValueError, match=r"loss is nan at update \d+; lower the learning rate \(now 1e\+30\)"):
        fitted("broken", dataclasses.replace(CONFIG, lr=1e30))


def test_an_unknown_precision_is_refused(fitted):
    with pytest.raises(ValueError, match=r"'fp8'.*'auto', 'bf16' or 'fp32'"):
        fitted("fp8", TokenizerFitConfig(**{**vars(CONFIG), "precision": "fp8"}))
