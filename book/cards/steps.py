"""Card C2.3: Euler's steps against the true curve of a field that turns."""

import functools
import math

import numpy as np
import torch
from matplotlib.figure import Figure

from geolessons import plots
from geolessons.fields import integrate

TURN = 2.0  # radians in one unit of time
FLOOR = 1e-3  # where the drawing puts a distance of 0
START = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
STOPS = {f"K = {k}": k for k in (1, 2, 4, 8, 16, 32)}


def turning(W: torch.Tensor, t: float = 0.0) -> torch.Tensor:
    """A push across the arm from zero to W: the true curve is a circle."""
    return TURN * torch.stack([-W[..., 1], W[..., 0]], -1)


def true(t: float) -> np.ndarray:
    """Where the field carries the start in time t."""
    return np.array([math.cos(TURN * t), math.sin(TURN * t)])


@functools.cache
def nodes(K: int, method: str = "euler") -> np.ndarray:
    """The K + 1 points of the polyline."""
    steps = range(1, K + 1)
    points = [START] + [integrate(turning, START, horizon=j / K, steps=j, method=method) for j in steps]
    return torch.cat(points).numpy()


def reached(t: float, K: int) -> np.ndarray:
    """The polyline's point at time t, between its nodes on the straight piece."""
    corners = nodes(K)
    j = min(int(t * K + 1e-9), K - 1)
    return corners[j] + (t * K - j) * (corners[j + 1] - corners[j])


def error(t: float, K: int) -> float:
    """The distance between polyline and curve at time t."""
    return float(np.linalg.norm(reached(t, K) - true(t)))


def alt(t: float, K: int) -> str:
    """The caption of a frame."""
    return f"K = {K} steps, t = {t:.2f}: Euler is {error(t, K):.3f} away from the true curve."


@plots.styled
def draw(t: float, K: int) -> Figure:
    """One frame."""
    fig, above, meter = plots.card(height=4.7, share=0.58)
    above.set(xlim=(-2.1, 2.1), ylim=(-0.25, 2.5), aspect="equal")
    circle = np.array([true(s) for s in np.linspace(0, 1, 60)])
    above.plot(*circle.T, color=plots.INK, lw=0.8, alpha=0.6)
    corners = nodes(K)
    above.plot(*corners.T, color=plots.ROAD, ls=plots.STRAIGHT, lw=1, alpha=0.5)
    whole = corners[: min(int(t * K + 1e-9), K) + 1]
    road = np.vstack([whole, reached(t, K)])
    above.plot(*road.T, color=plots.ROAD)
    above.plot(*whole.T, "o", color=plots.ROAD, ms=3)
    above.plot(*zip(true(t), reached(t, K), strict=True), color=plots.INK, lw=0.8)
    above.plot(*START[0], "o", mfc="none", mec=plots.START, mew=2)
    above.plot(*true(t), "o", color=plots.PUSH, ms=5)
    above.plot(*reached(t, K), "o", color=plots.ROAD, ms=5, zorder=5)
    above.plot(0, 0, "+", color=plots.INK, ms=8, mew=1)
    above.annotate("W₀", START[0].numpy(), xytext=(9, -6), textcoords="offset points")
    above.set_title("Euler's steps and the true curve", x=0)

    ts = np.linspace(0, 1, 41)
    walked = np.append(ts[ts < t - 1e-9], t)
    if K == 16:  # the prediction is about the step from 8 to 16
        for letter, share, x in (("A", 0.5, 0.93), ("B", 0.25, 0.85), ("C", 1.0, 0.85)):
            meter.plot([x, 1.0], [share * error(1.0, 8)] * 2, color=plots.INK, lw=0.8, alpha=0.28)
            meter.text(x - 0.02, share * error(1.0, 8), letter, size=9, alpha=0.6, ha="right", va="center")
    meter.plot(walked, [max(error(s, K), FLOOR) for s in walked], color=plots.ROAD)
    meter.plot(t, max(error(t, K), FLOOR), "o", color=plots.ROAD, ms=5, clip_on=False, zorder=5)
    meter.axvline(t, color=plots.INK, lw=0.6, alpha=0.4)
    meter.set(xlim=(0, 1), ylim=(FLOOR, 5), yscale="log", xticks=[0, 0.5, 1], yticks=[0.001, 0.01, 0.1, 1])
    meter.minorticks_off()
    meter.set_yticklabels(["0.001", "0.01", "0.1", "1"])
    meter.set_xticklabels(["0", "0.5", "1"])
    meter.set_title("distance from the true curve (log scale)")
    meter.set_xlabel("t, time")
    return fig
