"""Several processes that share a batch, as real launches of two on the processor."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cosmos_isaac_wm.training.processes import Processes

SCRIPT = str(Path(__file__).with_name("shared_fit.py"))
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
ACCELERATE += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
LAUNCHERS = {"alone": [sys.executable], "torchrun": TORCHRUN, "accelerate": ACCELERATE}


def run(launcher, out, check=True, **options):
    """Run `shared_fit.py`; what the first process found, and what all have said."""
    options = {"out": str(out), "config": {"optimizer": "adamw"}} | options
    command = [*LAUNCHERS[launcher], SCRIPT, json.dumps(options)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1"
    }  # threads add in another order, and two processes of two are slow
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    found = out / "found-0.safetensors"
    return load_file(found) if found.exists() else None, done


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a whole fit by one process."""
    out = tmp_path_factory.mktemp("alone")
    run("alone", out)
    return out


def far_apart(first, second):
    """The largest distance between tensors of the same names, in units of the first ones' largest element."""
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max() / first[name].abs().max()) for name in first)


def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    one, two = (run(launcher, tmp_path / launcher, gradients=True)[0] for launcher in ("alone", "accelerate"))
    assert len(one) == 3 * 14
    assert far_apart(one, two) < 1e-5


def test_gradients_of_the_tokenizer_of_two_processes_are_those_of_one(tmp_path, dataset):
    one, two = (run(each, tmp_path / each, data=str(dataset.path))[0] for each in ("alone", "torchrun"))
    assert len(one) > 3 * 10
    assert far_apart(one, two) < 1e-5


def test_two_processes_fit_the_weights_of_one_and_one_of_them_writes(alone, tmp_path):
    one, (two, said) = load_file(alone / "found-0.safetensors"), run("torchrun", tmp_path)
    assert far_apart(one, two) < 1e-5  # after twelve updates
    assert far_apart(two, load_file(tmp_path / "found-1.safetensors")) == 0.0
    assert said.stderr.count("fit dynamics: 100%") <= 2  # one bar, whose last line is shown twice
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    curves = [torch.load(folder / "checkpoint.pt")["values"]["curve"] for folder in (alone, tmp_path)]
    for first, second in zip(*curves, strict=True):
        assert second == pytest.approx(first, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("launchers", [("torchrun", "alone"), ("alone", "torchrun")])
def test_another_number_of_processes_goes_on_where_the_fit_was(alone, tmp_path, launchers):
    nothing, _ = run(launchers[0], tmp_path, stop=7)
    assert nothing is None
    assert torch.load(tmp_path / "checkpoint.pt")["values"]["update"] == 7
    resumed, _ = run(launchers[1], tmp_path)
    assert far_apart(load_file(alone / "found-0.safetensors"), resumed) < 1e-5


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    _, said = run("torchrun", tmp_path, check=False, config={"batch_size": 7})
    assert said.returncode != 0
    assert (
        "a batch of 7 cannot be shared by 2 processes; choose a batch_size that 2 divides, for instance 6"
        in said.stderr
    )


def test_when_a_process_dies_the_others_end_and_it_is_named(tmp_path):
    began = time.monotonic()
    _, said = run("torchrun", tmp_path, check=False, die=3)
    assert said.returncode != 0
    assert time.monotonic() - began < 120
    root_cause = said.stderr[said.stderr.index("Root Cause") :]
    assert re.search(r"rank +: 1 ", root_cause)
    assert "Signal 9 (SIGKILL)" in root_cause


def test_slots_are_shared_evenly(monkeypatch):
    processes = Processes("cpu")
    assert (processes.main, processes.count, processes.slots(7)) == (True, 1, range(7))
    processes.count, processes.rank = 4, 2
    assert processes.slots(64) == range(32, 48)
    with pytest.raises(ValueError, match=r"a batch of 66 cannot be shared by 4 processes.*for instance 64"):
        processes.slots(66)
    with pytest.raises(ValueError, match=r"a batch of 3 cannot be shared by 4 processes.*for instance 4"):
        processes.slots(3)
