"""What is a page told of a dream? Once what can be done in it, and at every picture how it stands, as JSON values."""

from __future__ import annotations

import io
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..envs.tasks import most_trusted
from .session import Session

_QUALITY = 92  # of JPEG: some 6 kB for 128 x 128


def scene_of(session: Session) -> dict[str, Any]:
    """What stays the same: the scene, actions, and what there is besides."""
    scene = session.model.scene
    height, width = scene.image_size
    return {
        "scene": scene.name,
        "controls": session.controls.described(),
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
        "reward": _number(now.reward),
        "return": _number(sum(moment.reward for moment in past)),
        "ended": _end(session),
        "over": session.over,
        "bound": _bound(session),
        "real": session.real,
        "wheel": session.wheel,
        "recording": session.recording,
        "recorded": session.recorded,
        "action": None if now.action is None else session.controls.deflections(now.action),
    }
    return told | _places(session)


def jpeg(frame: NDArray[np.uint8]) -> bytes:
    """A picture uint8 (H, W, 3) as a JPEG file."""
    file = io.BytesIO()
    iio.imwrite(file, frame, extension=".jpg", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _end(session: Session) -> str | None:
    """Why the episode is over: "goal", "over", "time" or "lost"; None where it goes on, or is played on after that."""
    now, before = session.now, session.past[:-1]
    if any(moment.ended for moment in before):
        return None
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
        told = {"goal": _numbers(goal)}
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
    bound, perception = session.now.info.get("error_bound"), session.model.perception
    if bound is None:
        return None
    if perception.heads is not None:
        bound = np.max(np.ravel(bound) / perception.heads.std[: np.size(bound)].cpu().numpy())
    unit = "m" if perception.heads is None else "std"
    return {"value": _number(bound), "limit": most_trusted(perception), "unit": unit}


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
