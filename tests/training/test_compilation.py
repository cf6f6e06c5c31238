import pytest
import torch

from cosmos_isaac_wm.dynamics import ResNetRollout, ResNetRolloutConfig
from cosmos_isaac_wm.training.clock import Budget
from cosmos_isaac_wm.training.compilation import compiled, pays

EXAMPLE = (torch.randn(2, 4, 2, 4, 4), torch.zeros(2, 2))


def network():
    torch.manual_seed(0)
    return ResNetRollout(ResNetRolloutConfig(channels=2, action_dim=2, width=16, blocks=1, dropout=0.0))


def test_it_pays_for_long_fits_on_a_gpu_only():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert pays("auto", Budget(5000), gpu)
    assert pays("auto", Budget(5000, minutes=5.0), gpu)
    assert not pays("auto", Budget(4999), gpu)
    assert not pays("auto", Budget(10**6, minutes=4.0), gpu)
    assert not pays("auto", Budget(10**6), cpu)
    assert pays(True, Budget(1), cpu)
    assert not pays(False, Budget(10**6), gpu)
    with pytest.raises(ValueError, match="unknown compile 'fast'"):
        pays("fast", Budget(1), cpu)


def test_without_a_compiler_training_goes_on_and_says_so(monkeypatch):
    def broken(*_, **__):
        raise OSError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda network, dynamic: broken)
    plain = network()
    with pytest.warns(RuntimeWarning, match="training goes on without compilation: no C"):
        assert compiled(plain, EXAMPLE, "fp32") is plain
