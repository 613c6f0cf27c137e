"""A robot and a learner on two machines: every closed episode gets there once and bit-equal, and no bundle that is not
whole, sound and newer ever lies where the daemon looks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_kit import MUCH, SHARED, Running, anything_goes, running
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import write_tiny_bundle

from cadenza.cli import main
from cadenza.shelf_copy import ShelfCopy
from cadenza.syncing import Sending, keep_on
from episodes.outcome import Outcome
from episodes.reader import read_episode
from episodes.records import TickRecord
from episodes.rewrite import relabel
from episodes.writer import EpisodeWriter, Header
from export.bundle import Bundle, read_bundle
from export.publishing import ShelfPublisher
from export.shelf import NEWEST_FILE, bundle_name, offer, open_newest, read_newest
from learning.fleet.client import Link, LinkError, StoppedError
from learning.fleet.inbox import Inbox
from learning.fleet.outbox import JOURNAL, Outbox
from spec.errors import SpecError
from spec.manifest import MANIFEST_FILE
from spec.robot import Robot
from spec.robotfile import load_robot


@pytest.fixture(autouse=True)
def _tests_stay_as_urgent_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cadenza.commands.sync.give_way", lambda *_: None)


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"))


def record(robot: Robot, path: Path, pictures: int = 0) -> Path:
    """A short episode; pictures of 100 kB make it long."""
    with EpisodeWriter(path, Header(robot)) as writer:
        for tick in range(20):
            writer.tick(TickRecord(tick=tick, now_ns=1 + tick * 5_000_000, joints=6, chunk=-1))
        for number in range(pictures):
            writer.frame("top", os.urandom(100_000), 1 + number, number)
        writer.close(Outcome.SUCCESS)
    return path


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[Running]:
    with running(Inbox(tmp_path / "inbox", MUCH, anything_goes), tmp_path / "shelf") as learner:
        yield learner


def arrived(learner: Running) -> list[bytes]:
    return [path.read_bytes() for path in sorted(learner.inbox.episodes.glob("*/*"))]


class Robotside:
    """Sends one folder, and remembers what it reported."""

    def __init__(self, folder: Path, settle_s: float = 0.0) -> None:
        self.events: list[dict[str, Any]] = []
        self.sending = Sending("arm", [Outbox(folder, settle_s)], self.events.append)

    def send(self, learner: Running) -> list[str]:
        self.events.clear()
        with learner.link() as link:
            self.sending.once(link)
        return [event["event"] for event in self.events]


# Episodes


def test_closed_episodes_arrive_once_bit_equal_and_in_order(robot: Robot, learner: Running, tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    recorded = [record(robot, folder / f"episode-{number:06d}.mcap") for number in (2, 0, 1)]
    other_run = record(robot, tmp_path / "later" / "episodes" / "episode-000000.mcap")
    unfinished = EpisodeWriter(folder / "episode-000003.mcap", Header(robot))
    record(robot, folder / "discarded" / "episode-000009.mcap")
    (folder / ".episode-000000.mcap.relabelling").write_bytes(b"half")
    side = Robotside(folder)
    assert side.send(learner) == ["sent"] * 3
    assert [Path(event["file"]) for event in side.events] == recorded
    assert side.send(learner) == []
    assert Robotside(other_run.parent).send(learner) == ["sent"]  # a name that was there already, in another run
    assert arrived(learner) == [path.read_bytes() for path in (*recorded, other_run)]
    recorded.append(unfinished.close())
    assert side.send(learner) == ["sent"]
    assert len(arrived(learner)) == 5


@pytest.mark.parametrize("journal", [None, b"", b'{"server": "x"', b"\xff\x00\n[]\n{}\n" + b'{"server":'])
def test_losing_the_journal_costs_only_asking_again(
    robot: Robot, learner: Running, tmp_path: Path, journal: bytes | None
) -> None:
    folder = tmp_path / "episodes"
    record(robot, folder / "a.mcap")
    assert Robotside(folder).send(learner) == ["sent"]
    assert Robotside(folder).send(learner) == []
    path = folder / JOURNAL
    path.unlink() if journal is None else path.write_bytes(journal)
    assert Robotside(folder).send(learner) == ["there already"]
    assert Robotside(folder).send(learner) == []


def test_another_learner_gets_everything_anew(robot: Robot, learner: Running, tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    record(robot, folder / "a.mcap")
    assert Robotside(folder).send(learner) == ["sent"]
    with running(Inbox(tmp_path / "second", MUCH, anything_goes)) as second:
        assert Robotside(folder).send(second) == ["sent"]
        assert arrived(second) == arrived(learner)


def test_a_label_given_after_it_was_sent_is_reported_and_harms_nothing(
    robot: Robot, learner: Running, tmp_path: Path
) -> None:
    episode = record(robot, tmp_path / "episodes" / "a.mcap")
    sent = episode.read_bytes()
    side = Robotside(episode.parent)
    assert side.send(learner) == ["sent"]
    relabel(episode, Outcome.FAIL)
    assert side.send(learner) == ["rejected"]
    assert "another content" in side.events[0]["why"]
    assert side.send(learner) == []
    assert arrived(learner) == [sent]


def test_it_waits_a_while_for_a_label(robot: Robot, learner: Running, tmp_path: Path) -> None:
    episode = record(robot, tmp_path / "episodes" / "a.mcap")
    side = Robotside(episode.parent, settle_s=3600.0)
    assert side.send(learner) == []
    for written in (time.time() - 3601, time.time() + 86_400):  # a clock that was set back keeps nothing for ever
        os.utime(episode, (written, written))
        assert len(side.send(learner)) == 1


def test_what_is_no_episode_is_named_and_keeps_nobody_waiting(robot: Robot, learner: Running, tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    whole = record(robot, folder / "whole.mcap")
    (folder / "empty.mcap").touch()
    (folder / "text.mcap").write_text("no episode")
    for name in ("empty", "text"):
        os.utime(folder / f"{name}.mcap", (1, 1))
    side = Robotside(folder)
    assert sorted(side.send(learner)) == ["rejected", "rejected", "sent"]
    assert arrived(learner) == [whole.read_bytes()]
    with learner.link() as link:
        assert sorted(side.sending.rejected(link)) == [str(folder / "empty.mcap"), str(folder / "text.mcap")]


def test_an_episode_that_is_held_up_does_not_hold_up_the_others(robot: Robot, learner: Running, tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    for name in ("a", "b"):
        record(robot, folder / f"{name}.mcap")

    class Altering(Link):
        def send(self, parcel: Any, file: Any, offset: int, sent: Callable[[int], None]) -> Any:
            if parcel.episode.endswith("a") and not altered:
                altered.append(parcel.episode)
                file = (tmp_path / "noise").open("rb")
                with file:
                    return super().send(parcel, file, offset, sent)
            return super().send(parcel, file, offset, sent)

    altered: list[str] = []
    (tmp_path / "noise").write_bytes(os.urandom((folder / "a.mcap").stat().st_size))
    side = Robotside(folder)
    with Altering(learner.url, lambda: SHARED) as link:
        with pytest.raises(LinkError, match="altered"):
            side.sending.once(link)
        assert [event["file"] for event in side.events] == [str(folder / "b.mcap")]
        side.sending.once(link)
    assert len(arrived(learner)) == 2


# Trouble


def test_trouble_is_told_once_and_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[dict[str, Any]] = []
    waits: list[float] = []
    outcomes = iter([LinkError("away")] * 12 + [OSError(28, "full"), None, LinkError("away"), StoppedError("end")])

    def task() -> None:
        if (outcome := next(outcomes)) is not None:
            raise outcome

    class Clockless(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    monkeypatch.setattr("cadenza.syncing.random.uniform", lambda _low, high: high)
    keep_on(task, "sending", 2.0, Clockless(), events.append)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 2, 1]
    assert [event["event"] for event in events] == ["trouble", "trouble", "well again", "trouble"]


# Bundles


class Nearby:
    """A learner's shelf without a network; every file breaks off after ``cut`` bytes."""

    def __init__(self, shelf: Path, cut: int = 1 << 40) -> None:
        self.shelf, self.cut = shelf, cut

    def newest(self, _known: str, _wait_s: int) -> tuple[bytes, str] | None:
        path = self.shelf / NEWEST_FILE
        return (path.read_bytes(), "tag") if path.exists() else None

    def fetch(self, bundle: str, name: str, target: Path, limit: int) -> None:
        have = target.stat().st_size if target.exists() else 0
        rest = (self.shelf / bundle / name).read_bytes()[have:]
        assert have + len(rest) <= limit
        with target.open("ab") as file:
            file.write(rest[: self.cut])
        if len(rest) > self.cut:
            raise LinkError("cut off")


def put(shelf: Path, weights: int, ramp: float = 0.01, rollback: bool = False) -> Bundle:
    """Offer a bundle of that version."""
    folder = shelf / bundle_name(weights)
    write_tiny_bundle(folder, ("a", "b"), ramp=ramp)
    manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
    (folder / MANIFEST_FILE).write_text(json.dumps({**manifest, "weights": weights}))
    bundle = read_bundle(folder)
    offer(shelf, bundle, rollback)
    return bundle


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_bundle_comes_whole_over_the_link(learner: Running, tmp_path: Path) -> None:
    copy = ShelfCopy(tmp_path / "copy")
    with learner.link() as link:
        assert copy.follow(link) is None
        bundle = put(tmp_path / "shelf", 3)
        newest = copy.follow(link)
        assert newest is not None
        assert content(open_newest(tmp_path / "copy", newest).folder) == content(bundle.folder)
        assert copy.follow(link) is None
        assert ShelfCopy(tmp_path / "copy").follow(link) is None  # after a restart
        (tmp_path / "copy" / "weights-000003" / "decoder.onnx").write_bytes(b"damaged by the disk")
        assert ShelfCopy(tmp_path / "copy").follow(link) == newest
        open_newest(tmp_path / "copy", newest)


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 3000), max_size=8))
def test_cut_off_anywhere_nothing_half_is_ever_offered(cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shelf, copied = Path(folder) / "shelf", Path(folder) / "copy"
        first = put(shelf, 1)
        ShelfCopy(copied).follow(Nearby(shelf))  # type: ignore[arg-type]
        second = put(shelf, 2, ramp=0.02)
        for cut in cuts:
            with contextlib.suppress(LinkError):
                ShelfCopy(copied).follow(Nearby(shelf, cut))  # type: ignore[arg-type]
            newest = read_newest(copied)
            assert newest is not None
            expected = {1: first, 2: second}[newest.weights]
            assert content(open_newest(copied, newest).folder) == content(expected.folder)
        ShelfCopy(copied).follow(Nearby(shelf))  # type: ignore[arg-type]
        assert content(copied / second.folder.name) == content(second.folder)
        assert sorted(path.name for path in copied.iterdir()) == [NEWEST_FILE, "weights-000001", "weights-000002"]


def _cut_file(shelf: Path) -> None:
    path = shelf / "weights-000002" / "decoder.onnx"
    path.write_bytes(path.read_bytes()[:-1])


def _turn_a_bit(shelf: Path) -> None:
    path = shelf / "weights-000002" / "decoder.onnx"
    altered = bytearray(path.read_bytes())
    altered[100] ^= 1
    path.write_bytes(altered)


def _alter_the_manifest(shelf: Path) -> None:
    path = shelf / "weights-000002" / MANIFEST_FILE
    path.write_text(path.read_text().replace('"tiny"', '"evil"'))


def _name(key: str, value: Any) -> Callable[[Path], None]:
    def alter(shelf: Path) -> None:
        path = shelf / NEWEST_FILE
        path.write_text(json.dumps({**json.loads(path.read_bytes()), key: value}))

    return alter


def _no_json(shelf: Path) -> None:
    (shelf / NEWEST_FILE).write_bytes(b"[" * 100_000)


FAULTS = [_cut_file, _turn_a_bit, _alter_the_manifest, _no_json]
FAULTS += [_name("bundle", name) for name in ("../weights-000002", ".", "", "newest.json", "a\0b", "x" * 300)]
FAULTS += [_name("weights", 3), _name("weights", "x"), _name("sha256", "0" * 64), _name("more", 1)]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_what_is_not_sound_never_lies_where_the_daemon_looks(tmp_path: Path, fault: Callable[[Path], None]) -> None:
    shelf, copied = tmp_path / "shelf", tmp_path / "copy"
    put(shelf, 1)
    copy = ShelfCopy(copied)
    newest = copy.follow(Nearby(shelf))  # type: ignore[arg-type]
    put(shelf, 2, ramp=0.02)
    fault(shelf)
    for _ in range(2):
        with pytest.raises((SpecError, LinkError)):
            copy.follow(Nearby(shelf))  # type: ignore[arg-type]
    assert read_newest(copied) == newest
    assert [path.name for path in copied.glob("weights-*")] == ["weights-000001"]
    put(shelf, 2, ramp=0.02)
    assert copy.follow(Nearby(shelf)) is not None  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "shelf"]


def test_the_version_goes_back_only_when_the_learner_says_so(tmp_path: Path) -> None:
    shelf, copied = tmp_path / "shelf", tmp_path / "copy"
    nearby: Any = Nearby(shelf)
    copy = ShelfCopy(copied)
    older = put(shelf, 4)
    put(shelf, 5)
    assert copy.follow(nearby) is not None
    offer(shelf, older)
    with pytest.raises(SpecError, match="rollback"):
        copy.follow(nearby)
    put(shelf, 5, ramp=0.05)
    with pytest.raises(SpecError, match="another bundle of that version"):
        copy.follow(nearby)
    offer(shelf, older, rollback=True)
    newest = copy.follow(nearby)
    assert newest is not None
    assert (newest.weights, newest.rollback) == (4, True)
    assert read_newest(copied) == newest
    put(shelf, 6)
    assert copy.follow(nearby) is not None


def test_an_operator_has_all_robots_go_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf, nearby = tmp_path / "shelf", Nearby(tmp_path / "shelf")
    copy = ShelfCopy(tmp_path / "copy")
    for weights in (1, 2):
        put(shelf, weights)
    copy.follow(nearby)  # type: ignore[arg-type]
    command = ["learn", "offer", "--bundles", str(shelf)]
    assert main([*command, "--weights", "3"]) == 2
    assert "valid: 1, 2" in capsys.readouterr().err
    (shelf / "weights-000001" / "decoder.onnx").write_bytes(b"damaged")
    assert main([*command, "--weights", "1"]) == 2
    put(shelf, 1)
    put(shelf, 2)
    assert main([*command, "--weights", "1"]) == 0
    assert "a rollback" in capsys.readouterr().out
    copy.follow(nearby)  # type: ignore[arg-type]
    newest = read_newest(tmp_path / "copy")
    assert newest is not None
    assert newest.weights == 1
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"] == [1, 2]


def test_forward_again_but_not_to_the_highest_is_a_rollback_still(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A robot that was away while 1 was on offer would keep its 3; a learner that resumes would offer 3 again."""
    shelf, nearby = tmp_path / "shelf", Nearby(tmp_path / "shelf")
    copy = ShelfCopy(tmp_path / "copy")
    for weights in (1, 2, 3):
        put(shelf, weights)
    copy.follow(nearby)  # type: ignore[arg-type]
    for weights, back in ((1, True), (2, True), (3, False), (2, True)):
        assert main(["learn", "offer", "--bundles", str(shelf), "--weights", str(weights), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["newest"]["rollback"] is back
    assert ShelfPublisher(shelf).newest() == 3
    newest = copy.follow(nearby)  # type: ignore[arg-type]
    assert newest is not None
    assert newest.weights == 2


def test_old_bundles_make_room(tmp_path: Path) -> None:
    shelf, copied = tmp_path / "shelf", tmp_path / "copy"
    nearby: Any = Nearby(shelf)
    foreign = copied / "weights-of-mine"
    foreign.mkdir(parents=True)
    (copied / "weights-000000").mkdir()
    (copied / "weights-000000" / "thesis.txt").write_text("not a bundle")
    copy = ShelfCopy(copied, keep=2)
    for weights in range(1, 5):
        put(shelf, weights)
        copy.follow(nearby)
    kept = ["newest.json", "weights-000000", "weights-000003", "weights-000004", "weights-of-mine"]
    assert sorted(path.name for path in copied.iterdir()) == kept
    offer(shelf, read_bundle(shelf / "weights-000001"), rollback=True)
    copy.follow(nearby)
    assert {path.name for path in copied.glob("weights-00000[1-9]")} == {"weights-000001", "weights-000004"}


def test_no_room_on_the_robot_is_trouble_before_anything_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "shelf", 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("cadenza.shelf_copy.shutil.disk_usage", lambda _path: usage._replace(free=1 << 20))
    with pytest.raises(LinkError, match="no room"):
        ShelfCopy(tmp_path / "copy").follow(Nearby(tmp_path / "shelf"))  # type: ignore[arg-type]
    assert read_newest(tmp_path / "copy") is None


# The commands


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """``cadenza learn serve`` as a process of its own, and what it said first."""
    command = [sys.executable, "-m", "cadenza", "learn", "serve", "--json", "--keep-free-gb", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def events_of(output: str) -> list[str]:
    return [json.loads(line)["event"] for line in output.splitlines()]


def test_end_to_end_through_a_killed_server(
    robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = record(robot, tmp_path / "episodes" / "a.mcap", pictures=20)
    bundle = put(tmp_path / "shelf", 1)
    out = tmp_path / "fleet"
    serve = ["--out", str(out), "--bundles", str(tmp_path / "shelf"), "--port"]
    with serving(*serve, "0") as (server, facts):
        url = facts["url"]
        sender = threading.Thread(target=_send_slowly, args=(url, out / "token", episode.parent))
        sender.start()
        parts = out / "parts"
        while sum(part.stat().st_size for part in parts.glob("*/*")) < 500_000:
            time.sleep(0.005)
        os.kill(server.pid, signal.SIGKILL)
        sender.join()
    (part,) = parts.glob("*/*")
    assert 500_000 <= part.stat().st_size < episode.stat().st_size
    assert not list((out / "episodes").glob("*/*"))
    monkeypatch.setenv("CADENZA_TOKEN", (out / "token").read_text().strip())
    sync = ["sync", "--episodes", str(episode.parent), "--bundles", str(tmp_path / "copy"), "--name", "arm", "--once"]
    with serving(*serve, "0") as (_, facts):
        begun = part.stat().st_size
        assert main([*sync, "--server", facts["url"], "--settle-s", "0", "--json"]) == 0
        assert events_of(capsys.readouterr().out) == ["fetched", "sent", "done"]
        (taken,) = (out / "episodes").glob("arm/*")
        assert taken.read_bytes() == episode.read_bytes()
        assert read_episode(taken).outcome is Outcome.SUCCESS
        assert begun > 0
        newest = read_newest(tmp_path / "copy")
        assert newest is not None
        assert content(open_newest(tmp_path / "copy", newest).folder) == content(bundle.folder)
        (episode.parent / "text.mcap").write_text("no episode")
        assert main([*sync, "--server", facts["url"], "--settle-s", "0"]) == 1
        assert "text.mcap: rejected" in capsys.readouterr().out
    assert main([*sync, "--server", facts["url"]]) == 2
    assert facts["url"] in capsys.readouterr().err


def _send_slowly(url: str, token: Path, folder: Path) -> None:
    secret = token.read_text().strip()
    sending = Sending("arm", [Outbox(folder)], lambda _event: None)
    with Link(url, lambda: secret, bytes_per_s=2e6) as link, contextlib.suppress(LinkError):
        sending.once(link)


REFUSED = {
    "--server http://192.0.2.1:8470": "--plain-http",
    "--server learner": "--server",
    "--server https://a..b": "--server",
    "--server https://127.0.0.1:1 --ca nowhere.pem": "--ca",
    "--server https://127.0.0.1:1 --settle-s -1": "--settle-s",
    "--server https://127.0.0.1:1 --limit-kb-s 0": "--limit-kb-s",
    "--server https://127.0.0.1:1 --name ../x": "--name",
    "--server https://127.0.0.1:1 --token-file nowhere": "nowhere",
}


@pytest.mark.parametrize(("arguments", "names"), REFUSED.items())
def test_sync_refuses_in_one_line(
    tmp_path: Path,
    arguments: str,
    names: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CADENZA_TOKEN", "a-token-of-the-tests")
    assert main(["sync", "--episodes", str(tmp_path), *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert names in error


def test_serve_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("a-token-of-the-tests")
    (tmp_path / "token").chmod(0o644)
    out = ["learn", "serve", "--out", str(tmp_path)]
    for arguments, names in {
        "": "chmod 600",
        f"--token-file {tmp_path}/token/below": "below",
        "--tls-cert c.pem": "both",
        "--tls-cert c.pem --tls-key k.pem": "c.pem",
        "--max-episode-gb -1": "--max-episode-gb",
        "--max-episode-gb 0": "--max-episode-gb",
        "--port 70000": "--port",
        f"--token-file {tmp_path}/good --host 192.0.2.1": "cannot listen",
        f"--token-file {tmp_path}/good --host no.such.host.invalid": "cannot listen",
        f"--token-file {tmp_path}/good --host a..b": "cannot listen",
    }.items():
        assert main([*out, *arguments.split()]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert names in error
