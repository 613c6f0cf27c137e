"""The curve a chunk draws between its actions, and what the tick evaluates of it: one cubic per joint.

A tick comes out of a sleep with cold caches, where each different numpy call costs ten times what it does in a loop.
So arrays are touched when a chunk comes or goes on to its next action; every other tick evaluates six plain cubics.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from spec.arrays import Float


class Motion(NamedTuple):
    """Where the joints are and how fast they go, each of length joints."""

    position: tuple[float, ...]
    """[rad]"""
    velocity: tuple[float, ...]
    """[rad/s]"""

    def plus(self, other: Motion) -> Motion:
        return Motion(
            tuple([p + q for p, q in zip(self.position, other.position, strict=True)]),
            tuple([u + v for u, v in zip(self.velocity, other.velocity, strict=True)]),
        )

    def minus(self, other: Motion) -> Motion:
        return Motion(
            tuple([p - q for p, q in zip(self.position, other.position, strict=True)]),
            tuple([u - v for u, v in zip(self.velocity, other.velocity, strict=True)]),
        )

    def after(self, period_s: float) -> Motion:
        """The same motion a while later, at the same speed."""
        return Motion(
            tuple([p + period_s * v for p, v in zip(self.position, self.velocity, strict=True)]), self.velocity
        )


class Cubic(NamedTuple):
    """c_0 + c_1 t + c_2 t² + c_3 t³ of every joint, t the time since ``since_ns`` [s]. Good until ``ends_ns``."""

    since_ns: int
    ends_ns: int
    terms: tuple[tuple[float, float, float, float], ...]
    """c_0 [rad] to c_3 [rad/s³] of each joint."""

    @classmethod
    def fade(cls, since_ns: int, span_ns: int, start: Motion) -> Self:
        """From ``start`` to rest at zero in ``span_ns``."""
        rate = 1e9 / span_ns
        terms = [
            (p, v, -(3.0 * p * rate + 2.0 * v) * rate, (2.0 * p * rate + v) * rate * rate)
            for p, v in zip(start.position, start.velocity, strict=True)
        ]
        return cls(since_ns, since_ns + span_ns, tuple(terms))

    def covers(self, now_ns: int) -> bool:
        return self.since_ns <= now_ns < self.ends_ns

    def at(self, now_ns: int) -> Motion:
        """Value and rate at an instant."""
        t = (now_ns - self.since_ns) * 1e-9
        position, velocity = [], []
        for a, b, c, d in self.terms:
            position.append(a + t * (b + t * (c + t * d)))
            velocity.append(b + t * (2.0 * c + t * (3.0 * d)))
        return Motion(tuple(position), tuple(velocity))

    def plus(self, other: Cubic) -> Cubic:
        """The sum from this one's beginning on, good for as long as both are."""
        t = (self.since_ns - other.since_ns) * 1e-9
        terms = [
            (
                a + e + t * (f + t * (g + t * h)),
                b + f + t * (2.0 * g + t * (3.0 * h)),
                c + g + t * (3.0 * h),
                d + h,
            )
            for (a, b, c, d), (e, f, g, h) in zip(self.terms, other.terms, strict=True)
        ]
        return Cubic(self.since_ns, min(self.ends_ns, other.ends_ns), tuple(terms))


def curve_through(targets: Float, step_s: float) -> Float:
    """The cubics c_i of each step of a chunk, Σ c_i t^i with t [s] from the step's beginning, and one more that goes
    straight on after the end.

    Args:
        targets: absolute joint targets [rad], shape (chunk, joints).
        step_s: time between them [s].

    Returns:
        Read-only, shape (chunk + 1, 4, joints).
    """
    length, joints = targets.shape
    knots = np.empty((length + 1, joints))
    knots[1:] = targets
    knots[0] = targets[0] if length == 1 else 2.0 * targets[0] - targets[1]
    rise = knots[1:] - knots[:-1]
    slope = np.empty((length + 1, joints))
    slope[0], slope[-1] = rise[0], rise[-1]
    # A slope within three times the smaller neighbour, and zero at a turning point, keeps the cubic monotone:
    # of the two terms one at the most is not zero.
    before, after = rise[:-1], rise[1:]
    mean = 0.5 * (before + after)
    upward = np.maximum(np.minimum(mean, 3.0 * np.minimum(before, after)), 0.0)
    downward = np.minimum(np.maximum(mean, 3.0 * np.maximum(before, after)), 0.0)
    slope[1:-1] = upward + downward
    start = slope[:-1]
    bend = start + slope[1:] - 2.0 * rise
    curve = np.zeros((length + 1, 4, joints))
    curve[:, 0], curve[:, 1] = knots, slope
    curve[:-1, 2], curve[:-1, 3] = rise - start - bend, bend
    rate = 1.0 / step_s
    curve *= np.array([[1.0], [rate], [rate * rate], [rate * rate * rate]])
    curve.setflags(write=False)
    return curve
