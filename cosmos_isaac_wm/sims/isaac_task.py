"""The table of scene.py as an Isaac Lab 3 task, kit-less: Newton physics and the Warp renderer.

Runs inside an Isaac Lab environment (docs/isaac.md). Isaac Lab's quaternions are (x, y, z, w), ours (w, x, y, z); they
are converted in `TableEnv`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..scene import (
    CUBE_FRICTION,
    CUBE_MASS,
    CUBE_SIZE,
    KINDS,
    PUSHER_CLEARANCE,
    PUSHER_DAMPING,
    PUSHER_FORCE,
    PUSHER_FRICTION,
    PUSHER_HEIGHT,
    PUSHER_MASS,
    PUSHER_RADIUS,
    PUSHER_SPEED,
    TABLE,
    TABLE_HALF_WIDTH,
    WALL_BOUNCE,
    WALL_HEIGHT,
    WALL_THICKNESS,
)
from .starts import draw_start

try:
    import isaaclab.sim as sim_utils
    import warp as wp
    from isaaclab.actuators import ImplicitActuatorCfg
    from isaaclab.assets import ArticulationCfg, AssetBaseCfg, RigidObjectCfg
    from isaaclab.envs import DirectRLEnv, DirectRLEnvCfg
    from isaaclab.scene import InteractiveSceneCfg
    from isaaclab.sensors import CameraCfg
    from isaaclab.sim import SimulationCfg
    from isaaclab.sim.spawners import SpawnerCfg
    from isaaclab.sim.spawners.materials.physics_materials_cfg import UsdPhysicsRigidBodyMaterialCfg
    from isaaclab.sim.utils import clone, get_current_stage
    from isaaclab.utils import configclass
    from isaaclab_newton.physics import MJWarpSolverCfg, NewtonCfg
    from isaaclab_newton.renderers import NewtonWarpRendererCfg
    from isaaclab_newton.renderers.newton_warp_renderer import NewtonWarpRenderer
    from isaaclab_newton.sim.schemas import MujocoCollisionCfg
    from pxr import Gf, Usd, UsdGeom, UsdPhysics
except ImportError as error:
    raise ImportError(
        f"Isaac Lab cannot be imported here ({error}). It needs an environment of its own, with Python 3.12: "
        f"docs/isaac.md says how to make it. This is Python {sys.version_info.major}.{sys.version_info.minor}"
    ) from error

STACKS = ("newton", "isaac-sim")
SUBSTEPS = 20
_HARD = (0.02, 1.0)  # contact as time constant and damping ratio: Newton's own default lets the cube sink in
_LIGHT = (0.0, 0.35, -0.94)  # where the lamp shines to; symmetric about x = 0, as all of the table is
_COLOURS = {  # linear, as USD has them; what the pictures of MuJoCo show, about
    "floor": (0.04, 0.04, 0.05),
    "table": (0.48, 0.45, 0.39),
    "wall": (0.15, 0.13, 0.12),
    "cube": (0.70, 0.007, 0.007),
    "pusher": (0.01, 0.06, 0.78),
}


def _solid(colour: str, friction: float, **collision: Any) -> dict[str, Any]:
    """What makes a shape a collider of a colour, as hard as MuJoCo's are."""
    hard = MujocoCollisionCfg(**{"solref": _HARD, **collision})
    return {
        "collision_props": [sim_utils.UsdPhysicsCollisionCfg(collision_enabled=True), hard],
        "physics_material": UsdPhysicsRigidBodyMaterialCfg(static_friction=friction, dynamic_friction=friction),
        "visual_material": sim_utils.PreviewSurfaceCfg(diffuse_color=_COLOURS[colour], roughness=1.0),
    }


@clone
def spawn_pusher(
    prim_path: str,
    cfg: PusherCfg,
    translation: tuple[float, float, float] | None = None,
    orientation: tuple[float, float, float, float] | None = None,
    **_: Any,
) -> Usd.Prim:
    """Author the pusher: a cylinder on two crossed slides, each driven at a speed."""
    stage = get_current_stage()
    root = UsdGeom.Xform.Define(stage, prim_path)
    root.AddTranslateOp().Set(Gf.Vec3d(*(translation or (0.0, 0.0, 0.0))))
    UsdPhysics.ArticulationRootAPI.Apply(root.GetPrim())
    for name in ("base", "rail"):
        body = UsdGeom.Xform.Define(stage, f"{prim_path}/{name}").GetPrim()
        UsdPhysics.RigidBodyAPI.Apply(body)
        mass = UsdPhysics.MassAPI.Apply(body)
        mass.CreateMassAttr(0.01)
        mass.CreateDiagonalInertiaAttr(Gf.Vec3f(1e-5))
    head = sim_utils.CylinderCfg(
        radius=PUSHER_RADIUS,
        height=PUSHER_HEIGHT,
        rigid_props=sim_utils.UsdPhysicsRigidBodyCfg(),
        mass_props=sim_utils.MassCfg(mass=PUSHER_MASS),
        **_solid("pusher", PUSHER_FRICTION),
    )
    head.func(f"{prim_path}/head", head)
    fixed = UsdPhysics.FixedJoint.Define(stage, f"{prim_path}/anchor")
    fixed.CreateBody1Rel().SetTargets([f"{prim_path}/base"])
    where = UsdGeom.XformCache().GetLocalToWorldTransform(root.GetPrim()).ExtractTranslation()
    fixed.CreateLocalPos0Attr(Gf.Vec3f(where))
    reach = TABLE_HALF_WIDTH - PUSHER_RADIUS
    for name, axis, parent, child in (("pusher_x", "X", "base", "rail"), ("pusher_y", "Y", "rail", "head")):
        joint = UsdPhysics.PrismaticJoint.Define(stage, f"{prim_path}/{name}")
        joint.CreateAxisAttr(axis)
        joint.CreateBody0Rel().SetTargets([f"{prim_path}/{parent}"])
        joint.CreateBody1Rel().SetTargets([f"{prim_path}/{child}"])
        joint.CreateLowerLimitAttr(-reach)
        joint.CreateUpperLimitAttr(reach)
        drive = UsdPhysics.DriveAPI.Apply(joint.GetPrim(), "linear")
        drive.CreateTypeAttr("force")
        drive.CreateStiffnessAttr(0.0)
        drive.CreateDampingAttr(PUSHER_DAMPING)
        drive.CreateMaxForceAttr(PUSHER_FORCE)
    return root.GetPrim()


@configclass
class PusherCfg(SpawnerCfg):
    """Spawns the pusher."""

    func: Any = spawn_pusher


class WarpRenderer(NewtonWarpRenderer):
    """The Warp renderer with a lamp that is symmetric about x = 0."""

    def initialize(self) -> None:
        """Aim the lamp."""
        super().initialize()
        assert self.newton_sensor is not None
        self.newton_sensor.utils.create_default_light(
            enable_shadows=self.cfg.enable_shadows, direction=wp.normalize(wp.vec3f(*_LIGHT))
        )


@configclass
class WarpRendererCfg(NewtonWarpRendererCfg):
    """Configuration of `WarpRenderer`."""

    class_type: type[WarpRenderer] | str = WarpRenderer


def _box(name: str, position: Sequence[float], size: Sequence[float], **solid: Any) -> AssetBaseCfg:
    """A fixed box."""
    spawn = sim_utils.CuboidCfg(size=tuple(size), **solid)
    init = AssetBaseCfg.InitialStateCfg(pos=tuple(position))
    return AssetBaseCfg(prim_path=f"{{ENV_REGEX_NS}}/{name}", init_state=init, spawn=spawn)


def _wall(name: str, x: int, y: int, friction: float) -> AssetBaseCfg:
    half, thick = TABLE_HALF_WIDTH, WALL_THICKNESS
    outer = half + 2 * thick
    return _box(
        f"wall_{name}",
        (x * (half + thick), y * (half + thick), WALL_HEIGHT / 2),
        (2 * (thick if x else outer), 2 * (thick if y else outer), WALL_HEIGHT),
        **_solid("wall", friction, solref=WALL_BOUNCE, priority=1),
    )


def _camera(image_size: tuple[int, int], supersampling: int) -> CameraCfg:
    """The camera of scene.py, as a pinhole."""
    camera = TABLE.camera
    assert camera is not None
    turn = Rotation.from_matrix(camera.axes().T).as_quat()  # (x, y, z, w); columns: right, up, backward, as in OpenGL
    height, width = image_size
    aperture = 20.0
    return CameraCfg(
        prim_path="{ENV_REGEX_NS}/camera",
        offset=CameraCfg.OffsetCfg(pos=camera.position, rot=tuple(turn.tolist()), convention="opengl"),
        spawn=sim_utils.PinholeCameraCfg(
            focal_length=aperture * height / width / (2 * np.tan(np.deg2rad(camera.fovy) / 2)),
            horizontal_aperture=aperture,
            clipping_range=(0.05, 10.0),
        ),
        data_types=["rgb"],
        width=width * supersampling,
        height=height * supersampling,
    )


@configclass
class TableSceneCfg(InteractiveSceneCfg):
    """What stands where; filled by `TableEnvCfg`."""

    num_envs: int = 1
    env_spacing: float = 0.0  # worlds do not see one another, and without offsets positions lose no bit
    floor: AssetBaseCfg | None = None
    table: AssetBaseCfg | None = None
    wall_left: AssetBaseCfg | None = None
    wall_right: AssetBaseCfg | None = None
    wall_near: AssetBaseCfg | None = None
    wall_far: AssetBaseCfg | None = None
    cube: RigidObjectCfg | None = None
    pusher: ArticulationCfg | None = None
    camera: CameraCfg | None = None
    lamp: AssetBaseCfg = AssetBaseCfg(prim_path="/World/lamp", spawn=sim_utils.DistantLightCfg(intensity=2000.0))


def _newton() -> NewtonCfg:
    return NewtonCfg(
        solver_cfg=MJWarpSolverCfg(
            njmax=200,
            nconmax=60,
            integrator="implicitfast",
            cone="elliptic",
            impratio=10.0,
            use_mujoco_contacts=False,  # with its own a box on a table sinks in and drifts
        ),
        use_cuda_graph=torch.cuda.is_available(),
    )


@configclass
class TableEnvCfg(DirectRLEnvCfg):
    """Configuration of `TableEnv`; the scene follows from the first four."""

    kind: str = "push"
    """Kind of episode: "push" or "slide"."""
    image_size: tuple[int, int] = TABLE.image_size
    """Height and width of the pictures."""
    supersampling: int = 2
    """Rows and columns of rays in a pixel, which are averaged. With one ray the Warp renderer's edges are jagged and
    tell less of where an object is. RTX smooths edges itself: 1 with "isaac-sim", whatever is said here."""
    stack: str = "newton"
    """"newton": Newton physics and the Warp renderer. "isaac-sim": PhysX and RTX, which nobody has run yet."""
    goal: tuple[float, float] = (0.15, 0.15)
    """Where the cube shall go, (x, y) in metres; pictures do not show it."""
    decimation: int = SUBSTEPS
    episode_length_s: float = TABLE.episode_steps / TABLE.control_hz
    action_space: Any = gym.spaces.Box(-1.0, 1.0, (TABLE.action_dim,), np.float32)
    observation_space: Any = None
    state_space: Any = 0
    sim: SimulationCfg = SimulationCfg(dt=1 / (TABLE.control_hz * SUBSTEPS), render_interval=SUBSTEPS)
    scene: TableSceneCfg = TableSceneCfg()

    def __post_init__(self) -> None:
        """Build the scene.

        Raises:
            ValueError: If the kind or the stack is unknown, or there are no rays.
        """
        for name, value, known in (("kind", self.kind, KINDS), ("stack", self.stack, STACKS)):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; expected one of {known}")
        if self.supersampling < 1:
            raise ValueError(f"expected supersampling of one ray or more, got {self.supersampling}")
        if self.stack == "isaac-sim":
            self.supersampling = 1
        friction, scene = CUBE_FRICTION[self.kind], self.scene
        outer = 2 * (TABLE_HALF_WIDTH + 2 * WALL_THICKNESS)
        scene.floor = _box("floor", (0, 0, -0.31), (10, 10, 0.02), **_solid("floor", friction))
        scene.table = _box("table", (0, 0, -0.02), (outer, outer, 0.04), **_solid("table", friction))
        for name, x, y in (("left", -1, 0), ("right", 1, 0), ("near", 0, -1), ("far", 0, 1)):
            setattr(scene, f"wall_{name}", _wall(name, x, y, friction))
        scene.cube = RigidObjectCfg(
            prim_path="{ENV_REGEX_NS}/cube",
            init_state=RigidObjectCfg.InitialStateCfg(pos=(0.0, 0.0, CUBE_SIZE / 2)),
            spawn=sim_utils.CuboidCfg(
                size=(CUBE_SIZE,) * 3,
                rigid_props=sim_utils.UsdPhysicsRigidBodyCfg(),
                mass_props=sim_utils.MassCfg(mass=CUBE_MASS),
                **_solid("cube", friction, condim=4),
            ),
        )
        drive = ImplicitActuatorCfg(
            joint_names_expr=["pusher_.*"], stiffness=0.0, damping=PUSHER_DAMPING, joint_effort_limit=PUSHER_FORCE
        )
        if self.kind == "push":
            scene.pusher = ArticulationCfg(
                prim_path="{ENV_REGEX_NS}/pusher",
                init_state=ArticulationCfg.InitialStateCfg(pos=(0.0, 0.0, PUSHER_HEIGHT / 2 + PUSHER_CLEARANCE)),
                spawn=PusherCfg(),
                actuators={"slides": drive},
            )
        scene.camera = _camera(self.image_size, self.supersampling)
        self.observation_space = gym.spaces.Box(0, 255, (*self.image_size, 3), np.uint8)
        self.sim.device = "cuda:0" if torch.cuda.is_available() else "cpu"
        if self.stack == "newton":
            self.sim.physics, scene.camera.renderer_cfg = _newton(), WarpRendererCfg(enable_shadows=True)
        else:
            from isaaclab_physx.physics import PhysxCfg
            from isaaclab_physx.renderers import IsaacRtxRendererCfg

            self.sim.physics, scene.camera.renderer_cfg, scene.env_spacing = PhysxCfg(), IsaacRtxRendererCfg(), 4.0


def start_state(kind: str, seed: int, options: dict[str, Any] | None = None) -> NDArray[np.float64]:
    """A random start as a state of `TableEnv.states`; see `draw_start`."""
    start = draw_start(kind, seed, options)
    state = [*start.cube_pose, *start.velocity, 0.0, 0.0, 0.0, start.spin]
    return np.array(state if start.pusher is None else [*state, *start.pusher, 0.0, 0.0])


class TableEnv(DirectRLEnv):
    """Cube and pusher on walled tables, N at once: pictures in, planar velocities out.

    Observations are `{"policy": uint8 (N, H, W, 3)}`; the reward is minus the distance of the cube from the goal, as a
    share of the table's diagonal, and an episode ends with the cube at the goal or after its time.
    """

    cfg: TableEnvCfg

    def __init__(self, cfg: TableEnvCfg, render_mode: str | None = None, **kwargs: Any):
        camera, side = cfg.scene.camera, cfg.supersampling
        built = None if camera is None else (camera.height, camera.width)
        if (cfg.scene.pusher is None) != (cfg.kind == "slide") or built != tuple(side * n for n in cfg.image_size):
            raise ValueError(
                "kind, image_size, supersampling and stack make the scene, so say them when the configuration is made, "
                "as in TableEnvCfg(kind='slide'), and do not change them afterwards"
            )
        super().__init__(cfg, render_mode, **kwargs)
        self.cube, self.camera = self.scene["cube"], self.scene["camera"]
        self.pusher = self.scene["pusher"] if cfg.kind == "push" else None
        self._goal = torch.tensor(cfg.goal, device=self.device)
        self._target = torch.zeros(self.num_envs, TABLE.action_dim, device=self.device)
        self._rng = np.random.default_rng(cfg.seed)

    @property
    def frames(self) -> Tensor:
        """Pictures of the current state, uint8 (N, H, W, 3)."""
        drawn, side = self.camera.data.output["rgb"].torch[..., :3], self.cfg.supersampling
        if side == 1:
            return drawn
        return drawn.unflatten(2, (-1, side)).unflatten(1, (-1, side)).float().mean(dim=(2, 4)).round_().byte()

    def states(self) -> Tensor:
        """Complete states (N, S): the cube's position, quaternion (w, x, y, z) and velocities, linear and angular.

        In a push also the pusher's (x, y) and velocity. Metres and seconds, about each table's middle.
        """
        data = self.cube.data
        place = data.root_pos_w.torch - self.scene.env_origins
        quaternion = data.root_quat_w.torch.roll(1, dims=-1)
        parts = [place, quaternion, data.root_lin_vel_w.torch, data.root_ang_vel_w.torch]
        if self.pusher is not None:
            parts += [self.pusher.data.joint_pos.torch, self.pusher.data.joint_vel.torch]
        return torch.cat(parts, dim=-1)

    def set_states(self, states: Tensor, env_ids: Tensor | None = None) -> None:
        """Restore states (n, S) of `states` in some tables, all when None."""
        ids = torch.arange(self.num_envs, device=self.device, dtype=torch.int32) if env_ids is None else env_ids
        states = states.to(self.device, torch.float32)
        pose = torch.cat([states[:, :3] + self.scene.env_origins[ids.long()], states[:, 3:7].roll(-1, dims=-1)], dim=-1)
        self.cube.write_root_link_pose_to_sim_index(root_pose=pose, env_ids=ids)
        self.cube.write_root_com_velocity_to_sim_index(root_velocity=states[:, 7:13].contiguous(), env_ids=ids)
        if self.pusher is not None:
            self.pusher.write_joint_position_to_sim_index(position=states[:, 13:15].contiguous(), env_ids=ids)
            self.pusher.write_joint_velocity_to_sim_index(velocity=states[:, 15:17].contiguous(), env_ids=ids)

    def refresh(self) -> None:
        """Bring what is drawn up to date with states that were set."""
        self.scene.write_data_to_sim()
        self.sim.forward()
        self.scene.update(dt=self.physics_dt)
        self.camera.update(0.0, force_recompute=True)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode on every table; the same seed starts the same ones."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        return super().reset(seed=seed, options=options)

    def advance(self, actions: Tensor) -> None:
        """One control step of all tables under actions (N, 2), without rewards, ends and new beginnings."""
        self.set_states(self.states())  # the solver forgets where it was: a restored state goes on exactly as it did
        self._pre_physics_step(actions)
        at_once = self.cfg.decimation if self._physics_handles_decimation else 1
        for _ in range(self.cfg.decimation // at_once):
            self._apply_action()
            self.scene.write_data_to_sim()
            self.sim.step(render=False)
            self.scene.update(dt=self.physics_dt * at_once)

    def _pre_physics_step(self, actions: Tensor) -> None:
        self._target = PUSHER_SPEED * actions.clamp(-1.0, 1.0)

    def _apply_action(self) -> None:
        if self.pusher is not None:
            self.pusher.actuators.target_command.set_velocity_index(value=self._target)

    def _get_observations(self) -> dict[str, Tensor]:
        return {"policy": self.frames.clone()}  # the renderer draws the next picture into the same memory

    def _distance(self) -> Tensor:
        return (self.states()[:, :2] - self._goal).norm(dim=-1)

    def _get_rewards(self) -> Tensor:
        return -self._distance() / (2 * TABLE_HALF_WIDTH * 2**0.5)

    def _get_dones(self) -> tuple[Tensor, Tensor]:
        return self._distance() < TABLE.goal_radius, self.episode_length_buf >= self.max_episode_length

    def _reset_idx(self, env_ids: Sequence[int]) -> None:
        super()._reset_idx(env_ids)
        starts = [start_state(self.cfg.kind, int(self._rng.integers(2**31))) for _ in range(len(env_ids))]
        self.set_states(torch.tensor(np.array(starts)), torch.as_tensor(env_ids, device=self.device, dtype=torch.int32))
