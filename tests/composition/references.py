"""What the parameters must be in the end, worked out by hand in float64 NumPy.

Everything here is a vector: the parameters, the empirical gradient ``g = w - target``
and the regularizer's, with another target at each step. Targets are on one side of the
start and anchors on the other, so that the two conflict.
"""

from dataclasses import dataclass

import numpy as np

STEPS = 4
RATE = 0.1
WEIGHT = 0.7
BODY = np.array([True, True, True, True, False, False])  # the rest is the head


@dataclass(frozen=True)
class Problem:
    """One row per step in ``targets`` and ``anchors``.

    The regularizer gradient is ``w - anchor``; of a mix, that and ``w``, each scaled to
    a root mean square of 1.
    """

    start: np.ndarray
    targets: np.ndarray
    anchors: np.ndarray
    is_mix: bool = False

    def gradients(self, w, t):
        r = w - self.anchors[t]
        return w - self.targets[t], mix(r, w) if self.is_mix else r


def problem(form="pair", at_init=False, broken=None):
    """The problem as a form poses it.

    Args:
      form: of handing over the regularizer. ``l2_sp`` has one anchor for all steps, and
        in the mix it is the start.
      at_init: whether that of ``l2_sp`` is the start as well.
      broken: the half that has a NaN at the second step.
    """
    rng = np.random.default_rng(0)
    away = rng.choice([-1.0, 1.0], BODY.size)
    start = 0.1 * rng.standard_normal(BODY.size) + 0.1 * away
    noise = 0.5 * rng.standard_normal((3, STEPS, BODY.size))
    targets, anchors = away + noise[0], noise[1] - 0.8 * away
    if form in ("l2_sp", "mix"):
        anchor = start if at_init or form == "mix" else anchors[0]
        anchors = np.broadcast_to(anchor, anchors.shape).copy()
    if broken is not None:
        {"empirical": targets, "regularizer": anchors}[broken][1, 0] = np.nan
    return Problem(start, targets, anchors, is_mix=form == "mix")


def mix(*gradients):
    return sum(g / np.sqrt(np.mean(g**2)) for g in gradients if g.any())


def project(g, r):
    return r - np.minimum(0, g @ r) / (g @ g) * g


def joint(g, r):
    """``d = g + λr'``."""
    return g + WEIGHT * project(g, r)


def norm(*vectors):
    return np.sqrt(sum(v @ v for v in vectors))


def clip(limit, *vectors):
    size = norm(*vectors)
    return [v * min(1.0, limit / size) for v in vectors]


def in_body(g, r):
    """The body is projected by itself, the head follows its own gradient."""
    d = g.copy()
    d[BODY] = joint(g[BODY], r[BODY])
    return d


def in_head(g, r):
    d = g.copy()
    d[~BODY] = joint(g[~BODY], r[~BODY])
    return d


def descent(direction):
    """``w <- w - η·direction(w, g, r, t)``, which may have a memory."""

    def run(p):
        w, along = p.start, direction()
        for t in range(STEPS):
            w = w - RATE * along(w, *p.gradients(w, t), t)
        return w

    return run


def stateless(direction):
    return descent(lambda: direction)


def of_the_body(direction):
    """Of a mix inside a mask: scaled by the norms of the body's gradients alone."""

    def run(p):
        w = p.start
        for t in range(STEPS):
            g, _ = p.gradients(w, t)
            r = np.zeros_like(w)
            r[BODY] = mix(w[BODY] - p.anchors[t][BODY], w[BODY])
            w = w - RATE * direction(g, r)
        return w

    return run


def zero_nans(v):
    return np.where(np.isnan(v), 0, v)


plain = stateless(lambda w, g, r, t: joint(g, r))
body_only = stateless(lambda w, g, r, t: np.where(BODY, in_body(g, r), 0))
body_joint = stateless(lambda w, g, r, t: in_body(g, r))
in_each_part = stateless(
    lambda w, g, r, t: np.where(BODY, in_body(g, r), in_head(g, r))
)
head_frozen = stateless(lambda w, g, r, t: np.where(BODY, joint(g, r), 0))
head_frozen_in_g = stateless(lambda w, g, r, t: joint(np.where(BODY, g, 0), r))
decayed_before = stateless(lambda w, g, r, t: joint(g + 0.1 * w, r))
decayed_after = stateless(lambda w, g, r, t: joint(g, r) + 0.1 * w)
clipped_g = stateless(lambda w, g, r, t: joint(*clip(0.5, g), r))
clipped_pair = stateless(lambda w, g, r, t: joint(*clip(0.5, g, r)))
clipped_after = stateless(lambda w, g, r, t: clip(0.5, joint(g, r))[0])
halved_g = stateless(lambda w, g, r, t: joint(g / 2, r))
halved_pair = stateless(lambda w, g, r, t: joint(g / 2, r / 2))
mixed_body_only = of_the_body(lambda g, r: np.where(BODY, in_body(g, r), 0))
mixed_body_joint = of_the_body(in_body)
mixed_with_decay = stateless(lambda w, g, r, t: joint(g, mix(w, r)))
nan_as_zero = stateless(lambda w, g, r, t: joint(zero_nans(g), r))
nan_as_zero_after = stateless(lambda w, g, r, t: zero_nans(joint(g, r)))
odd_steps = stateless(lambda w, g, r, t: joint(g, r) if t % 2 else g)
odd_steps_only = stateless(lambda w, g, r, t: joint(g, r) if t % 2 else 0 * g)
decayed_at_odd_steps = stateless(lambda w, g, r, t: joint(g, r) + 0.1 * (t % 2) * w)
finite_only = stateless(
    lambda w, g, r, t: joint(g, r) if np.isfinite([g, r]).all() else np.zeros_like(g)
)


class Momentum:
    def __init__(self):
        self.m = 0

    def __call__(self, g):
        self.m = g + 0.9 * self.m
        return self.m


class Adam:
    def __init__(self):
        self.m = self.v = self.t = 0

    def __call__(self, g):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        v = self.v / (1 - 0.999**self.t)
        return self.m / (1 - 0.9**self.t) / (np.sqrt(v) + 1e-8)


def remembering(direction):
    """Makes, of a rule with a memory, ``w <- w - η·direction(rule, g, r)``."""

    def of(rule):
        def start():
            rule_ = rule()
            return lambda w, g, r, t: direction(rule_, g, r)

        return descent(start)

    return of


# The rule makes of g what is then taken for the gradient.
before = remembering(lambda rule, g, r: joint(rule(g), r))
# The rule on g, plus the regularizer projected by g itself.
inner = remembering(lambda rule, g, r: rule(g) + WEIGHT * project(g, r))
# The rule with the rate and its minus sign in it, and nothing after.
downhill_before = remembering(lambda rule, g, r: -joint(-RATE * rule(g), r) / RATE)
# The rule on the sum.
after = remembering(lambda rule, g, r: rule(joint(g, r)))


def accumulated(average):
    """One step for two, along what ``average`` makes of both pairs."""

    def run(p):
        w = p.start
        for t in range(0, STEPS, 2):
            w = w - RATE * average(p.gradients(w, t), p.gradients(w, t + 1))
        return w

    return run


mean_of_both = accumulated(lambda a, b: joint((a[0] + b[0]) / 2, (a[1] + b[1]) / 2))
mean_of_g_last_r = accumulated(lambda a, b: joint((a[0] + b[0]) / 2, b[1]))
mean_of_projections = accumulated(lambda a, b: (joint(*a) + joint(*b)) / 2)


def schedule_free(p):
    """Defazio et al., 2024, with β = 0.9: gradients at y, steps of z, their mean x."""
    x = y = z = p.start
    for t in range(STEPS):
        z = z - RATE * joint(*p.gradients(y, t))
        x = x + (z - x) / (t + 1)
        y = 0.9 * x + 0.1 * z
    return y


def lookahead(p):
    """Zhang et al., 2019: at every other step both go half-way."""
    fast = slow = p.start
    for t in range(STEPS):
        fast = fast - RATE * joint(*p.gradients(fast, t))
        if t % 2:
            fast = slow = slow + 0.5 * (fast - slow)
    return fast


def sam(climbs):
    """Foret et al., 2021: climb 0.05 along ``climbs(g, r)``, step from the start."""

    def run(p):
        w = p.start
        for t in range(0, STEPS, 2):
            up = climbs(*p.gradients(w, t))
            g, r = p.gradients(w + 0.05 * up / norm(up), t + 1)
            w = w - RATE * joint(g, r)
        return w

    return run


def sam_around(p):
    """The climb sees g alone, and l2_sp the parameters from before it."""
    w = p.start
    for t in range(0, STEPS, 2):
        up, _ = p.gradients(w, t)
        g, _ = p.gradients(w + 0.05 * up / norm(up), t + 1)
        w = w - RATE * joint(g, p.gradients(w, t + 1)[1])
    return w


def mechanic(sees):
    """Cutkosky et al., 2023, whose tuner of the step size ``sees`` this gradient."""

    def run(p):
        betas = 1 - 0.1 ** np.arange(1, 7)
        r_, m, v = np.zeros((3, 6))
        s = np.full(6, 0.1)
        w = p.start
        for t in range(STEPS):
            g, r = p.gradients(w, t)
            seen = sees(g, r) + 0.01 * s.sum() * norm(sees(g, r)) / norm(w) * w
            moved = (p.start - w) / (s.sum() + 1e-8)
            h = seen @ moved
            clipped = np.clip(h, -m, m)
            m = np.maximum(betas * m, abs(h) + 1e-8)
            v = betas**2 * v + h**2
            r_ = betas * r_ + clipped * s
            s = (0.1 / 6 * m + np.maximum(0, r_)) / (np.sqrt(v) + 1e-8)
            w = p.start - s.sum() * (moved + RATE * joint(g, r))
        return w

    return run
