"""How much faster than real time the virtual arm runs in lock-step, with and without its cameras."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from drivers.virtual.env import VirtualKochEnv
from spec.robotfile import load_robot

_ROBOT_FILE = Path(__file__).resolve().parents[1] / "robots" / "virtual.yaml"


def measure(seconds: float = 10.0) -> dict[str, object]:
    """Simulated seconds per second of wall clock, for the arm swinging about its home pose."""
    robot = load_robot(_ROBOT_FILE)
    share = seconds / 3
    return {
        "control_hz": robot.control.rate_hz,
        "policy_hz": 10.0,
        "times_real_time": {
            "joints only": _speed(VirtualKochEnv(robot, cameras=()), share),
            "one camera 96x96": _speed(VirtualKochEnv(robot, cameras=("top",), image_size=(96, 96)), share),
            "all cameras as in the robot file": _speed(VirtualKochEnv(robot), share),
        },
    }


def _speed(env: VirtualKochEnv, seconds: float) -> float:
    home = env.robot.limits().home
    env.reset(seed=0)
    begin, steps = time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        env.step(home + 0.2 * np.sin(0.3 * steps + np.arange(len(home))))
        steps += 1
    elapsed = time.monotonic() - begin
    env.close()
    return round(steps * env.step_s / elapsed, 1)


if __name__ == "__main__":
    print(measure())
