"""What systemd makes of the lines of a unit: every path arrives as it is, and no name swallows or adds a line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_bundle import write_tiny_bundle

from cadenza.cli import main
from cadenza.service.unit import Unit, quoted
from spec.robotfile import load_robot

_WORD = re.compile(rb'(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?:\s+|$)', re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|([0-7]{3})|(.))", re.DOTALL)
NAMED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
ODD = ["a  b", "end\\", "end ", "\u00a0", "\u200b", "\udcff", "\ufffe", "$HOME ${x}", "100%", "'\"", ";", "é", "\t"]
"""The first six went into a unit as the names of other files."""

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.just("\udcff"), max_size=12)


def words(line: bytes) -> list[str]:
    """A command line as systemd.syntax(7) has it read; each $$ is one $ (systemd.service(5))."""

    def meant(escape: re.Match[bytes]) -> bytes:
        byte, octal, letter = escape.groups()
        if letter is not None:
            return NAMED.get(letter, letter)
        return bytes([int(byte, 16) if byte is not None else int(octal, 8)])

    found = [quoted if quoted is not None else plain for quoted, plain in _split(line)]
    return [os.fsdecode(_ESCAPE.sub(meant, word).replace(b"$$", b"$")) for word in found]


def _split(line: bytes) -> list[tuple[bytes | None, bytes]]:
    parts, at = [], 0
    while at < len(line):
        match = _WORD.match(line, at)
        assert match is not None, line[at:]
        parts.append((match[1], match[2]))
        at = match.end()
    return parts


def unit_of(name: str = "koch", folder: str = "/", *argv: str) -> dict[str, str]:
    """The lines of a unit, by key, after systemd joined those that end in a backslash."""
    text = Unit(name, ("/bin/true", *argv), Path(folder), 20.0, 80, "root").text()
    lines = re.sub(r"\\\n", " ", text).split("\n")
    return dict(line.strip(" \t").split("=", 1) for line in lines if "=" in line)


@given(names)
@example("a b;c")
def test_every_word_of_a_command_line_arrives(word: str) -> None:
    written = quoted(word)
    assert written.isprintable()
    assert words(written.encode().replace(b"%%", b"%")) == [word]


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=12))
@example("a  b")
@example("end\\")
@example("end ")
@example("100%")
def test_the_folder_of_a_run_arrives(name: str) -> None:
    """`a  b` was `a b`, another folder; `end\\` took the line after it, and the environment was not set."""
    unit = unit_of("koch", f"/x/{name}")
    assert os.path.normpath(unit["WorkingDirectory"].replace("%%", "%")) == os.path.normpath(f"/x/{name}")
    assert unit["Environment"] == "PYTHONUNBUFFERED=1"


@given(names)
@example("koch\\")
@example("koch\x00ExecStartPre=/bin/x")  # systemd ends a line there
@example("koch\nExecStartPre=/bin/x")
def test_a_name_is_one_line_of_a_unit_and_no_more(name: str) -> None:
    unit = unit_of(name)
    assert unit.keys() == unit_of().keys()
    assert unit["Description"].isprintable()
    assert unit["StartLimitIntervalSec"] == "600"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_reads_it_so(tmp_path: Path) -> None:
    """The reader above believes what systemd does: it prints what it understood."""
    folder = tmp_path / "a  b $x 100% é\\"
    folder.mkdir()
    unit = tmp_path / "cadenza-test.service"
    unit.write_text(Unit("koch\\", ("/bin/true", *ODD), folder, 20.0, 80, "root").text())
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    environment = {"PATH": "/usr/bin:/bin", "SYSTEMD_LOG_LEVEL": "debug", "HOME": str(tmp_path)}
    told = subprocess.run(command, capture_output=True, check=False, env=environment)
    understood = told.stdout + told.stderr
    assert b"\tDescription: Cadenza (koch\\)\n" in understood
    assert f"\tWorkingDirectory: {folder}\n".encode() in understood
    assert b"\tEnvironment: PYTHONUNBUFFERED=1\n" in understood
    lines = re.findall(rb"\tCommand Line: (/bin/true .*)\n", understood)
    assert [words(line) for line in lines] == [["/bin/true", *ODD]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "bundle", load_robot(Path("robots/virtual.yaml")).follower.names)
    return tmp_path / "bundle"


@pytest.mark.parametrize("odd", ['q"x', "q'x", "end\\/x", "$HOME", "new\nline"])
def test_a_program_that_systemd_does_not_start_is_refused(
    odd: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", f"/opt/{odd}/python")
    assert main(["service", "show", "--bundle", str(bundle)]) == 2
    said = capsys.readouterr()
    assert "systemd starts no program of such a name" in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_what_the_machine_still_starts_is_not_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The advice to disable it came when systemctl found nothing to disable any more."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "systemd/user/arm2.service"
    wants = path.parent / "default.target.wants"
    wants.mkdir(parents=True)
    path.touch()
    (wants / "arm2.service").symlink_to(path)
    command = ["service", "uninstall", "--user", "--name", "arm2"]
    assert main(command) == 2
    assert capsys.readouterr().err.endswith("is still enabled; first systemctl --user disable --now arm2\n")
    assert path.exists()
    (wants / "arm2.service").unlink()
    assert main(command) == 0
    assert "systemctl --user stop arm2\n  systemctl --user daemon-reload\n" in capsys.readouterr().out
    assert not path.exists()
