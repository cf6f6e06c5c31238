import pytest
import torch

from cosmos_isaac_wm.train.speed.harness import Bench


def test_calls_are_measured_in_turns():
    order = []
    bench = Bench(repeats=3, seconds=0.0, device=torch.device("cpu"))
    over = bench.compare("group", 4, {"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert "".join(order[4:]) == "ababab"
    assert over["a"] == 1
    assert over["b"] == pytest.approx(bench.rows[1].over)
    assert bench.rows[0].steps_per_s > 0
