"""Wrong answers to assignment 0, each with the exercise it must fail, and other right ones."""

import math

import torch

from geolessons.coursework import right, wrong

# 0.1 Relative length of a move


@wrong("0.1", "mean of the ratios of the tensors")
def relative_length(P, Q):
    ratios = [float((Q[name] - P[name]).norm() / P[name].norm()) for name in P]
    return sum(ratios) / len(ratios)


@wrong("0.1", "divided by the new length")
def relative_length(P, Q):
    moved = sum((Q[name] - P[name]).square().sum() for name in P)
    return float(torch.sqrt(moved / sum(Q[name].square().sum() for name in P)))


@wrong("0.1", "difference of the lengths")
def relative_length(P, Q):
    start, end = (math.sqrt(sum(float(W.square().sum()) for W in R.values())) for R in (P, Q))
    return abs(end - start) / start


@wrong("0.1", "lengths of the tensors added up")
def relative_length(P, Q):
    moved = sum((Q[name] - P[name]).norm() for name in P)
    return float(moved / sum(P[name].norm() for name in P))


@wrong("0.1", "tensors paired by place, not by name")
def relative_length(P, Q):
    p, q = (torch.cat([W.flatten() for W in R.values()]) for R in (P, Q))
    return float((q - p).norm() / p.norm())


@wrong("0.1", "root forgotten")
def relative_length(P, Q):
    moved = sum((Q[name] - P[name]).square().sum() for name in P)
    return float(moved / sum(P[name].square().sum() for name in P))


@wrong("0.1", "not divided")
def relative_length(P, Q):
    return float(torch.sqrt(sum((Q[name] - P[name]).square().sum() for name in P)))


@wrong("0.1", "means of squares, so that each tensor counts alike")
def relative_length(P, Q):
    moved = sum((Q[name] - P[name]).square().mean() for name in P)
    return float(torch.sqrt(moved / sum(P[name].square().mean() for name in P)))


@right("0.1", "one long row")
def relative_length(P, Q):
    p, q = (torch.cat([R[name].reshape(-1) for name in sorted(P)]) for R in (P, Q))
    return torch.linalg.vector_norm(q - p) / torch.linalg.vector_norm(p)


@right("0.1", "roots by math.hypot")
def relative_length(P, Q):
    lengths = [[float((Q[n] - P[n]).norm()) for n in P], [float(P[n].norm()) for n in P]]
    return math.hypot(*lengths[0]) / math.hypot(*lengths[1])


# 0.2 A walk that leaves its ends alone


@wrong("0.2", "in place")
def walk(P, Q, t):
    for name in P:
        P[name].mul_(1 - t).add_(Q[name], alpha=t)
    return P


@wrong("0.2", "ends swapped")
def walk(P, Q, t):
    return {name: t * P[name] + (1 - t) * Q[name] for name in P}


@wrong("0.2", "t held between 0 and 1")
def walk(P, Q, t):
    t = min(max(t, 0.0), 1.0)
    return {name: (1 - t) * P[name] + t * Q[name] for name in P}


@wrong("0.2", "its input at t = 0")
def walk(P, Q, t):
    if t == 0:
        return P
    return {name: (1 - t) * P[name] + t * Q[name] for name in P}


@wrong("0.2", "the tensors of its inputs at both ends, in a new dict")
def walk(P, Q, t):
    if t in (0, 1):
        return dict(Q if t else P)
    return {name: (1 - t) * P[name] + t * Q[name] for name in P}


@wrong("0.2", "the dict of P with new tensors in it")
def walk(P, Q, t):
    R = P
    for name in P:
        R[name] = (1 - t) * P[name] + t * Q[name]
    return R


@wrong("0.2", "a step of t along Q")
def walk(P, Q, t):
    return {name: P[name] + t * Q[name] for name in P}


@right("0.2", "start and a share of the difference")
def walk(P, Q, t):
    return {name: W + t * (Q[name] - W) for name, W in P.items()}


@right("0.2", "torch.lerp")
def walk(P, Q, t):
    return {name: torch.lerp(P[name], Q[name], float(t)) for name in P}


@right("0.2", "copies, changed in place")
def walk(P, Q, t):
    from copy import deepcopy

    there = deepcopy(P)
    for name, W in there.items():
        W.mul_(1 - t).add_(Q[name], alpha=t)
    return there


# 0.3 Accuracy along a road, without a trace


@wrong("0.3", "leaves the weights in the model")
def accuracy_at(model, P, Q, t, x, y):
    model.load_state_dict({name: (1 - t) * P[name] + t * Q[name] for name in P})
    return float((model(x).argmax(1) == y).double().mean())


@wrong("0.3", "interpolates the accuracies")
def accuracy_at(model, P, Q, t, x, y):
    ends = [(torch.func.functional_call(model, end, (x,)).argmax(1) == y).double().mean() for end in (P, Q)]
    return float((1 - t) * ends[0] + t * ends[1])


@wrong("0.3", "mixes outputs, not weights")
def accuracy_at(model, P, Q, t, x, y):
    first, last = (torch.func.functional_call(model, end, (x,)) for end in (P, Q))
    return float((((1 - t) * first + t * last).argmax(1) == y).double().mean())


@wrong("0.3", "mixes probabilities")
def accuracy_at(model, P, Q, t, x, y):
    first, last = (torch.func.functional_call(model, end, (x,)).softmax(1) for end in (P, Q))
    return float((((1 - t) * first + t * last).argmax(1) == y).double().mean())


@wrong("0.3", "puts P back, not what was there")
def accuracy_at(model, P, Q, t, x, y):
    model.load_state_dict({name: (1 - t) * P[name] + t * Q[name] for name in P})
    share = float((model(x).argmax(1) == y).double().mean())
    model.load_state_dict(P)
    return share


@wrong("0.3", "puts back a state dict that is a view of the model")
def accuracy_at(model, P, Q, t, x, y):
    before = model.state_dict()
    model.load_state_dict({name: (1 - t) * P[name] + t * Q[name] for name in P})
    share = float((model(x).argmax(1) == y).double().mean())
    model.load_state_dict(before)
    return share


@wrong("0.3", "adds the difference to the weights that are there")
def accuracy_at(model, P, Q, t, x, y):
    W = {name: V + t * (Q[name] - P[name]) for name, V in model.named_parameters()}
    return float((torch.func.functional_call(model, W, (x,)).argmax(1) == y).double().mean())


@wrong("0.3", "ends swapped")
def accuracy_at(model, P, Q, t, x, y):
    W = {name: t * P[name] + (1 - t) * Q[name] for name in P}
    return float((torch.func.functional_call(model, W, (x,)).argmax(1) == y).double().mean())


@wrong("0.3", "weights mixed, biases of the start")
def accuracy_at(model, P, Q, t, x, y):
    W = {name: (1 - t) * P[name] + t * Q[name] if P[name].dim() == 2 else P[name] for name in P}
    return float((torch.func.functional_call(model, W, (x,)).argmax(1) == y).double().mean())


@wrong("0.3", "leaves the model in the mode for evaluation, and frozen")
def accuracy_at(model, P, Q, t, x, y):
    model.eval().requires_grad_(False)
    W = {name: (1 - t) * P[name] + t * Q[name] for name in P}
    return float((torch.func.functional_call(model, W, (x,)).argmax(1) == y).double().mean())


@right("0.3", "on a copy of the model")
def accuracy_at(model, P, Q, t, x, y):
    from copy import deepcopy

    other = deepcopy(model)
    with torch.no_grad():
        for name, W in other.named_parameters():
            W.copy_(P[name] + t * (Q[name] - P[name]))
    return (other(x).argmax(1) == y).float().mean()


@right("0.3", "put in and taken out again")
def accuracy_at(model, P, Q, t, x, y):
    before = {name: W.clone() for name, W in model.state_dict().items()}
    try:
        model.load_state_dict({name: (1 - t) * P[name] + t * Q[name] for name in P})
        return float((model(x).argmax(1) == y).sum()) / len(y)
    finally:
        model.load_state_dict(before)


# 0.4 Where the new skill overtakes the old


@wrong("0.4", "nearest place of the grid")
def overtakes(ts, old, new):
    lead = [n - o for o, n in zip(old, new, strict=True)]
    for i in range(len(ts) - 1):
        if lead[i] <= 0 < lead[i + 1]:
            return ts[i] if -lead[i] < lead[i + 1] else ts[i + 1]
    return None


@wrong("0.4", "first place after")
def overtakes(ts, old, new):
    for i in range(1, len(ts)):
        if new[i - 1] <= old[i - 1] and new[i] > old[i]:
            return ts[i]
    return None


@wrong("0.4", "last crossing")
def overtakes(ts, old, new):
    found = None
    lead = [n - o for o, n in zip(old, new, strict=True)]
    for i in range(len(ts) - 1):
        if lead[i] <= 0 < lead[i + 1]:
            found = ts[i] + lead[i] / (lead[i] - lead[i + 1]) * (ts[i + 1] - ts[i])
    return found


@wrong("0.4", "any crossing, downwards too")
def overtakes(ts, old, new):
    lead = [n - o for o, n in zip(old, new, strict=True)]
    for i in range(len(ts) - 1):
        if lead[i] * lead[i + 1] < 0 or (lead[i] == 0 < lead[i + 1]):
            return ts[i] + lead[i] / (lead[i] - lead[i + 1]) * (ts[i + 1] - ts[i])
    return None


@wrong("0.4", "touching counts")
def overtakes(ts, old, new):
    lead = [n - o for o, n in zip(old, new, strict=True)]
    for i in range(len(ts) - 1):
        if lead[i] < 0 <= lead[i + 1] or (lead[i] == 0 < lead[i + 1]):
            return ts[i] + lead[i] / (lead[i] - lead[i + 1]) * (ts[i + 1] - ts[i])
    return None


@wrong("0.4", "a crossing on a place of the grid is missed")
def overtakes(ts, old, new):
    lead = [n - o for o, n in zip(old, new, strict=True)]
    for i in range(len(ts) - 1):
        if lead[i] < 0 < lead[i + 1]:
            return ts[i] + lead[i] / (lead[i] - lead[i + 1]) * (ts[i + 1] - ts[i])
    return None


@wrong("0.4", "grid taken as even")
def overtakes(ts, old, new):
    lead = [n - o for o, n in zip(old, new, strict=True)]
    step = (ts[-1] - ts[0]) / (len(ts) - 1)
    for i in range(len(ts) - 1):
        if lead[i] <= 0 < lead[i + 1]:
            return ts[0] + (i + lead[i] / (lead[i] - lead[i + 1])) * step
    return None


@wrong("0.4", "half-way between the two places")
def overtakes(ts, old, new):
    for i in range(len(ts) - 1):
        if new[i] <= old[i] and new[i + 1] > old[i + 1]:
            return (ts[i] + ts[i + 1]) / 2
    return None


@wrong("0.4", "the end of the road for never")
def overtakes(ts, old, new):
    lead = [n - o for o, n in zip(old, new, strict=True)]
    for i in range(len(ts) - 1):
        if lead[i] <= 0 < lead[i + 1]:
            return ts[i] + lead[i] / (lead[i] - lead[i + 1]) * (ts[i + 1] - ts[i])
    return ts[-1]


@wrong("0.4", "ahead at the start is an overtaking at the start")
def overtakes(ts, old, new):
    lead = [n - o for o, n in zip(old, new, strict=True)]
    if lead[0] > 0:
        return ts[0]
    for i in range(len(ts) - 1):
        if lead[i] <= 0 < lead[i + 1]:
            return ts[i] + lead[i] / (lead[i] - lead[i + 1]) * (ts[i + 1] - ts[i])
    return None


@wrong("0.4", "share counted from the wrong end")
def overtakes(ts, old, new):
    lead = [n - o for o, n in zip(old, new, strict=True)]
    for i in range(len(ts) - 1):
        if lead[i] <= 0 < lead[i + 1]:
            return ts[i + 1] - lead[i] / (lead[i] - lead[i + 1]) * (ts[i + 1] - ts[i])
    return None


@right("0.4", "with tensors")
def overtakes(ts, old, new):
    ts, old, new = (torch.tensor(values, dtype=torch.float64) for values in (ts, old, new))
    lead = new - old
    at = ((lead[:-1] <= 0) & (lead[1:] > 0)).nonzero()
    if len(at) == 0:
        return None
    i = int(at[0])
    return (ts[i] * lead[i + 1] - ts[i + 1] * lead[i]) / (lead[i + 1] - lead[i])


@right("0.4", "halving the piece until it is tiny")
def overtakes(ts, old, new):
    from bisect import bisect_right

    def lead(t):
        i = min(max(bisect_right(ts, t) - 1, 0), len(ts) - 2)
        share = (t - ts[i]) / (ts[i + 1] - ts[i])
        return (1 - share) * (new[i] - old[i]) + share * (new[i + 1] - old[i + 1])

    for i in range(1, len(ts)):
        if new[i - 1] <= old[i - 1] and new[i] > old[i]:
            low, high = ts[i - 1], ts[i]
            for _ in range(60):
                middle = (low + high) / 2
                low, high = (middle, high) if lead(middle) <= 0 else (low, middle)
            return low
    return None


# 0.5 Other names, the same answers


@wrong("0.5", "bias forgotten")
def renamed(P, order):
    return P | {"fc1.weight": P["fc1.weight"][order], "fc2.weight": P["fc2.weight"][:, order]}


@wrong("0.5", "inverse order on the way out")
def renamed(P, order):
    new = {name: P[name][order] for name in ("fc1.weight", "fc1.bias")}
    return P | new | {"fc2.weight": P["fc2.weight"][:, order.argsort()]}


@wrong("0.5", "rows instead of columns of the next layer")
def renamed(P, order):
    return P | {name: P[name][order] for name in ("fc1.weight", "fc1.bias", "fc2.weight")}


@wrong("0.5", "next layer forgotten")
def renamed(P, order):
    return P | {name: P[name][order] for name in ("fc1.weight", "fc1.bias")}


@wrong("0.5", "old neuron i becomes new neuron order[i]")
def renamed(P, order):
    back = order.argsort()
    new = {name: P[name][back] for name in ("fc1.weight", "fc1.bias")}
    return P | new | {"fc2.weight": P["fc2.weight"][:, back]}


@wrong("0.5", "inputs renamed too")
def renamed(P, order):
    W = P["fc1.weight"][order]
    W = W[:, order] if W.shape[1] == len(order) else W.flip(1)
    return P | {"fc1.weight": W, "fc1.bias": P["fc1.bias"][order], "fc2.weight": P["fc2.weight"][:, order]}


@wrong("0.5", "in place")
def renamed(P, order):
    P["fc1.weight"].copy_(P["fc1.weight"][order])
    P["fc1.bias"].copy_(P["fc1.bias"][order])
    P["fc2.weight"].copy_(P["fc2.weight"][:, order])
    return P


@wrong("0.5", "both hidden layers renamed")
def renamed(P, order):
    new = {name: P[name][order] for name in ("fc1.weight", "fc1.bias", "fc2.bias")}
    new["fc2.weight"] = P["fc2.weight"][order][:, order]
    return P | new | {"fc3.weight": P["fc3.weight"][:, order]}


@wrong("0.5", "the second hidden layer renamed")
def renamed(P, order):
    new = {name: P[name][order] for name in ("fc2.weight", "fc2.bias")}
    return P | new | {"fc3.weight": P["fc3.weight"][:, order]}


@right("0.5", "by a permutation matrix")
def renamed(P, order):
    S = torch.eye(len(order), dtype=P["fc1.weight"].dtype)[order]
    return P | {
        "fc1.weight": S @ P["fc1.weight"],
        "fc1.bias": S @ P["fc1.bias"],
        "fc2.weight": P["fc2.weight"] @ S.T,
    }


@right("0.5", "neuron by neuron")
def renamed(P, order):
    Q = {name: W.clone() for name, W in P.items()}
    for i, j in enumerate(order.tolist()):
        Q["fc1.weight"][i] = P["fc1.weight"][j]
        Q["fc1.bias"][i] = P["fc1.bias"][j]
        Q["fc2.weight"][:, i] = P["fc2.weight"][:, j]
    return Q


# 0.6 Count LoRA's numbers


@wrong("0.6", "r · d · k")
def lora_numbers(P, r):
    return sum(r * W.numel() for W in P.values() if W.dim() == 2)


@wrong("0.6", "as if square, by the rows")
def lora_numbers(P, r):
    return sum(2 * r * W.shape[0] for W in P.values() if W.dim() == 2)


@wrong("0.6", "as if square, by the columns")
def lora_numbers(P, r):
    return sum(2 * r * W.shape[1] for W in P.values() if W.dim() == 2)


@wrong("0.6", "square matrices only")
def lora_numbers(P, r):
    return sum(2 * r * len(W) for W in P.values() if W.dim() == 2 and W.shape[0] == W.shape[1])


@wrong("0.6", "one factor, A")
def lora_numbers(P, r):
    return sum(r * W.shape[1] for W in P.values() if W.dim() == 2)


@wrong("0.6", "one factor, B")
def lora_numbers(P, r):
    return sum(r * W.shape[0] for W in P.values() if W.dim() == 2)


@wrong("0.6", "biases too")
def lora_numbers(P, r):
    return sum(r * sum(W.shape) for W in P.values())


@wrong("0.6", "biases trained in full")
def lora_numbers(P, r):
    return sum(r * sum(W.shape) if W.dim() == 2 else W.numel() for W in P.values())


@wrong("0.6", "frozen numbers counted too")
def lora_numbers(P, r):
    return sum(r * sum(W.shape) + W.numel() for W in P.values() if W.dim() == 2)


@right("0.6", "by making the factors")
def lora_numbers(P, r):
    count = 0
    for W in P.values():
        if W.dim() == 2:
            d, k = W.shape
            count += torch.empty(r, k).numel() + torch.empty(d, r).numel()
    return count
