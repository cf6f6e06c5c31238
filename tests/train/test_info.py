import json

from cosmos_isaac_wm.train.info import main


def test_a_bundle_is_described_with_its_real_sizes(bundle, world_model, tmp_path, capsys):
    target = tmp_path / "numbers.json"
    assert main(["--world-model", str(bundle), "--json", str(target)]) == 0
    numbers = json.loads(target.read_text())
    assert numbers["dynamics_parameters"] == sum(p.numel() for p in world_model.dynamics.parameters())
    assert (numbers["latent_channels"], numbers["latent_height"], numbers["context_length"]) == (16, 4, 4)
    assert numbers["contexts"] == 6
    printed = capsys.readouterr().out
    assert world_model.fingerprint() in printed
    assert "cube, pusher" in printed
    assert "6 push" in printed
    assert "not evaluated" in printed


def test_a_missing_bundle_is_an_error(tmp_path, capsys):
    assert main(["--world-model", str(tmp_path / "nowhere")]) == 1
    assert "no world model bundle" in capsys.readouterr().err
