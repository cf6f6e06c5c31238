"""fit-tokenizer end to end on the toy world, and what fit-dynamics makes of what it adapts."""

import dataclasses

import numpy as np
import torch

from cosmos_isaac_wm.data import write_dataset
from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.storage.bundle import find_perception
from cosmos_isaac_wm.train import fit_dynamics, fit_tokenizer
from cosmos_isaac_wm.world_model import WorldModel


def test_a_readout_can_be_fitted_again_for_the_same_latents(fitted, second_look):
    before, after = Perception.load(fitted), Perception.load(second_look)
    assert after.fingerprint() == before.fingerprint()
    assert not torch.equal(after.readout.features[0].weight, before.readout.features[0].weight)


def test_a_decoder_learns_other_pictures_for_the_same_latents(
    fitted, dataset, tmp_path, capsys, tiny_perception, tiny_fit
):
    out = tmp_path / "adapted"
    arguments = [f"--data={dataset.path}", f"--out={out}", *tiny_perception]
    assert fit_tokenizer.main([*arguments, "--adapt=decoder"]) == 1
    assert "needs --init" in capsys.readouterr().err
    assert fit_tokenizer.main([*arguments, "--adapt=decoder", f"--init={fitted}"]) == 0
    before, after = Perception.load(fitted), Perception.load(out)
    frames = dataset[0].frames
    assert torch.equal(after.encode(frames), before.encode(frames))
    assert not torch.equal(after.decode(before.encode(frames)), before.decode(before.encode(frames)))
    assert after.fingerprint() != before.fingerprint()
    refresh = [f'--data=["{dataset.path}"]', f"--init={fitted}", f"--perception={out}", *tiny_fit]
    assert fit_dynamics.main([*refresh, f"--out={tmp_path / 'new'}"]) == 0
    assert WorldModel.load(tmp_path / "new").perception.fingerprint() == after.fingerprint()


def test_an_encoder_learns_on_and_the_dynamics_follows(
    fitted, second_look, dataset, tmp_path, capsys, tiny_perception, tiny_fit
):
    out = tmp_path / "adapted"
    arguments = [f"--data={dataset.path}", f"--init={fitted}", "--adapt=tokenizer", *tiny_perception]
    assert fit_tokenizer.main([*arguments, f"--out={out}"]) == 0
    before, after = Perception.load(fitted), Perception.load(out)
    assert after.latents_fingerprint() != before.latents_fingerprint() == after.adapted_from
    assert torch.equal(after.mean, before.mean)
    refresh = [f'--data=["{dataset.path}"]', f"--init={fitted}", f"--perception={out}", *tiny_fit]
    assert fit_dynamics.main([*refresh, f"--out={tmp_path / 'new'}"]) == 0
    assert "learns its latents anew" in capsys.readouterr().out
    bundle = WorldModel.load(tmp_path / "new")
    assert bundle.perception.latents_fingerprint() == after.latents_fingerprint()
    again = [f'--data=["{dataset.path}"]', f"--init={tmp_path / 'new'}", f"--perception={second_look}", *tiny_fit]
    assert fit_dynamics.main([*again, f"--out={tmp_path / 'x'}"]) == 1
    assert "fit-tokenizer --init" in capsys.readouterr().err


def test_several_datasets_make_one_perception(
    fitted, dataset, tmp_path, scene, make_episode, capsys, tiny_perception, tiny_fit
):
    brighter = [make_episode(scene, seed) for seed in range(20, 24)]
    for episode in brighter:
        episode.frames[:] = np.minimum(episode.frames.astype(int) + 60, 255)
    write_dataset(tmp_path / "bright", brighter, scene, ["train"] * 4)
    both = f'["{dataset.path}", "{tmp_path / "bright"}"]'
    arguments = [f"--init={fitted}", "--adapt=decoder", *tiny_perception]
    assert fit_tokenizer.main([f"--data={both}", f"--out={tmp_path / 'both'}", *arguments]) == 0
    assert fit_tokenizer.main([f"--data={dataset.path}", f"--out={tmp_path / 'one'}", *arguments]) == 0
    light, frames = brighter[0].frames, torch.from_numpy(brighter[0].frames).float()
    sees_both, sees_one = Perception.load(tmp_path / "both"), Perception.load(tmp_path / "one")
    errors = [(sees.decode(sees.encode(light)).float() - frames).abs().mean() for sees in (sees_both, sees_one)]
    assert errors[0] < errors[1]
    other = dataclasses.replace(scene, control_hz=50.0)
    write_dataset(tmp_path / "faster", [make_episode(other, 30)], other, ["train"])
    for command, more in ((fit_tokenizer, arguments), (fit_dynamics, [f"--init={fitted}", *tiny_fit])):
        assert command.main(["--data=[]", f"--out={tmp_path / 'refused'}", *more]) == 1
        assert "no dataset was given" in capsys.readouterr().err
        data = f'["{dataset.path}", "{tmp_path / "faster"}"]'
        assert command.main([f"--data={data}", f"--out={tmp_path / 'refused'}", *more]) == 1
        assert "faster has control_hz 50.0, but" in capsys.readouterr().err


def test_a_dataset_without_a_split_is_refused(tmp_path, scene, make_episode, capsys, tiny_perception):
    write_dataset(tmp_path / "data", [make_episode(scene, 0)], scene)
    assert fit_tokenizer.main([f"--data={tmp_path / 'data'}", f"--out={tmp_path / 'p'}", *tiny_perception]) == 1
    assert "assign_splits" in capsys.readouterr().err


def test_a_new_tokenizer_begins_with_the_shipped_weights_unless_told_not_to(dataset, tmp_path, capsys):
    shape = ["--fit.batch_size=2", "--fit.crop=16", "--readout.updates=1", "--device=cpu"]

    def fitted(name, *more):
        out = tmp_path / name
        assert fit_tokenizer.main([f"--data={dataset.path}", f"--out={out}", *shape, "--fit.updates=1", *more]) == 0
        return Perception.load(out).tokenizer.state_dict()

    shipped = Perception.load(find_perception("general")).tokenizer.state_dict()

    def distance(weights):
        return max(float((weights[name] - shipped[name]).abs().max()) for name in shipped)

    assert distance(fitted("from the shipped one")) < 0.01  # an update away
    assert "round trip" in (said := capsys.readouterr().out)
    assert " dB" in said
    assert distance(fitted("from scratch", "--pretrained=scratch")) > 0.05


def test_weights_of_another_shape_are_not_taken_and_that_is_said(dataset, tmp_path, capsys, tiny_perception):
    arguments = [f"--data={dataset.path}", f"--out={tmp_path / 'eyes'}", *tiny_perception]
    assert fit_tokenizer.main(arguments) == 0
    assert "the tokenizer of 'general' has another shape: this one learns from scratch" in capsys.readouterr().out


def test_what_is_lost_in_the_round_trip_is_said_loudly(dataset, tmp_path, capsys, tiny_perception):
    arguments = [f"--data={dataset.path}", f"--out={tmp_path / 'eyes'}", *tiny_perception, "--fit.updates=1"]
    assert fit_tokenizer.main([*arguments, f"--json={tmp_path / 'f.json'}"]) == 0
    assert "WARNING" in capsys.readouterr().out
    assert "round_trip_db" in (tmp_path / "f.json").read_text()
