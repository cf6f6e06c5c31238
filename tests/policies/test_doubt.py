"""Are those of planned episodes recorded whose dreams doubt themselves most?"""

import numpy as np
import pytest

from cosmos_isaac_wm.data.collection import plan
from cosmos_isaac_wm.policies.doubt import DreamedTables, least_trusted
from cosmos_isaac_wm.policies.recording import record_episodes, record_on
from cosmos_isaac_wm.sims.tables import new_tables
from cosmos_isaac_wm.train.collect import Collect
from cosmos_isaac_wm.world_model import WorldModel

STEPS = 24


@pytest.fixture(scope="module")
def shipped():
    return WorldModel.load("default", "cpu")


@pytest.fixture(scope="module")
def tables(shipped):
    return new_tables("mujoco", "push", 1, shipped.scene.image_size)


@pytest.mark.opengl
def test_dreamed_tables_begin_and_go_on_as_tables_do(shipped, tables):
    jobs = plan(3, "push", 4, 8)
    reals = [record_episodes([job], shipped.scene.image_size[0])[0] for job in jobs]
    dreams = DreamedTables(shipped, shipped.error_bound, tables, 1, pictures=True)
    dreams.reset([job.seed for job in jobs])
    for step in range(9):
        rows, frames = dreams.observe(), dreams.render()
        for real, row, frame in zip(reals, rows, frames, strict=True):
            assert np.abs(frame.astype(int) - real.frames[step]).mean() < 3
            for name, track in real.positions.items():
                np.testing.assert_allclose(row[f"{name}_position"], track[step], atol=0.01)
        if step < 8:
            dreams.step(np.stack([real.actions[step] for real in reals]))
    assert (dreams.doubts("push") > 0).all()


@pytest.mark.opengl
def test_those_are_left_that_doubt_themselves_most(shipped, tables):
    jobs = plan(6, "push", 4, STEPS)
    dreams = DreamedTables(shipped, shipped.error_bound, tables, 1, pictures=False)
    record_on(dreams, jobs, count=6)
    worst = set(np.argsort(dreams.doubts("push"))[-2:])
    left = least_trusted(shipped, tables, jobs, 2)
    assert [job.index for job in left] == [0, 1]
    assert {job.seed for job in left} == {jobs[number].seed for number in worst}


@pytest.mark.opengl
def test_collect_records_them_and_says_so(tmp_path, shipped, tables):
    collection = Collect(tmp_path / "data", 2, kind="push", candidates=3, steps=STEPS, seed=4, workers=1)
    collection.run()
    dataset = collection._collected()  # which is finished, and goes on as such
    wanted = least_trusted(shipped, tables, plan(6, "push", 4, STEPS), 2)
    assert sorted(dataset.seeds) == sorted(job.seed for job in wanted)
    assert dataset.metadata["candidates"] == 3
    assert dataset.metadata["world_model"] == shipped.fingerprint()


def test_what_cannot_be_chosen_from_is_said_before_any_work(tmp_path, shipped, monkeypatch):
    with pytest.raises(ValueError, match=r"candidates are 1 or more for each push of our table \(--kind push\), got 4"):
        Collect(tmp_path, candidates=4)
    with pytest.raises(ValueError, match="got 0"):
        Collect(tmp_path, candidates=0)
    monkeypatch.setattr(shipped, "error_bound", None)
    with pytest.raises(ValueError, match="which the bundle does not know: fit-dynamics learns it"):
        least_trusted(shipped, object(), plan(2, "push", 0, STEPS), 1)
