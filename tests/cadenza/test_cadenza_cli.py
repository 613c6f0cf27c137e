"""The front door."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cadenza.arguments import split_robot_overrides
from cadenza.cli import COMMANDS, main
from cadenza.commands import bench
from spec.errors import SpecError


def test_an_unknown_command_is_refused_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == 2
    assert "'fly': no such command (valid: run, collect" in capsys.readouterr().err


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(f"  {name} " in overview for name in COMMANDS)
    assert all(what in COMMANDS["bench"][1] for what in bench._WHAT)


WITH_VERBS = {
    "learn": ("warmup", "eval"),
    "calibrate": ("joints", "takeover"),
    "episodes": ("list", "info", "check", "recover", "label", "prune", "export"),
    "bench": ("takeover", "faults", "soak", "fuzz"),
}
EVERY = [(name, verb) for name in COMMANDS for verb in WITH_VERBS.get(name, (None,))]


@pytest.mark.parametrize(("command", "verb"), EVERY)
def test_every_command_explains_itself_with_an_example(
    command: str, verb: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command] if verb is None else [command, verb]
    with pytest.raises(SystemExit) as done:
        main([*words, "--help"])
    assert done.value.code == 0
    usage, _, explained = capsys.readouterr().out.partition("\n")
    assert " ".join(words) in usage
    assert f"cadenza {' '.join(words)} " in explained


@pytest.mark.parametrize("command", sorted(WITH_VERBS))
def test_a_command_with_verbs_lists_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in WITH_VERBS[command])


def test_overrides_leave_the_other_arguments() -> None:
    rest, overrides = split_robot_overrides(["--config", "x", "--robot.a.b", "1", "--robot.c=2", "--json"])
    assert rest == ["--config", "x", "--json"]
    assert overrides == {"a.b": "1", "c": "2"}


def test_an_override_without_value_is_refused() -> None:
    with pytest.raises(SpecError, match=r"--robot\.a"):
        split_robot_overrides(["--robot.a"])


@pytest.mark.parametrize("module", ["controller.loop", "controller.supervisor", "cadenza.commands.run", "drivers.arm"])
def test_the_robot_pc_never_imports_torch(module: str) -> None:
    check = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m cadenza run --help | head -n 1"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("usage: cadenza run")
    assert shown.stderr == ""


def test_what_the_file_system_refuses_is_one_line(tmp_path: Path) -> None:
    """In a process of its own: the virtual arm takes real-time priority, which the tests after it would inherit."""
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "cadenza", "sim", "--ready-file", str(tmp_path / "file" / "ready.json")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert str(tmp_path / "file") in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--out", ""],
        ["run", "--out="],
        ["doctor", "--write_udev", ""],
        ["episodes", "info", ""],
        ["episodes", "list", "runs", ""],
        ["export", "", "--out", "c"],
    ],
)
def test_an_empty_path_is_no_folder(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unset variable of a shell: it was taken for the folder one stands in."""
    assert main(words) == 2
    assert "PATH: '': is empty" in capsys.readouterr().err


def test_a_full_disk_is_one_line_though_it_says_no_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cadenza.commands.learn.main", full)
    assert main(["learn", "online"]) == 2
    assert capsys.readouterr().err == "cadenza learn: No space left on device\n"


@pytest.mark.parametrize("words", [["--help"], ["doctor", "--help"], ["status", "--help"]])
def test_a_full_disk_behind_standard_output_is_one_line(words: list[str]) -> None:
    """It was a traceback, or Python's complaint while it closed the stream, with exit status 120."""
    command = [sys.executable, "-m", "cadenza", *words]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
    assert done.stderr == f"cadenza{'' if words[0] == '--help' else ' ' + words[0]}: No space left on device\n"
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("raised", "status", "says"),
    [
        (SpecError("field", 1, "reason"), 2, "cadenza learn: field: 1: reason\n"),
        (KeyboardInterrupt(), 130, "cadenza learn: interrupted\n"),
    ],
)
def test_a_full_disk_behind_standard_output_hides_no_other_reason(
    raised: BaseException,
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def learn(_: object) -> int:
        print("not written yet")
        raise raised

    monkeypatch.setattr("cadenza.commands.learn.main", learn)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        ended = main(["learn"])
    monkeypatch.undo()
    assert (ended, capsys.readouterr().err) == (status, says)


def test_what_a_driving_command_could_not_print_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report cut off by a full disk used to be a success."""

    def run(_: object) -> int:
        print("x" * 10_000)
        return 0

    monkeypatch.setattr("cadenza.commands.run.main", run)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        ended = main(["run"])
    monkeypatch.undo()
    assert ended == 2
    assert capsys.readouterr().err == "cadenza run: what it printed is not whole: No space left on device\n"


def test_a_terminal_without_a_letter_shows_another() -> None:
    """µs and … ended commands whose work was done."""
    shown = "from cadenza import cli; cli._overview = lambda _: print(chr(0xB5), chr(0x2026)); cli.main(['help'])"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"? ?\n", b"")


@pytest.mark.parametrize("words", [["doctor"], ["service", "show"]])
def test_a_working_folder_that_is_gone_is_said_to_be(words: list[str], tmp_path: Path) -> None:
    """It was "No such file or directory", and nobody knew which."""
    command = f'mkdir "{tmp_path}/gone"; cd "{tmp_path}/gone"; rmdir "{tmp_path}/gone"; exec "$@"'
    program = [sys.executable, "-c", "import sys; from cadenza.cli import main; sys.exit(main(sys.argv[1:]))"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        ["bash", "-c", command, "bash", *program, *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stderr.startswith(f"cadenza {words[0]}: the working folder is gone (")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_closed_standard_input_is_an_empty_one() -> None:
    """It raised an AttributeError in the middle of a session."""
    code = "import sys; from cadenza.cli import main; main(['--help']); print(repr(sys.stdin.read()))"
    command = f'exec "{sys.executable}" -c "{code}" <&-'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert done.stdout.splitlines()[-1] == "''"


def test_an_example_of_two_lines_is_explained_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    assert (
        "--step-s 0.1 --action-low -0.1 --action-high 0.1 --log-std-min -5 --log-std-max 2\n" in capsys.readouterr().out
    )
