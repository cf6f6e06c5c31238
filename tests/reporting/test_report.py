import dataclasses
import json
import re

import pytest
import torch

from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.reporting.report import Row, error_table, rows, write_html, write_metrics
from cosmos_isaac_wm.world_model import WorldModel


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


def test_metrics_are_flat_numbers_and_the_seed_style_table_names_the_reports_own_figure(evaluation, tmp_path):
    write_metrics(tmp_path, evaluation)
    assert json.loads((tmp_path / "metrics.json").read_text()) == evaluation.numbers()
    text = (tmp_path / "tracking_metrics.txt").read_text()
    assert re.search(r"RMSE \(px at 512\) +[\d.]+ +71.08", text)
    assert re.search(r"Detection rate +[\d.]+ +-", text)


def test_every_link_of_the_report_leads_to_a_file_beside_it(evaluation, world_model, dataset, tmp_path):
    expected = {"dream_vs_real.mp4", "trajectory.png", "error_vs_horizon.png"}
    expected |= {"cube_positions.csv", "metrics.json", "tracking_metrics.txt"}
    page = write_html(tmp_path, evaluation, world_model, dataset, "cosmos-wm demo").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="([^"]+)"', page)) == expected


def test_the_report_says_with_what_it_was_measured(evaluation, world_model, dataset, tmp_path):
    page = write_html(tmp_path, evaluation, world_model, dataset, "cosmos-wm demo --seed 7").read_text(encoding="utf-8")
    for word in ("cosmos-wm demo --seed 7", world_model.fingerprint(), dataset.fingerprint(), "71.08"):
        assert word in page
    assert page.count("<tr><td>") == len(rows(evaluation)) + 3  # and a line for each of the three episodes


def test_names_from_other_peoples_data_cannot_break_the_page(evaluation, world_model, dataset, tmp_path):
    scene = dataclasses.replace(evaluation.scene, name="<script>")
    page = write_html(tmp_path, dataclasses.replace(evaluation, scene=scene), world_model, dataset, "x").read_text()
    assert "<script>" not in page


def test_the_fingerprint_changes_with_any_weight(world_model, bundle):
    loaded = WorldModel.load(bundle)
    assert loaded.fingerprint() == world_model.fingerprint()
    with torch.no_grad():
        loaded.dynamics.out_projection.bias[0] += 1e-3
    assert loaded.fingerprint() != world_model.fingerprint()
