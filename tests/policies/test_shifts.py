"""Are shifted worlds told apart by what a bundle expects, from recording to table?"""

import dataclasses

import pytest

from cosmos_isaac_wm.data.collection import plan
from cosmos_isaac_wm.policies import shifts
from cosmos_isaac_wm.policies.recording import record_episodes
from cosmos_isaac_wm.policies.shifts import must_be_shiftable, shift_figures, shift_table
from cosmos_isaac_wm.sims.mujoco import NO_OPENGL, MujocoTable, OpenGLError
from cosmos_isaac_wm.train import evaluate
from cosmos_isaac_wm.world_model import WorldModel


@pytest.fixture(scope="module")
def shipped():
    return WorldModel.load("default", "cpu")


@pytest.mark.opengl
def test_the_shipped_bundle_notices_late_control_and_a_moved_lamp(shipped, monkeypatch):
    monkeypatch.setattr(shifts, "shifts_of", lambda kind: ("delay", "lamp") if kind == "push" else ("lamp",))
    figures = shift_figures(shipped, 4, 0, steps=40)
    assert figures["auroc_shifted_delay_push"] > 0.8
    assert figures["auroc_shifted_lamp_push"] > 0.8
    own = [value for name, value in figures.items() if name.startswith("auroc_shifted_")]
    assert len(own) == 5  # with Isaac Lab's pictures
    assert figures["auroc_shifted"] == pytest.approx(sum(own) / len(own))
    assert {"push_bound_coverage_90_unshifted", "slide_bound_coverage_90_lamp"} <= figures.keys()
    text = shift_table(figures)
    assert f"| lamp | {figures['auroc_shifted_lamp_push']:.2f}," in text


@pytest.mark.opengl
def test_the_known_world_is_recorded_as_collect_does(shipped):
    (own,) = shifts._recorded(shipped, "push", None, 1, 0, 5)
    (job,) = plan(1, "push", own.seed, 5)
    assert job.seed != own.seed  # whose seeds are apart
    (same,) = record_episodes([dataclasses.replace(job, seed=own.seed)], 128)
    assert (same.frames == own.frames).all()
    assert (same.actions == own.actions).all()


def test_other_scenes_and_too_few_episodes_are_refused(shipped, world_model):
    with pytest.raises(ValueError, match="changes our table in MuJoCo, which the bundle of scene 'toy' is not of"):
        must_be_shiftable(world_model, 20)
    with pytest.raises(ValueError, match="needs 10 episodes or more of every world, not 3"):
        must_be_shiftable(shipped, 3)


def test_without_opengl_it_says_so_before_it_dreams(monkeypatch, capsys):
    def refuse(table):
        raise OpenGLError(NO_OPENGL)

    monkeypatch.setattr(MujocoTable, "render", refuse)
    assert evaluate.main(["--shifts", "10"]) == 1
    assert "MuJoCo cannot draw pictures here" in capsys.readouterr().err
