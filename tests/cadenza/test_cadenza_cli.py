"""The front door."""

import subprocess
import sys

import pytest

from cadenza.arguments import split_robot_overrides
from cadenza.cli import COMMANDS, main
from spec.errors import SpecError


def test_an_unknown_command_is_refused_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == 2
    assert "'fly': no such command (valid: run, sim" in capsys.readouterr().err


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(f"  {name} " in overview for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert f"cadenza {command}" in capsys.readouterr().out.replace("usage: ", "", 1)


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
