"""Where a learner keeps what robots send: whole or not at all, whatever is cut off, replayed, altered or full."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet_kit import MUCH, anything_goes, content_of, offer
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from synthetic_episodes import write_episode

from learning.fleet.examine import Examiner, complaint
from learning.fleet.inbox import EPISODES, PARTS, RECEIVED, Inbox, Limits, Offer, Reason, RefusedError
from learning.fleet.names import one_line
from spec.errors import CadenzaError

_opened: list[Inbox] = []


@pytest.fixture(autouse=True)
def _closed_afterwards() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def inbox_in(folder: Path, limits: Limits = MUCH, verify: Callable[[Path], str] = anything_goes) -> Inbox:
    _opened.append(Inbox(folder, limits, verify))
    return _opened[-1]


def bring(inbox: Inbox, content: bytes, **names: str) -> None:
    offered = offer(content, **names)
    start = inbox.standing(offered).offset
    arrival = inbox.begin(offered, start)
    arrival.write(content[start:])
    arrival.close()
    inbox.finish(offered)


def why(inbox: Inbox, offered: Offer, offset: int = 0) -> Reason:
    with pytest.raises(RefusedError) as refused:
        inbox.begin(offered, offset)
    return refused.value.reason


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 999), max_size=6), crash=st.booleans())
def test_cut_off_anywhere_it_arrives_bit_equal(cuts: list[int], crash: bool) -> None:
    content = content_of(1000)
    with tempfile.TemporaryDirectory() as folder:
        inbox = inbox_in(Path(folder))
        for cut in sorted(cuts):
            start = inbox.standing(offer(content)).offset
            arrival = inbox.begin(offer(content), start)
            arrival.write(content[start:cut])
            arrival.close()
            assert names_in(inbox.episodes) == []
            if crash:  # nothing in memory survives
                inbox.close()
                inbox = inbox_in(Path(folder))
            assert inbox.standing(offer(content)).offset == max(start, cut)
        bring(inbox, content)
        assert (Path(folder) / EPISODES / "arm" / "one.mcap").read_bytes() == content
        assert names_in(Path(folder) / PARTS) == []
        inbox.close()


def test_a_replay_is_known_and_other_content_of_that_name_is_refused(tmp_path: Path) -> None:
    inbox, content, other = inbox_in(tmp_path), content_of(100), content_of(100, seed=1)
    bring(inbox, content)
    assert inbox.standing(offer(content)).whole
    assert why(inbox, offer(content)) is Reason.OTHER_OFFSET
    assert why(inbox, offer(other)) is Reason.OTHER_CONTENT
    assert (inbox.episodes / "arm" / "one.mcap").read_bytes() == content
    bring(inbox, other, robot="second")  # each robot has names of its own
    assert (inbox.episodes / "second" / "one.mcap").read_bytes() == other


@pytest.mark.parametrize("offset", [0, 49, 51, 100])
def test_bytes_go_on_exactly_where_the_last_ended(tmp_path: Path, offset: int) -> None:
    inbox, content = inbox_in(tmp_path), content_of(100)
    arrival = inbox.begin(offer(content), 0)
    arrival.write(content[:50])
    arrival.close()
    assert why(inbox, offer(content), offset) is Reason.OTHER_OFFSET
    bring(inbox, content)


def test_a_file_that_somebody_else_put_there_is_not_replaced(tmp_path: Path) -> None:
    inbox, content = inbox_in(tmp_path), content_of(100)
    arrival = inbox.begin(offer(content), 0)
    arrival.write(content)
    arrival.close()
    theirs = inbox.episodes / "arm" / "one.mcap"
    theirs.parent.mkdir()
    theirs.write_bytes(b"theirs")
    with pytest.raises(RefusedError, match="it is kept"):
        inbox.finish(offer(content))
    assert theirs.read_bytes() == b"theirs"


def test_two_contents_of_one_name_on_their_way_are_never_mixed(tmp_path: Path) -> None:
    inbox, content, other = inbox_in(tmp_path), content_of(100), content_of(100, seed=1)
    for each in (content, other):
        arrival = inbox.begin(offer(each), 0)
        arrival.write(each[:50])
        arrival.close()
    bring(inbox, other)
    assert (inbox.episodes / "arm" / "one.mcap").read_bytes() == other
    assert why(inbox, offer(content), 50) is Reason.OTHER_CONTENT


@pytest.mark.parametrize("altered", [b"x" + content_of(99), content_of(100, seed=1)])
def test_altered_bytes_are_refused_and_their_part_goes(tmp_path: Path, altered: bytes) -> None:
    inbox, content = inbox_in(tmp_path), content_of(100)
    arrival = inbox.begin(offer(content), 0)
    arrival.write(altered)
    arrival.close()
    with pytest.raises(RefusedError, match="altered") as refused:
        inbox.finish(offer(content))
    assert refused.value.reason is Reason.ALTERED
    assert names_in(inbox.episodes) == names_in(tmp_path / PARTS) == []
    bring(inbox, content)


def test_more_bytes_than_offered_are_not_taken(tmp_path: Path) -> None:
    inbox, content = inbox_in(tmp_path), content_of(100)
    arrival = inbox.begin(offer(content), 0)
    with pytest.raises(RefusedError, match="more bytes"):
        arrival.write(content + b"x")
    arrival.close()
    assert inbox.standing(offer(content)).offset == 0


def test_limits(tmp_path: Path) -> None:
    content = content_of(1000)
    assert why(inbox_in(tmp_path / "a", Limits(episode=999, keep_free=0)), offer(content)) is Reason.TOO_LARGE
    assert why(inbox_in(tmp_path / "b", Limits(keep_free=1 << 60)), offer(content)) is Reason.NO_ROOM
    inbox = inbox_in(tmp_path / "c", Limits(total=1500, keep_free=0))
    bring(inbox, content)
    assert why(inbox, offer(content_of(600, seed=1), episode="two")) is Reason.NO_ROOM
    bring(inbox, content_of(500, seed=1), episode="two")


def test_a_full_disk_refuses_and_keeps_what_there_is(tmp_path: Path) -> None:
    inbox, content = inbox_in(tmp_path), content_of(100)
    part = tmp_path / PARTS / "arm" / f"one.{offer(content).sha256}"
    part.parent.mkdir()
    part.symlink_to("/dev/full")  # every write ends with the kernel's ENOSPC
    arrival = inbox.begin(offer(content), 0)
    with pytest.raises(RefusedError, match="full") as refused:
        arrival.write(content)
    arrival.close()
    assert refused.value.reason is Reason.NO_ROOM
    part.unlink()
    bring(inbox, content)


def test_what_the_learner_deleted_is_not_sent_again(tmp_path: Path) -> None:
    inbox, content = inbox_in(tmp_path), content_of(100)
    bring(inbox, content)
    inbox.close()
    (tmp_path / EPISODES / "arm" / "one.mcap").unlink()
    assert inbox_in(tmp_path).standing(offer(content)).whole


@pytest.mark.parametrize("left", [b"", b'{"robot": "arm", "epis', b"[]\n1\n\xff\n"])
def test_a_crash_before_the_line_was_written_loses_nothing(tmp_path: Path, left: bytes) -> None:
    inbox, content = inbox_in(tmp_path), content_of(100)
    bring(inbox, content)
    inbox.close()
    (tmp_path / RECEIVED).write_bytes(left)
    inbox = inbox_in(tmp_path)
    assert inbox.standing(offer(content)).whole
    assert why(inbox, offer(content_of(9))) is Reason.OTHER_CONTENT
    inbox.close()
    assert (
        inbox_in(tmp_path).counts()["arm"]["episodes"] == 1
    )  # the line came whole into a file that ended in half of one


def test_one_server_a_folder(tmp_path: Path) -> None:
    first = inbox_in(tmp_path)
    with pytest.raises(CadenzaError, match="another server"):
        inbox_in(tmp_path)
    first.close()
    assert inbox_in(tmp_path).identity == first.identity


def test_parts_that_nobody_went_on_with_are_deleted(tmp_path: Path) -> None:
    inbox, content = inbox_in(tmp_path), content_of(100)
    for episode in ("old", "new"):
        arrival = inbox.begin(offer(content, episode=episode), 0)
        arrival.write(content[:10])
        arrival.close()
    old = tmp_path / PARTS / "arm" / f"old.{offer(content).sha256}"
    os.utime(old, (time.time() - 31 * 86_400,) * 2)
    inbox.close()
    inbox_in(tmp_path)
    assert [path.name.split(".")[0] for path in (tmp_path / PARTS / "arm").iterdir()] == ["new"]


@given(
    robot=st.text(max_size=8) | st.sampled_from(["..", ".", "a/b", "a\\b", "a\0", "-x", "a\n", "é"]),
    rest=st.text(max_size=4),
)
def test_only_plain_names_become_paths(robot: str, rest: str) -> None:
    sha256 = "0" * 64
    for names in ((robot, "one"), ("arm", robot), ("arm", robot + rest)):
        try:
            Offer(*names, sha256, 1)
        except RefusedError:
            continue
        for name in names:
            assert name.isascii()
            assert name[0].isalnum()
            assert not set(name) & set("/\\\0\n ")


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 63 + "/", "A" * 64, "../" + "0" * 61])
def test_only_a_digest_becomes_a_path(sha256: str) -> None:
    with pytest.raises(RefusedError):
        Offer("arm", "one", sha256, 1)


def test_an_episode_is_read_before_it_is_taken(tmp_path: Path) -> None:
    whole = write_episode(tmp_path, 3, steps=3).read_bytes()
    assert complaint(tmp_path / "demo-00003.mcap") == ""
    inbox = inbox_in(tmp_path / "inbox", verify=complaint)
    bring(inbox, whole)
    unsound = {
        "cut": whole[:-20],
        "turned": whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :],
        "zeros": bytes(1000),
        "pickle": b"\x80\x04\x95" + whole,
    }
    for name, content in unsound.items():
        with pytest.raises(RefusedError) as refused:
            bring(inbox, content, episode=name)
        assert refused.value.reason is Reason.UNSOUND, name
    assert names_in(inbox.episodes) == ["one.mcap"]
    assert names_in(tmp_path / "inbox" / PARTS) == []


def test_what_a_file_says_of_itself_cannot_write_to_a_terminal() -> None:
    assert one_line("a\x1b[2Jb\nc\x07\u202e  d") == "a?[2Jb c?? d"


def test_a_file_that_would_fill_the_memory_harms_nobody(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.mcap"
    with bomb.open("wb") as file:
        writer = Writer(file, chunk_size=1 << 20, compression=CompressionType.LZ4)
        writer.start()
        schema = writer.register_schema("x", "protobuf", b"")
        channel = writer.register_channel("t", "protobuf", schema)
        writer.add_message(channel, 0, bytes(300 << 20), 0)
        writer.finish()
    assert bomb.stat().st_size < 2 << 20
    whole = write_episode(tmp_path, 1, steps=2)
    examiner = Examiner(memory=256 << 20)
    assert [examiner(file) == "" for file in (whole, bomb, whole)] == [True, False, True]
    examiner._process.kill()  # type: ignore[union-attr]
    assert examiner(whole) == ""
    examiner.close()
    hurried = Examiner(time_s=0.0)
    assert "time" in hurried(whole)
    hurried.close()
