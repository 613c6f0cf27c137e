"""The unit of a service: what systemd thinks of it, what is refused before anything is written."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

from cadenza.cli import main
from cadenza.commands import run
from cadenza.commands.service import _options
from cadenza.service.install import unit_path
from cadenza.service.lines import Lines, priority_of
from cadenza.service.unit import Unit, quoted
from controller.journal import Priority
from episodes.schema.cadenza_pb2 import Event
from spec.robotfile import load_robot

ROBOT = Path("robots/virtual.yaml")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "with a space, 100%"
    write_tiny_bundle(folder, load_robot(ROBOT).follower.names, ramp=-0.005)
    return folder


def shown(argv: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["service", "show", *argv]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@pytest.mark.parametrize("options", [[], ["--user"], ["--cpus", "0", "--realtime", "enforce"]])
def test_systemd_accepts_the_unit(
    bundle: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["service", "show", "--bundle", str(bundle), *options]) == 0
    unit = tmp_path / "cadenza-test.service"
    unit.write_text(capsys.readouterr().out)
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(["--user"] if "--user" in options else []), str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )
    complaints = [line for line in (verdict.stderr + verdict.stdout).splitlines() if "cadenza-test" in line]
    assert complaints == []
    assert verdict.returncode == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_would_have_complained(tmp_path: Path) -> None:
    """The check above can fail: a key in the wrong section is what systemd ignores with a word."""
    unit = tmp_path / "cadenza-test.service"
    text = Unit("koch", ("/bin/true",), Path("/"), 20.0, 80, "root").text()
    unit.write_text(text.replace("WatchdogSec=30\n", "").replace("[Unit]", "[Unit]\nWatchdogSec=30"))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    verdict = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "WatchdogSec" in verdict.stderr


def test_the_unit_says_what_the_run_needs(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = shown(["--bundle", str(bundle), "--robot.control.priority", "70", "--episode-seconds", "40"], capsys)
    assert unit["LimitRTPRIO"] == "70"
    assert unit["LimitMEMLOCK"] == "infinity"
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    assert unit["KillMode"] == "mixed"  # SIGTERM to all at once would end the episode
    assert int(unit["TimeoutStopSec"]) > 40 + 40
    words = shlex.split(unit["ExecStart"].replace("%%", "%"))
    assert words[1:5] == ["-m", "cadenza", "run", "--service"]
    assert words[words.index("--bundle") + 1] == str(bundle)
    assert Path(words[words.index("--config") + 1]).is_absolute()
    assert words[words.index("--robot.control.priority") + 1] == "70"


def test_a_unit_names_plain_paths_and_keeps_links(tmp_path: Path) -> None:
    """A link may be made to point to the next bundle; `..` only confuses who reads the unit."""
    (tmp_path / "newest").symlink_to(tmp_path / "first")
    words = _options(run.Args(bundle=tmp_path / "newest", follow=tmp_path / "a" / ".." / "shelf"))
    assert words[words.index("--bundle") + 1] == str(tmp_path / "newest")
    assert words[words.index("--follow") + 1] == str(tmp_path.resolve() / "shelf")


def test_a_unit_of_the_user_asks_for_no_more_than_its_manager_may_give(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = shown(["--user", "--bundle", str(bundle)], capsys)
    assert not {"User", "OOMScoreAdjust", "ProtectSystem"} & unit.keys()
    assert unit["WantedBy"] == "default.target"


def test_install_then_uninstall(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "systemd/user/arm2.service"
    assert main(["service", "install", "--user", "--name", "arm2", "--bundle", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert path.is_file()
    for line in ("systemctl --user daemon-reload", "systemctl --user enable --now arm2", "loginctl enable-linger"):
        assert line in said
    assert main(["service", "uninstall", "--user", "--name", "arm2"]) == 0
    assert not path.exists()
    assert main(["service", "uninstall", "--user", "--name", "arm2"]) == 2
    assert "no such unit" in capsys.readouterr().err


def test_a_masked_unit_is_said_to_be(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "systemd/user/arm2.service"
    path.parent.mkdir(parents=True)
    path.symlink_to(os.devnull)
    assert main(["service", "install", "--user", "--name", "arm2", "--bundle", str(bundle)]) == 2
    assert capsys.readouterr().err.endswith("arm2.service: is masked; first systemctl --user unmask arm2\n")


def test_a_relative_folder_of_settings_counts_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the XDG Base Directory Specification has it; the unit went into the folder where somebody stood."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "settings")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert unit_path("arm2", user=True) == tmp_path / ".config/systemd/user/arm2.service"


def test_whoever_may_not_take_the_units_of_the_machine_away_is_told_how(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unit of one's own, which was recommended too, is another one."""

    def refuse(_path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["service", "uninstall"]) == 2
    assert capsys.readouterr().err.endswith("repeat it with sudo (sudo $(which cadenza) service uninstall ...)\n")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "--bundle: None"),
        (["--bundle", "/nowhere"], "not a bundle"),
        (["--bundle", "BUNDLE", "--name", "../x"], "--name"),
        (["--bundle", "BUNDLE", "--cpus", "99"], "no such core"),
        (["--bundle", "BUNDLE", "--account", "nobody-here"], "no such account"),
        (["--bundle", "BUNDLE", "--account", ""], "no such account"),  # it was whoever typed
        (["--bundle", "BUNDLE", "--out", "runs/x"], "a folder of its own"),
        (["--bundle", "BUNDLE", "--json"], "prints no report"),
        (["--bundle", "BUNDLE", "--episodes", "0"], "at least 1"),
        (["--bundle", "BUNDLE", "--config", "robots/koch.yaml"], "calibration"),  # this arm was never measured
    ],
)
def test_what_the_run_would_refuse_is_refused_before_anything_is_written(
    argv: list[str],
    says: str,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cadenza.service.install.SYSTEM", tmp_path)
    assert main(["service", "install", *(str(bundle) if word == "BUNDLE" else word for word in argv)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_option_of_a_run_is_handed_on() -> None:
    args = run.Args(bundle=Path("/b"), episodes=3, teleop=True, explore=0.25, follow=Path("/s"), seed=4)
    words = _options(args)
    assert words[words.index("--episodes") + 1] == "3"
    assert "--teleop" in words
    assert words[words.index("--explore") + 1] == "0.25"
    assert words[words.index("--follow") + 1] == "/s"
    assert "--mode" not in words  # as the robot file says, also when it is changed later


@pytest.mark.parametrize(
    ("word", "written"),
    [("plain", "plain"), ("a b", '"a b"'), ("100%", "100%%"), ("$HOME", "$$HOME"), ('"', '"\\""'), ("", '""')],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, written: str) -> None:
    assert quoted(word) == written


def test_a_name_cannot_smuggle_lines_into_a_unit() -> None:
    text = Unit("koch\nExecStartPre=/bin/x", ("/bin/true", "a\nUser=root"), Path("/"), 20.0, 80, "me").text()
    assert not any(line.startswith(("ExecStartPre", "User=root")) for line in text.splitlines())


@pytest.mark.parametrize(
    ("event", "priority"),
    [
        (Event(source="control", kind="control", text="POLICY -> FAULT (BUS_LOST)"), Priority.ERROR),
        (Event(source="control", kind="control", text="HOLD -> POLICY"), Priority.INFO),
        (Event(source="camera top", kind="lost", text="no picture"), Priority.NOTICE),
        (Event(source="supervisor", kind="died", text="recorder: killed"), Priority.DEBUG),
    ],
)
def test_a_fault_stands_out_of_the_journal(event: Event, priority: Priority) -> None:
    assert priority_of(event) is priority


def test_without_a_journal_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(None, {})
    lines.say("episode 0: success")
    lines.event(Event(source="control", kind="control", text="HOLD -> POLICY"))
    lines.event(Event(source="control", kind="pace", text=json.dumps({})))
    assert capsys.readouterr().err == "episode 0: success\n"
