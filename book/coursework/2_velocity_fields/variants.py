"""Wrong answers to assignment 2, each with the exercise it must fail, and other right ones."""

import math

import torch

from geolessons.coursework import right, wrong

# 2.1 A walk along a constant push


@wrong("2.1", "step not divided by the number of steps")
def walk(W0, push, horizon, steps):
    W = W0
    for _ in range(steps):
        W = W + horizon * push
    return W


@wrong("2.1", "one step too many")
def walk(W0, push, horizon, steps):
    W = W0
    for _ in range(steps + 1):
        W = W + horizon / steps * push
    return W


@wrong("2.1", "horizon ignored")
def walk(W0, push, horizon, steps):
    W = W0
    for _ in range(steps):
        W = W + push / steps
    return W


@wrong("2.1", "each step starts anew")
def walk(W0, push, horizon, steps):
    for _ in range(steps):
        W = W0 + horizon / steps * push
    return W


@wrong("2.1", "one step too few")
def walk(W0, push, horizon, steps):
    W = W0.clone()
    for i in range(1, steps):
        W = W + horizon / steps * push
    return W


@wrong("2.1", "writes on the start")
def walk(W0, push, horizon, steps):
    for _ in range(steps):
        W0 += horizon / steps * push
    return W0


@wrong("2.1", "never goes back")
def walk(W0, push, horizon, steps):
    return W0 + abs(horizon) * push


@wrong("2.1", "scales the push in place")
def walk(W0, push, horizon, steps):
    push *= horizon / steps
    W = W0
    for _ in range(steps):
        W = W + push
    return W


@right("2.1", "closed form")
def walk(W0, push, horizon, steps):
    return W0 + horizon * push


@right("2.1", "in place, on a copy")
def walk(W0, push, horizon, steps):
    W = W0.clone()
    for _ in range(steps):
        W.add_(push, alpha=horizon / steps)
    return W


# 2.2 Three rules for a push that bends


@wrong("2.2", "midpoint's slope taken at the end")
def follow(v, W0, horizon, steps, method):
    W, h = W0, horizon / steps
    for _ in range(steps):
        slope = v(W)
        if method == "midpoint":
            slope = v(W + h * slope)
        elif method == "rk4":
            v2 = v(W + h / 2 * slope)
            v3 = v(W + h / 2 * v2)
            slope = (slope + 2 * v2 + 2 * v3 + v(W + h * v3)) / 6
        W = W + h * slope
    return W


@wrong("2.2", "RK4 as a plain mean")
def follow(v, W0, horizon, steps, method):
    W, h = W0, horizon / steps
    for _ in range(steps):
        slope = v(W)
        if method == "midpoint":
            slope = v(W + h / 2 * slope)
        elif method == "rk4":
            v2 = v(W + h / 2 * slope)
            v3 = v(W + h / 2 * v2)
            slope = (slope + v2 + v3 + v(W + h * v3)) / 4
        W = W + h * slope
    return W


@wrong("2.2", "third slope from the first")
def follow(v, W0, horizon, steps, method):
    W, h = W0, horizon / steps
    for _ in range(steps):
        slope = v(W)
        if method == "midpoint":
            slope = v(W + h / 2 * slope)
        elif method == "rk4":
            v2 = v(W + h / 2 * slope)
            v3 = v(W + h / 2 * slope)
            slope = (slope + 2 * v2 + 2 * v3 + v(W + h * v3)) / 6
        W = W + h * slope
    return W


@wrong("2.2", "fourth slope half-way as well")
def follow(v, W0, horizon, steps, method):
    W, h = W0, horizon / steps
    for _ in range(steps):
        slope = v(W)
        if method == "midpoint":
            slope = v(W + h / 2 * slope)
        elif method == "rk4":
            v2 = v(W + h / 2 * slope)
            v3 = v(W + h / 2 * v2)
            slope = (slope + 2 * v2 + 2 * v3 + v(W + h / 2 * v3)) / 6
        W = W + h * slope
    return W


@wrong("2.2", "another rule of order 2 in place of the midpoint's (Heun's)")
def follow(v, W0, horizon, steps, method):
    W, h = W0, horizon / steps
    for _ in range(steps):
        slope = v(W)
        if method == "midpoint":
            slope = (slope + v(W + h * slope)) / 2
        elif method == "rk4":
            v2 = v(W + h / 2 * slope)
            v3 = v(W + h / 2 * v2)
            slope = (slope + 2 * v2 + 2 * v3 + v(W + h * v3)) / 6
        W = W + h * slope
    return W


@wrong("2.2", "midpoint goes half a step only")
def follow(v, W0, horizon, steps, method):
    W, h = W0, horizon / steps
    for _ in range(steps):
        slope = v(W)
        if method == "midpoint":
            slope = v(W + h / 2 * slope) / 2
        elif method == "rk4":
            v2 = v(W + h / 2 * slope)
            v3 = v(W + h / 2 * v2)
            slope = (slope + 2 * v2 + 2 * v3 + v(W + h * v3)) / 6
        W = W + h * slope
    return W


@wrong("2.2", "RK4 for all three")
def follow(v, W0, horizon, steps, method):
    W, h = W0, horizon / steps
    for _ in range(steps):
        v1 = v(W)
        v2 = v(W + h / 2 * v1)
        v3 = v(W + h / 2 * v2)
        W = W + h * (v1 + 2 * v2 + 2 * v3 + v(W + h * v3)) / 6
    return W


@wrong("2.2", "slopes looked up at the start of the walk")
def follow(v, W0, horizon, steps, method):
    W, h = W0, horizon / steps
    for _ in range(steps):
        slope = v(W0)
        if method == "midpoint":
            slope = v(W0 + h / 2 * slope)
        elif method == "rk4":
            v2 = v(W0 + h / 2 * slope)
            v3 = v(W0 + h / 2 * v2)
            slope = (slope + 2 * v2 + 2 * v3 + v(W0 + h * v3)) / 6
        W = W + h * slope
    return W


@wrong("2.2", "horizon ignored")
def follow(v, W0, horizon, steps, method):
    W, h = W0, 1 / steps
    for _ in range(steps):
        slope = v(W)
        if method == "midpoint":
            slope = v(W + h / 2 * slope)
        elif method == "rk4":
            v2 = v(W + h / 2 * slope)
            v3 = v(W + h / 2 * v2)
            slope = (slope + 2 * v2 + 2 * v3 + v(W + h * v3)) / 6
        W = W + h * slope
    return W


@wrong("2.2", "writes on the start")
def follow(v, W0, horizon, steps, method):
    W, h = W0, horizon / steps
    for _ in range(steps):
        slope = v(W)
        if method == "midpoint":
            slope = v(W + h / 2 * slope)
        elif method == "rk4":
            v2 = v(W + h / 2 * slope)
            v3 = v(W + h / 2 * v2)
            slope = (slope + 2 * v2 + 2 * v3 + v(W + h * v3)) / 6
        W += h * slope
    return W


@right("2.2", "by a table of coefficients")
def follow(v, W0, horizon, steps, method):
    places, weights = {
        "euler": ([0], [1]),
        "midpoint": ([0, 1 / 2], [0, 1]),
        "rk4": ([0, 1 / 2, 1 / 2, 1], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
    }[method]
    W, h = W0.clone(), horizon / steps
    for _ in range(steps):
        slopes = [torch.zeros_like(W)]
        for place in places:
            slopes.append(v(W + h * place * slopes[-1]))
        W = W + h * sum(b * slope for b, slope in zip(weights, slopes[1:]))
    return W


@right("2.2", "step by step, by itself")
def follow(v, W0, horizon, steps, method):
    if steps == 0:
        return W0
    h = horizon / steps
    d1 = h * v(W0)
    if method == "euler":
        step = d1
    elif method == "midpoint":
        step = h * v(W0 + d1 / 2)
    else:
        d2 = h * v(W0 + d1 / 2)
        d3 = h * v(W0 + d2 / 2)
        step = (d1 + h * v(W0 + d3)) / 6 + (d2 + d3) / 3
    return follow(v, W0 + step, horizon - h, steps - 1, method)


# 2.3 Repair Equation 7


@wrong("2.3", "softmax over the rows")
def velocity(W, W1, W2):
    return torch.softmax((W @ W1) @ (W2 @ W) / math.sqrt(W.shape[0]), dim=0)


@wrong("2.3", "softmax over the whole matrix")
def velocity(W, W1, W2):
    Z = (W @ W1) @ (W2 @ W) / math.sqrt(W.shape[0])
    return torch.softmax(Z.flatten(), 0).view_as(Z)


@wrong("2.3", "divided by √r")
def velocity(W, W1, W2):
    return torch.softmax((W @ W1) @ (W2 @ W) / math.sqrt(W1.shape[1]), dim=1)


@wrong("2.3", "divided by √k")
def velocity(W, W1, W2):
    return torch.softmax((W @ W1) @ (W2 @ W) / math.sqrt(W.shape[1]), dim=1)


@wrong("2.3", "divided by d")
def velocity(W, W1, W2):
    return torch.softmax((W @ W1) @ (W2 @ W) / W.shape[0], dim=1)


@wrong("2.3", "not divided")
def velocity(W, W1, W2):
    return torch.softmax((W @ W1) @ (W2 @ W), dim=1)


@wrong("2.3", "transposed")
def velocity(W, W1, W2):
    return torch.softmax((W2 @ W).T @ (W @ W1).T / math.sqrt(W.shape[0]), dim=1)


@wrong("2.3", "transposed where that has the right shape")
def velocity(W, W1, W2):
    d, k = W.shape
    Z = (W2 @ W).T @ (W @ W1).T if d == k else (W @ W1) @ (W2 @ W)
    return torch.softmax(Z / math.sqrt(d), dim=1)


@wrong("2.3", "as printed")
def velocity(W, W1, W2):
    return torch.softmax((W2 @ W) @ (W @ W1).T / math.sqrt(W.shape[0]), dim=1)


@wrong("2.3", "logits without the softmax")
def velocity(W, W1, W2):
    return (W @ W1) @ (W2 @ W) / math.sqrt(W.shape[0])


@wrong("2.3", "divides a factor in place")
def velocity(W, W1, W2):
    W1 /= math.sqrt(len(W))
    return torch.softmax((W @ W1) @ (W2 @ W), dim=1)


@right("2.3", "exponentials and a division")
def velocity(W, W1, W2):
    M = W1 @ W2  # (k, d)
    rises = (W @ M @ W / W.shape[0] ** 0.5).exp()
    return rises / rises.sum(1, keepdim=True)


@right("2.3", "by indices")
def velocity(W, W1, W2):
    Z = torch.einsum("ia,ar,rb,bj->ij", W, W1, W2, W)
    return Z.div(math.sqrt(len(W))).softmax(-1)


# 2.4 Other parameters, the same push


@wrong("2.4", "transpose for the inverse")
def other_factors(W1, W2, R):
    return W1 @ R, R.T @ W2


@wrong("2.4", "one side only")
def other_factors(W1, W2, R):
    return W1 @ R, W2


@wrong("2.4", "inverse on both sides")
def other_factors(W1, W2, R):
    inverse = torch.linalg.inv(R)
    return W1 @ inverse, inverse @ W2


@wrong("2.4", "the same R on both sides")
def other_factors(W1, W2, R):
    return W1 @ R, R @ W2


@wrong("2.4", "the old pair")
def other_factors(W1, W2, R):
    return W1.clone(), W2.clone()


@wrong("2.4", "inverse entry by entry")
def other_factors(W1, W2, R):
    return W1 @ R, (1 / R) @ W2


@wrong("2.4", "the pair in the wrong order")
def other_factors(W1, W2, R):
    return torch.linalg.solve(R, W2), W1 @ R


@wrong("2.4", "the first mixed to and fro, so nothing changes")
def other_factors(W1, W2, R):
    return W1 @ R @ torch.linalg.inv(R), W2


@wrong("2.4", "both signs turned, R unused")
def other_factors(W1, W2, R):
    return -W1, -W2


@wrong("2.4", "doubled and halved, R unused")
def other_factors(W1, W2, R):
    return W1 * 2, W2 / 2


@wrong("2.4", "multiplies the first factor in place")
def other_factors(W1, W2, R):
    new2 = torch.linalg.solve(R, W2)
    new1 = W1 @ R
    W1.copy_(new1)
    return new1, new2


@right("2.4", "with the inverse written out")
def other_factors(W1, W2, R):
    return W1 @ R, torch.linalg.inv(R) @ W2


@right("2.4", "the inverse on the first side")
def other_factors(W1, W2, R):
    return torch.linalg.solve(R, W1, left=False), R @ W2


# 2.5 The rank of an update


@wrong("2.5", "rank of the new weight")
def rank_of_update(W0, W):
    values = torch.linalg.svdvals(W)
    return int((values > 1e-5 * values[0]).sum())


@wrong("2.5", "rank of the old weight")
def rank_of_update(W0, W):
    values = torch.linalg.svdvals(W0)
    return int((values > 1e-5 * values[0]).sum())


@wrong("2.5", "zero taken as exact")
def rank_of_update(W0, W):
    return int((torch.linalg.svdvals(W - W0) > 0).sum())


@wrong("2.5", "a bare number for the limit")
def rank_of_update(W0, W):
    return int((torch.linalg.svdvals(W - W0) > 1e-5).sum())


@wrong("2.5", "no change has full rank")
def rank_of_update(W0, W):
    values = torch.linalg.svdvals(W - W0)
    return int((values >= 1e-5 * values[0]).sum())


@wrong("2.5", "too large a share for the limit")
def rank_of_update(W0, W):
    values = torch.linalg.svdvals(W - W0)
    return int((values > 1e-2 * values[0]).sum())


@wrong("2.5", "the limit of float64 in every format")
def rank_of_update(W0, W):
    values = torch.linalg.svdvals(W.double() - W0.double())
    return int((values > 1e-13 * values[0]).sum())


@wrong("2.5", "difference of the two ranks")
def rank_of_update(W0, W):
    return int(torch.linalg.matrix_rank(W) - torch.linalg.matrix_rank(W0))


@wrong("2.5", "rows that changed")
def rank_of_update(W0, W):
    return int(((W - W0).abs().amax(1) > 0).sum())


@wrong("2.5", "ten times the share for the limit")
def rank_of_update(W0, W):
    values = torch.linalg.svdvals(W - W0)
    return int((values > 1e-4 * values[0]).sum())


@wrong("2.5", "a fifth of the share for the limit")
def rank_of_update(W0, W):
    values = torch.linalg.svdvals(W - W0)
    return int((values > 2e-6 * values[0]).sum())


@wrong("2.5", "subtracts in place")
def rank_of_update(W0, W):
    W -= W0
    values = torch.linalg.svdvals(W)
    return int((values > 1e-5 * values[0]).sum())


@right("2.5", "PyTorch's own rank, with the share")
def rank_of_update(W0, W):
    return int(torch.linalg.matrix_rank(W - W0, rtol=1e-5))


@right("2.5", "in double precision, by the whole decomposition")
def rank_of_update(W0, W):
    _, values, _ = torch.linalg.svd((W - W0).double(), full_matrices=False)
    largest = max(values.tolist())
    return sum(value > 1e-5 * largest for value in values.tolist())


# 2.6 What no field can learn


@wrong("2.6", "a unit vector with a change of 1")
def unmoved(W0):
    k = W0.shape[1]
    return torch.full((k,), 1 / math.sqrt(k), dtype=W0.dtype), 1.0


@wrong("2.6", "one input alone")
def unmoved(W0):
    x = torch.zeros(W0.shape[1], dtype=W0.dtype)
    x[0] = 1.0
    return x, 1 / W0.shape[1]


@wrong("2.6", "all ones, no change")
def unmoved(W0):
    return torch.ones(W0.shape[1], dtype=W0.dtype), 0.0


@wrong("2.6", "all ones, a change of k")
def unmoved(W0):
    return torch.ones(W0.shape[1], dtype=W0.dtype), float(W0.shape[1])


@wrong("2.6", "all ones, a change of 1/k")
def unmoved(W0):
    return torch.ones(W0.shape[1], dtype=W0.dtype), 1 / W0.shape[1]


@wrong("2.6", "a sum of zero, right for the start only")
def unmoved(W0):
    x = torch.ones(W0.shape[1], dtype=W0.dtype)
    x[::2] = -1.0
    return x - x.mean(), 0.0


@wrong("2.6", "nothing comes in")
def unmoved(W0):
    return torch.zeros(W0.shape[1], dtype=W0.dtype), 0.0


@wrong("2.6", "as long as there are outputs")
def unmoved(W0):
    return torch.ones(W0.shape[0], dtype=W0.dtype), 1.0


@wrong("2.6", "what the old weight does not see")
def unmoved(W0):
    return torch.linalg.svd(W0).Vh[-1], 0.0


@right("2.6", "another multiple")
def unmoved(W0):
    return torch.full((W0.shape[1],), -3.0, dtype=W0.dtype), -3.0


@right("2.6", "of unit length")
def unmoved(W0):
    k = W0.shape[1]
    return torch.ones_like(W0[0]) / math.sqrt(k), 1 / math.sqrt(k)


# 2.7 Merge an adapted layer


@wrong("2.7", "adapter left on")
def merge(layer):
    with torch.no_grad():
        layer.weight += layer.scale * layer.B @ layer.A


@wrong("2.7", "scale forgotten")
def merge(layer):
    if layer.on:
        with torch.no_grad():
            layer.weight += layer.B @ layer.A
        layer.on = False


@wrong("2.7", "merged in half precision")
def merge(layer):
    if layer.on:
        with torch.no_grad():
            pushed = layer.weight.half() + (layer.scale * layer.B @ layer.A).half()
            layer.weight.copy_(pushed)
        layer.on = False


@wrong("2.7", "merged again when it is off")
def merge(layer):
    with torch.no_grad():
        layer.weight += layer.scale * layer.B @ layer.A
    layer.on = False


@wrong("2.7", "adapter off, nothing merged")
def merge(layer):
    layer.on = False


@wrong("2.7", "scale squared")
def merge(layer):
    if layer.on:
        with torch.no_grad():
            layer.weight += (layer.scale * layer.B) @ (layer.scale * layer.A)
        layer.on = False


@wrong("2.7", "subtracted")
def merge(layer):
    if layer.on:
        with torch.no_grad():
            layer.weight -= layer.scale * layer.B @ layer.A
        layer.on = False


@wrong("2.7", "the weight trains afterwards")
def merge(layer):
    if layer.on:
        layer.weight = torch.nn.Parameter((layer.weight + layer.scale * layer.B @ layer.A).detach())
        layer.on = False


@wrong("2.7", "scale set to 0, switch left on")
def merge(layer):
    with torch.no_grad():
        layer.weight += layer.scale * layer.B @ layer.A
    layer.scale = 0.0


@wrong("2.7", "factors cleared")
def merge(layer):
    if layer.on:
        with torch.no_grad():
            layer.weight += layer.scale * layer.B @ layer.A
            layer.B.zero_()
        layer.on = False


@wrong("2.7", "the factors frozen as well")
def merge(layer):
    if layer.on:
        with torch.no_grad():
            layer.weight += layer.scale * layer.B @ layer.A
        layer.requires_grad_(False)
        layer.on = False


@wrong("2.7", "a plain tensor for the parameter")
def merge(layer):
    if layer.on:
        W = (layer.weight + layer.scale * layer.B @ layer.A).detach()
        del layer.weight
        layer.weight = W
        layer.on = False


@right("2.7", "a new frozen parameter")
def merge(layer):
    if not layer.on:
        return
    W = torch.addmm(layer.weight, layer.B, layer.A, alpha=layer.scale).detach()
    layer.weight = torch.nn.Parameter(W, requires_grad=False)
    layer.on = False


@right("2.7", "one rank at a time")
def merge(layer):
    if layer.on:
        for column, row in zip(layer.B.detach().T, layer.A.detach()):
            layer.weight.data.add_(torch.outer(column, row), alpha=layer.scale)
    layer.on = False
