import json

import gymnasium as gym
import pytest
import yaml

from cosmos_isaac_wm.perception import Perception
from cosmos_isaac_wm.perception.tokenizers import CosmosTokenizer
from cosmos_isaac_wm.storage.bundle import seal, verify
from cosmos_isaac_wm.train.push import main
from cosmos_isaac_wm.world_model import WorldModel
from tests.hub import local_hub
from tests.torchscript import cosmos_files


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with local_hub(tmp_path / "cache", monkeypatch) as hub:
        yield hub


def test_a_pushed_bundle_is_stepped_from_the_hub(hub, fitted, tmp_path, capsys):
    target = tmp_path / "numbers.json"
    assert main([str(fitted), "hf://me/toy", "--license", "mit", "--json", str(target)]) == 0
    commit = hub.branches["me/toy"]["main"]
    assert commit in capsys.readouterr().out
    assert json.loads(target.read_text())["files"] == len(hub.files("me/toy")) - 1  # the hub's own .gitattributes
    env = gym.make("cosmos_isaac_wm:CosmosDream-v0", world_model=f"hf://me/toy@{commit}", device="cpu")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    loaded = WorldModel.load("hf://me/toy", "cpu")
    assert loaded.fingerprint() == WorldModel.load(fitted, "cpu").fingerprint()
    assert len(loaded.held_out()) == 1
    assert verify(loaded.path) > 5


def test_the_card_has_what_the_hub_sorts_by_and_what_people_read(hub, fitted, tmp_path):
    model = WorldModel.load(fitted, "cpu")
    assert main([str(fitted), "hf://me/toy", "--license", "cc-by-4.0"]) == 0
    (card,) = set(hub.cards)  # as the hub is asked whether it is valid
    _, front, text = card.split("---\n", 2)
    told = yaml.safe_load(front)
    assert (told["license"], told["library_name"]) == ("cc-by-4.0", "cosmos-isaac-wm")
    assert told["pipeline_tag"] == "reinforcement-learning"
    assert {"reinforcement-learning", "world-model", "gymnasium"} <= set(told["tags"])
    assert model.verdict.words() in text
    assert 'world_model="hf://me/toy"' in text
    assert "(dream.png)" in text
    assert hub.files("me/toy")["dream.png"].startswith(b"\x89PNG")
    assert hub.files("me/toy")["README.md"].decode() == card


def test_figures_of_an_evaluation_are_in_the_card(hub, bundle, tmp_path):
    model = WorldModel.load(bundle, "cpu")
    model.metrics = {"push_cube_rmse_px": 12.3456789, "push_floor": float("nan")}
    folder = model.save(tmp_path / "measured")
    assert main([str(folder), "hf://me/toy", "--license", "mit"]) == 0
    (result,) = yaml.safe_load(hub.cards[0].split("---\n")[1])["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "push_cube_rmse_px", "value": 12.35}]
    assert result["dataset"]["name"] == "toy"
    assert "| push_cube_rmse_px | 12.35 |" in hub.cards[0]


def test_only_what_cannot_run_is_pushed_and_the_bundle_stays_as_it_was(hub, bundle, tmp_path):
    folder = WorldModel.load(bundle, "cpu").save(tmp_path / "mine")
    (folder / "optimizer.pt").write_bytes(b"x")
    (folder / "notes").mkdir()
    (folder / "notes" / "run.py").write_text("x")
    seal(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([str(folder), "hf://me/toy", "--license", "mit"]) == 0
    assert not [name for name in hub.files("me/toy") if name.endswith((".pt", ".py"))]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    verify(WorldModel.load("hf://me/toy").path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["BUNDLE", "me/toy", "--license", "mit"], "is no hf://owner/repository"),
        (["BUNDLE", "hf://toy", "--license", "mit"], "is no hf://owner/repository"),
        (["nowhere", "hf://me/toy", "--license", "mit"], "no world model bundle 'nowhere'"),
        (["BUNDLE", "hf://me/toy@main", "--license", "mit"], "pins a revision"),
    ],
)
def test_what_cannot_be_pushed_says_why(hub, bundle, capsys, words, said):
    assert main([str(bundle) if word == "BUNDLE" else word for word in words]) == 1
    assert said in capsys.readouterr().err
    assert not hub.asked


def test_without_a_licence_nothing_is_published(hub, bundle, capsys):
    with pytest.raises(SystemExit):
        main([str(bundle), "hf://me/toy"])
    assert "license" in capsys.readouterr().err
    assert not hub.asked


def test_a_damaged_bundle_is_not_pushed(hub, bundle, tmp_path, capsys):
    folder = WorldModel.load(bundle, "cpu").save(tmp_path / "mine")
    (folder / "metrics.json").write_text('{"a": 1.0}')
    assert main([str(folder), "hf://me/toy", "--license", "mit"]) == 1
    assert "is damaged, or was changed" in capsys.readouterr().err
    assert not hub.asked


def test_without_a_token_it_says_how_to_log_in(hub, bundle, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert main([str(bundle), "hf://me/toy", "--license", "mit"]) == 1
    assert "hf auth login" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated:DeprecationWarning")
def test_a_bundle_that_needs_programs_is_not_pushed(hub, world_model, tmp_path, capsys):
    """One with NVIDIA's tokenizer names TorchScript files of this machine."""
    eyes = Perception(world_model.scene, CosmosTokenizer(*cosmos_files(tmp_path)), world_model.perception.readout)
    folder = WorldModel(eyes, world_model.dynamics, world_model.contexts).save(tmp_path / "bundle")
    assert main([str(folder), "hf://me/toy", "--license", "mit"]) == 1
    assert "Cosmos tokenizer" in capsys.readouterr().err
    assert not hub.asked
