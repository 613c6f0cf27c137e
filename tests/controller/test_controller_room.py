"""Shared memory that is full: said beforehand, survived by whoever has its room already."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from controller.supervisor import Supervisor
from controller.wiring import ipc, room
from controller.wiring.ipc import Node, new_namespace, remove_namespace
from controller.wiring.topics import EVENTS, STATES, TICKS, topics
from spec.errors import CadenzaError
from spec.robotfile import load_robot

ROBOT = load_robot(Path("robots/virtual.yaml"))

FULL = """
import os
from pathlib import Path
from controller.wiring.ipc import Node
from controller.wiring.topics import topics
from episodes.records import TickRecord
from spec.robotfile import load_robot

node = Node("1_full", topics(load_robot(Path("robots/virtual.yaml"))), "control")
ticks, reader = node.publisher("ticks"), node.subscriber("ticks", TickRecord)
filler = os.open("/dev/shm/filler", os.O_CREAT | os.O_RDWR)
free = os.statvfs("/dev/shm")
os.posix_fallocate(filler, 0, free.f_bavail * free.f_bsize)
assert all(ticks.send(TickRecord(tick=k)) for k in range(3000))
assert reader.drain()[-1].tick == 2999
"""


def test_a_tick_is_published_however_full_shared_memory_is() -> None:
    """It used to be the end of the control process: SIGBUS at the first write to a page that was never touched."""
    if os.geteuid() != 0 or _alone("true").returncode != 0:
        pytest.skip("only root may have a /dev/shm of its own")
    done = _alone(f"exec {sys.executable} -c '{FULL}'")
    assert (done.returncode, done.stderr) == (0, "")


def _alone(command: str) -> subprocess.CompletedProcess[str]:
    """Run in a shell that has a small /dev/shm to itself."""
    script = f"mount -t tmpfs -o size=40m tmpfs /dev/shm && {command}"
    return subprocess.run(["unshare", "-m", "sh", "-c", script], check=False, capture_output=True, text=True)


def test_a_run_without_room_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda: 8_000_000)
    with pytest.raises(CadenzaError, match=r"/dev/shm: 8.0 MB free, \d\d.\d MB needed for a run; see what") as caught:
        Supervisor(ROBOT, None, tmp_path, lambda _: None).__enter__()
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_any_more_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer text takes another segment, in the middle of a run."""
    namespace = new_namespace()
    with Node(namespace, topics(ROBOT), "a") as node:
        events, reader = node.publisher(EVENTS), node.bytes_subscriber(EVENTS)
        free = room.free_bytes()
        monkeypatch.setattr(room, "free_bytes", lambda: 100_000)
        assert not events.send_bytes(b"x" * 5000)
        assert events.send_bytes(b"short")
        with pytest.raises(CadenzaError, match="needed for topic ticks"):
            node.publisher(TICKS)
        monkeypatch.setattr(room, "free_bytes", lambda: free)
        assert events.send_bytes(b"x" * 5000)
        assert [len(reader.receive() or b"") for _ in range(2)] == [5, 5000]
    remove_namespace(namespace)


def full(_: str) -> None:
    raise room.NoRoomError("full for a moment")


@pytest.mark.parametrize("first", [0, 1000])
def test_a_moment_without_room_mutes_nobody(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One failed try to grow, the first or a later one, used to refuse every event of the run from then on."""
    namespace = new_namespace()
    with Node(namespace, topics(ROBOT), "a") as node:
        events, reader = node.publisher(EVENTS), node.bytes_subscriber(EVENTS)
        assert not first or events.send_bytes(b"x" * first)
        assert not first or len(reader.receive() or b"") == first
        tries = []
        monkeypatch.setattr(ipc, "_AGAIN_S", math.inf)
        monkeypatch.setattr(ipc, "set_aside", lambda prefix: (tries.append(prefix), full(prefix)))
        assert not events.send_bytes(b"x" * 3000)
        with monkeypatch.context() as patch:
            if first:  # what is not backed by memory ends whoever writes there
                patch.setattr(events, "_long", SimpleNamespace(loan_slice_uninit=lambda _: pytest.fail("not backed")))
            assert all(events.send_bytes(b"FAULT") for _ in range(3))
        assert not events.send_bytes(b"x" * 3000)
        assert len(tries) == 1  # a try looks at every segment: not in every tick
        monkeypatch.setattr(ipc, "_AGAIN_S", 0.0)
        monkeypatch.setattr(ipc, "set_aside", room.set_aside)
        monkeypatch.setattr(events, "_again_s", 0.0)
        assert events.send_bytes(b"y" * 3000)
        assert events.send_bytes(b"RECOVERED")
        assert [len(reader.receive() or b"") for _ in range(6)] == [5, 5, 5, 3000, 9, 0]
    remove_namespace(namespace)


def test_room_is_made_by_powers_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text longer than all before it used to look at every segment of the run, in the tick."""
    namespace = new_namespace()
    with Node(namespace, topics(ROBOT), "control") as node:
        events = node.publisher(EVENTS)
        tries: list[str] = []
        monkeypatch.setattr(ipc, "set_aside", tries.append)
        for length in (513, 514, 1000, 1024):
            assert events.send_bytes(b"x" * length)
        assert len(tries) == 1
    remove_namespace(namespace)


def test_what_is_made_is_backed_by_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHARED_MEMORY", tmp_path)
    mine, other = tmp_path / "mine_1", tmp_path / "other_1"
    for path in (mine, other):
        with path.open("wb") as file:
            file.truncate(1_000_000)
    room.set_aside("mine_")
    assert mine.stat().st_blocks * 512 >= 1_000_000
    assert other.stat().st_blocks == 0


def test_the_estimate_covers_what_a_publisher_takes() -> None:
    table, namespace = topics(ROBOT), new_namespace()
    with Node(namespace, table, "a") as node:
        for topic in (TICKS, EVENTS, STATES, "frames/top"):
            before = _taken(namespace)
            node.publisher(topic)
            assert 0 < _taken(namespace) - before <= room.publisher_bytes(table[topic])
    remove_namespace(namespace)


def _taken(namespace: str) -> int:
    return sum(path.stat().st_size for path in room.SHARED_MEMORY.glob(f"cadenza_{namespace}*"))
