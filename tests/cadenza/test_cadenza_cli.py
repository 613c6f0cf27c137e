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
from spec.errors import SpecError


def test_an_unknown_command_is_refused_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == 2
    assert "'fly': no such command (valid: run, collect" in capsys.readouterr().err


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(f"  {name} " in overview for name in COMMANDS)


WITH_VERBS = {
    "learn": ("warmup", "eval"),
    "calibrate": ("joints", "takeover"),
    "episodes": ("list", "info", "check", "recover", "label", "prune", "export"),
    "bench": ("takeover",),
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


def test_a_full_disk_is_one_line_though_it_says_no_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cadenza.commands.learn.main", full)
    assert main(["learn", "online"]) == 2
    assert capsys.readouterr().err == "cadenza learn: No space left on device\n"


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
