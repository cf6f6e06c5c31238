import pytest

from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.reporting.table import Row, error_table, rows


@pytest.fixture(scope="module")
def evaluation(world_model, dataset):
    return evaluate(world_model, dataset, [1, 4, 8])


def row_of(found: list[Row], label: str) -> Row:
    return next(row for row in found if row.label == label)


@pytest.mark.parametrize(
    ("median", "rate", "verdicts"),
    [(3.9, 1.0, ("aim", "aim")), (8.0, 0.99, ("bar", "bar")), (8.1, 0.98, ("missed", "missed"))],
)
def test_verdicts_know_that_less_error_and_more_detection_are_better(evaluation, monkeypatch, median, rate, verdicts):
    numbers = {"push_cube_median_px512": median, "push_detection_rate": rate}
    monkeypatch.setattr(type(evaluation), "numbers", lambda self: numbers)
    found = rows(evaluation)
    assert (row_of(found, "cube median error").verdict, row_of(found, "strict detection rate").verdict) == verdicts


def test_the_table_has_a_line_for_every_figure_and_says_what_is_missing(evaluation):
    table = error_table(evaluation)
    assert "3 push episodes" in table
    assert f"{evaluation.numbers()['push_cube_rmse_px512']:.3g}"[:3] in table
    assert "note: push: no predictability floor" in table
