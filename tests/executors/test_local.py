import os
import pickle
import subprocess
import sys
import textwrap

import psutil
import pytest

from cosmos_isaac_wm.executors import Processes

SCRIPTS = {
    "jobs": "from cosmos_isaac_wm.executors import Processes; Processes(2).run(abs, [-1, 2], print)",
    "environments": "from cosmos_isaac_wm.policies.sb3 import make_vec_env; make_vec_env('CosmosReal-v0', 2)",
}


def test_jobs_are_done_in_processes():
    results = {}
    Processes(2).run(abs, [-3, 2], results.__setitem__)
    assert results == {-3: 3, 2: 2}


@pytest.mark.parametrize("what", SCRIPTS)
def test_a_script_without_a_guard_is_told_so(tmp_path, what):
    script = tmp_path / "mine.py"
    script.write_text(textwrap.dedent(SCRIPTS[what]))
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError")
    assert 'lacks `if __name__ == "__main__":`' in last


def test_a_process_that_is_gone_is_told_from_a_job_that_fails():
    with pytest.raises(RuntimeError, match="ended without a word"):
        Processes(1).run(os._exit, [1], print)
    with pytest.raises(EOFError, match="Ran out of input"):
        Processes(1).run(pickle.loads, [b""], print)


def test_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from cosmos_isaac_wm.executors import Processes\n"
        "def work(job):\n    return os.getpid()\n"
        "def keep(job, pid):\n    print(pid, flush=True)\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n    Processes(1).run(work, [1, 2], keep)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([psutil.Process(worker)] if psutil.pid_exists(worker) else [], timeout=10)[1] == []
