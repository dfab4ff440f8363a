"""Pictures that do not move: a law with its measurements, a dip, a fan of arcs."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from geolessons import plots
from geolessons.paths import Curve


@plots.styled
def renamed_dip(curve: Curve) -> Figure:
    """Accuracy on the straight road from a network to itself with renamed neurons."""
    fig, ax = plots.panel(height=2.4)
    ax.plot(curve.ts, [share for _, share in curve.values], color=plots.ROAD, ls=plots.STRAIGHT)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), yticks=[0, 0.5, 1], xlabel="t, from our network to itself, renamed")
    ax.set_yticklabels(["0", "50 %", "100 %"])
    ax.set_title("share of upright test digits read")
    return fig


@plots.styled
def gap_law(roads: dict) -> Figure:
    """The largest gap between the two roads against ω; dots are layers of our network."""
    fig, ax = plots.panel(height=3.2)
    law = np.geomspace(1e-2, 1.5, 40)
    ax.plot(law, law**2 / 8, color=plots.INK, lw=0.8)
    for rate in ("0.0003", "0.001", "0.003"):
        for layer, mark in (("fc1", "o"), ("fc2", "^"), ("fc3", "D")):
            key = f"gap.{rate}.{layer}"
            ax.plot(roads[f"{key}.angle"]["each"], roads[key]["each"], mark, ms=4, color=plots.ADAPTED)
    ax.set(xscale="log", yscale="log", xlim=(1e-2, 1.5), ylim=(1e-5, 0.3), xlabel="angle ω (rad)")
    ax.set_title("largest gap between the roads, share of ‖W₀‖")
    plots.label(ax, 0.05, 0.05**2 / 8, "ω²/8", plots.INK, to=(14, -10))
    plots.label(ax, 0.3, 0.0113, "our layers", plots.ADAPTED, to=(-16, 12))
    return fig


@plots.styled
def antipode_fan() -> Figure:
    """Nine great half-circles from a point to the opposite one, all of the same length."""
    fig = Figure(figsize=(plots.WIDTH, 2.6))
    ax = fig.add_axes((plots.LEFT, 0.02, plots.SPAN, 0.96))
    ax.set_axis_off()
    ax.set(xlim=(-1.7, 1.7), ylim=(-1.1, 1.1), aspect="equal")
    ax.add_patch(Circle((0, 0), 1, fill=False, lw=0.8, alpha=0.7))
    along = np.linspace(0, np.pi, 60)
    for turn in np.linspace(-math.pi / 2, math.pi / 2, 9):
        ax.plot(-np.cos(along), np.sin(along) * math.sin(turn), color=plots.ROAD, lw=1.5)
    ax.plot(-1, 0, "o", mfc="none", mec=plots.START, mew=2)
    ax.plot(1, 0, "o", color=plots.ADAPTED)
    ax.annotate("W₀", (-1, 0), xytext=(-9, 0), textcoords="offset points", ha="right", va="center")
    ax.annotate("−W₀", (1, 0), xytext=(9, 0), textcoords="offset points", va="center")
    return fig


@plots.styled
def orders(errors: dict[str, dict[int, float]]) -> Figure:
    """Error at the end against the number of steps: one line a method, each with its slope."""
    fig, ax = plots.panel(height=3.0)
    looks = {
        "euler": ("Euler", plots.ROAD, "o"),
        "midpoint": ("midpoint", plots.PUSH, "^"),
        "rk4": ("RK4", plots.ADAPTED, "D"),
    }
    for method, found in errors.items():
        name, colour, mark = looks[method]
        ax.plot(list(found), list(found.values()), color=colour, marker=mark, ms=4)
        last = list(found)[-2]
        plots.label(ax, last, found[last], name, colour, to=(-14, -14))
    ax.set(xscale="log", yscale="log", xlim=(1, 40), ylim=(1e-8, 10), xlabel="number of steps K")
    ax.set_xticks([1, 2, 4, 8, 16, 32])
    ax.set_xticklabels(["1", "2", "4", "8", "16", "32"])
    ax.set_yticks([1e-8, 1e-6, 1e-4, 1e-2, 1])
    ax.set_yticklabels(["10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "1"])
    ax.minorticks_off()
    ax.set_title("distance from the true end")
    return fig


@plots.styled
def bought(studies: dict[str, dict]) -> Figure:
    """What training noise of growing σ did to accuracy and to sharpness, beside LoRA, on three data sets."""
    fig = Figure(figsize=(plots.WIDTH, 4.4))
    above = fig.add_axes((plots.LEFT, 0.58, plots.SPAN, 0.36))
    below = fig.add_axes((plots.LEFT, 0.11, plots.SPAN, 0.36))
    sigmas = ("0.05", "0.15", "0.5", "1")
    looks = {"digits": ("o", 0.6), "mnist": ("s", 0.8), "fashion": ("D", 1.0)}
    for shift, (name, (mark, alpha)) in zip((-0.12, 0.0, 0.12), looks.items(), strict=True):
        style = {"color": plots.NOISE, "marker": mark, "ms": 5, "lw": 1, "alpha": alpha, "clip_on": False}
        places, values = np.arange(4) + shift, studies[name]
        points = [values[f"r8.{s}.minus r8.0.test accuracy"] for s in sigmas]
        for x, point in zip(places, points, strict=True):
            above.plot(
                [x, x], [100 * point["low"], 100 * point["high"]], color=plots.NOISE, lw=1.5, alpha=alpha
            )
        above.plot(places, [100 * point["mean"] for point in points], ls="", **style)
        start = np.array(values["r8.0.sharpness"]["each"])
        kept = [100 * np.array(values[f"r8.{s}.sharpness"]["each"]) / start for s in sigmas]
        below.plot(places, [share.mean() for share in kept], ls="", **style)
        for x, share in zip(places, kept, strict=True):
            below.plot([x, x], [share.min(), share.max()], color=plots.NOISE, lw=1.5, alpha=alpha)
    for ax, line in ((above, 0), (below, 100)):
        ax.axhline(line, color=plots.INK, lw=0.6, alpha=0.4)
        ax.set(xlim=(-0.4, 3.4), xticks=range(4))
        ax.set_xticklabels(["0.05", "0.15", "0.5", "1"])
    above.set(ylim=(-2.6, 0.4), yticks=[0, -1, -2])
    above.set_title("accuracy less LoRA's, points (95 %)")
    for height, (name, (mark, alpha)) in zip((-1.3, -1.75, -2.2), looks.items(), strict=True):
        above.plot(-0.2, height, mark, color=plots.NOISE, ms=5, alpha=alpha)
        above.text(
            -0.1, height, {"mnist": "MNIST", "fashion": "Fashion-MNIST"}.get(name, name), size=9, va="center"
        )
    below.set(ylim=(40, 105), yticks=[50, 75, 100])
    below.set_title("S(0.3), % of LoRA's (all of 5 seeds)")
    below.set_xlabel("σ of training")
    return fig
