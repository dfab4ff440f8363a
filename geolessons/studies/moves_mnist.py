"""How far does a network move on MNIST?

Chapter 0; needs GEOLESSONS_DATA; about 40 s a seed.

The multilayer perceptron 784-128-64-10 of the GLRA paper learns MNIST for two epochs, then MNIST turned by
45° for three, by LoRA of rank 8 on its first two matrices, at three learning rates.
"""

from __future__ import annotations

from geolessons.data import mnist
from geolessons.metrics import loss_and_accuracy
from geolessons.paths import Line, evaluate
from geolessons.running_example import adapt, pretrain
from geolessons.studies.moves import move_size
from geolessons.studies.record import main
from geolessons.trees import params_of

__all__ = ["one_seed"]

SIZES = (784, 128, 64, 10)
RATES = (1e-4, 1e-3, 1e-2)
LAYERS = ["fc1.weight", "fc2.weight"]


def one_seed(seed: int) -> dict[str, float]:
    """All values of one seed, by name."""
    upright, turned = mnist(), mnist(turn=45)
    model = pretrain(upright, seed, epochs=2, lr=1e-3, batch=128, sizes=SIZES)
    W0 = params_of(model)
    found: dict[str, float] = {}
    for rate in RATES:
        W1 = adapt(model, turned, seed, epochs=3, lr=rate, batch=128, match=LAYERS)
        found |= move_size(W0, W1, f"{rate:g}")
        metric = loss_and_accuracy(turned.x_test, turned.y_test)
        (_, before), (_, after) = evaluate(Line(W0, W1), model, metric, [0.0, 1.0]).values
        found |= {f"{rate:g}.before": before, f"{rate:g}.after": after}
    return found


if __name__ == "__main__":
    main("moves_mnist", __doc__, one_seed)
