"""From the pre-trained backbone to the adapted one in a straight line, with the decoders of its end.

    W(t) = (1 - t)·W0 + t·W₁,    t = 0, 0.1, …, 1,    for all weights of the backbone

The decoders were trained at t = 1 and stay as they are.  So t = 0 asks what they make of features that the
method has not touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from geolessons.data.dense import Dense
from geolessons.data.dense_transforms import normalise
from geolessons.files import replacing
from geolessons.models.multitask import MultiTask
from geolessons.studies.multitask.methods import moved
from geolessons.studies.multitask.pictures import Pictures
from geolessons.studies.multitask.protocol import Protocol
from geolessons.studies.multitask.training import fresh, grade
from geolessons.trees import Params, params_of

__all__ = ["ON_THE_ROAD", "SHOWN", "TS", "along", "bundle", "bytes_of", "keep", "plain", "readings", "shown"]

ON_THE_ROAD = ("full", "lora", "literal", "centred")  # one inference, the weights of a plain network
TS = tuple(i / 10 for i in range(11))
SHOWN = 4  # pictures whose answers are kept


def plain(answers: Any, backbone: nn.Module, pictures: Pictures, protocol: Protocol) -> MultiTask:
    """The same network without adapters: its backbone at W0, its decoders the trained ones."""
    model = fresh(backbone, pictures, protocol, 0)
    model.decoders.load_state_dict(answers.model.decoders.state_dict())
    return model.to(next(answers.parameters()).device).eval()


def along(model: MultiTask, W1: Params) -> Iterator[tuple[float, nn.Module]]:
    """(t, what answers there), for each of `TS`.

    Args:
        model: At W0, with the trained decoders; not touched.
        W1: The adapted backbone, as `moved` gives it.
    """
    W0 = {name: w for name, w in params_of(model).items() if name in W1}
    for t in TS:
        yield t, _Moved(model, {name: torch.lerp(W0[name], W1[name], t) for name in W1})


def readings(model: MultiTask, answers: Any, pictures: Pictures) -> dict[str, list[float]]:
    """What is read off along the way, by metric."""
    rows = [grade(there, pictures) for _, there in along(model, moved(answers.model))]
    return {key: [row[key] for row in rows] for key in rows[0]}


@torch.no_grad()
def shown(answers: nn.Module, sample: Dense) -> dict[str, NDArray[np.uint8]]:
    """A few pictures' answers as bytes: class numbers (n, H, W), a normal as three bytes (n, 3, H, W)."""
    image = sample.image.to(next(answers.parameters()).device)
    return {task: bytes_of(task, logits) for task, logits in answers(normalise(image)).items()}


def bytes_of(task: str, logits: Tensor) -> NDArray[np.uint8]:
    """Logits, or vectors of any length, as what is to be looked at; saliency from 0 to 255."""
    if task == "normals":
        unit = logits / torch.linalg.vector_norm(logits, dim=1, keepdim=True).clamp(min=1e-6)
        found = (unit + 1) * 127.5
    elif task == "saliency":
        found = 255 * logits[:, 0].sigmoid()
    else:
        found = logits.argmax(1)
    return found.round().byte().cpu().numpy()


def keep(
    file: Path, method: str, answering: list[Any], backbone: nn.Module, pictures: Pictures, protocol: Protocol
) -> None:
    """Write what a method answers to the first pictures that are graded, along the road if it has one.

    Keys are `<method>.<task>`, arrays (steps, n, …) of bytes as `shown` gives them; and `truth.<task>`,
    `truth.image`, without steps, where 255 and three zeros say that nothing is known.
    """
    sample = Dense(*(x[:SHOWN] for x in next(pictures.graded())))
    if method in ON_THE_ROAD:
        model = plain(answering[0], backbone, pictures, protocol)
        steps = [shown(there, sample) for _, there in along(model, moved(answering[0].model))]
    else:
        steps = [{task: said for answers in answering for task, said in shown(answers, sample).items()}]
    found: dict[str, Any] = {
        f"{method}.{task}": np.stack([step[task] for step in steps]) for task in steps[0]
    }
    known = (sample.normals != 0).any(1, keepdim=True)
    found["truth.image"] = (255 * sample.image).round().byte().numpy()
    found["truth.normals"] = ((sample.normals + 1) * 127.5 * known).round().byte().numpy()
    for task in ("semseg", "human_parts", "saliency"):
        found[f"truth.{task}"] = getattr(sample, task).byte().numpy()
    _write(file, found)


def bundle(parts: Path, methods: list[str], file: Path) -> None:
    """Put what `keep` wrote for some methods into one file."""
    found: dict[str, Any] = {}
    for method in methods:
        with np.load(parts / f"{method}-0.npz") as kept:
            found |= dict(kept)
    _write(file, found)


def _write(file: Path, arrays: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as aside, aside.open("wb") as out:
        np.savez_compressed(out, **arrays)


class _Moved(nn.Module):
    """A model with other weights, as long as this lasts."""

    def __init__(self, model: MultiTask, W: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model, self.W = model, dict(W)
        self.training = model.training

    def forward(self, image: Tensor) -> Any:
        return functional_call(self.model, self.W, (image,))
