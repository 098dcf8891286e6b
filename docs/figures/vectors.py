"""Draws the vectors of the rule, for theory.md: ``python docs/figures/vectors.py``.

Three pictures, which a browser puts in a row or, on a phone, one below the other. The
colours are readable on white, on black and in grey, and every arrow has a letter.
"""

import hashlib
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__)
GREY, BLUE, ORANGE, GREEN = "#808080", "#4a86d8", "#d0721c", "#159467"
CAP = 0.5  # κ


def length(v):
    return np.linalg.norm(v)


def shortened(v, most):
    return v * min(1, most / length(v))


def projected(r, m):
    return r - min(0, r @ m) / (m @ m) * m


def arrow(ax, v, name, color, at, **style):
    """Draws an arrow to ``v``, with its name ``at`` an offset from the tip."""
    style = {"width": 0.016, "linewidth": 0, "color": color} | style
    ax.quiver(0, 0, *v, angles="xy", scale_units="xy", scale=1, **style)
    ax.text(*v + at, name, color=color, ha="center", va="center", fontsize=13)


def line(ax, *points):
    ax.plot(*np.transpose(points), color=GREY, linewidth=1, linestyle=":", zorder=0)


def panel(name, title, draw):
    fig, ax = plt.subplots(figsize=(2.5, 2.7), layout="constrained")
    ax.set(xlim=(-0.55, 1.45), ylim=(-0.85, 1.55), aspect="equal", title=title)
    ax.title.set(color=GREY, fontsize=11)
    ax.axis("off")
    # No conflict with a reference that points up.
    ax.axhspan(0, 1.55, color=GREY, alpha=0.13, linewidth=0)
    draw(ax)
    # The test compares this digest with that of the script.
    digest = hashlib.sha256(HERE.read_bytes()).hexdigest()
    metadata = {"Date": None, "Creator": None, "Description": digest}
    fig.savefig(HERE.with_name(f"{name}.svg"), transparent=True, metadata=metadata)
    plt.close(fig)


def agree(ax):
    g, r = np.array([0, 1.0]), np.array([0.75, 0.4])
    line(ax, g, g + r)
    line(ax, r, g + r)
    arrow(ax, g, "$g$", BLUE, (-0.15, 0))
    arrow(ax, r, "$r = r'$", ORANGE, (0.32, 0))
    arrow(ax, g + r, "$d$", GREEN, (0.12, 0.05), width=0.024)


def oppose(ax):
    g, r = np.array([0, 1.0]), np.array([0.75, -0.55])
    kept = projected(r, g)
    line(ax, r, kept)
    line(ax, g, g + kept)
    line(ax, kept, g + kept)
    arrow(ax, g, "$g$", BLUE, (-0.15, 0))
    arrow(ax, r, "$r$", ORANGE, (0.13, -0.03), alpha=0.6, width=0.009)
    arrow(ax, kept, "$r'$", ORANGE, (0.15, 0.08))
    arrow(ax, g + kept, "$d$", GREEN, (0.12, 0.05), width=0.024)


def cap(ax):
    m, u, r = np.array([0, 1.25]), np.array([0.22, 0.976]), np.array([1.15, -0.7])
    kept = shortened(projected(shortened(r, length(u)), m), CAP * length(u))
    total = u + kept
    arc = np.linspace(-0.65, 2.0)
    line(ax, *(length(u) * np.stack([np.cos(arc), np.sin(arc)], axis=-1)))
    line(ax, u, total)
    line(ax, kept, total)
    arrow(ax, m, "$m$", GREY, (-0.16, 0), width=0.009)
    arrow(ax, u, "$u$", BLUE, (0.02, 0.13))
    arrow(ax, r, "$r$", ORANGE, (0.13, -0.03), alpha=0.6, width=0.009)
    arrow(ax, kept, "$r'$", ORANGE, (0.04, -0.15))
    arrow(ax, shortened(total, length(u)), "$d$", GREEN, (0.23, -0.08), width=0.024)


def main():
    settings = {"mathtext.fontset": "cm", "svg.hashsalt": "vectors"}
    with matplotlib.rc_context(settings):
        panel("no-conflict", "no conflict: added", agree)
        panel("conflict", "conflict: projected", oppose)
        panel("caps", "with caps: only turned", cap)


if __name__ == "__main__":
    main()
