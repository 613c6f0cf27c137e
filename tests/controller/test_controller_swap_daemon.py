"""New weights in a running set of processes on the virtual arm."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemon_kit import Script, kill
from tiny_bundle import write_tiny_bundle

from controller.desk import connected
from controller.replay import replay
from controller.session import Session
from controller.sources import INFERENCE, policy_source
from controller.supervisor import Supervisor
from controller.workers.policy import Policy
from drivers.virtual import VirtualRobot
from episodes.check import check
from episodes.outcome import Termination
from episodes.reader import Episode, read_episode
from episodes.windows import history, samples_of_chunks
from export.bundle import Bundle, read_bundle
from export.shelf import bundle_name, offer
from spec.observation import decode_jpeg, policy_image, policy_state

pytestmark = pytest.mark.daemon


def put(shelf: Path, bundle: Bundle, weights: int, ramp: float) -> None:
    folder = shelf / bundle_name(weights)
    offer(shelf, write_tiny_bundle(folder, bundle.manifest.joints, weights=weights, ramp=ramp))


def ask(run: Path, request: dict[str, Any]) -> dict[str, Any]:
    """As cadenza weights does."""
    with connected(run) as link:
        assert isinstance(link, socket.socket)
        link.settimeout(30)
        link.sendall(json.dumps(request).encode() + b"\n")
        heard = b""
        while data := link.recv(65536):
            heard += data
    answer: dict[str, Any] = json.loads(heard.splitlines()[-1])
    return answer


class Story:
    """What happens in the first episode, one thing after the other, each once the one before has shown."""

    def __init__(self, supervisor: Supervisor, shelf: Path, bundle: Bundle) -> None:
        self.run, self.shelf, self.bundle = supervisor, shelf, bundle
        self.chapter = 0
        self.answers: list[dict[str, Any]] = []

    def __call__(self, asked: int) -> bool:
        tick, inference = self.run.watch.tick, self.run.processes[INFERENCE]
        assert tick is not None
        weights = tick.weights if tick.chunk >= 0 else None
        match self.chapter:
            case 0 if asked > 10:
                put(self.shelf, self.bundle, 8, -0.006)
            case 1 if weights == 8:
                kill(inference)
            case 2 if inference.restarts == 1 and weights == 8 and inference.ready is not None:
                threading.Thread(target=self._roll_back).start()
            case 3 if weights == 7 and self.answers:
                return True
            case _:
                return False
        self.chapter += 1
        return False

    def _roll_back(self) -> None:
        self.answers.append(ask(self.run.out, {"do": "rollback"}))


def test_swapped_killed_and_rolled_back_while_the_arm_moves(
    virtual: VirtualRobot, bundle: Bundle, tmp_path: Path
) -> None:
    shelf, lines = tmp_path / "shelf", list[str]()
    shelf.mkdir()
    source = policy_source(bundle)
    with Supervisor(virtual.robot, source, tmp_path, lines.append, bundle=bundle, follow=shelf) as supervisor:
        story = Story(supervisor, shelf, bundle)
        session = Session(supervisor, Script(story), 60.0)
        first = session.episode(0)
        put(shelf, bundle, 9, float("nan"))
        refused = supervisor.watch.tally.events
        second = Session(supervisor, Script(lambda _: refused["inference: swap_refused"] == 1), 60.0).episode(1)
        status = ask_beside(supervisor)
    report = supervisor.report()["weights"]
    assert (first.termination, second.termination) == (Termination.DONE, Termination.DONE), lines
    assert story.answers[0]["kind"] == "rollback"
    assert [one["weights"] for one in report["drove"]] == [7, 8, 7]
    assert "says NaN" in report["refused"][0]
    assert (status["driving"], status["offered"], status["candidate"]) == (7, 9, None)
    assert any(line.startswith("inference: swap: weights 7 -> 8: 8 chunks apart by 0.00") for line in lines)

    assert first.path is not None
    assert second.path is not None
    assert check(first.path) == []
    episode = read_episode(first.path)
    assert replay(episode).equal
    used = episode.ticks["chunk"] >= 0
    versions = episode.ticks["weights"][used]
    assert versions[np.flatnonzero(np.diff(versions, prepend=0))].tolist() == [7, 8, 7]
    assert {"swap", "died", "restarted", "rollback"} <= {event.kind for event in episode.events}
    acceleration = virtual.robot.limits().acceleration
    assert (np.abs(episode.ticks["limited_acceleration"]) <= acceleration * (1 + 1e-6)).all()
    told_by_the_log(episode, {7: bundle, 8: read_bundle(shelf / bundle_name(8))})
    for path in (first.path, second.path):
        drove = read_episode(path).bundle()
        assert drove is not None
        assert drove.weights == 7


def ask_beside(supervisor: Supervisor) -> dict[str, Any]:
    """The supervisor answers while it polls, so somebody else has to ask."""
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(ask(supervisor.out, {"do": "weights"})))
    asking.start()
    while asking.is_alive():
        supervisor.poll()
    return answers[0]


def told_by_the_log(episode: Episode, bundles: dict[int, Bundle]) -> None:
    """Each version, asked again about what is on record, says what it said: to the last bit, across every change."""
    policies = {weights: Policy(bundle) for weights, bundle in bundles.items()}
    observation = bundles[7].manifest.observation
    samples = samples_of_chunks(episode, tuple(observation.cameras))
    chunks = {chunk.observed_ns: chunk for chunk in episode.chunks}
    every = np.arange(len(samples))
    index, mask = history(
        samples.observed_ns, every, observation.history, round(observation.step_s * 1e9), samples.segment
    )
    seen = [
        (
            policy_state(episode.ticks["position"][tick], episode.ticks["velocity"][tick], observation.state),
            {
                name: policy_image(decode_jpeg(episode.frames[name].jpeg[samples.frames[name][row]]), wanted)
                for name, wanted in observation.cameras.items()
            },
        )
        for row, tick in enumerate(samples.tick)
    ]
    for row in every:
        chunk = chunks[samples.observed_ns[row]]
        policy = policies[chunk.weights]
        features = np.array([policy.encode(*seen[k]) for k in index[row]])
        window = np.where(mask[row][:, None], features, 0).astype(np.float32)
        assert np.array_equal(policy.decode(window, mask[row]), chunk.targets), (row, chunk.weights)
