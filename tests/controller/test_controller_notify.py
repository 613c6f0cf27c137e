"""What a service manager and the journal hear, at real datagram sockets."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.journal import Journal, Priority, journalled
from controller.notify import Notify


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(address)
        link.setblocking(False)
        yield link


def heard(link: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(link.recv(65536).decode())
        except BlockingIOError:
            return messages


def test_what_is_said_arrives_by_path_and_by_abstract_name(tmp_path: Path) -> None:
    abstract = f"cadenza-test-{os.getpid()}"
    for address, bound in ((str(tmp_path / "notify"), str(tmp_path / "notify")), (f"@{abstract}", f"\0{abstract}")):
        with manager(bound) as link:
            notify = Notify.of({"NOTIFY_SOCKET": address})
            notify.ready()
            notify.status("episode 3,\n2 success")
            notify.status("episode 3,\n2 success")
            notify.stopping()
            assert heard(link) == ["READY=1", "STATUS=episode 3, 2 success", "STOPPING=1\nWATCHDOG=1"]


def test_life_signs_come_at_half_the_interval_and_only_with_new_ticks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("controller.notify.time.monotonic", lambda: now_s)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    with manager(environment["NOTIFY_SOCKET"]) as link:
        notify = Notify.of(environment)
        signs = []
        for step in range(100):
            now_s = 100.0 + 0.1 * step
            notify.beat(min(step, 50))  # from 5 s on the loop stands still
            signs += [round(now_s - 100.0, 1)] * len(heard(link))
    assert signs == [0.0, 2.0, 4.0, 6.0]  # the last tells of the ticks between 4 and 5 s


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_that_was_asked_for(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert Notify.of(environment).watchdog_s == watchdog_s


@pytest.mark.parametrize("address", ["", "@", "relative"])
def test_where_no_manager_has_an_address_nobody_is_spoken_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    monkeypatch.setattr("controller.notify.socket.socket", lambda *kind: tried.append(kind))
    notify = Notify.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    notify.ready()
    notify.beat(1)
    notify.stopping()
    assert tried == []


def test_a_manager_that_comes_late_hears_what_is_said_from_then_on(tmp_path: Path) -> None:
    """One that is not there ends nothing: each message is tried anew."""
    notify = Notify.of({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"})
    notify.ready()
    notify.beat(1)
    with manager(str(tmp_path / "notify")) as link:
        notify.stopping()
        assert heard(link) == ["STOPPING=1\nWATCHDOG=1"]


def entries(data: bytes) -> dict[str, str]:
    """A datagram of the journal's protocol, read as the journal reads it."""
    fields = {}
    while data:
        name, _, rest = data.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
            data = rest
        else:
            (size,) = struct.unpack_from("<Q", rest)
            key, value, data = name, rest[8 : 8 + size], rest[9 + size :]
        fields[key.decode()] = value.decode()
    return fields


def test_journal_lines_carry_their_fields(tmp_path: Path) -> None:
    with manager(str(tmp_path / "journal")) as link:
        journal = Journal(tmp_path / "journal")
        assert journal.write("control: FAULT\nBUS_LOST", Priority.ERROR, {"CADENZA_EPISODE": "7"})
        assert entries(link.recv(65536)) == {
            "MESSAGE": "control: FAULT\nBUS_LOST",
            "PRIORITY": "3",
            "SYSLOG_IDENTIFIER": "cadenza",
            "CADENZA_EPISODE": "7",
        }
        assert journal.write("=\n=", Priority.INFO, {})
        assert entries(link.recv(65536))["MESSAGE"] == "=\n="
    assert not journal.write("nobody there any more", Priority.INFO, {})
    journal.close()


def test_only_a_stream_that_is_the_journals_counts(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        own = os.fstat(stream.fileno())
        assert journalled({"JOURNAL_STREAM": f"{own.st_dev}:{own.st_ino}"}, stream)
        assert not journalled({"JOURNAL_STREAM": f"{own.st_dev}:{own.st_ino + 1}"}, stream)
        assert not journalled({"JOURNAL_STREAM": "what"}, stream)
        assert not journalled({}, stream)


def test_a_manager_that_could_not_be_told_hears_the_next_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do too many open files end anything, or keep the next message back."""
    refused: list[object] = []

    def refuse(*kind: object) -> None:
        refused.append(kind)
        raise OSError(24, "Too many open files")

    with manager(str(tmp_path / "notify")) as link:
        notify = Notify.of({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        with monkeypatch.context() as short_of_files:
            short_of_files.setattr("controller.notify.socket.socket", refuse)
            notify.ready()
        assert (len(refused), heard(link)) == (1, [])
        notify.stopping()
        assert heard(link) == ["STOPPING=1\nWATCHDOG=1"]
