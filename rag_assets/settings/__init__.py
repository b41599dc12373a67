"""The settings of one platform: its sources, one lake, one alias.

What belongs here: every setting with its default, bounds and description, in a file by area, and
the one place that reads the environment (`environment.py`). What does not: what a setting is used
for (`defs/resources/` passes it on).
"""

from rag_assets.settings.area import Area, is_secret, meaning, variable
from rag_assets.settings.environment import AREAS, HIDDEN, RENAMED, Settings, load_settings

__all__ = [
    "AREAS",
    "HIDDEN",
    "RENAMED",
    "Area",
    "Settings",
    "is_secret",
    "load_settings",
    "meaning",
    "variable",
]
