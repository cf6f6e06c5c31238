import pytest

from cosmos_isaac_wm.policies.evaluations import (
    EvaluationRow,
    draw_evaluations,
    evaluation_figures,
    first_good,
    read_evaluations,
    write_evaluations,
)

ROWS = [EvaluationRow(100, 1.5, 0.2, -3.0, 90.0), EvaluationRow(200, 3.0, 0.9, 5.0, 40.0)]
ROWS.append(EvaluationRow(300, 4.5, 0.95, 4.0, 42.0))


def test_the_table_is_read_as_it_was_written(tmp_path):
    assert read_evaluations(tmp_path / "evaluations.csv") == []
    write_evaluations(tmp_path / "evaluations.csv", ROWS)
    assert read_evaluations(tmp_path / "evaluations.csv") == ROWS
    assert read_evaluations(tmp_path / "evaluations.csv", until=200) == ROWS[:2]


def test_the_best_evaluation_is_that_of_the_greatest_return():
    figures = evaluation_figures(ROWS, "real_")
    assert (figures["real_success"], figures["real_return"]) == (0.9, 5.0)
    assert (figures["real_steps_to_good"], figures["real_seconds_to_good"]) == (200, 3.0)


def test_an_agent_that_never_was_good_has_no_time_to_it():
    assert first_good(ROWS[:1]) is None
    assert evaluation_figures(ROWS[:1]) == {"success": 0.2, "return": -3.0}
    assert evaluation_figures([]) == {}


@pytest.mark.parametrize("rows", [ROWS, []])
def test_the_curve_is_drawn(tmp_path, rows):
    draw_evaluations(tmp_path / "curve.png", {"CosmosDream-v0": rows})
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_returns_are_drawn_and_told_where_success_is_not_known(tmp_path):
    rows = [EvaluationRow(100, 1.0, float("nan"), -3.0, 12.0), EvaluationRow(200, 2.0, float("nan"), -2.0, 12.0)]
    write_evaluations(tmp_path / "table.csv", rows)
    read = read_evaluations(tmp_path / "table.csv")
    assert [row.mean_return for row in read] == [-3.0, -2.0]
    assert evaluation_figures(read) == {"return": -2.0}
    draw_evaluations(tmp_path / "curve.png", {"dream": read})
    assert (tmp_path / "curve.png").stat().st_size > 1000
