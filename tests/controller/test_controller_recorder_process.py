"""The recorder as a process: its commands and answers, and what is left when it is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemon_kit import eventually

from benchmarks.kills import kill_all
from controller.wiring.ipc import Node, new_namespace, remove_namespace
from controller.wiring.process import Process
from controller.wiring.topics import TICKS, frames_topic, topics
from episodes.check import check
from episodes.outcome import Outcome, Termination
from episodes.reader import read_episode
from episodes.records import FrameHeader, TickRecord
from spec.observation import encode_jpeg
from spec.robotfile import load_robot

pytestmark = pytest.mark.daemon


class Rig:
    """A recorder process, and somebody who publishes for it."""

    def __init__(self, folder: Path) -> None:
        robot = load_robot(Path("robots/virtual.yaml"))
        self._namespace = new_namespace()
        self._node = Node(self._namespace, topics(robot), "test")
        self._ticks, self._frames = self._node.publisher(TICKS), self._node.publisher(frames_topic("top"))
        self._jpeg = encode_jpeg(np.full((240, 320, 3), 99, dtype=np.uint8), 90)
        description = folder / "robot.json"
        description.write_text(robot.model_dump_json(), encoding="utf-8")
        arguments = ("--robot", str(description), "--namespace", self._namespace)
        self.process = Process("recorder", "controller.workers.recorder_process", arguments, folder / "log")
        self.process.start()
        self._said: list[dict[str, Any]] = []
        self.answer("ready")
        self._next = 0

    def answer(self, *kinds: str) -> dict[str, Any]:
        def heard() -> bool:
            self._said.extend(self.process.listen())
            return any(message["kind"] in kinds for message in self._said)

        assert eventually(heard), (kinds, self._said)
        index = next(k for k, message in enumerate(self._said) if message["kind"] in kinds)
        return self._said.pop(index)

    def ask(self, answer: str, **command: Any) -> dict[str, Any]:
        assert self.process.tell(**command)
        return self.answer(answer)

    def publish(self, ticks: int) -> list[int]:
        """Publish ticks, a picture with every tenth; returns their numbers. They are in when the next answer comes."""
        numbers = list(range(self._next, self._next + ticks))
        for number in numbers:
            self._ticks.send(TickRecord(tick=number, now_ns=number + 1, joints=6))
            if number % 10 == 0:
                self._frames.send_bytes(FrameHeader(sequence=number // 10, captured_ns=number + 1), self._jpeg)
        self._next += ticks
        return numbers

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10.0)
        self._node.close()
        remove_namespace(self._namespace)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_every_recording_policy_by_command(rig: Rig, tmp_path: Path) -> None:
    assert rig.ask("ring", do="ring", seconds=60.0)["seconds"] == 60.0
    early = rig.publish(100)
    # Before: what the ring holds. The answer to a command says that all published before it is in.
    path = tmp_path / "a.mcap"
    assert rig.ask("opened", do="open", path=str(path), from_ns=0, labels={"task": "x"}) == {
        "kind": "opened",
        "path": str(path),
    }
    assert "still being recorded" in rig.ask("failed", do="open", path=str(tmp_path / "b.mcap"))["text"]
    late = rig.publish(100)
    saved = rig.ask("saved", do="save", path=str(tmp_path / "high.mcap"), labels={"highlight": "1"})
    assert saved["counts"]["/ticks"] == 200
    closed = rig.ask("closed", do="close", outcome="fail", termination="operator", facts={"by": "me"}, reward=-1.0)
    assert (closed["path"], closed["files"], closed["shed"]) == (str(path), [str(path)], {})
    episode = read_episode(path)
    assert episode.ticks["tick"].tolist() == early + late
    assert (episode.outcome, episode.termination, episode.ending.reward) == (Outcome.FAIL, Termination.OPERATOR, -1.0)
    assert episode.labels == {"task": "x"}
    highlight = read_episode(tmp_path / "high.mcap")
    assert highlight.ticks["tick"].tolist() == early + late
    assert (highlight.outcome, highlight.termination) == (Outcome.UNLABELLED, Termination.SAVED)
    assert check(path) == check(highlight.path) == []

    rig.ask("ring", do="ring", seconds=0.0)
    rig.publish(10)
    assert "nothing is kept" in rig.ask("save_failed", do="save", path=str(tmp_path / "none.mcap"))["text"]
    name = tmp_path / "day.mcap"
    rig.ask("opened", do="open", path=str(name), rotate_mb=0.1)
    first = rig.publish(200)
    turned = rig.answer("rotated")
    assert (turned["path"], turned["closed"]) == (str(name), str(tmp_path / "day-000000.mcap"))
    second = rig.publish(200)
    files = rig.ask("closed", do="close", outcome="success", termination="done")["files"]
    episodes = [read_episode(Path(file)) for file in files]
    assert [int(tick) for episode in episodes for tick in episode.ticks["tick"]] == first + second
    assert [check(Path(file)) for file in files] == [[]] * len(files)
    assert episodes[-1].outcome is Outcome.SUCCESS


def test_a_save_and_a_recording_are_closed_when_it_ends(rig: Rig, tmp_path: Path) -> None:
    rig.ask("ring", do="ring", seconds=60.0)
    rig.publish(50)
    rig.ask("opened", do="open", path=str(tmp_path / "a.mcap"))
    rig.publish(50)
    rig.process.tell(do="save", path=str(tmp_path / "high.mcap"))
    rig.ask("ring", do="ring", seconds=60.0)
    rig.process.terminate()
    assert rig.process.wait(10.0) == 0
    assert read_episode(tmp_path / "a.mcap").termination is Termination.ERROR
    assert read_episode(tmp_path / "high.mcap").termination is Termination.SAVED
    assert not list(tmp_path.glob("*.part"))


def test_a_killed_recorder_and_a_killed_daemon_leave_whole_episodes() -> None:
    kills = kill_all(4)
    # On a machine that is busy for a second, pictures are dropped and counted; that has nothing to do with kills.
    assert [line for kill in kills for line in kill.wrong if "dropped:" not in line] == []
    assert all(kill.ticks and kill.frames and kill.chunks for kill in kills)
