import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cosmos_isaac_wm.train.speed import reality
from cosmos_isaac_wm.train.speed.harness import Bench


class Tables:
    """In Isaac Lab's place."""

    def __init__(self, kind, count, image_size):
        self.frames = np.zeros((count, *image_size, 3), np.uint8)

    def reset(self, seeds):
        assert len(seeds) == len(self.frames)

    def step(self, actions):
        assert actions.shape == (len(self.frames), 2)

    def render(self):
        return self.frames

    def close(self):
        self.frames = None


class Known(Bench):
    """Calls are made, but their seconds are known."""

    def _time(self, call, count):
        call()
        return {reality._step_tables: 0.02, reality._call_in_turn: 0.04}.get(call.func, 0.01)


def test_dreams_are_measured_beside_isaac_lab_at_its_fastest(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "cosmos_isaac_wm.sims.isaac_lab", SimpleNamespace(IsaacLabTables=Tables))
    monkeypatch.setattr(model, "provenance", {"simulator": "isaac-lab"})
    bench = Known(repeats=2, seconds=0.0, device=torch.device("cpu"))
    numbers = reality.real_simulator(bench, model, {"dtype": "float32", "compile": False}, seed=0, batch=8)
    for count in (1, 4, 16, 64):
        assert numbers[f"isaac_lab_{count}_tables_drawn_steps_per_s"] == pytest.approx(count / 0.02)
        assert numbers[f"isaac_lab_{count}_tables_steps_per_s"] == pytest.approx(count / 0.04)
    assert [row.steps_per_s for row in bench.rows if "dreams" in row.name] == pytest.approx([8 / 0.01] * 4)
    assert numbers["over_isaac_lab"] == pytest.approx((8 / 0.01) / (64 / 0.04))
