"""``cadenza episodes export`` as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from logged_steps import write_episode

from cadenza.cli import main


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session: two episodes, one that was discarded, one that nobody closed."""
    folder = tmp_path_factory.mktemp("session")
    write_episode(folder, 0, steps=5, taken_over=(2, 4))
    write_episode(folder, 1, steps=4)
    write_episode(folder / "discarded", 2, steps=3)
    (folder / "episode-000003.mcap.part").write_bytes(b"\x89MCAP0\r\n")
    return folder


def test_one_line_of_json(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["episodes", "export", str(logs), "--out", str(tmp_path / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["episodes"], report["frames"], report["interventions"]) == (2, 9, 2)
    assert report["left_out"] == {
        str(logs / "discarded/episode-000002.mcap"): "discarded by the operator",
        str(logs / "episode-000003.mcap.part"): "unfinished; cadenza episodes recover",
    }


def test_what_was_discarded_can_be_named(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    discarded = logs / "discarded/episode-000002.mcap"
    assert main(["episodes", "export", str(discarded), "--out", str(tmp_path / "out")]) == 0
    assert "episodes 1, rows 3 at 10 Hz" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--append", "--overwrite"], "one of them"),
        (["--fps", "0"], "--fps: 0: must be 1 or more"),
        (["--only", "interventions", "--fps", "1000"], "from 1 to the control rate"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    out = tmp_path / "out"
    assert main(["episodes", "export", str(logs), "--out", str(out), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not out.exists()


@pytest.mark.parametrize("missing", ["av", "pyarrow"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(logs: Path, tmp_path: Path, missing: str) -> None:
    command = ["episodes", "export", str(logs), "--out", str(tmp_path / "out")]
    program = f"import sys; sys.modules[{missing!r}] = None; from cadenza.cli import main; sys.exit(main({command!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"needs {missing}" in line
    assert ".[dataset]" in line
