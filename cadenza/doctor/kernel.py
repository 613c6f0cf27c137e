"""The kernel: how it preempts, which cores it leaves alone, how fast they run, how deep they sleep.

Sources: Linux Documentation/admin-guide/kernel-parameters.txt, admin-guide/pm, scheduler/sched-rt-group.rst.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cadenza.doctor.finding import Finding, failure, text_of, warning, well
from controller.realtime import DMA_LATENCY, cores_of

_DEEP_US = 50
"""Waking from idle may take so long [µs] before it shows in the lateness of a 200 Hz loop."""
_ENOUGH_RUNTIME = 0.5
"""Share of each period that real-time processes must be allowed; the loop takes a few hundredths."""
_STOLEN = 1e-4
"""A host that takes so much of the processor, in pauses of milliseconds, shows in p99.9."""
_WORKER = "(kworker/u"
_REAL_TIME = {os.SCHED_FIFO, os.SCHED_RR}
_GOOD_CLOCKS = {"tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"}
"""Read without leaving the process, in tens of nanoseconds."""


def check_kernel(root: Path, core: int) -> list[Finding]:
    """Everything about the kernel.

    Args:
        root: ``/``; another folder in tests.
        core: the control loop's.
    """
    return [
        preemption(root),
        isolation(root, core),
        throttling(root),
        governor(root, core),
        idle(root, core),
        clock(root),
        virtual_machine(root),
        hand_over(root),
    ]


def preemption(root: Path) -> Finding:
    """PREEMPT_RT, or how near to it."""
    version = text_of(root / "proc/version")
    if text_of(root / "sys/kernel/realtime") == "1" or "PREEMPT_RT" in version:
        return well("preemption", "PREEMPT_RT")
    given = re.search(r"\bpreempt=(\w+)", text_of(root / "proc/cmdline"))
    chosen = re.search(r"\((\w+)\)", text_of(root / "sys/kernel/debug/sched/preempt"))  # readable by root
    mode = chosen[1] if chosen else given[1] if given else ""
    kind = next((word for word in ("PREEMPT_DYNAMIC", "PREEMPT") if word in version), "voluntary or none")
    fix = (
        "Debian: sudo apt install linux-image-rt-amd64; Ubuntu: sudo pro enable realtime-kernel; then reboot. "
        "Or at least put preempt=full on the kernel command line"
    )
    value = f"{kind}, preempt={mode}" if mode else kind
    return warning("preemption", value, "without PREEMPT_RT drivers can hold the loop up for milliseconds", fix)


def isolation(root: Path, core: int) -> Finding:
    """Whether the control core is left alone: isolcpus, nohz_full, rcu_nocbs."""
    free = cores_of(text_of(root / "sys/devices/system/cpu/isolated"))
    if free and core not in free:
        value, fix = f"core {core} is not, {', '.join(map(str, sorted(free)))} would be", f"control.cpu: {max(free)}"
        return warning("isolated core", value, "a core was set aside, and the control loop does not run there", fix)
    isolated = core in free
    tickless = core in cores_of(text_of(root / "sys/devices/system/cpu/nohz_full"))
    callbacks = re.search(r"\brcu_nocbs=(\S+)", text_of(root / "proc/cmdline"))
    unburdened = callbacks is not None and (callbacks[1] == "all" or core in cores_of(callbacks[1]))
    parts = {"isolcpus": isolated, "nohz_full": tickless, "rcu_nocbs": unburdened}
    missing = [name for name, there in parts.items() if not there]
    if not missing:
        return well("isolated core", f"core {core} belongs to the control loop alone")
    wanted = " ".join(f"{name}={core}" for name in parts)
    fix = f'in /etc/default/grub: GRUB_CMDLINE_LINUX="{wanted}"; sudo update-grub; reboot; control.cpu: {core}'
    value = f"core {core} without {', '.join(missing)}"
    return warning("isolated core", value, "other processes and kernel work share the control loop's core", fix)


def throttling(root: Path) -> Finding:
    """How much of a second real-time processes may run."""
    folder = root / "proc/sys/kernel"
    runtime, period = text_of(folder / "sched_rt_runtime_us"), text_of(folder / "sched_rt_period_us")
    if not runtime or not period:
        return well("real-time share", "not limited by this kernel")
    share = 1.0 if int(runtime) < 0 else int(runtime) / int(period)
    value = "unlimited" if int(runtime) < 0 else f"{share:.0%} of each {int(period) / 1e6:g} s"
    if share >= _ENOUGH_RUNTIME:
        return well("real-time share", value)
    return failure(
        "real-time share",
        value,
        "the kernel stops real-time processes that use more",
        "sudo sysctl kernel.sched_rt_runtime_us=950000",
    )


def governor(root: Path, core: int) -> Finding:
    """Whether the control core keeps its speed."""
    chosen = text_of(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")
    if not chosen:
        return well("CPU governor", "none: the kernel does not change the frequency")
    if chosen == "performance":
        return well("CPU governor", chosen)
    return warning(
        "CPU governor",
        chosen,
        "a slowed-down core makes every tick late when it has to speed up",
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )


def idle(root: Path, core: int) -> Finding:
    """How long the deepest permitted idle state takes to wake from, and whether a run may forbid it."""
    states = (root / f"sys/devices/system/cpu/cpu{core}/cpuidle").glob("state*")
    used = [state for state in states if text_of(state / "disable") != "1"]
    deepest = max((int(text_of(state / "latency") or 0) for state in used), default=0)
    if deepest <= _DEEP_US:
        return well("idle states", f"wake up within {deepest} µs")
    if may_write(root / DMA_LATENCY.relative_to("/")):
        return well("idle states", f"deepest {deepest} µs; the run forbids it ({DMA_LATENCY})")
    rule = 'KERNEL=="cpu_dma_latency", GROUP="realtime", MODE="0660"'
    fix = (
        f"sudo groupadd -f realtime; sudo usermod -aG realtime $USER; echo '{rule}' | sudo tee "
        "/etc/udev/rules.d/90-cadenza-latency.rules; sudo udevadm control --reload; sudo udevadm trigger -c add -s misc"
    )
    return warning("idle states", f"deepest {deepest} µs", "waking from it adds to the lateness of a tick", fix)


def clock(root: Path) -> Finding:
    """Whether reading the clock is cheap."""
    source = text_of(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source in _GOOD_CLOCKS or not source:
        return well("clock source", source or "not shown")
    return warning(
        "clock source",
        source,
        "every look at the clock is a slow access to a device; the kernel mistrusted the processor's own",
        "dmesg | grep -i tsc tells why; often a firmware update, or tsc=reliable on the kernel command line",
    )


def virtual_machine(root: Path) -> Finding:
    """How much of the time that somebody here wanted the processor its host gave it to others (proc(5), "steal")."""
    flags = re.search(r"^flags\s*:(.*)", text_of(root / "proc/cpuinfo"), re.MULTILINE)
    if flags is None:  # ARM's has Features, none of which says so
        return well("virtual machine", "cannot be told: the processor does not say")
    if "hypervisor" not in flags[1].split():
        return well("virtual machine", "none")
    spent = [int(word) for word in text_of(root / "proc/stat").split("\n")[0].split()[1:]]
    idle_ticks, stolen = sum(spent[3:5]), spent[7] if len(spent) > 7 else 0
    # guest time, behind steal, is counted in user time as well
    share = stolen / max(1, sum(spent[:8]) - idle_ticks)
    value = f"{share:.2%} of the processor time wanted since the start went to others"
    if share < _STOLEN:
        return well("virtual machine", value)
    return warning(
        "virtual machine",
        value,
        "when the host takes the processor away, nothing in here can be on time",
        "run on the machine itself, or give each virtual processor a core of its own and no quota (virsh vcpupin)",
    )


def hand_over(root: Path) -> Finding:
    """How urgent the kernel's workers are that hand on what a serial port received: before that nothing is there to be
    read (drivers/tty/tty_buffer.c queues to system_unbound_wq)."""
    name, workers = (
        "serial hand-over",
        [text for file in (root / "proc").glob("[0-9]*/stat") if _WORKER in (text := text_of(file))],
    )
    if not workers:
        return well(name, "the kernel's workers are not seen from here")
    # proc(5): field 41 is the scheduling policy, counted from the third behind the name in brackets
    ordinary = sum(int(text.rpartition(")")[2].split()[38]) not in _REAL_TIME for text in workers)
    if not ordinary:
        return well(name, "by workers with real-time priority")
    return warning(
        name,
        f"{ordinary} of {len(workers)} workers have ordinary priority",
        "on a busy machine the answers of the servos wait for them, by milliseconds",
        "for p in $(pgrep kworker/u); do sudo chrt -f -p 2 $p; done   # again where the kernel makes new ones",
    )


def may_write(path: Path) -> bool:
    """Whether this user may."""
    try:
        with path.open("wb"):
            return True
    except OSError:
        return False
