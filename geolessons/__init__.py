"""The geometry of neural-network parameter space.

A fine-tuned network is a point that moved; a method is a rule for how it may move.
The core (`trees`, `sphere`, `paths`, `fields`, `landscape`, `adapters`) needs torch alone.  The teaching kit
(`data`, `models`, `training`, `alignment`, `plots`, `widgets`, `studies`) is imported module by module,
so that `import geolessons` stays light.
"""

from geolessons import fields, landscape, paths, sphere, trees
from geolessons.paths import Line, Slerp, evaluate
from geolessons.sphere import angle, slerp
from geolessons.trees import Params, params_of

__all__ = [
    "Line",
    "Params",
    "Slerp",
    "angle",
    "evaluate",
    "fields",
    "landscape",
    "params_of",
    "paths",
    "slerp",
    "sphere",
    "trees",
]

__version__ = "0.1.0"
