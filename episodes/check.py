"""Is an episode sound? Everything in it is read, decoded and compared with what it should be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from episodes.reader import Episode, read_episode
from episodes.records import Driver, Flag, Mode
from episodes.recovery import being_written
from episodes.writer import MODEL_FILE
from spec.arrays import Bool, Int
from spec.errors import CadenzaError
from spec.observation import decode_jpeg

_ENGAGED = int(Flag.ENGAGED | Flag.ENGAGE_FAILED)
_ARRIVED = int(Flag.NEW_CHUNK | Flag.CHUNK_REFUSED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, one line each."""

    wrong: list[str]
    notes: list[str]
    """What a sound episode may lack."""


def check(path: Path) -> list[str]:
    """What is wrong with an episode, one line each; empty for a sound one."""
    return examine(path).wrong


def examine(path: Path) -> Verdict:
    """What is wrong with an episode, and what it lacks."""
    if being_written(path):
        return Verdict(["is being written"], [])
    try:
        episode = read_episode(path)
        robot = episode.robot()
        episode.bundle()
        rewards = [reward for _, reward in episode.rewards]
    except CadenzaError as error:
        return Verdict([str(error).removeprefix(f"{path}: ")], [])
    wrong = []
    if episode.damage:
        wrong.append(f"unfinished or damaged ({episode.damage}); save what is whole: cadenza episodes recover {path}")
    if robot.follower.names != episode.joints:
        wrong.append(f"joints {list(episode.joints)} are not those of its robot file")
    wrong += _ticks(episode) + _hands(episode) + _chunks(episode)
    wrong += [f"dropped: {count} of {topic}" for topic, count in _counted(episode, "dropped_")]
    wrong += [
        f"left out for want of disk space: {count} pictures of {name}" for name, count in _counted(episode, "shed_")
    ]
    for name in episode.frames:
        wrong += _frames(episode, name)
    if not np.isfinite(rewards).all():
        wrong.append("a reward is not finite")
    notes = []
    if not any(event.kind == "state" for event in episode.events):
        notes.append("no state on record: cadenza replay --ticks has nowhere to start")
    if _unknown(episode).any():
        notes.append("the policy drove by a chunk from before the recorder ran")
    if robot.model is not None and MODEL_FILE not in episode.attachments:
        notes.append("the arm's model is not in it")
    return Verdict(wrong, notes)


def _ticks(episode: Episode) -> list[str]:
    ticks = episode.ticks
    if not len(ticks):
        return ["no ticks"]
    found = []
    if not _rising(ticks["now_ns"]):
        found.append("tick times do not rise")
    if not np.isfinite(ticks["position"]).all():
        found.append("a measured position is not finite")
    if not np.array_equal(ticks["joints"], np.full(len(ticks), len(episode.joints))):
        found.append("ticks of another number of joints")
    numbers = ticks["tick"].astype(np.int64)
    missing = np.diff(numbers) - 1 - ticks["skipped"][1:]
    missing[ticks["flags"][1:] & _ENGAGED != 0] = 0  # engaging takes as many periods as it takes
    if (missing > 0).any():
        first = int(numbers[:-1][missing > 0][0])
        found.append(f"{int(missing[missing > 0].sum())} ticks are missing, the first after tick {first}")
    return found


def _hands(episode: Episode) -> list[str]:
    """Whether mode, driver and weight of each tick say the same about who drove."""
    ticks = episode.ticks
    mode, driver, alpha = ticks["mode"], ticks["driver"], ticks["alpha"]
    by_human, by_policy = driver == Driver.HUMAN, driver == Driver.POLICY
    blending = mode == Mode.BLEND
    rules: dict[str, Bool] = {
        "a mode or driver that there is not": (mode > max(Mode)) | (driver > max(Driver)),
        "a weight of the person outside 0 to 1": ~((alpha >= 0.0) & (alpha <= 1.0)),
        "mode HUMAN, but a person does not drive": (mode == Mode.HUMAN) & ~(by_human & (alpha == 1.0)),
        "mode POLICY, but the policy does not drive": (mode == Mode.POLICY) & ~(by_policy & (alpha == 0.0)),
        "mode BLEND towards nobody": blending & ~(by_human | by_policy),
        "somebody drives in a mode in which nobody does": (by_human & ~blending & (mode != Mode.HUMAN))
        | (by_policy & ~blending & (mode != Mode.POLICY)),
        "a person drives, but what they want is not a number": by_human & ~np.isfinite(ticks["human"]).all(axis=1),
    }
    return [_at(what, broken, episode) for what, broken in rules.items() if broken.any()]


def _chunks(episode: Episode) -> list[str]:
    """Whether the chunks that ticks speak of are on record."""
    ticks = episode.ticks
    known = np.array([chunk.sequence for chunk in episode.chunks], dtype=np.int64)
    arrived = (ticks["flags"] & _ARRIVED != 0) & ~np.isin(ticks["arrived"], known)
    used = _unknown(episode) & (ticks["chunk"] > known.min(initial=np.iinfo(np.int64).max))
    found = []
    if any(not np.isfinite(chunk.targets).all() for chunk in episode.chunks):
        found.append("a chunk holds a number that is not finite")
    if arrived.any():
        found.append(_at("a chunk that came is not on record", arrived, episode))
    if used.any():
        found.append(_at("a chunk in use is not on record", used, episode))
    return found


def _unknown(episode: Episode) -> Bool:
    """At which ticks the policy drove by a chunk that is not on record, shape (ticks,)."""
    ticks = episode.ticks
    known = np.array([chunk.sequence for chunk in episode.chunks], dtype=np.int64)
    used: Bool = (ticks["driver"] == Driver.POLICY) & (ticks["chunk"] >= 0)
    return used & ~np.isin(ticks["chunk"], known)


def _at(what: str, broken: Bool, episode: Episode) -> str:
    return f"{what}: {int(broken.sum())} ticks, the first is tick {int(episode.ticks['tick'][broken][0])}"


def _frames(episode: Episode, name: str) -> list[str]:
    frames = episode.frames[name]
    found = [] if _rising(frames.captured_ns) else [f"camera {name}: times do not rise"]
    for index, jpeg in enumerate(frames.jpeg):
        try:
            decode_jpeg(jpeg)
        except ValueError as error:
            found.append(f"camera {name}: frame {index}: {error}")
    return found


def _counted(episode: Episode, prefix: str) -> list[tuple[str, str]]:
    result = episode.result.items()
    return [(key.removeprefix(prefix), count) for key, count in result if key.startswith(prefix) and count != "0"]


def _rising(times: Int) -> bool:
    return bool((np.diff(times) > 0).all())
