import operator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cosmos_isaac_wm.executors import Here, Processes, executor_for, local


@pytest.mark.parametrize("executor", [Here(), Processes(2)])
def test_every_job_is_done_once_and_kept_with_its_result(executor):
    kept = []
    executor.run(operator.neg, [3, 1, 2], lambda *pair: kept.append(pair))
    assert sorted(kept) == [(1, -1), (2, -2), (3, -3)]


@pytest.mark.parametrize("executor", [Here(), Processes(1)])
def test_the_first_error_ends_it_and_what_was_kept_stays_kept(executor, monkeypatch):
    monkeypatch.setattr(local, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    kept = {}
    with pytest.raises(ZeroDivisionError):
        executor.run(lambda job: 1 / job, [2, 0], kept.__setitem__)
    assert kept == {2: 0.5}


def test_without_an_address_jobs_run_where_they_would_otherwise():
    own = Here()
    with executor_for(None, own) as executor:
        assert executor is own
