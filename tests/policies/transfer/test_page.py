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


def test_a_gap_that_few_real_episodes_do_not_show_is_not_called_exploitation():
    row = BothWorlds(played(0.85), played(0.7, 10))
    assert "Exploitation" not in table({"unsure": row}, {})  # 7 of 10 real successes: up to 0.89
    assert "Exploitation" in table({"sure": BothWorlds(played(0.95), played(0.7, 10))}, {})
    told = {"unsure_real_interval_low": 0.6, "unsure_real_interval_high": 0.8, "unsure_real_interval_ratio": 0.4}
    text = table({"unsure": row}, told)
    assert "unsure: real success is 0.60 to 0.80 by 10 real and 20 dreamed episodes, 0.40 times as wide" in text
    assert "**Exploitation:** unsure" in text


def test_success_that_a_dream_is_not_sure_of_is_doubted_until_it_is_seen_in_reality():
    dreamed = played(0.5)
    dreamed.bound = [0.2] * 10 + [0.9] * 10  # those that failed do not count
    text = table({"shaky": BothWorlds(dreamed, Played())}, {}, 0.1)
    assert "| shaky | 0.50 (0.30 to 0.70) | not played | not played |" in text
    assert "**Doubt:** where shaky succeeds, the dream may be off by 0.200 m, more than 0.100" in text
    assert "Doubt" not in table({"shaky": BothWorlds(dreamed, Played())}, {}, 0.3)
    assert "Doubt" not in table({"shaky": BothWorlds(dreamed, played(0.5))}, {}, 0.1)
    assert "Doubt" not in table({"silent": BothWorlds(played(0.5), Played())}, {}, 0.1)  # without a bound


def test_success_at_the_rim_of_the_goal_is_doubted_until_it_is_seen_in_reality():
    rim = BothWorlds(played(0.95), Played(), clear=played(0.6))
    text = table({"rim": rim}, {})
    assert "**Doubt:** rim succeeds in 0.95 of its dreams, but clearly in 0.60: it aims for the rim" in text
    assert "| rim | 0.95 (0.76 to 0.99) | 0.60 (0.39 to 0.78) | not played |" in text
    assert "Doubt" not in table({"deep": BothWorlds(played(0.95), Played(), clear=played(0.9))}, {})
    assert "Doubt" not in table({"seen": BothWorlds(played(0.95), played(0.9), clear=played(0.6))}, {})
