"""What kill -9 costs: of the recorder, and of the whole daemon, while they record at full rate.

The daemon is the real one with stand-ins for arm, cameras and policy (benchmarks.stand_ins). Each time one episode has
just been closed and another is open. Afterwards the closed one must be whole, the open one must be recovered whole,
and its last tick is compared with the last one that an observer outside of the daemon had seen.

python -m benchmarks.kills        fifty of them, as a table; exit status 1 where a bound is broken
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.stand_ins.daemon import Observer, full_rate_robot
from controller.wiring.ipc import remove_namespace
from episodes.check import check
from episodes.reader import read_episode
from episodes.recovery import recover_folder

KILLS = 50
BAR_MS = 100.0
"""Most control data that one kill may cost [ms]."""
_RECORDED_S = (0.3, 1.3)
_DEAD_S = 10.0


@dataclass(frozen=True)
class Kill:
    """What one kill -9 did."""

    target: str
    """``recorder`` or ``daemon``."""
    lost_ms: float
    """From the last tick in the recovered file to the last one published before the kill [ms]."""
    ticks: int
    """In the recovered file."""
    frames: int
    chunks: int
    wrong: tuple[str, ...]
    """What is not as it must be, in either episode; empty where all is well."""


def measure(seconds: float) -> dict[str, object]:
    """Fifty kills, or one a second where less time is given. Figures by target, and what was wrong."""
    return summary(kill_all(max(4, min(KILLS, round(seconds)))))


def summary(kills: list[Kill]) -> dict[str, object]:
    """Figures over all kills, JSON-able."""
    wrong = [line for kill in kills for line in kill.wrong]
    by_target: dict[str, object] = {}
    for target in ("recorder", "daemon"):
        lost = np.array([kill.lost_ms for kill in kills if kill.target == target])
        by_target[target] = {
            "kills": len(lost),
            "lost_ms_median": float(np.median(lost)),
            "lost_ms_max": float(lost.max()),
        }
    worst = max(kill.lost_ms for kill in kills)
    return {**by_target, "wrong": wrong, "bar_ms": BAR_MS, "within_bar": not wrong and worst <= BAR_MS}


def kill_all(count: int) -> list[Kill]:
    """Half of them the recorder alone, in one running daemon; half the whole daemon, a new one each time."""
    rng = np.random.default_rng(0)
    waits = rng.uniform(*_RECORDED_S, size=count).tolist()
    kills: list[Kill] = []
    with tempfile.TemporaryDirectory(prefix="cadenza-kills-") as folder:
        half = count // 2
        with _daemon(Path(folder) / "recorder") as daemon:
            kills += [daemon.kill_recorder(wait) for wait in waits[:half]]
        for number, wait in enumerate(waits[half:]):
            with _daemon(Path(folder) / f"daemon-{number}") as daemon:
                kills.append(daemon.kill_all(wait))
    return kills


class _Daemon:
    """A running daemon and its observer."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self._process, self._episodes = process, out / "episodes"
        self.namespace = str(self._hear()["namespace"])
        self._observer = Observer(full_rate_robot(), self.namespace)

    def kill_recorder(self, wait_s: float) -> Kill:
        """Kill the recorder after some time of recording; the daemon starts another."""
        told = self._hear()
        last_ns = self._watched(wait_s)
        killed_ns = time.monotonic_ns()
        recorder = int(str(told["recorder"]))
        os.kill(recorder, signal.SIGKILL)
        last_ns = max(last_ns, self._last_before(killed_ns))
        _await_end([recorder])
        return self._judged("recorder", Path(str(told["path"])), last_ns)

    def kill_all(self, wait_s: float) -> Kill:
        """Kill every process of the daemon at once. They are stopped first: one that saw another die would close its
        file in order."""
        told = self._hear()
        last_ns = self._watched(wait_s)
        pids = [self._process.pid, *_children(self._process.pid)]
        assert len(pids) == 6, pids
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, number)
        _await_end(pids)
        last_ns = max(last_ns, self._last_before(time.monotonic_ns()))
        return self._judged("daemon", Path(str(told["path"])), last_ns)

    def close(self) -> None:
        self._observer.close()

    def _hear(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the daemon has ended; its last words are above"
        told: dict[str, object] = json.loads(line)
        return told

    def _watched(self, seconds: float) -> int:
        """Let time pass; returns the instant of the last tick seen [ns]."""
        last_ns, end_s = 0, time.monotonic() + seconds
        while time.monotonic() < end_s:
            time.sleep(0.05)
            last_ns = max(last_ns, self._last_before(time.monotonic_ns()))
        return last_ns

    def _last_before(self, instant_ns: int) -> int:
        ticks = self._observer.take()
        done = ticks["written_ns"] <= instant_ns
        return int(ticks["now_ns"][done][-1]) if done.any() else 0

    def _judged(self, target: str, path: Path, last_ns: int) -> Kill:
        recovered = [item.episode for item in recover_folder(self._episodes)]
        wrong = [] if recovered == [path] else [f"{path.name}: not recovered, but {recovered}"]
        closed = path.with_name(path.name.replace("open", "closed"))
        for file in (closed, path):
            wrong += [f"{target}: {file.name}: {line}" for line in check(file)]
        episode = read_episode(path, cameras=())
        lost_ms = (last_ns - int(episode.ticks["now_ns"][-1])) * 1e-6
        frames = sum(map(len, episode.frames.values()))
        return Kill(target, lost_ms, len(episode.ticks), frames, len(episode.chunks), tuple(wrong))


@contextlib.contextmanager
def _daemon(out: Path) -> Iterator[_Daemon]:
    command = [sys.executable, "-m", "benchmarks.stand_ins.daemon", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        daemon = None
        try:
            daemon = _Daemon(process, out)
            yield daemon
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            if daemon is not None:
                daemon.close()
                remove_namespace(daemon.namespace)


def _children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(status.parent.name))
    return found


def _await_end(pids: list[int]) -> None:
    """Wait until they are gone, or only wait for their parent to notice."""
    deadline_s = time.monotonic() + _DEAD_S
    while not all(map(_gone, pids)):
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def _gone(pid: int) -> bool:
    """Whether nothing of a process is left: its first thread may be dead while another is still with the disk."""
    process = Path(f"/proc/{pid}")
    try:
        dead = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return dead and len(list((process / "task").iterdir())) <= 1
    except OSError:
        return True


def main() -> int:
    """Print the table."""
    kills = kill_all(int(sys.argv[1]) if len(sys.argv) > 1 else KILLS)
    table = Table("kill -9 of", "kills", "lost, median", "lost, most", "ticks saved", "pictures", "chunks", box=None)
    for target in ("recorder", "daemon"):
        group = [kill for kill in kills if kill.target == target]
        lost = [kill.lost_ms for kill in group]
        saved = (sum(getattr(kill, name) for kill in group) for name in ("ticks", "frames", "chunks"))
        table.add_row(
            target, str(len(group)), f"{np.median(lost):.0f} ms", f"{max(lost):.0f} ms", *(f"{n:,}" for n in saved)
        )
    console = Console()
    console.print(table)
    result = summary(kills)
    for line in (line for kill in kills for line in kill.wrong):
        console.print(f"[red]{line}[/]", highlight=False)
    print(
        f"every closed episode opens, every open one is recovered, at most {BAR_MS:.0f} ms lost: "
        f"{'yes' if result['within_bar'] else 'NO'}"
    )
    with contextlib.suppress(IndexError):
        Path(sys.argv[2]).write_text(json.dumps([asdict(kill) for kill in kills], indent=2), encoding="utf-8")
    return 0 if result["within_bar"] else 1


if __name__ == "__main__":
    sys.exit(main())
