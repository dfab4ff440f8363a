"""The numbers of the study, fixed beforehand, by data set.

- scenes: rendered scenes at 64 px and a small Swin, pre-trained here to say which things are in sight
- pascal: the PASCAL-Context multi-task benchmark as MTLoRA's code runs it (Agiza et al. 2024,
  arXiv 2403.20320)
- ccp: street photographs, three answers, no normals; the small Swin as for scenes

Rates: the benchmark's schedule in all, up in a line from a thousandth over the first 1/15 of the steps, down
half a cosine to a hundredth.  On scenes and ccp the highest rate was chosen on a seed that the study does not
use: for joint LoRA of 0.002, 0.005 and 0.01, for full fine-tuning of 0.001, 0.0025 and 0.005, in both cases
the last.  Single-task networks take the second.  All methods with few parameters share the first, as the
benchmark's methods share one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DATA", "PROTOCOLS", "Data", "Protocol"]

Data = Literal["scenes", "pascal", "ccp"]


@dataclass(frozen=True)
class Protocol:
    """What a result hangs on.

    Attributes:
        data: Whose pictures.
        network: `"small"`, pre-trained on scenes by the study, or `"swin_tiny"`.
        narrow: What the widths of the decoders are divided by.
        size: Pixels along a side.
        train: Pictures to train on; all there are if None.
        val: Pictures to grade on; all there are if None.
        epochs: Passes over them.
        batch: Pictures a step, all processes together.
        rank: Of all adapters and fields; of MTLoRA's shared ones, whose tasks have 4 each.
        lr: The highest rate, AdamW's.
        full_lr: The same where all weights train.
        weight_decay: Not for biases, norms and other parameters of one axis.
        clip: The largest norm of a gradient.
        eps: Of AdamW.  The literal field's gradients are near torch's 1e-8, which would stop it.
    """

    data: Data
    network: Literal["small", "swin_tiny"] = "small"
    narrow: int = 6
    size: int = 64
    train: int | None = 768
    val: int | None = 256
    epochs: int = 5
    batch: int = 16
    rank: int = 8
    lr: float = 1e-2
    full_lr: float = 5e-3
    weight_decay: float = 0.05
    clip: float = 5.0
    eps: float = 1e-12


PROTOCOLS: dict[Data, Protocol] = {
    "scenes": Protocol("scenes"),
    "pascal": Protocol(
        "pascal",
        network="swin_tiny",
        narrow=1,
        size=448,
        train=None,
        val=None,
        epochs=300,
        batch=32,
        rank=24,  # the rank at which DELoRA's printed count comes out
        lr=5e-4 * 32 / 512,
        full_lr=5e-4 * 32 / 512,
    ),
    "ccp": Protocol("ccp", train=None, val=None, epochs=20),
}
DATA: tuple[Data, ...] = tuple(PROTOCOLS)
