import importlib.util
import json

import pytest

from cosmos_isaac_wm.train import train_agent, transfer
from cosmos_isaac_wm.train.transfer import Transfer

needs_ppi = pytest.mark.skipif(importlib.util.find_spec("ppi_py") is None, reason="needs the extra ppi")


def test_a_film_of_somebody_else_is_refused(bundle, tmp_path, capsys):
    argv = ["--policies", '["random"]', "--world_model", str(bundle), "--out", str(tmp_path), "--filmed", "icem"]
    assert transfer.main(argv) == 1
    assert "--filmed icem is none of the policies" in capsys.readouterr().err


def test_a_bundle_without_an_agent_says_so(bundle, tmp_path, capsys, monkeypatch):
    class Enough(Exception):
        pass

    def stop(*_, **__):
        raise Enough

    monkeypatch.setattr(transfer, "RealEnv", stop)
    with pytest.raises(Enough):
        Transfer(world_model=str(bundle), out=tmp_path / "out").run()
    assert f"{bundle} has no agent of its own; --policies names others" in capsys.readouterr().err


def test_an_unknown_policy_is_named_before_anything_is_played(bundle, tmp_path, capsys):
    argv = ["--policies", '["nobody"]', "--world_model", str(bundle), "--out", str(tmp_path / "out")]
    assert transfer.main(argv) == 1
    assert "no agent 'nobody'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.opengl
def test_policies_are_played_in_both_worlds_once(bundle, tmp_path, capsys):
    argv = ["--out", tmp_path / "run", "--world_model", bundle, "--timesteps", 64, "--n_envs", 4]
    argv += ["--hyperparameters", '{"n_steps": 16, "batch_size": 64, "n_epochs": 1}', "--eval_every", 10**6]
    assert train_agent.main(list(map(str, argv))) == 0
    agent = str(tmp_path / "run" / "agent")
    argv = ["--policies", json.dumps([agent, "random", "scripted", "cem"]), "--world_model", bundle]
    argv += ["--out", tmp_path / "out", "--episodes", 2, "--json", tmp_path / "numbers.json"]
    assert transfer.main(list(map(str, argv))) == 0
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert 0 <= found[f"{agent}_real_success"] <= 1
    assert "cem thinks of" in (tmp_path / "out" / "transfer.md").read_text()
    assert 0 <= found[f"{agent}_clear_success"] <= found[f"{agent}_dream_success"]
    for name in ("transfer.png", "transfer.mp4"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("episodes_*.json")}
    assert len(files) == 4
    assert transfer.main(list(map(str, argv))) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files  # not played again
    assert transfer.main([*map(str, argv), "--episodes", "3"]) == 1
    assert "holds another transfer (episodes 2 instead of 3)" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "1.5"])
def test_success_is_clear_within_a_share_of_the_goal(share, bundle, tmp_path, capsys):
    assert transfer.main(["--world_model", str(bundle), "--out", str(tmp_path / "out"), "--clear", share]) == 1
    assert f"above 0 and at most 1, not {share}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_ppi
@pytest.mark.parametrize("count", ["3", "30"])
def test_no_interval_can_be_made_of_too_few_or_too_many_real_episodes(count, bundle, tmp_path, capsys):
    argv = ["--world_model", str(bundle), "--out", str(tmp_path), "--episodes", "20", "--real_episodes", count]
    assert transfer.main(argv) == 1
    assert "--real_episodes is 0, or from 10 to below --episodes 20" in capsys.readouterr().err


@needs_ppi
@pytest.mark.opengl
def test_few_real_episodes_and_many_dreamed_ones_make_one_interval(bundle, tmp_path):
    argv = ["--world_model", str(bundle), "--policies", '["random"]', "--episodes", "12"]
    for count in (10, 0):
        own = ["--real_episodes", str(count), "--out", str(tmp_path / str(count)), "--json", str(tmp_path / "figures")]
        for _ in range(2):  # the second reads what is there
            assert transfer.main([*argv, *own]) == 0
            found = json.loads((tmp_path / "figures").read_text())
            assert ("random_real_success" in found) == ("real_interval_ratio" in found) == bool(count)
        (file,) = (tmp_path / str(count)).glob("episodes_*.json")
        row = json.loads(file.read_text())
        assert (len(row["dream"]["success"]), len(row["real"]["success"])) == (12, count)


@pytest.mark.opengl
def test_what_is_known_of_too_few_policies_or_of_another_dream_makes_no_claim(bundle, tmp_path, capsys):
    argv = ["--world_model", str(bundle), "--policies", '["random"]', "--episodes", "2"]
    assert transfer.main([*argv, "--out", str(tmp_path / "earlier")]) == 0
    known = [*argv, "--out", str(tmp_path / "now"), "--known", str(tmp_path / "earlier")]
    assert transfer.main(known) == 1
    assert "9 policies or more have to be played in both worlds, not 1" in capsys.readouterr().err
    (tmp_path / "earlier" / "transfer.json").write_text('{"world_model": "another"}')
    assert transfer.main(known) == 1
    assert "is of another world model or simulator, or of another --clear" in capsys.readouterr().err
    assert transfer.main([*known[:-1], str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "now").exists()


@pytest.mark.opengl
def test_a_ray_cluster_plays_the_same_games(bundle, tmp_path, ray_cluster, one_thread):
    argv = ["--policies", '["random", "scripted"]', "--world_model", str(bundle), "--episodes", "3"]
    assert transfer.main([*argv, "--out", str(tmp_path / "here")]) == 0
    assert transfer.main([*argv, "--out", str(tmp_path / "there"), "--ray", ray_cluster.address]) == 0
    files = sorted(path.name for path in (tmp_path / "here").glob("episodes_*.json"))
    assert len(files) == 2
    for name in [*files, "transfer.md"]:
        assert (tmp_path / "there" / name).read_text() == (tmp_path / "here" / name).read_text()
