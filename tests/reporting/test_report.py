import dataclasses
import json
import re

import pytest
import torch

from cosmos_isaac_wm.evaluation.evaluation import evaluate
from cosmos_isaac_wm.reporting.report import write_html, write_metrics
from cosmos_isaac_wm.reporting.table import rows
from cosmos_isaac_wm.world_model import WorldModel


@pytest.fixture(scope="module")
def evaluation(world_model, dataset):
    return evaluate(world_model, dataset, [1, 4, 8])


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
