"""What is said of a tokenizer: on one that draws what it was shown, and on one that draws the empty table."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.readout import Located
from cosmos_isaac_wm.training.round_trip import round_trip


class Copies(nn.Module):
    """A tokenizer whose latents are the picture's patches; `paints` changes what is drawn."""

    channels, compression = 192, 8

    def __init__(self, paints=lambda images: images):
        super().__init__()
        self.paints, self.shuffle = paints, nn.PixelUnshuffle(8)

    def encode(self, images):
        return self.shuffle(images)

    def decode(self, latents):
        return self.paints(nn.functional.pixel_shuffle(latents, 8))


class Sees(nn.Module):
    """A readout that is off by so many metres from what is true of the episode's still cube; the pusher it misses."""

    def __init__(self, off):
        super().__init__()
        self.off = off

    def forward(self, latents):
        return Located(torch.full((len(latents), 2, 2), self.off), torch.ones(len(latents), 2))


def test_a_perfect_tokenizer_loses_nothing(dataset):
    found = round_trip(Perception(dataset.scene, Copies()), [dataset])
    assert found.figures["round_trip_db"] > 50
    assert found.figures["moving_kept"] > 0.98
    assert found.figures["cube_seen"] == found.figures["pusher_seen"] == 1
    assert not found.lost
    assert "WARNING" not in found.words()


def test_a_tokenizer_that_draws_an_empty_table_is_told_so(dataset):
    found = round_trip(Perception(dataset.scene, Copies(torch.zeros_like)), [dataset])
    assert found.figures["cube_seen"] == 0
    assert found.lost == ["what moves", "cube", "pusher"]
    assert "WARNING: what moves and cube and pusher will be lost in dreams" in found.words()


def test_an_object_that_is_read_less_precisely_than_it_is_large_is_lost(dataset):
    found = round_trip(Perception(dataset.scene, Copies(), Sees(5.0)), [dataset])
    assert found.figures["cube_read_mm"] > 1000 > found.figures["cube_size_mm"] > 30
    assert found.lost == ["cube", "pusher"]


def test_a_scene_without_objects_is_judged_by_what_moves(dataset):
    scene = dataclasses.replace(dataset.scene, markers=(), agent=None)
    found = round_trip(Perception(scene, Copies()), [dataset])
    assert found.figures.keys() == {"round_trip_db", "moving_kept"}
    assert found.figures["moving_kept"] == pytest.approx(1, abs=0.02)
    assert np.isfinite(list(found.figures.values())).all()
