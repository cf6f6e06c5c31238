import numpy as np

from cosmos_isaac_wm.policies.transfer import BothWorlds, Played, draw, table


def played(rate, count=20):
    wins = round(rate * count)
    return Played([True] * wins + [False] * (count - wins), list(np.linspace(0, 1, count)), [0.1] * count, [9] * count)


def test_the_table_calls_exploitation_by_its_name():
    rows = {"honest": BothWorlds(played(0.5), played(0.5)), "cheat": BothWorlds(played(0.9), played(0.2))}
    text = table(rows, {"exploitation_gap": 0.7, "real_success": 0.9})
    assert "**Exploitation:** cheat succeeds more often in the dream than in reality, by 0.70." in text
    assert "honest succeeds" not in text
    assert "exploitation_gap: 0.700 (missed)" in text
    assert "real_success: 0.900 (bar)" in text


def test_the_plot_shows_every_policy(tmp_path):
    draw(tmp_path / "transfer.png", {"honest": BothWorlds(played(0.5), played(0.5))})
    assert (tmp_path / "transfer.png").read_bytes().startswith(b"\x89PNG")
