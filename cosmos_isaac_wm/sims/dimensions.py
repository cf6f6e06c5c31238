"""What is our table made of? Sizes, masses and friction, the same numbers for every simulator of it.

What everybody else needs to know of it is in `scene.TABLE`, from which the first two follow.
"""

from __future__ import annotations

from ..scene import TABLE

assert TABLE.workspace_high is not None
TABLE_HALF_WIDTH = TABLE.workspace_high[0]  # m, inner faces of the walls
CUBE_SIZE = 2 * TABLE.marker_height  # m, edge
WALL_HEIGHT = 0.04  # m
WALL_THICKNESS = 0.02  # m
WALL_BOUNCE = (-3000.0, -25.0)  # MuJoCo's solref as stiffness and damping: walls give back about half of the speed
CUBE_MASS = 0.25  # kg
CUBE_FRICTION = {"push": 0.4, "slide": 0.04}  # sliding friction against the table, per kind of episode
PUSHER_RADIUS = 0.035  # m; wide and rough pushers make contact far less chaotic than thin smooth ones
PUSHER_HEIGHT = 0.10  # m
PUSHER_CLEARANCE = 0.002  # m above the table
PUSHER_MASS = 0.5  # kg
PUSHER_FRICTION = 1.0
PUSHER_DAMPING = 40.0  # N s/m, of the drive that holds its velocity
PUSHER_FORCE = 12.0  # N, of that drive at most
PUSHER_SPEED = 0.30  # m/s at action +1
