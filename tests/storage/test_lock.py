import os
import signal
import subprocess
import sys

import pytest

from cosmos_isaac_wm.storage.lock import InUse, claim, holding

HOLD = """
import sys, time
from pathlib import Path
from cosmos_isaac_wm.storage.lock import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_free_as_soon_as_its_holder_is_gone_however_that_ended(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InUse, match=f"{tmp_path} is in use by process {holder.pid} on "), holding(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with holding(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_what_dead_processes_left_half_written_goes(tmp_path):
    code = """
import os, sys
from cosmos_isaac_wm.storage.atomic import replacing, replacing_folder
with replacing(sys.argv[1] + "/deep/file.txt") as one, replacing_folder(sys.argv[1] + "/deep/folder") as other:
    one.write_text("half"), (other / "half").write_text("half")
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(list((tmp_path / "deep").iterdir())) == 2
    with holding(tmp_path):
        assert not any((tmp_path / "deep").iterdir())


def test_a_folder_says_which_setting_it_was_claimed_with(tmp_path):
    file = tmp_path / "transfer.json"
    claim(file, {"seed": 0, "real": "isaac-lab", "jobs": [{"seed": 1}, {"seed": 2}]})
    with pytest.raises(ValueError, match=r"holds another transfer \(real isaac-lab instead of None, jobs.1.seed 2 ins"):
        claim(file, {"seed": 0, "jobs": [{"seed": 1}, {"seed": 3}]})
    with pytest.raises(OSError, match=r"\(number of jobs 2 instead of 0\); .* \(only minutes may change\)"):
        claim(file, {"seed": 0, "real": "isaac-lab", "jobs": []}, free="minutes", error=OSError)
    claim(file, {"seed": 1}, begun=False)
    claim(file, {"seed": 1})
