"""Is what was learned in the dream true? The same policies from the same starts in the dream and in reality."""

from .both_worlds import BothWorlds, film, play_both
from .correlation import Correlation, correlate
from .figures import transfer_figures
from .games import play_all
from .page import draw, table
from .playing import Played, Policy, play
from .sources import Source, Worlds
from .starts import APART, Start, draw_starts

__all__ = [
    "APART",
    "BothWorlds",
    "Correlation",
    "Played",
    "Policy",
    "Source",
    "Start",
    "Worlds",
    "correlate",
    "draw",
    "draw_starts",
    "film",
    "play",
    "play_all",
    "play_both",
    "table",
    "transfer_figures",
]
