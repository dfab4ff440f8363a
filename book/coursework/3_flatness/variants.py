"""Wrong answers to assignment 3, each with the exercise it must fail, and other right ones."""

import math
from contextlib import contextmanager

import torch

from geolessons.coursework import right, wrong

# 3.1 Noise in proportion to each row


@wrong("3.1", "without 1/√k")
def row_noise(W, sigma, generator):
    return sigma * W.norm(dim=1, keepdim=True) * torch.randn(W.shape, generator=generator, dtype=W.dtype)


@wrong("3.1", "1/k, as the text says of the magnitude")
def row_noise(W, sigma, generator):
    deviation = sigma * W.norm(dim=1, keepdim=True) / W.shape[1]
    return deviation * torch.randn(W.shape, generator=generator, dtype=W.dtype)


@wrong("3.1", "one norm for all rows")
def row_noise(W, sigma, generator):
    deviation = sigma * W.norm() / math.sqrt(W.numel())
    return deviation * torch.randn(W.shape, generator=generator, dtype=W.dtype)


@wrong("3.1", "column norms")
def row_noise(W, sigma, generator):
    deviation = sigma * W.norm(dim=0, keepdim=True) / math.sqrt(W.shape[0])
    return deviation * torch.randn(W.shape, generator=generator, dtype=W.dtype)


@wrong("3.1", "global generator")
def row_noise(W, sigma, generator):
    return sigma * W.norm(dim=1, keepdim=True) / math.sqrt(W.shape[1]) * torch.randn_like(W)


@wrong("3.1", "global generator, seeded from the one that is given")
def row_noise(W, sigma, generator):
    torch.manual_seed(generator.initial_seed())
    return sigma * W.norm(dim=1, keepdim=True) / math.sqrt(W.shape[1]) * torch.randn_like(W)


@wrong("3.1", "the variance for the deviation")
def row_noise(W, sigma, generator):
    variance = sigma**2 / W.shape[1] * W.square().sum(1, keepdim=True)
    return variance * torch.randn(W.shape, generator=generator, dtype=W.dtype)


@wrong("3.1", "one draw for all rows")
def row_noise(W, sigma, generator):
    deviation = sigma * W.norm(dim=1, keepdim=True) / math.sqrt(W.shape[1])
    return deviation * torch.randn(W.shape[1], generator=generator, dtype=W.dtype)


@wrong("3.1", "in proportion to each entry")
def row_noise(W, sigma, generator):
    return sigma * W * torch.randn(W.shape, generator=generator, dtype=W.dtype)


@wrong("3.1", "uniform, not normal")
def row_noise(W, sigma, generator):
    deviation = sigma * W.norm(dim=1, keepdim=True) / math.sqrt(W.shape[1])
    return deviation * math.sqrt(12) * (torch.rand(W.shape, generator=generator, dtype=W.dtype) - 0.5)


@wrong("3.1", "√d for √k")
def row_noise(W, sigma, generator):
    deviation = sigma * W.norm(dim=1, keepdim=True) / math.sqrt(W.shape[0])
    return deviation * torch.randn(W.shape, generator=generator, dtype=W.dtype)


@wrong("3.1", "the weight comes along")
def row_noise(W, sigma, generator):
    deviation = sigma * W.norm(dim=1, keepdim=True) / math.sqrt(W.shape[1])
    return W + deviation * torch.randn(W.shape, generator=generator, dtype=W.dtype)


@wrong("3.1", "each row scaled to the exact length, the generator set back")
def row_noise(W, sigma, generator):
    generator.manual_seed(generator.initial_seed())
    z = torch.randn(W.shape, generator=generator, dtype=W.dtype)
    return sigma * W.norm(dim=1, keepdim=True) * z / z.norm(dim=1, keepdim=True)


@right("3.1", "row by row")
def row_noise(W, sigma, generator):
    rows = []
    for row in W:
        rms = row.square().mean().sqrt()
        rows.append(sigma * rms * torch.randn(len(row), generator=generator, dtype=W.dtype))
    return torch.stack(rows)


@right("3.1", "written into an empty tensor")
def row_noise(W, sigma, generator):
    noise = torch.empty_like(W).normal_(generator=generator)
    return noise.mul_(W.square().mean(1).sqrt()[:, None]).mul_(sigma)


@right("3.1", "drawn in double precision, columns first")
def row_noise(W, sigma, generator):
    z = torch.randn(W.shape[1], W.shape[0], generator=generator, dtype=torch.float64)
    return (z.T * (sigma / math.sqrt(W.shape[1])) * W.double().norm(dim=1)[:, None]).to(W.dtype)


# 3.2 How much of an output is noise


@wrong("3.2", "always σ²")
def noise_share(W, X, sigma):
    return torch.full((W.shape[0],), sigma**2, dtype=W.dtype)


@wrong("3.2", "variance of the inputs for their mean square")
def noise_share(W, X, sigma):
    noise = sigma**2 * W.square().sum(1) * X.var(0).mean()
    return noise / (X @ W.T).var(0)


@wrong("3.2", "inputs taken as uncorrelated")
def noise_share(W, X, sigma):
    noise = sigma**2 * W.square().sum(1) * X.square().mean()
    return noise / (W.square() @ X.var(0))


@wrong("3.2", "inputs taken as uncorrelated and alike")
def noise_share(W, X, sigma):
    return (sigma**2 * X.square().mean() / X.var(0).mean()).expand(W.shape[0]).to(W.dtype)


@wrong("3.2", "mean square of the output for its variance")
def noise_share(W, X, sigma):
    noise = sigma**2 * W.square().sum(1) * X.square().mean()
    return noise / (X @ W.T).square().mean(0)


@wrong("3.2", "noise as a share of signal and noise together")
def noise_share(W, X, sigma):
    noise = sigma**2 * W.square().sum(1) * X.square().mean()
    return noise / ((X @ W.T).var(0) + noise)


@wrong("3.2", "deviations, not variances")
def noise_share(W, X, sigma):
    noise = sigma**2 * W.square().sum(1) * X.square().mean()
    return (noise / (X @ W.T).var(0)).sqrt()


@wrong("3.2", "divided by k once more")
def noise_share(W, X, sigma):
    noise = sigma**2 * W.square().sum(1) * X.square().mean() / W.shape[1]
    return noise / (X @ W.T).var(0)


@wrong("3.2", "noise in proportion to each weight")
def noise_share(W, X, sigma):
    return sigma**2 * (W.square() @ X.square().mean(0)) / (X @ W.T).var(0)


@wrong("3.2", "one share for all outputs")
def noise_share(W, X, sigma):
    noise = sigma**2 * W.square().sum(1) * X.square().mean()
    return (noise / (X @ W.T).var(0)).mean()


@right("3.2", "by the covariance of the inputs")
def noise_share(W, X, sigma):
    mean = X.mean(0)
    C = (X - mean).T @ (X - mean) / len(X)
    power = C.trace() + mean @ mean  # mean of ‖x‖²
    signal = torch.einsum("ij,jl,il->i", W, C, W)
    return sigma**2 / W.shape[1] * W.norm(dim=1) ** 2 * power / signal


@right("3.2", "the mean of the noise's variance at each input")
def noise_share(W, X, sigma):
    deviation = sigma / math.sqrt(W.shape[1]) * W.norm(dim=1) * X.norm(dim=1, keepdim=True)  # (n, d)
    return (deviation**2).mean(0) / (X @ W.T).var(0, correction=0)


# 3.3 A nudge that leaves no trace


@wrong("3.3", "subtracted again")
@contextmanager
def nudged(weights, noise):
    with torch.no_grad():
        for name, eps in noise.items():
            weights[name] += eps
    try:
        yield
    finally:
        with torch.no_grad():
            for name, eps in noise.items():
                weights[name] -= eps


@wrong("3.3", "without finally")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name].detach().clone() for name in noise}
    with torch.no_grad():
        for name, eps in noise.items():
            weights[name] += eps
    yield
    with torch.no_grad():
        for name, W in before.items():
            weights[name].copy_(W)


@wrong("3.3", "a view kept, not a copy")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name].detach() for name in noise}
    try:
        with torch.no_grad():
            for name, eps in noise.items():
                weights[name] += eps
        yield
    finally:
        with torch.no_grad():
            for name, W in before.items():
                weights[name].copy_(W)


@wrong("3.3", "data swapped, without finally")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name].data for name in noise}
    for name, eps in noise.items():
        weights[name].data = before[name] + eps
    yield
    for name, data in before.items():
        weights[name].data = data


@wrong("3.3", "restores after ordinary exceptions only")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name].detach().clone() for name in noise}

    def restore():
        with torch.no_grad():
            for name, W in before.items():
                weights[name].copy_(W)

    with torch.no_grad():
        for name, eps in noise.items():
            weights[name] += eps
    try:
        yield
    except Exception:
        restore()
        raise
    restore()


@wrong("3.3", "swallows the exception")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name].detach().clone() for name in noise}
    with torch.no_grad():
        for name, eps in noise.items():
            weights[name] += eps
    try:
        yield
    except BaseException:
        pass
    with torch.no_grad():
        for name, W in before.items():
            weights[name].copy_(W)


@wrong("3.3", "no gradients inside")
@contextmanager
def nudged(weights, noise):
    with torch.no_grad():
        before = {name: weights[name].clone() for name in noise}
        try:
            for name, eps in noise.items():
                weights[name] += eps
            yield
        finally:
            for name, W in before.items():
                weights[name].copy_(W)


@wrong("3.3", "changes the dict, not the tensors")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name] for name in noise}
    try:
        for name, eps in noise.items():
            weights[name] = weights[name] + eps
        yield
    finally:
        weights.update(before)


@wrong("3.3", "restored from a copy in half precision")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name].detach().half() for name in noise}
    try:
        with torch.no_grad():
            for name, eps in noise.items():
                weights[name] += eps
        yield
    finally:
        with torch.no_grad():
            for name, W in before.items():
                weights[name].copy_(W)


@wrong("3.3", "nothing nudged")
@contextmanager
def nudged(weights, noise):
    yield


@wrong("3.3", "the noise in place of the weights")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name].detach().clone() for name in noise}
    try:
        with torch.no_grad():
            for name, eps in noise.items():
                weights[name].copy_(eps)
        yield
    finally:
        with torch.no_grad():
            for name, W in before.items():
                weights[name].copy_(W)


@wrong("3.3", "weights no longer train afterwards")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name].detach().clone() for name in noise}
    try:
        for name, eps in noise.items():
            weights[name].data += eps
        yield
    finally:
        for name, W in before.items():
            weights[name].requires_grad_(False).copy_(W)


@right("3.3", "data swapped, with finally")
@contextmanager
def nudged(weights, noise):
    before = {name: weights[name].data for name in noise}
    try:
        for name, eps in noise.items():
            weights[name].data = before[name] + eps
        yield
    finally:
        for name, data in before.items():
            weights[name].data = data


@right("3.3", "a class")
class nudged:
    def __init__(self, weights, noise):
        self.weights, self.noise = weights, noise

    def __enter__(self):
        self.before = {name: W.detach().clone() for name, W in self.weights.items()}
        for name, eps in self.noise.items():
            self.weights[name].data.add_(eps)

    def __exit__(self, kind, error, trace):
        for name, W in self.before.items():
            self.weights[name].data.copy_(W)


# 3.4 The schedule of the noise


@wrong("3.4", "linear")
def strength(step, steps):
    return step / steps


@wrong("3.4", "a whole period")
def strength(step, steps):
    return (1 - math.cos(2 * math.pi * step / steps)) / 2


@wrong("3.4", "falling")
def strength(step, steps):
    return (1 + math.cos(math.pi * step / steps)) / 2


@wrong("3.4", "one step ahead")
def strength(step, steps):
    return (1 - math.cos(math.pi * (step + 1) / steps)) / 2


@wrong("3.4", "one step too few in all")
def strength(step, steps):
    return (1 - math.cos(math.pi * step / max(steps - 1, 1))) / 2


@wrong("3.4", "a quarter of a wave")
def strength(step, steps):
    return 1 - math.cos(math.pi * step / steps / 2)


@wrong("3.4", "a sine")
def strength(step, steps):
    return math.sin(math.pi * step / steps / 2)


@wrong("3.4", "not halved")
def strength(step, steps):
    return 1 - math.cos(math.pi * step / steps)


@wrong("3.4", "the share rounded down")
def strength(step, steps):
    return (1 - math.cos(math.pi * (step // steps))) / 2


@right("3.4", "a squared sine")
def strength(step, steps):
    return math.sin(math.pi * step / steps / 2) ** 2


@right("3.4", "a tensor")
def strength(step, steps):
    import torch

    u = torch.tensor(step / steps)
    return 0.5 - 0.5 * torch.cos(torch.pi * u)


# 3.5 Blur a valley


@wrong("3.5", "widths added")
def blurred(x, depth, centre, width, sigma):
    wide = width + sigma
    return -depth * width / wide * torch.exp(-0.5 * ((x - centre) / wide) ** 2)


@wrong("3.5", "height kept")
def blurred(x, depth, centre, width, sigma):
    return -depth * torch.exp(-0.5 * ((x - centre) / math.hypot(width, sigma)) ** 2)


@wrong("3.5", "not blurred")
def blurred(x, depth, centre, width, sigma):
    return -depth * torch.exp(-0.5 * ((x - centre) / width) ** 2)


@wrong("3.5", "depth shrunk by the ratio of variances")
def blurred(x, depth, centre, width, sigma):
    wide = math.hypot(width, sigma)
    return -depth * (width / wide) ** 2 * torch.exp(-0.5 * ((x - centre) / wide) ** 2)


@wrong("3.5", "width kept, depth shrunk")
def blurred(x, depth, centre, width, sigma):
    return -depth * width / math.hypot(width, sigma) * torch.exp(-0.5 * ((x - centre) / width) ** 2)


@wrong("3.5", "2 forgotten in the exponent")
def blurred(x, depth, centre, width, sigma):
    wide = math.hypot(width, sigma)
    return -depth * width / wide * torch.exp(-(((x - centre) / wide) ** 2))


@wrong("3.5", "a hill")
def blurred(x, depth, centre, width, sigma):
    wide = math.hypot(width, sigma)
    return depth * width / wide * torch.exp(-0.5 * ((x - centre) / wide) ** 2)


@wrong("3.5", "centre forgotten")
def blurred(x, depth, centre, width, sigma):
    wide = math.hypot(width, sigma)
    return -depth * width / wide * torch.exp(-0.5 * (x / wide) ** 2)


@wrong("3.5", "σ's share of the width")
def blurred(x, depth, centre, width, sigma):
    wide = math.hypot(width, sigma)
    return -depth * (1 - sigma / wide) * torch.exp(-0.5 * ((x - centre) / wide) ** 2)


@wrong("3.5", "one draw")
def blurred(x, depth, centre, width, sigma):
    y = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return -depth * torch.exp(-0.5 * ((y - centre) / width) ** 2)


@right("3.5", "area kept")
def blurred(x, depth, centre, width, sigma):
    variance = width**2 + sigma**2
    area = depth * width * math.sqrt(2 * math.pi)
    return -area * torch.exp(-((x - centre) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


@right("3.5", "an integral over a fine grid")
def blurred(x, depth, centre, width, sigma):
    e = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weights = torch.exp(-(e**2) / 2)
    y = x.double()[..., None] + sigma * e
    heights = -depth * torch.exp(-((y - centre) ** 2) / (2 * width**2))
    return ((heights * weights).sum(-1) / weights.sum()).to(x.dtype)


# 3.6 Sharpness, and how well you know it


@wrong("3.6", "clean loss not subtracted")
def sharpness(loss, W, sigma, count, generator):
    found = [
        float(loss(W + sigma * torch.randn(W.shape, generator=generator, dtype=W.dtype)))
        for _ in range(count)
    ]
    found = torch.tensor(found, dtype=torch.float64)
    return float(found.mean()), float(found.std()) / math.sqrt(count)


@wrong("3.6", "deviation for the error")
def sharpness(loss, W, sigma, count, generator):
    rises = [
        float(loss(W + sigma * torch.randn(W.shape, generator=generator, dtype=W.dtype)) - loss(W))
        for _ in range(count)
    ]
    rises = torch.tensor(rises, dtype=torch.float64)
    return float(rises.mean()), float(rises.std())


@wrong("3.6", "variance over n for the error")
def sharpness(loss, W, sigma, count, generator):
    rises = [
        float(loss(W + sigma * torch.randn(W.shape, generator=generator, dtype=W.dtype)) - loss(W))
        for _ in range(count)
    ]
    rises = torch.tensor(rises, dtype=torch.float64)
    return float(rises.mean()), float(rises.var()) / count


@wrong("3.6", "deviation over n for the error")
def sharpness(loss, W, sigma, count, generator):
    rises = [
        float(loss(W + sigma * torch.randn(W.shape, generator=generator, dtype=W.dtype)) - loss(W))
        for _ in range(count)
    ]
    rises = torch.tensor(rises, dtype=torch.float64)
    return float(rises.mean()), float(rises.std()) / count


@wrong("3.6", "global generator")
def sharpness(loss, W, sigma, count, generator):
    rises = [float(loss(W + sigma * torch.randn_like(W)) - loss(W)) for _ in range(count)]
    rises = torch.tensor(rises, dtype=torch.float64)
    return float(rises.mean()), float(rises.std()) / math.sqrt(count)


@wrong("3.6", "absolute values")
def sharpness(loss, W, sigma, count, generator):
    rises = [
        abs(float(loss(W + sigma * torch.randn(W.shape, generator=generator, dtype=W.dtype)) - loss(W)))
        for _ in range(count)
    ]
    rises = torch.tensor(rises, dtype=torch.float64)
    return float(rises.mean()), float(rises.std()) / math.sqrt(count)


@wrong("3.6", "one number for all entries of a draw")
def sharpness(loss, W, sigma, count, generator):
    rises = [
        float(loss(W + sigma * torch.randn((), generator=generator, dtype=W.dtype)) - loss(W))
        for _ in range(count)
    ]
    rises = torch.tensor(rises, dtype=torch.float64)
    return float(rises.mean()), float(rises.std()) / math.sqrt(count)


@wrong("3.6", "nudges pile up on W")
def sharpness(loss, W, sigma, count, generator):
    here, rises = float(loss(W)), []
    for _ in range(count):
        W += sigma * torch.randn(W.shape, generator=generator, dtype=W.dtype)
        rises.append(float(loss(W)) - here)
    rises = torch.tensor(rises, dtype=torch.float64)
    return float(rises.mean()), float(rises.std()) / math.sqrt(count)


@wrong("3.6", "σ as the variance")
def sharpness(loss, W, sigma, count, generator):
    rises = [
        float(loss(W + sigma**0.5 * torch.randn(W.shape, generator=generator, dtype=W.dtype)) - loss(W))
        for _ in range(count)
    ]
    rises = torch.tensor(rises, dtype=torch.float64)
    return float(rises.mean()), float(rises.std()) / math.sqrt(count)


@wrong("3.6", "the worst nudge, not the mean")
def sharpness(loss, W, sigma, count, generator):
    rises = [
        float(loss(W + sigma * torch.randn(W.shape, generator=generator, dtype=W.dtype)) - loss(W))
        for _ in range(count)
    ]
    rises = torch.tensor(rises, dtype=torch.float64)
    return float(rises.max()), float(rises.std()) / math.sqrt(count)


@wrong("3.6", "one draw, counted often")
def sharpness(loss, W, sigma, count, generator):
    eps = sigma * torch.randn(W.shape, generator=generator, dtype=W.dtype)
    rises = torch.tensor([float(loss(W + eps) - loss(W)) for _ in range(count)], dtype=torch.float64)
    return float(rises.mean()), float(rises.std()) / math.sqrt(count)


@right("3.6", "all draws at once")
def sharpness(loss, W, sigma, count, generator):
    nudges = sigma * torch.randn(count, *W.shape, generator=generator, dtype=W.dtype)
    rises = torch.stack([loss(W + eps) for eps in nudges]) - loss(W)
    return rises.mean(), rises.std() / count**0.5


@right("3.6", "running sums")
def sharpness(loss, W, sigma, count, generator):
    mean = squares = 0.0
    for n in range(1, count + 1):
        eps = torch.empty_like(W).normal_(0, sigma, generator=generator)
        rise = float(loss(W + eps)) - float(loss(W))
        off = rise - mean
        mean += off / n
        squares += off * (rise - mean)
    return mean, math.sqrt(squares / (count - 1) / count)


# 3.7 The Hessian times a vector


@wrong("3.7", "outer product of the gradient")
def hessian_times(f, x, v):
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x)
    return gradient * (gradient @ v)


@wrong("3.7", "diagonal only")
def hessian_times(f, x, v):
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    diagonal = [torch.autograd.grad(g, x, retain_graph=True)[0][i] for i, g in enumerate(gradient)]
    return torch.stack(diagonal) * v


@wrong("3.7", "one-sided difference")
def hessian_times(f, x, v):
    def gradient(y):
        y = y.detach().clone().requires_grad_()
        return torch.autograd.grad(f(y), y)[0]

    h = torch.finfo(x.dtype).eps ** 0.5
    return (gradient(x + h * v) - gradient(x)) / h


@wrong("3.7", "row sums of the Hessian times v")
def hessian_times(f, x, v):
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(gradient.sum(), x)[0] * v


@wrong("3.7", "v scaled to length 1")
def hessian_times(f, x, v):
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(gradient @ (v / v.norm()), x)[0]


@wrong("3.7", "v'Hv times v")
def hessian_times(f, x, v):
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    return (torch.autograd.grad(gradient @ v, x)[0] @ v) * v / (v @ v)


@wrong("3.7", "the gradient's own direction")
def hessian_times(f, x, v):
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(gradient @ gradient, x)[0] / 2


@wrong("3.7", "x asks for gradients afterwards")
def hessian_times(f, x, v):
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(gradient @ v, x)[0]


@wrong("3.7", "column by column, by many gradients")
def hessian_times(f, x, v):
    total = torch.zeros_like(x)
    for i in range(len(x)):
        y = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(f(y), y, create_graph=True)
        total = total + torch.autograd.grad(gradient[i], y)[0] * v[i]
    return total


@right("3.7", "forward over reverse")
def hessian_times(f, x, v):
    return torch.func.jvp(torch.func.grad(f), (x,), (v,))[1]


@right("3.7", "reverse over forward")
def hessian_times(f, x, v):
    return torch.func.grad(lambda y: torch.func.jvp(f, (y,), (v,))[1])(x)


# 3.8 What noise adds to curvature


@wrong("3.8", "always h")
def blurred_curvature(x, h, c, sigma):
    return torch.full_like(x, h)


@wrong("3.8", "h + σ²")
def blurred_curvature(x, h, c, sigma):
    return torch.full_like(x, h + sigma**2)


@wrong("3.8", "σ for σ²")
def blurred_curvature(x, h, c, sigma):
    return h + 12 * c * (x**2 + sigma)


@wrong("3.8", "the land's own curvature")
def blurred_curvature(x, h, c, sigma):
    return h + 12 * c * x**2


@wrong("3.8", "as at x = 0, everywhere")
def blurred_curvature(x, h, c, sigma):
    return torch.full_like(x, h + 12 * c * sigma**2)


@wrong("3.8", "6 for 12")
def blurred_curvature(x, h, c, sigma):
    return h + 6 * c * (x**2 + sigma**2)


@wrong("3.8", "σ² added to the bowl, too")
def blurred_curvature(x, h, c, sigma):
    return h + sigma**2 + 12 * c * (x**2 + sigma**2)


@wrong("3.8", "half the noise, from the height of the average")
def blurred_curvature(x, h, c, sigma):
    return h + 12 * c * (x**2 + sigma**2 / 2)


@wrong("3.8", "σ away to one side")
def blurred_curvature(x, h, c, sigma):
    return h + 12 * c * (x + sigma) ** 2


@wrong("3.8", "the average's height")
def blurred_curvature(x, h, c, sigma):
    return h / 2 * (x**2 + sigma**2) + c * (x**4 + 6 * x**2 * sigma**2 + 3 * sigma**4)


@right("3.8", "two derivatives of the average, by autograd")
def blurred_curvature(x, h, c, sigma):
    def average(y):
        return h / 2 * (y**2 + sigma**2) + c * (y**4 + 6 * y**2 * sigma**2 + 3 * sigma**4)

    second = torch.func.grad(torch.func.grad(average))
    return torch.func.vmap(second)(x.flatten()).reshape(x.shape)


@right("3.8", "the mean over two places, one σ to each side")
def blurred_curvature(x, h, c, sigma):
    return (2 * h + 12 * c * (x + sigma) ** 2 + 12 * c * (x - sigma) ** 2) / 2
