"""Printing that cannot fail."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from cadenza.unread import never_mind_the_reader


def test_what_is_read_arrives_in_order_and_in_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w", encoding="ascii", errors="replace"))
    print("before", flush=True)
    with never_mind_the_reader():
        print("µs …")
    print("after", flush=True)
    heard = os.read(reader, 100)
    sys.stdout.close()
    os.close(reader)
    assert heard == b"before\n?s ?\nafter\n"


def test_a_reader_that_leaves_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w", encoding="ascii"))
    before = sys.stdout
    with never_mind_the_reader() as lost:
        print("heard")
        os.close(reader)
        for _ in range(3):
            print("unheard" * 10_000)
    after = sys.stdout
    print("what comes then", flush=True)
    leads_to = os.fstat(writer).st_rdev
    sys.stdout.close()
    assert after is before
    assert lost == []
    assert leads_to == Path(os.devnull).stat().st_rdev


def test_a_disk_that_is_full_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with never_mind_the_reader() as lost:
            print("x" * 10_000)
        monkeypatch.undo()
    assert [error.errno for error in lost] == [errno.ENOSPC]


def test_a_terminal_that_takes_no_more_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w", encoding="ascii"))
    with never_mind_the_reader() as lost:
        for _ in range(30):
            print("x" * 10_000)
    stream = sys.stdout
    monkeypatch.undo()
    os.close(reader)
    stream.close()
    assert lost == []


def test_streams_that_are_none_or_no_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    monkeypatch.setattr(sys, "stderr", None)
    with never_mind_the_reader():
        seen = sys.stdout, sys.stderr
    monkeypatch.undo()
    assert seen == (text, None)
