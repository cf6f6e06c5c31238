"""What is a page told of a dream? Once what can be done in it, and at every picture how it stands, as JSON values."""

from __future__ import annotations

import io
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .moment import Moment
from .session import Session

_GOAL_RADII = 2.0  # a bound beyond so many says no more whether the goal was reached; as `trust="truncate"` has it
_STDS = 1.0  # of a twin's observation, likewise
_QUALITY = 92  # of JPEG: some 6 kB for 128 x 128


def scene_of(session: Session) -> dict[str, Any]:
    """What stays the same: bundle, actions, rates, and what there is besides."""
    scene = session.model.scene
    height, width = scene.image_size
    return {
        "bundle": session.model.name or "world model",
        "scene": scene.name,
        "controls": session.controls.described(),
        "rate": scene.control_hz,
        "width": width,
        "height": height,
        "limit": session.env.task.max_episode_steps,
        "policy": session.has_policy,
        "record": session.can_record,
        "pictures": session.options.pictures,
        "bound": session.model.error_bound is not None,
    }


def state_of(session: Session) -> dict[str, Any]:
    """How the dream stands now."""
    now, past = session.now, session.past
    told: dict[str, Any] = {
        "step": len(past) - 1,
        "time": round((len(past) - 1) / session.model.scene.control_hz, 2),
        "seed": session.seed,
        "reward": _number(now.reward),
        "return": _number(sum(moment.reward for moment in past)),
        "ended": _end(session),
        "bound": _bound(session),
        "real": session.real,
        "wheel": session.wheel,
        "recording": session.recording,
        "recorded": session.recorded,
        "action": None if now.action is None else _deflections(session, now),
    }
    return told | _places(session)


def jpeg(frame: NDArray[np.uint8]) -> bytes:
    """A picture uint8 (H, W, 3) as a JPEG file."""
    file = io.BytesIO()
    iio.imwrite(file, frame, extension=".jpg", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _end(session: Session) -> str | None:
    """Why the episode is over: "goal", "over", "time" or "lost"; None where it goes on."""
    now = session.now
    if now.terminated:
        return "goal" if now.info.get("is_success") else "over"
    if now.truncated:
        return "time" if int(session.env.task.steps[0]) >= session.env.task.max_episode_steps else "lost"
    return None


def _places(session: Session) -> dict[str, Any]:
    """Goal, and distances in metres; or what a twin observes."""
    scene, now = session.model.scene, session.now
    if scene.environment is not None:
        flat = list(_leaves(now.observation))
        goal = now.observation.get("desired_goal") if isinstance(now.observation, dict) else None
        return {"observed": flat[:12], "goal": None if goal is None else _numbers(goal)}
    told: dict[str, Any] = {}
    if (goal := now.info.get("goal")) is not None:
        told = {"goal": _numbers(goal), "radius": scene.goal_radius}
    if (agent := now.info.get(f"{scene.agent}_position")) is not None:
        told |= {"agent": _numbers(agent)}
    name = next(iter(scene.marker_names), None)
    seen = now.info.get(f"{name}_position")
    if seen is not None:
        told |= {"object": _numbers(seen)}
        if goal is not None:
            told |= {"distance": _number(np.linalg.norm(np.subtract(seen, goal)))}
        if name in now.true_positions:
            told |= {"gap": _number(np.linalg.norm(np.subtract(seen, now.true_positions[name])))}
    return told


def _bound(session: Session) -> dict[str, Any] | None:
    """How far the dream may be off: in metres, or in standard deviations of a twin's worst component."""
    bound, heads = session.now.info.get("error_bound"), session.model.perception.heads
    if bound is None:
        return None
    if heads is None:
        return {"value": _number(bound), "limit": _GOAL_RADII * session.model.scene.goal_radius, "unit": "m"}
    worst = np.max(np.ravel(bound) / heads.std[: np.size(bound)].cpu().numpy())
    return {"value": _number(worst), "limit": _STDS, "unit": "std"}


def _deflections(session: Session, now: Moment) -> list[float] | int:
    """What the player, or the policy, did."""
    assert now.action is not None
    if session.controls.described()["kind"] == "discrete":
        return int(now.action.argmax())
    return session.controls.deflections(now.action)


def _leaves(observation: Any) -> list[float]:
    """The numbers of an observation, without pictures and latents."""
    if isinstance(observation, dict):
        return [value for inner in observation.values() for value in _leaves(inner)]
    array = np.asarray(observation)
    return [] if array.ndim > 1 else _numbers(array.ravel())


def _number(value: Any) -> float | None:
    """A number that JSON has."""
    return round(float(value), 4) if np.isfinite(value) else None


def _numbers(values: ArrayLike) -> list[Any]:
    return [_number(value) for value in np.ravel(values)]
