"""The whole set of processes on the virtual arm: what is logged, and what happens when one of them is killed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from daemon_kit import Script, eventually, kill, run_one, stop

from cadenza.cli import main
from controller.dictation import RECORDER
from controller.session import Session
from controller.sources import INFERENCE, policy_source
from controller.supervisor import Supervisor
from controller.wiring.ipc import sweep
from controller.wiring.vigil import CONTROL
from controller.workers.policy import Policy
from drivers.virtual import VirtualRobot
from episodes.check import check
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import Mode
from episodes.windows import history, samples_of_chunks
from export.bundle import Bundle
from spec.errors import DeviceError
from spec.observation import decode_jpeg, policy_image, policy_state

pytestmark = pytest.mark.daemon


def test_an_episode_is_whole_and_tells_exactly_what_the_policy_saw(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path
) -> None:
    lines: list[str] = []
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lines.append, bundle=bundle) as supervisor:
        result = run_one(supervisor, Script(lambda asked: asked > 60))
    assert (result.outcome, result.termination) == (Outcome.SUCCESS, Termination.DONE)
    assert result.path is not None
    assert set(result.dropped.values()) == {0}
    assert check(result.path) == []
    report = supervisor.report()
    assert report["processes"]["control"]["termination"] == "stopped"
    assert report["restarts"] == {}
    assert not list(Path("/dev/shm").glob(f"cadenza_{os.getpid()}_*"))

    episode = read_episode(result.path)
    driven = episode.ticks["mode"] == Mode.POLICY
    assert driven.sum() > 50
    limits = virtual.robot.limits()
    assert (np.abs(episode.ticks["limited_velocity"]) <= limits.velocity + 1e-9).all()
    assert (episode.ticks["limited"] >= limits.lower - 1e-9).all()
    assert (episode.ticks["limited"] <= limits.upper + 1e-9).all()
    rebuilt_equals_logged(episode.path, bundle)


def rebuilt_equals_logged(path: Path, bundle: Bundle) -> None:
    """Ask the policy again about what is on record: the very same targets, to the last bit."""
    episode, policy = read_episode(path), Policy(bundle)
    observation = bundle.manifest.observation
    samples = samples_of_chunks(episode, tuple(observation.cameras))
    features = [
        policy.encode(
            policy_state(episode.ticks["position"][tick], episode.ticks["velocity"][tick], observation.state),
            {
                name: policy_image(decode_jpeg(episode.frames[name].jpeg[samples.frames[name][row]]), wanted)
                for name, wanted in observation.cameras.items()
            },
        )
        for row, tick in enumerate(samples.tick)
    ]
    spacing = round(observation.step_s * 1e9)
    every = np.arange(len(samples))
    index, mask = history(samples.observed_ns, every, observation.history, spacing, samples.segment)
    targets = {chunk.observed_ns: chunk.targets for chunk in episode.chunks}
    assert len(samples) >= 5
    for row in every:
        window = np.where(mask[row][:, None], np.array(features)[index[row]], 0).astype(np.float32)
        assert np.array_equal(policy.decode(window, mask[row]), targets[samples.observed_ns[row]])


def test_the_arm_outlives_its_helpers(virtual: VirtualRobot, bundle: Bundle, tmp_path: Path) -> None:
    """Inference and a camera are killed while the policy drives: hold, restart, go on; the recording stays whole."""
    lines: list[str] = []
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lines.append, bundle=bundle) as supervisor:
        victims = [INFERENCE, "camera top"]

        def act(asked: int) -> bool:
            if asked == 20:
                for name in victims:
                    kill(supervisor.processes[name])
            revived = all(supervisor.processes[name].restarts == 1 for name in victims)
            return revived and supervisor.watch.mode is Mode.POLICY and asked > 100

        result = run_one(supervisor, Script(act))
    assert result.termination is Termination.DONE
    assert result.path is not None
    episode = read_episode(result.path)
    assert episode.damage == ""
    assert {event.kind for event in episode.events} >= {"died", "restarted"}
    modes = episode.ticks["mode"]
    assert Mode.HOLD in modes[np.argmax(modes == Mode.POLICY) :]
    assert [chunk.sequence for chunk in episode.chunks] == sorted({chunk.sequence for chunk in episode.chunks})
    acceleration = virtual.robot.limits().acceleration
    assert (np.abs(episode.ticks["limited_acceleration"]) <= acceleration * (1 + 1e-6)).all()
    rebuilt_equals_logged(result.path, bundle)


def test_a_killed_recorder_costs_a_tenth_of_a_second(virtual: VirtualRobot, bundle: Bundle, tmp_path: Path) -> None:
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle) as supervisor:
        seen: list[int] = []

        def act(asked: int) -> bool:
            if asked == 60 and supervisor.watch.tick is not None:
                seen.append(supervisor.watch.tick.now_ns)
                kill(supervisor.processes[RECORDER])
            return False

        first = run_one(supervisor, Script(act))
        second = run_one(supervisor, Script(lambda asked: asked > 20))
    assert (first.outcome, first.termination) == (Outcome.ABORTED, Termination.RECORDER_DIED)
    assert first.path is not None
    episode = read_episode(first.path)
    assert episode.termination is Termination.RECOVERED
    assert episode.ticks["now_ns"][-1] > seen[0] - 250_000_000  # a flush period, and how often the recorder looks
    assert second.termination is Termination.DONE
    assert supervisor.report()["recovered"] == [str(first.path)]


def test_a_killed_control_process_ends_the_run(virtual: VirtualRobot, bundle: Bundle, tmp_path: Path) -> None:
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle) as supervisor:

        def act(asked: int) -> bool:
            if asked == 40:
                kill(supervisor.processes[CONTROL])
            return False

        result = run_one(supervisor, Script(act))
    assert result.termination is Termination.CONTROL_DIED
    assert result.path is not None
    assert read_episode(result.path).damage == ""
    assert supervisor.report()["restarts"] == {}


def test_a_control_process_that_hangs_is_ended(virtual: VirtualRobot, bundle: Bundle, tmp_path: Path) -> None:
    lines: list[str] = []
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lines.append, bundle=bundle) as supervisor:

        def act(asked: int) -> bool:
            if asked == 40:
                stop(supervisor.processes[CONTROL])
            return False

        result = run_one(supervisor, Script(act), seconds=60.0)
        assert not supervisor.driving
    assert (result.outcome, result.termination) == (Outcome.ABORTED, Termination.CONTROL_DIED)
    assert result.path is not None
    assert read_episode(result.path).damage == ""
    assert lines.count("control: no tick for 1.5 s; ending it") == 1


def test_a_recorder_that_hangs_is_replaced(virtual: VirtualRobot, bundle: Bundle, tmp_path: Path) -> None:
    lines: list[str] = []
    with Supervisor(virtual.robot, policy_source(bundle), tmp_path, lines.append, bundle=bundle) as supervisor:

        def act(asked: int) -> bool:
            if asked == 40:
                stop(supervisor.processes[RECORDER])
            return asked > 60

        session = Session(supervisor, Script(act), 20.0)
        first, second = session.episode(0), session.episode(1)
        for name in (CONTROL, RECORDER):  # the end of the run does not wait for them either
            stop(supervisor.processes[name])
    assert (first.outcome, first.termination) == (Outcome.ABORTED, Termination.RECORDER_DIED)
    assert first.path is not None
    assert read_episode(first.path).termination is Termination.RECOVERED
    assert (second.outcome, second.termination) == (Outcome.SUCCESS, Termination.DONE)
    assert second.path is not None
    assert check(second.path) == []
    assert "recorder: no answer; ending it" in lines
    assert not any(process.alive for process in supervisor.processes.values())


def test_a_killed_supervisor_leaves_a_held_arm_and_a_closed_episode(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path
) -> None:
    robot = ["--robot.virtual.attach", str(virtual.ready_file), "--robot.control.rate_hz", "100"]
    calibration = ["--robot.follower.calibration", str(virtual.robot.follower.calibration)]
    command = ["-m", "cadenza", "run", "--bundle", str(bundle.folder), "--out", str(tmp_path)]
    child = subprocess.Popen([sys.executable, *command, *robot, *calibration], stdout=subprocess.DEVNULL)
    part, whole = (tmp_path / "episodes" / f"episode-000000.mcap{end}" for end in (".part", ""))
    assert eventually(lambda: part.exists() and part.stat().st_size > 200_000)
    child.kill()
    child.wait()
    assert eventually(whole.exists)
    assert check(whole) == []
    assert read_episode(whole).termination is Termination.ERROR
    assert eventually(lambda: not any(f"--namespace {child.pid}_" in line for line in command_lines()))
    assert all(virtual.client.state()["torque"]["follower"])
    sweep()
    assert not list(Path("/dev/shm").glob(f"cadenza_{child.pid}_*"))


def command_lines() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


def test_the_command_runs_reports_and_exits(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = ["--robot.virtual.attach", str(virtual.ready_file), "--robot.control.rate_hz", "100"]
    calibration = ["--robot.follower.calibration", str(virtual.robot.follower.calibration)]
    options = ["--out", str(tmp_path), "--episode-seconds", "1", "--mode", "latest", "--json"]
    assert main(["run", "--bundle", str(bundle.folder), *options, *robot, *calibration]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (report["episodes"], report["mode"], report["weights"]) == (1, "latest", 7)
    assert report["results"][0]["outcome"] == "fail"  # this policy pushes nothing anywhere
    assert report["ticks"] >= 90
    assert report["inference_ms"]["p50"] > 0
    assert report["run"]["restarts"] == {}


def test_what_cannot_work_is_refused_in_one_line(virtual: VirtualRobot, bundle: Bundle, tmp_path: Path) -> None:
    robot = virtual.robot
    absent = robot.cameras["top"].model_copy(update={"source": "http://127.0.0.1:9/x.mjpg"})
    wrong = robot.model_copy(
        update={
            "follower": robot.follower.model_copy(update={"port": "/dev/nothing"}),
            "cameras": {**robot.cameras, "top": absent},
        }
    )
    supervisor = Supervisor(wrong, policy_source(bundle), tmp_path, lambda _: None, bundle=bundle)
    with pytest.raises(DeviceError, match=r"/dev/nothing|camera top: http") as caught:
        supervisor.__enter__()
    assert "\n" not in str(caught.value)
    assert not any(process.alive for process in supervisor.processes.values())
    logs = "".join(log.read_text() for log in (tmp_path / "logs").iterdir())
    assert "Traceback" not in logs
