import numpy as np
import pytest

from cosmos_isaac_wm.policies.checkpoints import Checkpoints
from cosmos_isaac_wm.policies.learner import new_learner
from cosmos_isaac_wm.policies.sb3 import make_dream_vec_env


def test_the_newest_whole_checkpoint_counts(tmp_path):
    assert Checkpoints(tmp_path, with_buffer=False).done == 0
    parts = ("agent_{}_steps.zip", "agent_moment_{}_steps.safetensors", "agent_replay_buffer_{}_steps.safetensors")
    for name in (
        *(part.format(200) for part in parts),
        *(part.format(1000) for part in parts[:2]),
        "agent_2000_steps.zip",
    ):
        (tmp_path / name).write_bytes(b"")
    assert Checkpoints(tmp_path, with_buffer=False).done == 1000
    assert Checkpoints(tmp_path, with_buffer=True).done == 200


def test_a_pickled_replay_buffer_is_refused_unread(tmp_path):
    (tmp_path / "agent_replay_buffer_200_steps.pkl").write_bytes(b"whatever")
    with pytest.raises(ValueError, match="unpickling can run anything"):
        Checkpoints(tmp_path, with_buffer=True)


@pytest.mark.parametrize("algorithm", ["sac", "sac_her"])
def test_a_replay_buffer_comes_back_as_it_was(algorithm, world_model, tmp_path):
    def learner():
        env = make_dream_vec_env(4, world_model=world_model, reward_type="sparse", max_episode_steps=5)
        more = {"learning_starts": 30, "buffer_size": 100, "batch_size": 8}
        return new_learner(algorithm, env, "pose", {"net_arch": [8]}, more, "cpu", 0)

    trained = learner().learn(64)
    Checkpoints(tmp_path, with_buffer=True).save(trained)
    resumed, checkpoints = learner(), Checkpoints(tmp_path, with_buffer=True)
    checkpoints.resume(resumed)
    mine, theirs = trained.replay_buffer, resumed.replay_buffer
    assert (mine.pos, mine.full) == (theirs.pos, theirs.full)
    assert np.array_equal(mine.observations["observation"], theirs.observations["observation"])
    assert np.array_equal(mine.actions, theirs.actions)
    resumed.learn(8, reset_num_timesteps=False)  # and can be sampled from
    buffer = tmp_path / "agent_replay_buffer_64_steps.safetensors"
    content = bytearray(buffer.read_bytes())
    content[-5] ^= 1
    buffer.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        checkpoints.resume(learner())
