from cosmos_isaac_wm.reporting.curves import draw_curves
from cosmos_isaac_wm.training import FitResult


def test_the_curves_of_a_fit_are_drawn(tmp_path):
    curve = [{"update": n, "loss": 1 / n, "error": 10.0 / n, "push_median": 5.0 / n} for n in (1.0, 2.0, 3.0)]
    draw_curves(tmp_path / "curves.png", FitResult(curve, curve[-1], 1.0))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
