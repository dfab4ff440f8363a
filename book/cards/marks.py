"""The marks of the ruler: each angle of the book that has a name, in radians."""

import math
from collections.abc import Iterable
from pathlib import Path

from geolessons.plots import Mark
from geolessons.studies.record import read

RESULTS = Path(__file__).parents[1] / "results"
ANGLES: dict[str, float | tuple[str, str]] = {  # a number, or the study that measured it and its key
    "the antipode": math.pi,
    "inputs permuted (first matrix)": ("moves", "permuted inputs, angle"),
    "another seed": ("roads", "seeds.angle"),
    "our LoRA, learning rate 0.01": ("moves", "lying.0.01.angle"),
    "another seed, neurons matched": ("roads", "matched.angle"),
    "our LoRA, lying digits": ("moves", "lying.0.003.angle"),
    "our LoRA, tilted digits": ("moves", "tilted.0.003.angle"),
    "our LoRA, learning rate 0.001": ("moves", "lying.0.001.angle"),
    "LoRA on MNIST, rate 0.01": ("moves_mnist", "0.01.angle"),
    "LoRA on MNIST, rate 0.0001": ("moves_mnist", "0.0001.angle"),
    "GLRA on MNIST, AdamW 0.001": ("glra_mnist", "adamw.0.001.glra.omega"),
    "GLRA on digits, AdamW 0.002": ("glra", "adamw.0.002.glra.omega"),
    "GLRA on digits, AdamW 0.0002": ("glra", "adamw.0.0002.glra.omega"),
    "softmax field, tilted digits": ("pushes", "literal.angle"),
    "softmax field, one step and 32": ("pushes", "literal.bend"),
    "softmax field before training": ("pushes", "start.angle"),
    "a walk of 0.3 of the weights' length": math.atan(0.3),
    "a walk of a tenth": math.atan(0.1),
    "Flat-LoRA's noise, σ = 0.15": math.atan(0.15),
    "Flat-LoRA's noise, σ = 0.05": math.atan(0.05),
    "mergekit goes straight below": math.acos(0.9995),
    "bfloat16, 1,000 noisy steps": ("drift", "subtracted.constant.bfloat16.1000.drift"),
    "arccos in float32 ends here": math.sqrt(2.0**-23),
    "float32, 1,000 noisy steps": ("drift", "subtracted.constant.float32.1000.drift"),
    "smallest step of a 32-bit number": 2.0**-24,
}


def angle(name: str) -> float:
    """What a mark stands for; a measured angle is the mean over its seeds."""
    found = ANGLES[name]
    return found if isinstance(found, float) else read(RESULTS / f"{found[0]}.json")[found[1]]["mean"]


def marks(*, new: Iterable[str] = (), known: Iterable[str] = ()) -> list[Mark]:
    """Marks for `plots.ruler`, by their names in ANGLES: a page's own, in colour, and those seen before."""
    return [Mark(angle(name), name, True) for name in new] + [Mark(angle(name), name) for name in known]
