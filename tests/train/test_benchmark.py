import json
from importlib.util import find_spec

import torch

from cosmos_isaac_wm.train import benchmark
from cosmos_isaac_wm.train.speed import page, peers


def test_the_report_of_a_short_run_is_complete(bundle, tmp_path, capsys):
    target = tmp_path / "figures.json"
    sizes = ["--batches=[1,64]", "--repeats=2", "--seconds=0.001", "--growth_steps=20", "--compile=false"]
    arguments = [f"--world-model={bundle}", f"--out={tmp_path / 'out'}", f"--json={target}", *sizes]
    assert benchmark.main(arguments) == 0
    numbers = json.loads(target.read_text())
    printed, said = capsys.readouterr()
    assert "training was not measured: " in said  # the toy bundle has no episodes
    drawn = "the real simulator was not measured" not in said  # no OpenGL here
    missing = {
        "fit_speedup",
        "over_isaac_lab",  # the bundle is MuJoCo's
        *(() if drawn else ("over_real",)),
        *(() if torch.cuda.is_available() else ("gpu_env_steps_per_s",)),
        *(() if find_spec("simulusion") else ("over_simulusion",)),
    }
    assert set(page.BARS) - set(numbers) == missing
    assert all(value >= 0 for value in numbers.values())
    assert numbers["seed_difference_64_b8_float32"] < 1e-3
    assert numbers["vector_env_over_forward"] > 0
    report = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert report["figures"] == numbers
    assert report["machine"]["torch"] == torch.__version__
    assert (
        len(report["rows"]) == 2 + 2 * 3 + 5 + 2 + 2 + 3 + 1 + sum(map(bool, map(find_spec, peers.PEERS))) + 3 * drawn
    )
    for row in report["rows"]:
        assert len(row["seconds"]) == 2
        assert row["name"] in printed
    assert (tmp_path / "out" / "benchmark.png").stat().st_size > 10_000
