"""The motion that is being commanded, handed from tick to tick."""

from __future__ import annotations

from typing import NamedTuple

from controller.curve import Motion


class Commanded(NamedTuple):
    """The motion that is being commanded, and how far from what is permitted it would come to rest."""

    position: tuple[float, ...]
    """[rad]"""
    velocity: tuple[float, ...]
    """[rad/s]"""
    acceleration: tuple[float, ...]
    """[rad/s²]"""
    short: tuple[float, ...] = ()
    """How far it gets into each of what is in the way [m], now or on the way to rest; empty where it stays clear.
    First the walls of the workspace box, then each pair of :class:`controller.clearance.Clearance`."""
    seen: tuple[float, ...] = ()
    """Pose at which the arm was last looked at [rad]."""
    room: tuple[float, ...] = ()
    """What room there was then at least, in the same order [m]."""
    use: tuple[float, ...] = ()
    """Share of that room that each joint can use up by a radian [1/rad]; empty where there was none."""

    @property
    def outside(self) -> float:
        """Distance out of the workspace box [m], the larger of now and on the way to rest."""
        return self.short[0] if self.short else 0.0

    @property
    def at_rest(self) -> bool:
        return not any(self.velocity) and not any(self.acceleration)

    @property
    def motion(self) -> Motion:
        return Motion(self.position, self.velocity)


def joint_by_joint(first: list[bool], a: Commanded, b: Commanded) -> Commanded:
    """Joint by joint ``a`` where ``first`` says so, else ``b``."""

    def mixed(of_a: tuple[float, ...], of_b: tuple[float, ...]) -> tuple[float, ...]:
        return tuple([x if pick else y for pick, x, y in zip(first, of_a, of_b, strict=True)])

    return b._replace(
        position=mixed(a.position, b.position),
        velocity=mixed(a.velocity, b.velocity),
        acceleration=mixed(a.acceleration, b.acceleration),
    )
