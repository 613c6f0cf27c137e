"""A case from a file: all that a campaign draws is taken, and all else is refused in one line before anything moves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cadenza.cli import main
from cadenza.faults.cases import Case, Setting, Trouble, read_case, write_case
from cadenza.faults.drawing import draw_case
from cadenza.faults.kinds import KINDS, LIVE_KINDS


def test_every_case_that_is_drawn_is_read_back() -> None:
    cases = [draw_case(7, number) for number in range(1500)]
    assert {trouble.kind for case in cases for trouble in case.troubles} == {*KINDS, *LIVE_KINDS}
    for case in cases:
        assert Case.of(json.loads(json.dumps(case.as_dict()))) == case


def _content(**changed: Any) -> bytes:
    """Of a file with one fault, some of it changed."""
    trouble: dict[str, Any] = {"kind": "chunk_nonfinite", "at_s": 1.5, "for_s": 0.1}
    trouble["values"] = {"joint": 2, "value": "nan"}
    case: dict[str, Any] = {"number": 3, "seed": 5, "setting": "lockstep", "person": None, "troubles": [trouble]}
    for name, value in changed.items():
        (case if name in case else trouble)[name] = value
    return json.dumps({"case": case}).encode()


UNPLUGGED = {"kind": "unplug", "at_s": 1.0, "for_s": 0.1, "values": {}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(_content(seed=-5), "case.seed: -5", id="was a traceback of numpy's"),
        pytest.param(_content(number=-1), "case.number: -1", id="and so was this"),
        pytest.param(_content(at_s=float("nan")), "case.troubles.0.at_s: nan", id="was a traceback, at the end"),
        pytest.param(_content(for_s=float("inf")), "case.troubles.0.for_s: inf", id="was a case without end"),
        pytest.param(_content(at_s=-1.0), "case.troubles.0.at_s: -1.0", id="before it began"),
        pytest.param(_content(at_s=1e6), "case.troubles.0.at_s: 1000000.0", id="would take days"),
        pytest.param(_content(values={"joint": 2, "value": "x"}), "'x'", id="was a ValueError in the middle"),
        pytest.param(_content(values={"joint": 6, "value": "nan"}), "6", id="was an IndexError"),
        pytest.param(_content(values={"joint": None, "value": "nan"}), "without joint", id="was a TypeError"),
        pytest.param(_content(values={"joint": 1}), "without value", id="says too little"),
        pytest.param(_content(values=[]), "case.troubles.0.values: []", id="no mapping"),
        pytest.param(_content(kind="loss", values={"share": float("nan")}), "nan", id="was silently no loss"),
        pytest.param(_content(kind="chunk_range"), "without side", id="of another kind"),
        pytest.param(_content(kind="k" * 5000), "no fault of the kind kkk", id="no kind"),
        pytest.param(_content(person=[float("nan"), 1]), "case.person.0: nan", id="was a verdict that was wrong"),
        pytest.param(_content(person=[2.0, 1.0]), "before the second", id="gives back before taking"),
        pytest.param(_content(troubles=17 * [UNPLUGGED]), "at most 16", id="no end of faults"),
        pytest.param(b"[" * 50_000 + b"]" * 50_000, "nested too deeply", id="was a RecursionError"),
        pytest.param(bytes(range(128, 256)) * 100, "can't decode byte", id="was printed whole"),
        pytest.param(b"[1]", "case: None", id="no mapping at all"),
        pytest.param(b"{" + b" " * 200_000 + b"}", "more than 100000 bytes", id="no case has that much to say"),
    ],
)
def test_what_is_no_case_is_refused_in_a_line(
    content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, which some gave, means that the arm broke a verdict."""
    path = tmp_path / "case.json"
    path.write_bytes(content)
    assert main(["bench", "faults", "--case", str(path)]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert len(said.err) < 1000 + len(str(path))


def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "case.json")
    assert main(["bench", "faults", "--case", str(tmp_path / "case.json")]) == 2
    assert "not a regular file" in capsys.readouterr().err


def test_a_case_survives_its_file(tmp_path: Path) -> None:
    case = Case(3, 5, Setting.LOCKSTEP, (Trouble("chunk_range", 1.5, 0.5, {"joint": 1, "side": "-"}),), (1.0, 2.0))
    write_case(case, ["limits: beyond"], tmp_path / "case.json")
    assert read_case(tmp_path / "case.json") == case
