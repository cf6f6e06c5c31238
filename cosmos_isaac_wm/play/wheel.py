"""Which policy can take the wheel? The bundle's own agent, or one that was named."""

from __future__ import annotations

import sys
from pathlib import Path

from ..envs import DreamEnv
from ..policies.env_recording import new_predict
from ..policies.named import Predict
from ..policies.scripted import GoalPusher


def new_wheel(name: str | None, env: DreamEnv, seed: int) -> Predict | None:
    """The policy of a name: from an observation to an action.

    Args:
        name: "scripted" (the table's), "random", "smooth", `module:function`, an agent's folder or the name of a
            shipped one; None for the bundle's own agent.
        env: Where it acts.
        seed: Of its draws.

    Returns:
        The policy; None where none was named and the bundle has none for its own observations.

    Raises:
        ValueError: If there is no such policy, or it is one for another environment.
    """
    if name == "scripted":
        if env.world_model.scene.agent is None or env.world_model.scene.environment is not None:
            raise ValueError("the scripted pusher is for the table; name another policy")
        pusher = GoalPusher()
        return lambda observation: pusher.predict(observation)[0]
    if name is not None:
        return new_predict(name, env, seed, deterministic=True)
    own = env.world_model.path
    if own is None or not (Path(own) / "agent").is_dir():
        return None
    try:
        return new_predict(str(own), env, seed, deterministic=True)
    except ValueError as error:
        print(f"the bundle's own agent cannot take the wheel: {error}", file=sys.stderr)
        return None
