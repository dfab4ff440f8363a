"""Wrong answers to assignment 1, each with the exercise it must fail, and other right ones."""

import math
from itertools import pairwise

import torch
from scipy.optimize import linear_sum_assignment

from geolessons.coursework import right, wrong

# 1.1 An angle that survives float32


@wrong("1.1", "arccos")
def angle(u, v):
    return float(torch.arccos((u * v).sum() / (u.norm() * v.norm())))


@wrong("1.1", "arccos, clamped")
def angle(u, v):
    return float(torch.arccos(((u * v).sum() / (u.norm() * v.norm())).clamp(-1, 1)))


@wrong("1.1", "arccos in float64, clamped")
def angle(u, v):
    u, v = u.double(), v.double()
    return float(torch.arccos(((u * v).sum() / (u.norm() * v.norm())).clamp(-1, 1)))


@wrong("1.1", "2 asin of half the chord")
def angle(u, v):
    chord = (u / u.norm() - v / v.norm()).norm()
    return float(2 * torch.asin((chord / 2).clamp(max=1)))


@wrong("1.1", "2 asin of half the chord, in float64")
def angle(u, v):
    u, v = u.double(), v.double()
    chord = (u / u.norm() - v / v.norm()).norm()
    return float(2 * torch.asin((chord / 2).clamp(max=1)))


@wrong("1.1", "not normalised")
def angle(u, v):
    u, v = u.double(), v.double()
    return float(2 * torch.atan2((u - v).norm(), (u + v).norm()))


@wrong("1.1", "half of it")
def angle(u, v):
    a, b = u.double() / u.double().norm(), v.double() / v.double().norm()
    return float(torch.atan2((a - b).norm(), (a + b).norm()))


@wrong("1.1", "degrees")
def angle(u, v):
    a, b = u.double() / u.double().norm(), v.double() / v.double().norm()
    return math.degrees(float(2 * torch.atan2((a - b).norm(), (a + b).norm())))


@wrong("1.1", "the chord for the arc")
def angle(u, v):
    return float((u.double() / u.double().norm() - v.double() / v.double().norm()).norm())


@wrong("1.1", "sine from the squares of all three products")
def angle(u, v):
    u, v = u.double(), v.double()
    dot = (u * v).sum()
    sine = (u.square().sum() * v.square().sum() - dot**2).clamp(min=0).sqrt()
    return float(torch.atan2(sine, dot))


@wrong("1.1", "an acute angle, whatever the sign")
def angle(u, v):
    a, b = u.double() / u.double().norm(), v.double() / v.double().norm()
    return min(float(2 * torch.atan2((a - c).norm(), (a + c).norm())) for c in (b, -b))


@right("1.1", "from a QR decomposition")
def angle(u, v):
    _, R = torch.linalg.qr(torch.stack([u.flatten(), v.flatten()], 1).double())
    return torch.atan2(R[1, 1].abs(), R[0, 1] * R[0, 0].sign())


@right("1.1", "sine from what is left of the projection")
def angle(u, v):
    a, b = (W.double() / W.double().norm() for W in (u, v))
    along = (a * b).sum()
    return math.atan2(float((b - along * a).norm()), float(along))


@right("1.1", "half the angle, in the dtype that came")
def angle(u, v):
    a, b = u / u.norm(), v / v.norm()
    return 2 * torch.atan2((a - b).norm(), (a + b).norm())


# 1.2 SLERP's two coefficients


@wrong("1.2", "as printed")
def coefficients(omega, t):
    return torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)


@wrong("1.2", "series to the order ω² up to 0.1")
def coefficients(omega, t):
    safe = torch.where(omega > 0.1, omega, 1.0)
    pair = []
    for s in (1 - t, t):
        series = s * (1 + (1 - s**2) * omega**2 / 6)
        pair.append(torch.where(omega > 0.1, torch.sin(s * safe) / torch.sin(safe), series))
    return tuple(pair)


@wrong("1.2", "epsilon in the denominator")
def coefficients(omega, t):
    below = torch.sin(omega) + 1e-8
    return torch.sin((1 - t) * omega) / below, torch.sin(t * omega) / below


@wrong("1.2", "a tiny angle added")
def coefficients(omega, t):
    omega = omega + 1e-6
    return torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)


@wrong("1.2", "where after the division")
def coefficients(omega, t):
    f, g = (torch.sin(s * omega) / torch.sin(omega) for s in (1 - t, t))
    return torch.where(omega == 0, 1 - t, f), torch.where(omega == 0, t, g)


@wrong("1.2", "straight line below 0.1")
def coefficients(omega, t):
    safe = torch.where(omega > 0.1, omega, 1.0)
    f, g = (
        torch.where(omega > 0.1, torch.sin(s * safe) / torch.sin(safe), s + 0 * omega) for s in (1 - t, t)
    )
    return f, g


@wrong("1.2", "straight line below 0.001")
def coefficients(omega, t):
    safe = torch.where(omega > 0.001, omega, 1.0)
    f, g = (
        torch.where(omega > 0.001, torch.sin(s * safe) / torch.sin(safe), s + 0 * omega) for s in (1 - t, t)
    )
    return f, g


@wrong("1.2", "swapped")
def coefficients(omega, t):
    f, g = (s * torch.sinc(s * omega / math.pi) / torch.sinc(omega / math.pi) for s in (t, 1 - t))
    return f, g


@wrong("1.2", "no gradient")
def coefficients(omega, t):
    omega = omega.detach()
    f, g = (s * torch.sinc(s * omega / math.pi) / torch.sinc(omega / math.pi) for s in (1 - t, t))
    return f, g


@wrong("1.2", "torch.sinc taken for sin(x)/x")
def coefficients(omega, t):
    f, g = (s * torch.sinc(s * omega) / torch.sinc(omega) for s in (1 - t, t))
    return f, g


@wrong("1.2", "f as 1 − g")
def coefficients(omega, t):
    g = t * torch.sinc(t * omega / math.pi) / torch.sinc(omega / math.pi)
    return 1 - g, g


@wrong("1.2", "NaN put to the limit afterwards")
def coefficients(omega, t):
    f, g = (torch.sin(s * omega) / torch.sin(omega) for s in (1 - t, t))
    return f.nan_to_num(1 - t), g.nan_to_num(t)


@right("1.2", "an angle without danger in place of 0, before the division")
def coefficients(omega, t):
    safe = torch.where(omega == 0, 1.0, omega)
    f, g = (torch.where(omega == 0, s, torch.sin(s * safe) / torch.sin(safe)) for s in (1 - t, t))
    return f, g


@right("1.2", "three terms of the series below 0.01")
def coefficients(omega, t):
    small = omega < 0.01
    safe = torch.where(small, 1.0, omega)
    pair = []
    for s in (1 - t, t):
        below = 1 - omega**2 / 6 + omega**4 / 120
        series = s * (1 - (s * omega) ** 2 / 6 + (s * omega) ** 4 / 120) / below
        pair.append(torch.where(small, series, torch.sin(s * safe) / torch.sin(safe)))
    return tuple(pair)


# 1.3 SLERP over a whole network


@wrong("1.3", "one angle for the model")
def slerp(W0, W1, t):
    u, v = (torch.cat([W[name].flatten() for name in W0]) for W in (W0, W1))
    a, b = u / u.norm(), v / v.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    f, g = (torch.sin(s * omega) / torch.sin(omega) for s in (1 - t, t))
    return {name: f * W0[name] + g * W1[name] for name in W0}


@wrong("1.3", "norm interpolated")
def slerp(W0, W1, t):
    there = {}
    for name, u in W0.items():
        v = W1[name]
        a, b = u / u.norm(), v / v.norm()
        omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
        f, g = (s * torch.sinc(s * omega / math.pi) / torch.sinc(omega / math.pi) for s in (1 - t, t))
        there[name] = ((1 - t) * u.norm() + t * v.norm()) * (f * a + g * b)
    return there


@wrong("1.3", "unit result")
def slerp(W0, W1, t):
    there = {}
    for name, u in W0.items():
        a, b = u / u.norm(), W1[name] / W1[name].norm()
        omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
        f, g = (s * torch.sinc(s * omega / math.pi) / torch.sinc(omega / math.pi) for s in (1 - t, t))
        there[name] = f * a + g * b
    return there


@wrong("1.3", "length of the start kept")
def slerp(W0, W1, t):
    there = {}
    for name, u in W0.items():
        a, b = u / u.norm(), W1[name] / W1[name].norm()
        omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
        f, g = (s * torch.sinc(s * omega / math.pi) / torch.sinc(omega / math.pi) for s in (1 - t, t))
        there[name] = u.norm() * (f * a + g * b)
    return there


@wrong("1.3", "0/0 for a tensor that does not turn")
def slerp(W0, W1, t):
    there = {}
    for name, u in W0.items():
        v = W1[name]
        a, b = u / u.norm(), v / v.norm()
        omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
        f, g = (torch.sin(s * omega) / torch.sin(omega) for s in (1 - t, t))
        there[name] = f * u + g * v
    return there


@wrong("1.3", "start for a tensor that does not turn")
def slerp(W0, W1, t):
    there = {}
    for name, u in W0.items():
        v = W1[name]
        a, b = u / u.norm(), v / v.norm()
        omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
        f, g = (torch.sin(s * omega) / torch.sin(omega) for s in (1 - t, t))
        there[name] = f * u + g * v if omega > 1e-6 else u.clone()
    return there


@wrong("1.3", "one angle a row")
def slerp(W0, W1, t):
    there = {}
    for name, u in W0.items():
        v = W1[name]
        U, V = (W.reshape(len(W), -1) if W.dim() > 1 else W[None] for W in (u, v))
        a, b = (W / W.norm(dim=1, keepdim=True) for W in (U, V))
        omega = 2 * torch.atan2((a - b).norm(dim=1, keepdim=True), (a + b).norm(dim=1, keepdim=True))
        f, g = (s * torch.sinc(s * omega / math.pi) / torch.sinc(omega / math.pi) for s in (1 - t, t))
        there[name] = (f * U + g * V).reshape(u.shape)
    return there


@wrong("1.3", "straight")
def slerp(W0, W1, t):
    return {name: (1 - t) * W0[name] + t * W1[name] for name in W0}


@wrong("1.3", "ends swapped")
def slerp(W0, W1, t):
    there = {}
    for name, u in W0.items():
        v = W1[name]
        a, b = u / u.norm(), v / v.norm()
        omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
        f, g = (s * torch.sinc(s * omega / math.pi) / torch.sinc(omega / math.pi) for s in (t, 1 - t))
        there[name] = f * u + g * v
    return there


@wrong("1.3", "lengths ignored in the angle")
def slerp(W0, W1, t):
    there = {}
    for name, u in W0.items():
        v = W1[name]
        omega = 2 * torch.atan2((u - v).norm(), (u + v).norm())
        f, g = (s * torch.sinc(s * omega / math.pi) / torch.sinc(omega / math.pi) for s in (1 - t, t))
        there[name] = f * u + g * v
    return there


@right("1.3", "turning in the plane of the two, then mixing lengths back")
def slerp(W0, W1, t):
    there = {}
    for name, W in W0.items():
        u, v = W.double(), W1[name].double()
        along = (u * v).sum() / u.square().sum()
        rest = v - along * u
        omega = torch.atan2(rest.norm(), along * u.norm())
        if omega < 1e-7:
            there[name] = ((1 - t) * u + t * v).to(W.dtype)
        else:
            # f u + g v with v = along u + rest
            f, g = torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)
            there[name] = ((f + g * along) * u + g * rest).to(W.dtype)
    return there


@right("1.3", "arccos, and straight where it says less than 0.001")
def slerp(W0, W1, t):
    there = {}
    for name, u in W0.items():
        v = W1[name]
        a, b = u.double() / u.double().norm(), v.double() / v.double().norm()
        omega = math.acos(max(-1.0, min(1.0, float((a * b).sum()))))
        f, g = (math.sin(s * omega) / math.sin(omega) if omega > 1e-3 else s for s in (1 - t, t))
        there[name] = f * u + g * v
    return there


# 1.4 Length of a road


@wrong("1.4", "the chord")
def road_length(road):
    P, Q = road(0.0), road(1.0)
    return float(torch.sqrt(sum((Q[name] - P[name]).square().sum() for name in P)))


@wrong("1.4", "root of the summed squares of all pieces")
def road_length(road):
    squares = 0.0
    for P, Q in pairwise(road(i / 1000) for i in range(1001)):
        squares += float(sum((Q[name] - P[name]).square().sum() for name in P))
    return math.sqrt(squares)


@wrong("1.4", "last piece missing")
def road_length(road):
    length = 0.0
    for P, Q in pairwise(road(i / 1000) for i in range(1000)):
        length += float(torch.sqrt(sum((Q[name] - P[name]).square().sum() for name in P)))
    return length


@wrong("1.4", "first piece missing")
def road_length(road):
    length = 0.0
    for P, Q in pairwise(road(i / 1000) for i in range(1, 1001)):
        length += float(torch.sqrt(sum((Q[name] - P[name]).square().sum() for name in P)))
    return length


@wrong("1.4", "lengths of the tensors added up")
def road_length(road):
    length = 0.0
    for P, Q in pairwise(road(i / 1000) for i in range(1001)):
        length += float(sum((Q[name] - P[name]).norm() for name in P))
    return length


@wrong("1.4", "ten pieces")
def road_length(road):
    length = 0.0
    for P, Q in pairwise(road(i / 10) for i in range(11)):
        length += float(torch.sqrt(sum((Q[name] - P[name]).square().sum() for name in P)))
    return length


@wrong("1.4", "largest distance from the start")
def road_length(road):
    P = road(0.0)
    far = [
        math.sqrt(float(sum((road(i / 1000)[name] - P[name]).square().sum() for name in P)))
        for i in range(1001)
    ]
    return max(far)


@wrong("1.4", "speed at the start")
def road_length(road):
    P, Q = road(0.0), road(0.001)
    return 1000 * math.sqrt(float(sum((Q[name] - P[name]).square().sum() for name in P)))


@right("1.4", "Simpson's rule over speeds")
def road_length(road):
    n, step = 2000, 1e-4
    length = 0.0
    for i in range(n + 1):
        t = i / n
        low, high = max(t - step, 0.0), min(t + step, 1.0)
        P, Q = ({name: W.double() for name, W in road(s).items()} for s in (low, high))
        speed = math.sqrt(float(sum((Q[name] - P[name]).square().sum() for name in P))) / (high - low)
        length += speed * (1 if i in (0, n) else 4 if i % 2 else 2) / (3 * n)
    return length


@right("1.4", "all places at once")
def road_length(road):
    places = torch.linspace(0, 1, 1501, dtype=torch.float64)
    rows = torch.stack([torch.cat([W.flatten().double() for W in road(t).values()]) for t in places])
    return rows.diff(dim=0).norm(dim=1).sum()


# 1.5 How far the roads part


@wrong("1.5", "divided by the displacement")
def largest_gap(W0, W1):
    u, v = W0.double(), W1.double()
    a, b = u / u.norm(), v / v.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    gaps = []
    for t in torch.linspace(0, 1, 101, dtype=torch.float64):
        f, g = torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)
        gaps.append((f - (1 - t)) * u + (g - t) * v)
    return float(max(gap.norm() for gap in gaps) / (v - u).norm())


@wrong("1.5", "divided by the length of the end")
def largest_gap(W0, W1):
    u, v = W0.double(), W1.double()
    a, b = u / u.norm(), v / v.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    gaps = []
    for t in torch.linspace(0, 1, 101, dtype=torch.float64):
        f, g = torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)
        gaps.append((f - (1 - t)) * u + (g - t) * v)
    return float(max(gap.norm() for gap in gaps) / v.norm())


@wrong("1.5", "not divided")
def largest_gap(W0, W1):
    u, v = W0.double(), W1.double()
    a, b = u / u.norm(), v / v.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    gaps = []
    for t in torch.linspace(0, 1, 101, dtype=torch.float64):
        f, g = torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)
        gaps.append((f - (1 - t)) * u + (g - t) * v)
    return float(max(gap.norm() for gap in gaps))


@wrong("1.5", "gap at a quarter")
def largest_gap(W0, W1):
    u, v, t = W0.double(), W1.double(), 0.25
    a, b = u / u.norm(), v / v.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    f, g = torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)
    return float(((f - (1 - t)) * u + (g - t) * v).norm() / u.norm())


@wrong("1.5", "gap half-way")
def largest_gap(W0, W1):
    u, v, t = W0.double(), W1.double(), 0.5
    a, b = u / u.norm(), v / v.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    f, g = torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)
    return float(((f - (1 - t)) * u + (g - t) * v).norm() / u.norm())


@wrong("1.5", "excess length of the arc")
def largest_gap(W0, W1):
    u, v = W0.double(), W1.double()
    a, b = u / u.norm(), v / v.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    return float((omega * u.norm() - (v - u).norm()).abs() / u.norm())


@wrong("1.5", "mean gap")
def largest_gap(W0, W1):
    u, v = W0.double(), W1.double()
    a, b = u / u.norm(), v / v.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    gaps = []
    for t in torch.linspace(0, 1, 101, dtype=torch.float64):
        f, g = torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)
        gaps.append((f - (1 - t)) * u + (g - t) * v)
    return float(sum(gap.norm() for gap in gaps) / len(gaps) / u.norm())


@wrong("1.5", "the law ω²/8")
def largest_gap(W0, W1):
    a, b = W0.double() / W0.double().norm(), W1.double() / W1.double().norm()
    return float((2 * torch.atan2((a - b).norm(), (a + b).norm())) ** 2 / 8)


@wrong("1.5", "both brought to length 1")
def largest_gap(W0, W1):
    u, v = W0.double() / W0.double().norm(), W1.double() / W1.double().norm()
    omega = 2 * torch.atan2((u - v).norm(), (u + v).norm())
    gaps = []
    for t in torch.linspace(0, 1, 101, dtype=torch.float64):
        f, g = torch.sin((1 - t) * omega) / torch.sin(omega), torch.sin(t * omega) / torch.sin(omega)
        gaps.append((f - (1 - t)) * u + (g - t) * v)
    return float(max(gap.norm() for gap in gaps))


@right("1.5", "from lengths and the cosine, without the tensors")
def largest_gap(W0, W1):
    u, v = W0.double(), W1.double()
    ratio, along = float(v.norm() / u.norm()), float((u * v).sum() / (u.norm() * v.norm()))
    omega, largest = math.acos(along), 0.0
    for i in range(501):
        t = i / 500
        p = math.sin((1 - t) * omega) / math.sin(omega) - (1 - t)
        q = ratio * (math.sin(t * omega) / math.sin(omega) - t)
        largest = max(largest, p * p + q * q + 2 * p * q * along)
    return math.sqrt(largest)


@right("1.5", "two whole roads, in the dtype that came")
def largest_gap(W0, W1):
    t = torch.linspace(0, 1, 201, dtype=W0.dtype)[:, None]
    u, v = W0.flatten(), W1.flatten()
    a, b = u / u.norm(), v / v.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    arc = (torch.sin((1 - t) * omega) * u + torch.sin(t * omega) * v) / torch.sin(omega)
    return (arc - torch.lerp(u, v, t)).norm(dim=1).max() / u.norm()


# 1.6 Match neurons


@wrong("1.6", "greedy argmax")
def matched(Q, P):
    def rows(W):
        return torch.cat([W["fc1.weight"], W["fc1.bias"][:, None], W["fc2.weight"].T], 1)

    order = torch.cdist(rows(P), rows(Q)).argmin(1)
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


@wrong("1.6", "greedy, each partner once")
def matched(Q, P):
    def rows(W):
        return torch.cat([W["fc1.weight"], W["fc1.bias"][:, None], W["fc2.weight"].T], 1)

    apart, order = torch.cdist(rows(P), rows(Q)), torch.zeros(len(P["fc1.bias"]), dtype=torch.long)
    for _ in range(len(order)):
        i, j = divmod(int(apart.argmin()), len(order))
        order[i] = j
        apart[i], apart[:, j] = torch.inf, torch.inf
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


@wrong("1.6", "incoming weights only")
def matched(Q, P):
    _, order = linear_sum_assignment((P["fc1.weight"] @ Q["fc1.weight"].T).numpy(), maximize=True)
    order = torch.as_tensor(order)
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


@wrong("1.6", "outgoing weights not compared")
def matched(Q, P):
    likeness = P["fc1.weight"] @ Q["fc1.weight"].T + torch.outer(P["fc1.bias"], Q["fc1.bias"])
    order = torch.as_tensor(linear_sum_assignment(likeness.numpy(), maximize=True)[1])
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


@wrong("1.6", "biases not compared")
def matched(Q, P):
    likeness = P["fc1.weight"] @ Q["fc1.weight"].T + P["fc2.weight"].T @ Q["fc2.weight"]
    order = torch.as_tensor(linear_sum_assignment(likeness.numpy(), maximize=True)[1])
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


@wrong("1.6", "outgoing side not permuted")
def matched(Q, P):
    def rows(W):
        return torch.cat([W["fc1.weight"], W["fc1.bias"][:, None], W["fc2.weight"].T], 1)

    order = torch.as_tensor(linear_sum_assignment((rows(P) @ rows(Q).T).numpy(), maximize=True)[1])
    return Q | {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}


@wrong("1.6", "bias not permuted")
def matched(Q, P):
    def rows(W):
        return torch.cat([W["fc1.weight"], W["fc1.bias"][:, None], W["fc2.weight"].T], 1)

    order = torch.as_tensor(linear_sum_assignment((rows(P) @ rows(Q).T).numpy(), maximize=True)[1])
    return Q | {"fc1.weight": Q["fc1.weight"][order], "fc2.weight": Q["fc2.weight"][:, order]}


@wrong("1.6", "sign: the least alike")
def matched(Q, P):
    def rows(W):
        return torch.cat([W["fc1.weight"], W["fc1.bias"][:, None], W["fc2.weight"].T], 1)

    order = torch.as_tensor(linear_sum_assignment((rows(P) @ rows(Q).T).numpy())[1])
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


@wrong("1.6", "by the cosine of two neurons")
def matched(Q, P):
    def rows(W):
        R = torch.cat([W["fc1.weight"], W["fc1.bias"][:, None], W["fc2.weight"].T], 1)
        return R / R.norm(dim=1, keepdim=True)

    order = torch.as_tensor(linear_sum_assignment((rows(P) @ rows(Q).T).numpy(), maximize=True)[1])
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


@wrong("1.6", "inverse of the order")
def matched(Q, P):
    def rows(W):
        return torch.cat([W["fc1.weight"], W["fc1.bias"][:, None], W["fc2.weight"].T], 1)

    order = torch.as_tensor(linear_sum_assignment((rows(P) @ rows(Q).T).numpy(), maximize=True)[1]).argsort()
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


@wrong("1.6", "P renamed, not Q")
def matched(Q, P):
    def rows(W):
        return torch.cat([W["fc1.weight"], W["fc1.bias"][:, None], W["fc2.weight"].T], 1)

    order = torch.as_tensor(linear_sum_assignment((rows(Q) @ rows(P).T).numpy(), maximize=True)[1])
    new = {name: P[name][order] for name in ("fc1.weight", "fc1.bias")}
    return P | new | {"fc2.weight": P["fc2.weight"][:, order]}


@wrong("1.6", "distances without the square")
def matched(Q, P):
    def rows(W):
        return torch.cat([W["fc1.weight"], W["fc1.bias"][:, None], W["fc2.weight"].T], 1)

    order = torch.as_tensor(linear_sum_assignment(torch.cdist(rows(P), rows(Q)).numpy())[1])
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


@right("1.6", "squared distances, number by number")
def matched(Q, P):
    apart = (P["fc1.weight"][:, None] - Q["fc1.weight"][None]).square().sum(2)
    apart = apart + (P["fc1.bias"][:, None] - Q["fc1.bias"][None]).square()
    apart = apart + (P["fc2.weight"].T[:, None] - Q["fc2.weight"].T[None]).square().sum(2)
    order = linear_sum_assignment(apart.double().numpy())[1].tolist()
    return {
        "fc1.weight": torch.stack([Q["fc1.weight"][j] for j in order]),
        "fc1.bias": torch.stack([Q["fc1.bias"][j] for j in order]),
        "fc2.weight": torch.stack([Q["fc2.weight"][:, j] for j in order], 1),
        "fc2.bias": Q["fc2.bias"].clone(),
    }


@right("1.6", "a linear program over doubly stochastic matrices")
def matched(Q, P):
    from scipy.optimize import linprog
    from scipy.sparse import kron, eye, vstack

    h = len(P["fc1.bias"])
    R, S = (torch.cat([W["fc1.weight"].T, W["fc1.bias"][None], W["fc2.weight"]]).double() for W in (P, Q))
    ones = torch.ones(1, h, dtype=torch.float64).numpy()
    sums = vstack([kron(eye(h), ones), kron(ones, eye(h))]).tocsr()
    found = linprog(-(R.T @ S).flatten().numpy(), A_eq=sums, b_eq=[1.0] * (2 * h), method="highs-ds")
    order = torch.as_tensor(found.x).reshape(h, h).argmax(1)
    new = {name: Q[name][order] for name in ("fc1.weight", "fc1.bias")}
    return Q | new | {"fc2.weight": Q["fc2.weight"][:, order]}


# 1.7 GLRA's forward, from the factors


@wrong("1.7", "base not rescaled")
def glra(x, W0, A, B, s, t):
    W1 = W0 + s * B @ A
    a, b = W0 / W0.norm(), W1 / W1.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    g = t * torch.sinc(t * omega / math.pi) / torch.sinc(omega / math.pi)
    return x @ W0.T + g * s * (x @ A.T @ B.T)


@wrong("1.7", "base times f")
def glra(x, W0, A, B, s, t):
    W1 = W0 + s * B @ A
    a, b = W0 / W0.norm(), W1 / W1.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    f, g = (u * torch.sinc(u * omega / math.pi) / torch.sinc(omega / math.pi) for u in (1 - t, t))
    return f * (x @ W0.T) + g * s * (x @ A.T @ B.T)


@wrong("1.7", "s forgotten in ⟨W₀, sBA⟩")
def glra(x, W0, A, B, s, t):
    a = W0.square().sum()
    b = (B * (W0 @ A.T)).sum()
    c = s**2 * ((B.T @ B) * (A @ A.T)).sum()
    omega = torch.atan2((a * c - b * b).clamp(min=0).sqrt(), a + b)
    f, g = (u * torch.sinc(u * omega / math.pi) / torch.sinc(omega / math.pi) for u in (1 - t, t))
    return (f + g) * (x @ W0.T) + g * s * (x @ A.T @ B.T)


@wrong("1.7", "s not squared in ‖sBA‖²")
def glra(x, W0, A, B, s, t):
    a = W0.square().sum()
    b = s * (B * (W0 @ A.T)).sum()
    c = s * ((B.T @ B) * (A @ A.T)).sum()
    omega = torch.atan2((a * c - b * b).clamp(min=0).sqrt(), a + b)
    f, g = (u * torch.sinc(u * omega / math.pi) / torch.sinc(omega / math.pi) for u in (1 - t, t))
    return (f + g) * (x @ W0.T) + g * s * (x @ A.T @ B.T)


@wrong("1.7", "s forgotten in front of BA")
def glra(x, W0, A, B, s, t):
    W1 = W0 + s * B @ A
    a, b = W0 / W0.norm(), W1 / W1.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    f, g = (u * torch.sinc(u * omega / math.pi) / torch.sinc(omega / math.pi) for u in (1 - t, t))
    return (f + g) * (x @ W0.T) + g * (x @ A.T @ B.T)


@wrong("1.7", "ramped LoRA")
def glra(x, W0, A, B, s, t):
    return x @ W0.T + t * s * (x @ A.T @ B.T)


@wrong("1.7", "angle between W₀ and the update")
def glra(x, W0, A, B, s, t):
    a, b = W0.square().sum(), s * (B * (W0 @ A.T)).sum()
    c = s**2 * ((B.T @ B) * (A @ A.T)).sum()
    omega = torch.atan2((a * c - b * b).clamp(min=0).sqrt(), b) if c > 0 else torch.zeros(())
    f, g = (u * torch.sinc(u * omega / math.pi) / torch.sinc(omega / math.pi) for u in (1 - t, t))
    return (f + g) * (x @ W0.T) + g * s * (x @ A.T @ B.T)


@wrong("1.7", "update taken as orthogonal to W₀")
def glra(x, W0, A, B, s, t):
    omega = torch.atan2(s * (B @ A).norm(), W0.norm())
    f, g = (u * torch.sinc(u * omega / math.pi) / torch.sinc(omega / math.pi) for u in (1 - t, t))
    return (f + g) * (x @ W0.T) + g * s * (x @ A.T @ B.T)


@wrong("1.7", "0/0 where B is zero")
def glra(x, W0, A, B, s, t):
    W1 = W0 + s * B @ A
    a, b = W0 / W0.norm(), W1 / W1.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    f, g = (torch.sin(u * omega) / torch.sin(omega) for u in (1 - t, t))
    return (f + g) * (x @ W0.T) + g * s * (x @ A.T @ B.T)


@wrong("1.7", "f and g swapped")
def glra(x, W0, A, B, s, t):
    W1 = W0 + s * B @ A
    a, b = W0 / W0.norm(), W1 / W1.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    f, g = (u * torch.sinc(u * omega / math.pi) / torch.sinc(omega / math.pi) for u in (t, 1 - t))
    return (f + g) * (x @ W0.T) + g * s * (x @ A.T @ B.T)


@wrong("1.7", "the norm of BA as the product of two norms")
def glra(x, W0, A, B, s, t):
    a, b = W0.square().sum(), s * (B * (W0 @ A.T)).sum()
    c = (s * B.norm() * A.norm()) ** 2
    omega = torch.atan2((a * c - b * b).clamp(min=0).sqrt(), a + b)
    f, g = (u * torch.sinc(u * omega / math.pi) / torch.sinc(omega / math.pi) for u in (1 - t, t))
    return (f + g) * (x @ W0.T) + g * s * (x @ A.T @ B.T)


@right("1.7", "the dense form")
def glra(x, W0, A, B, s, t):
    W1 = W0 + s * B @ A
    a, b = W0 / W0.norm(), W1 / W1.norm()
    omega = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    f, g = (u * torch.sinc(u * omega / math.pi) / torch.sinc(omega / math.pi) for u in (1 - t, t))
    return x @ (f * W0 + g * W1).T


@right("1.7", "arccos of the cosine from the factors, B = 0 apart")
def glra(x, W0, A, B, s, t):
    if not B.any():
        return x @ W0.T
    a = float(W0.double().square().sum())
    b = s * float((B.double() * (W0.double() @ A.double().T)).sum())
    c = s**2 * float(torch.einsum("di,dj,ik,jk->", *(M.double() for M in (B, B, A, A))))
    omega = math.acos(max(-1.0, min(1.0, (a + b) / math.sqrt(a * (a + 2 * b + c)))))
    f, g = (math.sin(u * omega) / math.sin(omega) for u in (1 - t, t))
    return torch.nn.functional.linear(x, (f + g) * W0) + s * g * torch.nn.functional.linear(x @ A.T, B)


# 1.8 A verdict from five seeds and three arms


@wrong("1.8", "unpaired")
def verdict(arc, ramped, lora):
    arms = [torch.tensor(arm, dtype=torch.float64) for arm in (arc, ramped, lora)]
    for other in arms[1:]:
        error = torch.sqrt((arms[0].var() + other.var()) / 5)
        if arms[0].mean() - other.mean() - 2.306 * error <= 0:
            return "not shown"
    return "shown"


@wrong("1.8", "1.96 for five seeds")
def verdict(arc, ramped, lora):
    for other in (ramped, lora):
        gains = torch.tensor(arc, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)
        if gains.mean() - 1.96 * gains.std() / math.sqrt(5) <= 0:
            return "not shown"
    return "shown"


@wrong("1.8", "control forgotten")
def verdict(arc, ramped, lora):
    gains = torch.tensor(arc, dtype=torch.float64) - torch.tensor(lora, dtype=torch.float64)
    return "shown" if gains.mean() - 2.776 * gains.std() / math.sqrt(5) > 0 else "not shown"


@wrong("1.8", "LoRA forgotten")
def verdict(arc, ramped, lora):
    gains = torch.tensor(arc, dtype=torch.float64) - torch.tensor(ramped, dtype=torch.float64)
    return "shown" if gains.mean() - 2.776 * gains.std() / math.sqrt(5) > 0 else "not shown"


@wrong("1.8", "means only")
def verdict(arc, ramped, lora):
    return "shown" if sum(arc) > max(sum(ramped), sum(lora)) else "not shown"


@wrong("1.8", "better in every seed")
def verdict(arc, ramped, lora):
    better = all(g > max(r, p) for g, r, p in zip(arc, ramped, lora, strict=True))
    return "shown" if better else "not shown"


@wrong("1.8", "deviation with n in the denominator")
def verdict(arc, ramped, lora):
    for other in (ramped, lora):
        gains = torch.tensor(arc, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)
        if gains.mean() - 2.776 * gains.std(correction=0) / math.sqrt(5) <= 0:
            return "not shown"
    return "shown"


@wrong("1.8", "deviation for standard error")
def verdict(arc, ramped, lora):
    for other in (ramped, lora):
        gains = torch.tensor(arc, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)
        if gains.mean() - 2.776 * gains.std() <= 0:
            return "not shown"
    return "shown"


@wrong("1.8", "better than one of the two")
def verdict(arc, ramped, lora):
    for other in (ramped, lora):
        gains = torch.tensor(arc, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)
        if gains.mean() - 2.776 * gains.std() / math.sqrt(5) > 0:
            return "shown"
    return "not shown"


@wrong("1.8", "different in either direction")
def verdict(arc, ramped, lora):
    for other in (ramped, lora):
        gains = torch.tensor(arc, dtype=torch.float64) - torch.tensor(other, dtype=torch.float64)
        if gains.mean().abs() - 2.776 * gains.std() / math.sqrt(5) <= 0:
            return "not shown"
    return "shown"


@wrong("1.8", "against the mean of the two others")
def verdict(arc, ramped, lora):
    others = torch.tensor([ramped, lora], dtype=torch.float64).mean(0)
    gains = torch.tensor(arc, dtype=torch.float64) - others
    return "shown" if gains.mean() - 2.776 * gains.std() / math.sqrt(5) > 0 else "not shown"


@wrong("1.8", "each arm's own interval")
def verdict(arc, ramped, lora):
    arms = [torch.tensor(arm, dtype=torch.float64) for arm in (arc, ramped, lora)]
    half = [2.776 * float(arm.std()) / math.sqrt(5) for arm in arms]
    low = float(arms[0].mean()) - half[0]
    clear = all(low > float(arm.mean()) + h for arm, h in zip(arms[1:], half[1:], strict=True))
    return "shown" if clear else "not shown"


@right("1.8", "SciPy's paired t-test")
def verdict(arc, ramped, lora):
    from scipy.stats import ttest_rel

    tests = [ttest_rel(arc, other) for other in (ramped, lora)]
    return "shown" if all(test.pvalue < 0.05 and test.statistic > 0 for test in tests) else "not shown"


@right("1.8", "with the statistics module")
def verdict(arc, ramped, lora):
    from statistics import mean, stdev

    gains = [[g - o for g, o in zip(arc, other, strict=True)] for other in (ramped, lora)]
    clear = all(mean(d) > 2.776 * stdev(d) / len(d) ** 0.5 for d in gains)
    return "shown" if clear else "not shown"
