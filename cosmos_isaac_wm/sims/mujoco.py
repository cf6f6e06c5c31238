"""What is the default real simulator? The table in MuJoCo, with shadows, at 10 Hz over 50 physics steps.

Pictures need off-screen OpenGL (EGL or OSMesa), everything else does not.
"""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from typing import Any, Protocol, runtime_checkable

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..scene import KINDS, TABLE, Scene
from . import dimensions
from .starts import draw_start

NO_OPENGL = (
    "MuJoCo cannot draw pictures here: it found neither EGL nor OSMesa, or was imported before MUJOCO_GL was set. "
    "On Debian or Ubuntu `apt-get install libosmesa6` is enough (or libegl1 libgl1 libgl1-mesa-dri for EGL). "
    "The dream itself needs no OpenGL."
)


_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@runtime_checkable
class Simulated(Protocol):
    """What has a model and its data, as every class has that lets MuJoCo simulate."""

    model: mujoco.MjModel
    data: mujoco.MjData


def whole_state(world: object) -> NDArray[np.float64] | None:
    """MuJoCo's complete state as one vector; None where it is not MuJoCo that simulates."""
    if not isinstance(world, Simulated) or not isinstance(world.model, mujoco.MjModel):
        return None
    state = np.empty(mujoco.mj_stateSize(world.model, _STATE))
    mujoco.mj_getState(world.model, world.data, state, _STATE)
    return state


def restore(world: Simulated, state: NDArray[np.float64]) -> None:
    """Put a whole state into a world that it is of."""
    mujoco.mj_setState(world.model, world.data, state, _STATE)
    # mj_forward would also overwrite the warm start that the next step begins from, so put it back.
    mujoco.mj_forward(world.model, world.data)
    mujoco.mj_setState(world.model, world.data, state, _STATE)


def coordinates(world: Simulated, states: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions, as seen from the first one, and velocities in every degree of freedom of states (n, S), (n, 2 nv)."""
    found = np.empty((len(states), 2, world.model.nv))
    mujoco.mj_setState(world.model, world.data, states[0], _STATE)
    origin = world.data.qpos.copy()
    for row, state in zip(found, states, strict=True):
        mujoco.mj_setState(world.model, world.data, state, _STATE)
        mujoco.mj_differentiatePos(world.model, row[0], 1.0, origin, world.data.qpos)
        row[1] = world.data.qvel
    return found.reshape(len(states), -1)


def displace(world: Simulated, by: NDArray[np.float64]) -> None:
    """Move positions and velocities by (2 nv,), as of `coordinates`."""
    moved, faster = np.split(np.asarray(by, np.float64), 2)
    mujoco.mj_integratePos(world.model, world.data.qpos, moved, 1.0)
    world.data.qvel[:] += faster
    mujoco.mj_forward(world.model, world.data)


class OpenGLError(RuntimeError):
    """Pictures were asked for where no off-screen OpenGL is installed."""


def _build(kind: str) -> mujoco.MjModel:
    """Compile the table with or without its pusher."""
    spec = mujoco.MjSpec.from_string(files("cosmos_isaac_wm.sims").joinpath("assets/table.xml").read_text())
    world, box = spec.worldbody, mujoco.mjtGeom.mjGEOM_BOX
    half, thick = dimensions.TABLE_HALF_WIDTH, dimensions.WALL_THICKNESS
    friction = [dimensions.CUBE_FRICTION[kind], 0.002, 0.0001]
    outer = half + 2 * thick
    world.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=[0, 0, -0.3], size=[5, 5, 0.1], material="floor")
    world.add_geom(
        name="table", type=box, pos=[0, 0, -0.02], size=[outer, outer, 0.02], material="table", friction=friction
    )
    for name, x, y in (("left", -1, 0), ("right", 1, 0), ("near", 0, -1), ("far", 0, 1)):
        world.add_geom(
            name=f"wall_{name}",
            type=box,
            pos=[x * (half + thick), y * (half + thick), dimensions.WALL_HEIGHT / 2],
            size=[thick if x else outer, thick if y else outer, dimensions.WALL_HEIGHT / 2],
            material="wall",
            friction=friction,
            solref=list(dimensions.WALL_BOUNCE),
            priority=1,
        )
    camera = TABLE.camera
    assert camera is not None
    right, up, _ = camera.axes()
    oblique = world.add_camera(name="oblique", pos=list(camera.position), fovy=camera.fovy)
    oblique.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
    oblique.alt.xyaxes = [*right, *up]
    cube = world.add_body(name="cube", pos=[0, 0, dimensions.CUBE_SIZE / 2])
    cube.add_freejoint(name="cube")
    cube.add_geom(
        name="cube",
        type=box,
        size=[dimensions.CUBE_SIZE / 2] * 3,
        mass=dimensions.CUBE_MASS,
        material="cube",
        friction=friction,
        condim=4,
    )
    if kind == "push":
        _add_pusher(spec)
    return spec.compile()


def _add_pusher(spec: mujoco.MjSpec) -> None:
    """The pusher: a cylinder on two crossed slides, each driven at a speed."""
    pusher = spec.worldbody.add_body(
        name="pusher", pos=[0, 0, dimensions.PUSHER_HEIGHT / 2 + dimensions.PUSHER_CLEARANCE]
    )
    reach = dimensions.TABLE_HALF_WIDTH - dimensions.PUSHER_RADIUS
    for name, axis in (("pusher_x", [1, 0, 0]), ("pusher_y", [0, 1, 0])):
        pusher.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis, limited=True, range=[-reach, reach])
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_velocity(kv=dimensions.PUSHER_DAMPING)
        motor.forcelimited, motor.forcerange = True, [-dimensions.PUSHER_FORCE, dimensions.PUSHER_FORCE]
    pusher.add_geom(
        name="pusher",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[dimensions.PUSHER_RADIUS, dimensions.PUSHER_HEIGHT / 2, 0],
        mass=dimensions.PUSHER_MASS,
        material="pusher",
        friction=[dimensions.PUSHER_FRICTION, 0.002, 0.0001],
    )


def _release() -> None:
    """Leave no OpenGL context current in this thread: the next picture may be drawn in another, which EGL refuses."""
    egl = sys.modules.get("mujoco.egl")
    if egl is not None and egl.EGL_DISPLAY is not None:
        nothing = egl.EGL.EGL_NO_SURFACE
        egl.EGL.eglMakeCurrent(egl.EGL_DISPLAY, nothing, nothing, egl.EGL.EGL_NO_CONTEXT)


class MujocoTable:
    """The red cube on the walled table, pushed (`kind="push"`) or launched (`kind="slide"`).

    In *push* the action is the pusher's planar velocity; +1 is `PUSHER_SPEED`. In *slide* there is no pusher, the cube
    is slippery and is launched at 0.4 to 1.0 m/s with some spin; actions are ignored.

    Args:
        kind: "push" or "slide".
        image_size: Height and width of the pictures.
        shadows: Draw shadows. Never mix pictures with and without.
    """

    SUBSTEPS = 50

    def __init__(self, kind: str = "push", image_size: tuple[int, int] = TABLE.image_size, shadows: bool = True):
        if kind not in KINDS:
            raise ValueError(f"unknown kind of episode {kind!r}; expected one of {KINDS}")
        self.kind = kind
        self.scene: Scene = Scene.from_dict({**TABLE.to_dict(), "image_size": list(image_size)})
        self.model = _build(kind)
        self.model.vis.global_.offheight, self.model.vis.global_.offwidth = image_size
        self.data = mujoco.MjData(self.model)
        self._shadows = shadows
        self._renderer: mujoco.Renderer | None = None
        expected = self.model.opt.timestep * self.SUBSTEPS * self.scene.control_hz
        assert abs(expected - 1) < 1e-9, "substeps and control rate disagree"

    def reset(self, seed: int, options: dict[str, Any] | None = None) -> None:
        """Start an episode with random poses drawn from `seed`.

        Args:
            seed: Any non-negative integer; the same seed gives the same start.
            options: Optional `"cube"` (x, y) and `"pusher"` (x, y) in metres instead of random ones.
        """
        start = draw_start(self.kind, seed, options)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:7] = start.cube_pose
        self.data.qvel[:2], self.data.qvel[5] = start.velocity, start.spin
        if start.pusher is not None:
            self.data.qpos[7:9] = start.pusher
        mujoco.mj_forward(self.model, self.data)

    def step(self, action: NDArray[np.float32]) -> None:
        """Hold the planar velocity command `action` (2,) in [-1, 1] for 0.1 s.

        Raises:
            ValueError: If the action has another shape or is not finite.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"expected a finite action of shape (2,), got {action}")
        if self.kind == "push":
            self.data.ctrl[:] = dimensions.PUSHER_SPEED * np.clip(action, -1.0, 1.0)
        mujoco.mj_step(self.model, self.data, nstep=self.SUBSTEPS)

    def render(self) -> NDArray[np.uint8]:
        """The oblique camera's picture, (H, W, 3).

        Raises:
            OpenGLError: If neither EGL nor OSMesa is installed.
        """
        if self._renderer is None:
            try:
                self._renderer = mujoco.Renderer(self.model, *self.scene.image_size)
            except Exception as error:  # PyOpenGL raises ImportError, AttributeError or its own, by platform
                raise OpenGLError(NO_OPENGL) from error
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = self._shadows
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = False
        # A step leaves the drawn geometry one physics step behind the positions: bring it up to date.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        self._renderer.update_scene(self.data, camera="oblique")
        try:
            return self._renderer.render().copy()
        finally:
            _release()

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """(x, y) in metres of the cube and, when pushing, of the pusher."""
        found = {"cube": self.data.qpos[:2].copy()}
        if self.kind == "push":
            found["pusher"] = self.data.qpos[7:9].copy()
        return found

    def cube_pose(self) -> NDArray[np.float64]:
        """The cube's (x, y, z, qw, qx, qy, qz)."""
        return self.data.qpos[:7].copy()

    def in_contact(self) -> bool:
        """Whether the pusher touches the cube."""
        if self.kind == "slide":
            return False
        pair = {self.model.geom("cube").id, self.model.geom("pusher").id}
        return any({int(contact.geom1), int(contact.geom2)} == pair for contact in self.data.contact)

    def get_state(self) -> NDArray[np.float64]:
        """The complete integration state, warm start included."""
        state = whole_state(self)
        assert state is not None
        return state

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Restore a state of `get_state` of the same kind of episode.

        Raises:
            ValueError: If the state has another length.
        """
        expected = mujoco.mj_stateSize(self.model, _STATE)
        state = np.asarray(state, dtype=np.float64)
        if state.shape != (expected,):
            raise ValueError(
                f"a {self.kind} state has shape ({expected},), got {state.shape}: was it saved from another kind?"
            )
        restore(self, state)

    def perturb(self, rng: np.random.Generator, position_m: float, angle_rad: float, speed: float = 0.0) -> None:
        """Jitter planar poses, and the cube's velocity (m/s), by Gaussian noise: what a perfect eye could not tell."""
        pose = self.data.qpos
        pose[:2] += rng.normal(0.0, position_m, 2)
        turn = rng.normal(0.0, angle_rad)
        quat = np.empty(4)
        mujoco.mju_mulQuat(quat, np.array([np.cos(turn / 2), 0, 0, np.sin(turn / 2)]), pose[3:7].copy())
        pose[3:7] = quat
        if self.kind == "push":
            pose[7:9] += rng.normal(0.0, position_m, 2)
        if speed:
            self.data.qvel[:2] += rng.normal(0.0, speed, 2)
        mujoco.mj_forward(self.model, self.data)

    def metadata(self) -> dict[str, Any]:
        """Simulator, version, renderer and shadows: recorded with every dataset."""
        return {
            "simulator": "mujoco",
            "simulator_version": mujoco.__version__,
            "renderer": f"mujoco.Renderer/{os.environ.get('MUJOCO_GL', 'none')}",
            "shadows": self._shadows,
        }

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or another process gets: no OpenGL context, which each makes for itself."""
        return vars(self) | {"_renderer": None}
