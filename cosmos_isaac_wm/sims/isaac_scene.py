"""What stands on the table in Isaac Lab, how is it drawn, and by which physics does it move?

Kit-less: Newton physics and the Warp renderer. Runs inside an Isaac Lab environment (docs/isaac.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..scene import TABLE
from . import dimensions

try:
    import isaaclab.sim as sim_utils
    import warp as wp
    from isaaclab.actuators import ImplicitActuatorCfg
    from isaaclab.assets import ArticulationCfg, AssetBaseCfg, RigidObjectCfg
    from isaaclab.scene import InteractiveSceneCfg
    from isaaclab.sensors import CameraCfg
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
        radius=dimensions.PUSHER_RADIUS,
        height=dimensions.PUSHER_HEIGHT,
        rigid_props=sim_utils.UsdPhysicsRigidBodyCfg(),
        mass_props=sim_utils.MassCfg(mass=dimensions.PUSHER_MASS),
        **_solid("pusher", dimensions.PUSHER_FRICTION),
    )
    head.func(f"{prim_path}/head", head)
    fixed = UsdPhysics.FixedJoint.Define(stage, f"{prim_path}/anchor")
    fixed.CreateBody1Rel().SetTargets([f"{prim_path}/base"])
    where = UsdGeom.XformCache().GetLocalToWorldTransform(root.GetPrim()).ExtractTranslation()
    fixed.CreateLocalPos0Attr(Gf.Vec3f(where))
    reach = dimensions.TABLE_HALF_WIDTH - dimensions.PUSHER_RADIUS
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
        drive.CreateDampingAttr(dimensions.PUSHER_DAMPING)
        drive.CreateMaxForceAttr(dimensions.PUSHER_FORCE)
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
    half, thick = dimensions.TABLE_HALF_WIDTH, dimensions.WALL_THICKNESS
    outer = half + 2 * thick
    return _box(
        f"wall_{name}",
        (x * (half + thick), y * (half + thick), dimensions.WALL_HEIGHT / 2),
        (2 * (thick if x else outer), 2 * (thick if y else outer), dimensions.WALL_HEIGHT),
        **_solid("wall", friction, solref=dimensions.WALL_BOUNCE, priority=1),
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


def newton() -> NewtonCfg:
    """The physics: as the solver of MuJoCo is set, which the other table moves by."""
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


def furnish(scene: TableSceneCfg, kind: str, image_size: tuple[int, int], supersampling: int) -> CameraCfg:
    """Fill a scene with what belongs to a kind of episode, and a camera of that many rays a pixel; the camera."""
    friction = dimensions.CUBE_FRICTION[kind]
    outer = 2 * (dimensions.TABLE_HALF_WIDTH + 2 * dimensions.WALL_THICKNESS)
    scene.floor = _box("floor", (0, 0, -0.31), (10, 10, 0.02), **_solid("floor", friction))
    scene.table = _box("table", (0, 0, -0.02), (outer, outer, 0.04), **_solid("table", friction))
    for name, x, y in (("left", -1, 0), ("right", 1, 0), ("near", 0, -1), ("far", 0, 1)):
        setattr(scene, f"wall_{name}", _wall(name, x, y, friction))
    scene.cube = RigidObjectCfg(
        prim_path="{ENV_REGEX_NS}/cube",
        init_state=RigidObjectCfg.InitialStateCfg(pos=(0.0, 0.0, dimensions.CUBE_SIZE / 2)),
        spawn=sim_utils.CuboidCfg(
            size=(dimensions.CUBE_SIZE,) * 3,
            rigid_props=sim_utils.UsdPhysicsRigidBodyCfg(),
            mass_props=sim_utils.MassCfg(mass=dimensions.CUBE_MASS),
            **_solid("cube", friction, condim=4),
        ),
    )
    if kind == "push":
        drive = ImplicitActuatorCfg(
            joint_names_expr=["pusher_.*"],
            stiffness=0.0,
            damping=dimensions.PUSHER_DAMPING,
            joint_effort_limit=dimensions.PUSHER_FORCE,
        )
        height = dimensions.PUSHER_HEIGHT / 2 + dimensions.PUSHER_CLEARANCE
        scene.pusher = ArticulationCfg(
            prim_path="{ENV_REGEX_NS}/pusher",
            init_state=ArticulationCfg.InitialStateCfg(pos=(0.0, 0.0, height)),
            spawn=PusherCfg(),
            actuators={"slides": drive},
        )
    camera = scene.camera = _camera(image_size, supersampling)
    return camera
