import json

import pytest

from cosmos_isaac_wm.train import collect, improve
from cosmos_isaac_wm.train.improve import table


def test_the_table_says_what_each_round_gained_and_names_exploitation():
    text = table(
        [
            {"dream_success": 0.9, "real_success": 0.5},
            {"dream_success": 0.8, "real_success": 0.75, "push_cube_rmse_px512": 41.2},
        ]
    )
    lines = text.splitlines()
    assert lines[2] == "| 0 | 0.9 | 0.5 |  |  |"
    assert lines[3] == "| 1 | 0.8 | 0.75 | 41.2 | +0.25 |"
    assert "**Exploitation:** round 0's agent succeeds more often in the dream, by 0.40." in text
    assert "round 1's agent" not in text


@pytest.mark.opengl
def test_a_round_leaves_data_a_model_an_agent_and_its_measure_and_is_not_done_again(bundle, tmp_path, capsys):
    data = ["--episodes", "10", "--kind", "push", "--steps", "14", "--size", "32", "--workers", "1"]
    assert collect.main([*data, "--out", str(tmp_path / "data")]) == 0
    argv = ["--data", tmp_path / "data", "--out", tmp_path / "out", "--world_model", bundle, "--rounds", 1]
    argv += ["--episodes", 4, "--updates", 8, "--timesteps", 128, "--measured", 2, "--workers", 1]
    argv += ["--despite_verdict"]  # eight updates teach nothing
    argv = [*map(str, argv), "--json", str(tmp_path / "numbers.json")]
    assert improve.main(argv) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert {"round_0_real_success", "round_1_dream_success", "round_1_push_cube_rmse_px512"} <= numbers.keys()
    written = [
        tmp_path / "out" / "round_1" / "data" / "data" / "metadata.json",
        tmp_path / "out" / "round_1" / "world_model" / "config.yaml",
        tmp_path / "out" / "round_1" / "run" / "agent" / "agent.yaml",
    ]
    times = [path.stat().st_mtime_ns for path in written]
    assert improve.main(argv) == 0
    assert [path.stat().st_mtime_ns for path in written] == times
    assert json.loads((tmp_path / "numbers.json").read_text()) == numbers
    assert improve.main([*argv, "--seed", "9"]) == 1
    assert "holds another improvement (seed 0 instead of 9)" in capsys.readouterr().err
