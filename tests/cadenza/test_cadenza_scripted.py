"""The scripted person at the leader arm: when it takes hold."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cadenza.collecting.scripted import ScriptedPerson
from cadenza.scripted_hand import ScriptedHand
from controller.collection.collector import Collector
from controller.collection.machine import Phase
from drivers.virtual.client import SimClient
from spec.robotfile import load_robot


class Table:
    """A client that sees two arms and knows what the hand did."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.joints = {arm: dict.fromkeys(names, 0.0) for arm in ("leader", "follower")}
        self.done: list[Any] = []

    def state(self) -> dict[str, Any]:
        return {"joints": self.joints}

    def hand(self, joints: dict[str, float] | None, _seconds: float = 0.3) -> None:
        self.done.append(joints)


@pytest.mark.parametrize("demonstration", [True, False])
def test_it_takes_hold_of_the_leader_only_where_that_has_come_to_the_arm(demonstration: bool) -> None:
    robot = load_robot(Path("robots/virtual.yaml"), {})
    table = Table(robot.follower.names)
    person = ScriptedPerson(ScriptedHand(robot, cast("SimClient", table)), seed=0)
    person._random = cast("Any", SimpleNamespace(uniform=lambda *_: 0.0))
    now = SimpleNamespace(phase=Phase.RUNNING, driving_s=0.0, since_s=1.0)
    run = SimpleNamespace(watch=SimpleNamespace(human=False), robot=robot)
    collector = cast("Collector", SimpleNamespace(now=now, plan=SimpleNamespace(demonstration=demonstration), run=run))

    table.joints["leader"]["wrist_flex"] = 0.5
    for _ in range(3):
        assert person.look(collector) == []
        person._due_s = 0.0
    assert table.done == []

    assert robot.teleop is not None
    table.joints["leader"]["wrist_flex"] = np.nextafter(robot.teleop.align_rad, 0) - 0.06
    person.look(collector)
    assert table.done == [{}]
