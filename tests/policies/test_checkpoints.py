from cosmos_isaac_wm.policies.checkpoints import Checkpoints


def test_the_newest_whole_checkpoint_counts(tmp_path):
    assert Checkpoints(tmp_path, with_buffer=False).done == 0
    for name in ("agent_200_steps.zip", "agent_replay_buffer_200_steps.pkl", "agent_1000_steps.zip"):
        (tmp_path / name).write_bytes(b"")
    assert Checkpoints(tmp_path, with_buffer=False).done == 1000
    assert Checkpoints(tmp_path, with_buffer=True).done == 200
