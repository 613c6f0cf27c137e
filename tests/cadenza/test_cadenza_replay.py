"""The command in its four ways: what it refuses, what it reports, what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mcap.reader import make_reader
from tiny_bundle import write_tiny_bundle

from cadenza.cli import main
from cadenza.replay_deviation import deviation_of, figures
from cadenza.replay_difference import LOGGED, Difference, labels_of
from cadenza.replay_motion import check_motion, motion_of
from controller.workers.playback import PACE, RAMP_NS, Pace
from episodes.reader import read_episode
from episodes.records import ChunkRecord, Driver, Flag, Mode, TickRecord
from episodes.writer import EpisodeWriter, Header
from spec.arrays import Float
from spec.errors import CadenzaError, MisfitError, SpecError
from spec.observation import encode_jpeg
from spec.robot import Robot
from spec.robotfile import load_robot

PERIOD_NS = 10_000_000
START_NS = 5_000_000_000
ENCODER_TICK = 2 * np.pi / 4096


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(Path("robots/virtual.yaml"), {})


def wave(seconds: Float) -> Float:
    """From home and back, standing at both ends. Shape (n, 6)."""
    bump = np.sin(np.pi * np.clip(seconds / 4.0, 0, 1)) ** 2
    home = np.array([0.0, 0.5, 0.4, -1.4, 0.0, -0.35])
    return home + bump[:, None] * np.array([0.5, -0.5, -0.4, 0.3, 0.6, -0.2])


def write_wave(
    path: Path,
    robot: Robot,
    change: Callable[[TickRecord, int], None] = lambda _tick, _number: None,
    at: Callable[[Float], Float] = lambda seconds: seconds,
    events: tuple[tuple[int, str, str], ...] = (),
    chunks: tuple[ChunkRecord, ...] = (),
    labels: dict[str, str] | None = None,
) -> Path:
    """An arm that a person moves along :func:`wave` for four seconds, seen by two cameras; it lags by 5 mrad."""
    seconds = np.arange(0.0, 5.0, PERIOD_NS * 1e-9)
    places, ahead = wave(at(seconds)), wave(at(seconds + 1e-4))
    with EpisodeWriter(path, Header(robot, labels=labels or {})) as writer:
        for number, place in enumerate(places):
            now = START_NS + number * PERIOD_NS
            tick = TickRecord(tick=number + 1, now_ns=now, joints=6, mode=Mode.HUMAN, driver=Driver.HUMAN, alpha=1.0)
            tick.limited[:6] = tick.asked[:6] = tick.human[:6] = place.tolist()
            tick.sent[:6] = (np.round(place / ENCODER_TICK) * ENCODER_TICK).tolist()
            tick.limited_velocity[:6] = ((ahead[number] - place) * 1e4).tolist()
            tick.position[:6] = (place - 0.005).tolist()
            tick.fresh[:6] = [1] * 6
            change(tick, number)
            writer.tick(tick)
            if number % 4 == 0:
                picture = np.full((24, 32, 3), number % 200, np.uint8)
                for camera in robot.cameras:
                    writer.frame(camera, encode_jpeg(picture, 90), now - 1_000_000, number)
        for chunk in chunks:
            writer.chunk(chunk)
        for time_ns, kind, text in events:
            writer.event(time_ns, "playback", kind, text)
    return path


@pytest.fixture(scope="module")
def recording(robot: Robot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wave(tmp_path_factory.mktemp("recording") / "wave.mcap", robot)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["replay", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def test_one_way_at_a_time(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "choose one (valid: --ticks, --against, --view, --arm)" in refused([str(recording)], capsys)
    assert "'--ticks, --arm': choose one" in refused([str(recording), "--ticks", "--arm"], capsys)
    assert "name at least one episode" in refused(["--ticks"], capsys)
    assert "no such file or folder" in refused(["nowhere", "--ticks"], capsys)
    copy = tmp_path / "copy.mcap"
    copy.write_bytes(recording.read_bytes())
    assert "'2 episodes': takes one at a time" in refused([str(recording), str(copy), "--view"], capsys)
    (tmp_path / "empty").mkdir()
    assert "no episodes there" in refused([str(tmp_path / "empty"), "--ticks"], capsys)
    assert "only --arm uses a robot file" in refused([str(recording), "--ticks", "--robot.control.mode", "x"], capsys)


# -- on the arm


def test_the_motion_is_what_was_sent_before_it_was_rounded(recording: Path, robot: Robot) -> None:
    episode = read_episode(recording, cameras=())
    recorded = motion_of(episode, 1.0)
    assert recorded.begin_ns == START_NS
    assert np.array_equal(recorded.motion.position, episode.ticks["limited"][: len(recorded.motion.seconds)])
    check_motion(episode, recorded, robot)


def test_a_command_that_never_left_is_no_part_of_it(robot: Robot, tmp_path: Path) -> None:
    def lose(tick: TickRecord, number: int) -> None:
        if 100 <= number < 110:
            tick.flags = Flag.WRITE_FAILED
            tick.limited[0] = 9.0

    episode = read_episode(write_wave(tmp_path / "a.mcap", robot, lose))
    recorded = motion_of(episode, 1.0)
    assert recorded.motion.position.max() < 2.0
    check_motion(episode, recorded, robot)


def test_what_the_arm_may_not_do_is_refused_before_anything_moves(
    recording: Path, robot: Robot, tmp_path: Path
) -> None:
    episode = read_episode(recording, cameras=())

    def limited(**change: object) -> Robot:
        joints = {**robot.follower.joints}
        joints["wrist_roll"] = joints["wrist_roll"].model_copy(update=change)
        return robot.model_copy(update={"follower": robot.follower.model_copy(update={"joints": joints})})

    with pytest.raises(SpecError, match=r"wrist_roll: .*s into the motion, is beyond the robot file's 0\.3"):
        check_motion(episode, motion_of(episode, 1.0), limited(position=(-1.0, 0.3)))
    with pytest.raises(
        SpecError, match=r"--speed: 2.0: wrist_roll would do 0\.94\d* rad/s .*valid: up to 1\.27"
    ) as told:
        check_motion(episode, motion_of(episode, 2.0), limited(velocity=0.6))
    assert "\n" not in str(told.value)
    check_motion(episode, motion_of(episode, 1.27), limited(velocity=0.6))
    low = robot.model_copy(update={"workspace": robot.workspace.model_copy(update={"z": (0.2, 0.21)})})  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="outside the robot file's workspace"):
        check_motion(episode, motion_of(episode, 1.0), low)
    names = dict(zip("abcdef", robot.follower.joints.values(), strict=True))
    other = robot.model_copy(update={"follower": robot.follower.model_copy(update={"joints": names})})
    with pytest.raises(MisfitError, match="joints"):
        check_motion(episode, motion_of(episode, 1.0), other)

    def jump(tick: TickRecord, number: int) -> None:
        if number > 200:
            tick.limited[0] = tick.sent[0] = 0.9

    jumping = read_episode(write_wave(tmp_path / "jump.mcap", robot, jump))
    with pytest.raises(SpecError, match="shoulder_pan would do"):
        check_motion(jumping, motion_of(jumping, 1.0), robot)

    def idle(tick: TickRecord, _number: int) -> None:
        tick.mode = Mode.HOLD

    still = read_episode(write_wave(tmp_path / "still.mcap", robot, idle))
    with pytest.raises(CadenzaError, match="nobody moved the arm"):
        motion_of(still, 1.0)


def test_deviation_is_taken_at_the_same_time_of_the_recording(recording: Path, robot: Robot, tmp_path: Path) -> None:
    """Played at half the speed with a pause, two milliradians off in one joint: that is what it finds."""
    begin = START_NS + 200_000_000
    stop, go = begin + 3_000_000_000, begin + 3_700_000_000
    first = Pace(begin, 0.0, 0.0, 0.5, RAMP_NS)
    second = Pace(stop, float(first.seconds(np.array([stop]))[0]), 0.5, 0.0, RAMP_NS)
    third = Pace(go, float(second.seconds(np.array([go]))[0]), 0.0, 0.5, RAMP_NS)

    def at(seconds: Float) -> Float:
        now, out = START_NS + seconds * 1e9, np.zeros(len(seconds))
        for pace in (first, second, third):
            out[now >= pace.at_ns] = pace.seconds(now[now >= pace.at_ns])
        return out

    def off(tick: TickRecord, _number: int) -> None:
        tick.driver, tick.mode = Driver.POLICY, Mode.POLICY
        tick.position[1] += 0.002

    events = tuple((pace.at_ns, PACE, json.dumps(pace._asdict())) for pace in (first, second, third))
    again = read_episode(write_wave(tmp_path / "again.mcap", robot, off, at, events))
    episode = read_episode(recording)
    deviation = deviation_of(episode, motion_of(episode, 0.5), again, None)
    assert np.abs(at((deviation.now_ns - START_NS) * 1e-9) - deviation.seconds).max() < 1e-6, "whichever was paused"
    found = figures(deviation, episode.joints)
    measured = {name: row["measured_rad"]["max"] for name, row in found["joints"].items()}
    assert measured.pop("shoulder_lift") == pytest.approx(0.002, abs=1e-4)
    assert max(measured.values()) < 1e-4
    assert all(row["sent_rad"]["max"] <= ENCODER_TICK * 1.01 for row in found["joints"].values())
    assert found["tool_mm"]["measured"]["max"] is None
    assert found["ticks"] == pytest.approx(500 - 21 - 30, abs=2)  # not before it began, nor while it stood


@pytest.mark.daemon
def test_an_arm_is_moved_as_it_was(recording: Path, tmp_path: Path) -> None:
    """In a process of its own: the virtual arm takes real-time priority."""
    command = [sys.executable, "-m", "cadenza", "replay", str(recording), "--arm", "--json", "--out", str(tmp_path)]
    done = subprocess.run([*command, "--speed", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["finished"]
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (tmp_path / "replay.png").stat().st_size > 50_000
    assert all(row["sent_rad"]["rms"] < 2 * ENCODER_TICK for row in report["deviation"]["joints"].values())
    assert report["deviation"]["tool_mm"]["sent"]["rms"] < 2.0
    assert main(["replay", report["replay"], "--ticks"]) == 0
    replayed = read_episode(Path(report["replay"]), cameras=())
    assert replayed.labels["replay_of"] == "wave.mcap"
    assert replayed.outcome.value == "unlabelled"


# -- against policies


def test_bundles_are_told_apart_by_the_end_of_their_paths(tmp_path: Path) -> None:
    assert labels_of([tmp_path / "bundle"]) == ("bundle",)
    assert labels_of([tmp_path / "a/bundle", tmp_path / "b/bundle"]) == ("a/bundle", "b/bundle")
    with pytest.raises(CadenzaError, match="twice"):
        labels_of([tmp_path / "a", tmp_path / "a"])


def constant_bundle(folder: Path, robot: Robot, offset: float) -> Path:
    """Wants the newest pose, and ``offset`` more with every action; made from the tests' tiny bundle."""
    return write_tiny_bundle(folder, robot.follower.names, ramp=offset, history=1).folder


def test_demonstrations_without_chunks_are_sampled_at_the_policys_own_steps(
    recording: Path, robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (constant_bundle(tmp_path / name, robot, ramp) for name, ramp in (("one", 0.0), ("two", ENCODER_TICK)))
    picture = tmp_path / "against.png"
    words = ["replay", str(recording), "--against", str(one), "--against", str(two), "--out", str(picture), "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    rows = {(row["of"], row["to"]): row for row in report["differences_in_encoder_ticks"]}
    assert set(rows) == {("one", "the person"), ("two", "the person"), ("one", "two")}
    assert rows["one", "two"]["all"]["max"] == pytest.approx(8.0, abs=1e-3)
    assert rows["one", "two"]["all"]["mean"] == pytest.approx(4.5, abs=1e-3)
    assert report["episodes"][0]["steps"] == 50
    assert report["episodes"][0]["recorded_with"] is None
    assert picture.stat().st_size > 50_000
    # A pose kept for 0.1 s: the person had gone on by at most the wave's fastest 0.47 rad/s (and it lags by 5 mrad).
    assert rows["one", "the person"]["joints"]["wrist_roll"]["max"] == pytest.approx(
        (0.047 + 0.005) / ENCODER_TICK, rel=0.05
    )


def test_chunks_of_a_playback_are_no_steps_of_a_policy(
    robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lie between the steps at which a policy is asked now, as if a history reached back to what is not there."""
    chunks = tuple(
        ChunkRecord(sequence=k, tick=3 * k + 1, observed_ns=START_NS + 3 * k * PERIOD_NS, step_ns=1, length=1, joints=6)
        for k in range(160)
    )
    played = write_wave(tmp_path / "played.mcap", robot, chunks=chunks)
    bundle = constant_bundle(tmp_path / "one", robot, 0.0)
    assert main(["replay", str(played), "--against", str(bundle), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["episodes"][0]["steps"], report["episodes"][0]["left_out"]) == (50, 0)
    assert [row["to"] for row in report["differences_in_encoder_ticks"]] == ["the person"]


def test_where_nothing_could_be_compared_nothing_is_bit_equal() -> None:
    """A recording shorter than the history of the policy that drove: no step of it is whole."""
    nothing = np.full((3, 2, 6), np.nan)
    assert Difference("it", LOGGED, nothing).bit_equal is None
    nothing[1] = 0.0
    assert Difference("it", LOGGED, nothing).bit_equal is True
    nothing[1, 0, 0] = 1e-12
    assert Difference("it", LOGGED, nothing).bit_equal is False


def test_a_policy_of_another_robot_is_refused(
    recording: Path, robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = constant_bundle(tmp_path / "one", robot, 0.0)
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["observation"]["cameras"] = {"wrist": manifest["observation"]["cameras"]["top"]}
    graph = onnx.load(bundle / "encoder.onnx")
    assert graph.graph.input[1].name == "image.top"
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    assert "encoder.onnx" in refused([str(recording), "--against", str(bundle)], capsys)
    (bundle / "encoder.onnx").write_bytes(b"")
    assert "altered" in refused([str(recording), "--against", str(bundle)], capsys)
    assert "is to be a picture" in refused([str(recording), "--against", str(bundle), "--out", "x.txt"], capsys)


# -- on a screen


def test_the_recording_for_the_viewer_holds_everything(recording: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun")
    out = tmp_path / "wave.rrd"
    assert main(["replay", str(recording), "--view", "--out", str(out)]) == 0
    found = subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", "stats", str(out)], capture_output=True, text=True, check=True
    )
    subprocess.run([sys.executable, "-m", "rerun", "rrd", "verify", str(out)], capture_output=True, check=True)
    for entity in ("joints/gripper/human", "joints/gripper/sent", "authority/mode", "authority/driver", "alpha"):
        assert f"/{entity}: 2" in found.stdout  # its style and its values
    for entity in ("camera/top", "camera/front", "tool/now"):
        assert f"/{entity}: 1" in found.stdout


def test_a_recording_that_cannot_be_written_is_one_line(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rerun")
    told = refused([str(recording), "--view", "--out", "/proc/x.rrd"], capsys)
    assert "/proc/x.rrd: cannot be written" in told


def test_any_viewer_understands_the_episode_by_the_schemas_inside(recording: Path) -> None:
    """What Foxglove does: nothing is known of the file but what it says of itself."""
    seen: dict[str, int] = {}
    with recording.open("rb") as file:
        for schema, channel, message in make_reader(file).iter_messages():
            assert schema is not None
            assert (channel.message_encoding, schema.encoding) == ("protobuf", "protobuf")
            pool = descriptor_pool.DescriptorPool()
            for described in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
                pool.Add(described)
            kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
            seen[schema.name] = max(seen.get(schema.name, 0), len(kind.FromString(message.data).ListFields()))
    assert seen["cadenza.Tick"] > 20
    assert seen["foxglove.CompressedImage"] == 4
