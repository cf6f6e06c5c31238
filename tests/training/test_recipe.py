"""Fitting, on a world whose latents are the cube's position and whose dynamics are known."""

import pytest

from cosmos_isaac_wm.training import FitConfig, Stage


def test_stages_take_their_shares_of_the_updates():
    config = FitConfig(stages=(Stage(1, share=3), Stage(2), Stage(4, share=4)))
    assert [config.stage(update / 8).rollout for update in range(8)] == [1, 1, 1, 2, 4, 4, 4, 4]


@pytest.mark.parametrize("stages", [(), (Stage(), Stage(share=0.0))])
def test_stages_need_a_share(stages):
    with pytest.raises(ValueError, match="at least one stage"):
        FitConfig(stages=stages)


def test_no_time_is_no_budget():
    with pytest.raises(ValueError, match="minutes must be above 0, got 0"):
        FitConfig(minutes=0.0)
