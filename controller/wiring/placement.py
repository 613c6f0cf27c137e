"""Where processes other than the control loop run."""

from __future__ import annotations

import os

from controller.realtime import control_cpu
from spec.robot import Control


def stay_off_control_core(control: Control) -> None:
    """Keep this process at ordinary priority and, where there is more than one core, off the control loop's."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    others = os.sched_getaffinity(0) - {control_cpu(control.cpu)}
    if others:
        os.sched_setaffinity(0, others)
