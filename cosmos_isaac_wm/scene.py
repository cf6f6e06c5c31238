"""What does a world look like to everyone but its simulator? Sizes, camera, rates, tracked objects.

`Scene` is data: it is written into every dataset and every bundle, so that environments, recorder and evaluation
read it from there and serve other people's scenes too. `TABLE` is ours, and the simulators build themselves from it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .storage.structured import shaped

_LARGEST = 8192  # rows or columns of a picture


@dataclass(frozen=True)
class Marker:
    """A tracked object: its name, and how the detector tells its colour from everything else.

    Attributes:
        name: Key of the object; its positions are stored in the dataset as `<name>_position`.
        hue: Lowest and highest hue in degrees; a lower bound above the upper one wraps through 0 (red).
        min_saturation: Least HSV saturation in [0, 1] of a pixel that counts.
        min_value: Least HSV value in [0, 1] of a pixel that counts.
        symmetry: Number of headings that look alike: 4 for a cube, 1 for a car; 0 for an object without a heading, or
            one whose heading is not known.
    """

    name: str
    hue: tuple[float, float]
    min_saturation: float = 0.5
    min_value: float = 0.2
    symmetry: int = 0


@dataclass(frozen=True)
class Camera:
    """A fixed pinhole camera with square pixels, looking from `position` at `target` with +z up in the picture.

    Attributes:
        position: Camera centre in metres.
        target: Point that appears in the middle of the picture, in metres.
        fovy: Vertical field of view in degrees.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    fovy: float

    def axes(self) -> NDArray[np.float64]:
        """Rows: the camera's right, up and backward unit vectors in world coordinates, (3, 3)."""
        backward = np.subtract(self.position, self.target)
        backward /= np.linalg.norm(backward)
        right = np.cross([0.0, 0.0, 1.0], backward)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(backward, right), backward])

    def project(self, points: ArrayLike, image_size: tuple[int, int]) -> NDArray[np.float64]:
        """World points (..., 3) in metres to pixel coordinates (..., 2) as (column, row).

        Pixel centres lie on integers: the top-left corner of the image is (-0.5, -0.5).
        """
        height, width = image_size
        local = (np.asarray(points, dtype=np.float64) - self.position) @ self.axes().T
        focal = 0.5 * height / np.tan(np.deg2rad(self.fovy) / 2)
        depth = -local[..., 2]
        column = focal * local[..., 0] / depth + width / 2 - 0.5
        row = -focal * local[..., 1] / depth + height / 2 - 0.5
        return np.stack([column, row], axis=-1)


@dataclass(frozen=True)
class Environment:
    """The Gymnasium environment that recordings are of.

    Attributes:
        spec: Its `EnvSpec` as JSON, None where recordings do not tell. Nothing is made from it: it may be anybody's.
        observation_space: Its own, as Minari writes spaces.
        action_space: Its own, as Minari writes spaces.
        picture: Key of the picture among its observations, "" where they are the picture; None where it was rendered.
    """

    spec: str | None
    observation_space: str
    action_space: str
    picture: str | None = None

    @property
    def id(self) -> str | None:
        """Its name in Gymnasium's registry, None where recordings do not tell."""
        return None if self.spec is None else str(json.loads(self.spec)["id"])

    @property
    def kwargs(self) -> dict[str, Any]:
        """What it is made with."""
        return {} if self.spec is None else dict(json.loads(self.spec)["kwargs"])

    def must_be_readable(self) -> None:
        """Raise a ValueError if `spec` is no description of an environment."""
        if self.spec is None:
            return
        try:
            told = json.loads(self.spec)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the scene's environment has a spec that is no JSON: {error}") from error
        if not (isinstance(told, dict) and isinstance(told.get("id"), str) and isinstance(told.get("kwargs"), dict)):
            raise ValueError(
                "the scene's environment has a spec without id and kwargs, as Gymnasium's EnvSpec has them"
            )


@dataclass(frozen=True)
class Scene:
    """Everything about a scene that an environment, the recorder or the evaluation needs to know.

    Attributes:
        name: What to call it in tables and cards.
        control_hz: Control steps per second.
        image_size: Height and width of a frame in pixels.
        action_low: Least action per dimension, A values.
        action_high: Greatest action per dimension, A values.
        markers: Tracked objects that have positions, the manipulated one first; empty when none is known.
        agent: Name of the marker that the actions drive, or None.
        workspace_low: Least (x, y) in metres that the objects can reach, or None without positions.
        workspace_high: Greatest (x, y) in metres, or None without positions.
        max_speed: Greatest speed of any object in m/s; bounds the velocities in observations.
        goal_radius: Distance in metres under which the manipulated object counts as at the goal.
        marker_height: Height of the tracked centres above the table in metres.
        camera: The camera, or None when only pictures are known.
        mirror_actions: Sign of every action dimension in the left-right mirrored scene, or None where the scene is
            not symmetric about x = 0 (camera and light included).
        episode_steps: Predicted steps of an episode: the default time limit of the environments.
        environment: The Gymnasium environment that it is, where it is one.
    """

    name: str
    control_hz: float
    image_size: tuple[int, int]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    markers: tuple[Marker, ...] = ()
    agent: str | None = None
    workspace_low: tuple[float, float] | None = None
    workspace_high: tuple[float, float] | None = None
    max_speed: float = 1.5
    goal_radius: float = 0.04
    marker_height: float = 0.0
    camera: Camera | None = None
    mirror_actions: tuple[float, ...] | None = None
    episode_steps: int = 97
    environment: Environment | None = None

    @property
    def action_dim(self) -> int:
        """Number of action dimensions, A."""
        return len(self.action_low)

    @property
    def marker_names(self) -> tuple[str, ...]:
        """Names of the tracked objects, the manipulated one first."""
        return tuple(marker.name for marker in self.markers)

    @property
    def symmetries(self) -> tuple[int, ...]:
        """Number of headings that look alike, of every tracked object; 0 where it has none."""
        return tuple(marker.symmetry for marker in self.markers)

    @property
    def agent_index(self) -> int | None:
        """Index of the agent among the markers, or None."""
        return None if self.agent is None else self.marker_names.index(self.agent)

    def to_pixels(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Table positions (..., 2) in metres to pixels (..., 2) as (column, row) of this scene's image size.

        Raises:
            ValueError: If the scene has no camera.
        """
        if self.camera is None:
            raise ValueError(f"scene {self.name!r} has no camera, so positions cannot be projected into the picture")
        positions = np.asarray(positions, dtype=np.float64)
        heights = np.full((*positions.shape[:-1], 1), self.marker_height)
        return self.camera.project(np.concatenate([positions, heights], axis=-1), self.image_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for JSON or YAML."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            return [plain(item) for item in value] if isinstance(value, list | tuple) else value

        return {key: plain(value) for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scene:
        """The inverse of `to_dict`.

        Raises:
            ValueError: If a key is unknown or a required one is missing; the message names it.
        """
        scene = shaped(data, cls, "the scene")
        if min(scene.image_size) < 1 or not np.isfinite(scene.control_hz):
            raise ValueError(f"the scene has pictures of {scene.image_size} at {scene.control_hz} Hz")
        if len(scene.action_low) != len(scene.action_high) or not scene.action_low:
            raise ValueError("the scene's action_low and action_high are of different lengths, or empty")
        if max(scene.image_size) > _LARGEST:
            raise ValueError(f"the scene has pictures of {scene.image_size}; expected at most {_LARGEST} rows")
        if scene.environment is not None:
            scene.environment.must_be_readable()
        if scene.agent is not None and scene.agent not in scene.marker_names:
            raise ValueError(f"the scene's agent {scene.agent!r} is none of its markers {list(scene.marker_names)}")
        return scene


# Our table, as everyone sees it; what only its simulators need is in sims/dimensions.py.
KINDS = ("push", "slide")

TABLE = Scene(
    name="cube-on-table",
    control_hz=10.0,
    image_size=(128, 128),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    markers=(Marker("cube", hue=(345.0, 15.0), symmetry=4), Marker("pusher", hue=(205.0, 245.0))),
    agent="pusher",
    workspace_low=(-0.40, -0.40),  # inner faces of the walls
    workspace_high=(0.40, 0.40),
    marker_height=0.04,  # of the cube's centre
    camera=Camera(position=(0.0, -0.70, 1.10), target=(0.0, -0.05, 0.0), fovy=46.0),
    mirror_actions=(-1.0, 1.0),
)
