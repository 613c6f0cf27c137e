"""What policies would have done at every policy step of an episode: against what is on record, and each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from controller.hindsight import Answers, ask, on_record, policy_steps
from controller.workers.policy import Policy
from episodes.reader import Episode
from episodes.records import Driver, Mode
from episodes.windows import action_targets
from export.bundle import Bundle
from spec.arrays import Bool, Float, Int
from spec.errors import CadenzaError, MisfitError

TICKS_PER_RAD = 4096 / (2 * np.pi)
LOGGED, EXECUTED, PERSON = "logged", "executed", "the person"
_DRIVEN = (Mode.POLICY, Mode.BLEND, Mode.HUMAN)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """How far two answers lie apart, one entry a policy step."""

    of: str
    """Bundle."""
    to: str
    """Another bundle, ``logged`` (the chunk on record), ``executed`` (what was sent when the first action was due while
    the policy drove) or ``the person`` (likewise while a person did)."""
    ticks: Float
    """Signed difference [encoder ticks], shape (steps, actions, joints); NaN where there is nothing to compare."""

    @property
    def name(self) -> str:
        return f"{self.of} against {self.to}"

    @property
    def bit_equal(self) -> bool | None:
        """Whether everything that could be compared is the same to the last bit; None where nothing could."""
        values = self.ticks[np.isfinite(self.ticks)]
        return bool((values == 0.0).all()) if values.size else None

    @property
    def largest(self) -> float:
        """[encoder ticks]"""
        values = np.abs(self.ticks[np.isfinite(self.ticks)])
        return float(values.max()) if values.size else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One episode under some policies."""

    episode: Episode
    answers: Mapping[str, Answers]
    """By bundle; ``logged`` too, where chunks are on record at the same steps."""
    differences: tuple[Difference, ...]
    left_out: int
    """Steps whose history began before the recording."""
    recorded_with: str | None
    """The bundle among these that made the chunks on record, by its files."""


def labels_of(folders: Sequence[Path]) -> tuple[str, ...]:
    """A short name for each bundle: as much of the end of its path as tells it from the others.

    Raises:
        CadenzaError: the same folder twice.
    """
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) != len(parts):
        raise CadenzaError("--against: the same bundle twice")
    for depth in range(1, max(map(len, parts)) + 1):
        names = tuple("/".join(path[-depth:]) for path in parts)
        if len(set(names)) == len(names):
            return names
    raise CadenzaError("--against: the same bundle twice")


def compare(
    episode: Episode, policies: Mapping[str, tuple[Bundle, Policy]], progress: Callable[[], None] = lambda: None
) -> Compared:
    """Ask every policy about one episode, and compare.

    Args:
        episode: with the pictures of the policies' cameras.
        policies: by label, warmed up.
        progress: called after each policy step.

    Raises:
        MisfitError: a policy does not fit what is on record.
    """
    answers: dict[str, Answers] = {}
    differences: list[Difference] = []
    left_out, logged = 0, None
    for label, (bundle, policy) in policies.items():
        samples = policy_steps(episode, bundle.manifest)
        answer = answers[label] = ask(episode, policy, samples, progress)
        left_out = max(left_out, int((~answer.whole).sum()))
        record = on_record(episode, samples)
        if record is not None:
            logged = record if logged is None else logged
            differences.append(Difference(label, LOGGED, _apart(answer, record)))
        differences += [
            Difference(label, name, apart)
            for name, human in ((EXECUTED, False), (PERSON, True))
            if np.isfinite(apart := _from_executed(answer, episode, human)).any()
        ]
    for a, b in combinations(policies, 2):
        differences.append(Difference(a, b, _apart(answers[a], answers[b])))
    if logged is not None:
        answers[LOGGED] = logged
    drove = episode.bundle()
    its_files = None if drove is None or logged is None else drove.files
    with_it = next((label for label, (bundle, _) in policies.items() if bundle.manifest.files == its_files), None)
    return Compared(episode, answers, tuple(differences), left_out, with_it)


def judged(compared: Sequence[Compared]) -> list[str]:
    """Where a bundle that drove does not say again what it said, one line each; empty where all is well.

    Another processor may round its last bits otherwise; beyond an encoder tick the history is not the one it saw.
    """
    return [
        f"{one.episode.path}: {difference.name}: {difference.largest:.3g} encoder ticks apart, though it drove"
        for one in compared
        for difference in one.differences
        if difference.to == LOGGED and difference.of == one.recorded_with and difference.largest > 1.0
    ]


def summary(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """Figures of each comparison over all episodes, per joint and over all joints; JSON-able."""
    joints = compared[0].episode.joints
    gathered: dict[tuple[str, str], list[Float]] = {}
    for one in compared:
        for difference in one.differences:
            per_step = np.moveaxis(difference.ticks, 2, 0).reshape(len(joints), -1)
            gathered.setdefault((difference.of, difference.to), []).append(per_step)
    rows = []
    for (of, to), parts in gathered.items():
        values = np.concatenate(parts, axis=1)
        values = np.abs(values[:, np.isfinite(values).all(axis=0)])
        figures = {name: _figures(values[index]) for index, name in enumerate(joints)}
        equal = bool(values.size) and bool((values == 0.0).all())
        rows.append({"of": of, "to": to, "bit_equal": equal, "all": _figures(values.ravel()), "joints": figures})
    return rows


def _figures(values: Float) -> dict[str, float | int | None]:
    if not values.size:
        return {"compared": 0, "mean": None, "p95": None, "max": None, "share_above_1": None}
    return {
        "compared": int(values.size),
        "mean": float(values.mean()),
        "p95": float(np.percentile(values, 95)),
        "max": float(values.max()),
        "share_above_1": float((values > 1.0).mean()),
    }


def _apart(a: Answers, b: Answers) -> Float:
    """Difference of two answers at the due times of the first, where both speak [encoder ticks]."""
    out = np.full(a.targets.shape, np.nan)
    other = {int(instant): row for row, instant in enumerate(b.observed_ns)}
    for row, instant in enumerate(a.observed_ns):
        match = other.get(int(instant))
        if match is None or not (a.whole[row] and b.whole[match]):
            continue
        theirs = _at_due_times(b.targets[match], b.step_ns, a.targets.shape[1], a.step_ns)
        out[row] = (a.targets[row] - theirs) * TICKS_PER_RAD
    return out


def _at_due_times(targets: Float, step_ns: int, count: int, every_ns: int) -> Float:
    """A chunk at the due times of another one, linear between its actions; NaN beyond its ends."""
    out = np.full((count, targets.shape[1]), np.nan)
    if step_ns == every_ns:
        out[: len(targets)] = targets[:count]
        return out
    own, wanted = step_ns * np.arange(1, len(targets) + 1), every_ns * np.arange(1, count + 1)
    inside = (wanted >= own[0]) & (wanted <= own[-1])
    for joint in range(targets.shape[1]):
        out[inside, joint] = np.interp(wanted[inside], own, targets[:, joint])
    return out


def _from_executed(answer: Answers, episode: Episode, human: bool) -> Float:
    """Each first action against what was sent when it was due, while that one drove. Shape (steps, 1, joints)."""
    sent_ns, sent, by_policy, by_person = executed(episode)
    driven = by_person if human else by_policy
    out = np.full((len(answer.observed_ns), 1, len(episode.joints)), np.nan)
    if not len(sent_ns):
        return out
    targets, known = action_targets(answer.observed_ns, 1, answer.step_ns, sent_ns, sent)
    known &= driven[_newest(sent_ns, answer.observed_ns + answer.step_ns)][:, None] & answer.whole[:, None]
    out[known] = (answer.targets[:, :1] - targets)[known] * TICKS_PER_RAD
    return out


def executed(episode: Episode) -> tuple[Int, Float, Bool, Bool]:
    """Of the ticks that sent: instants [ns], joint targets [rad], whether a policy drove, whether a person."""
    ticks = episode.ticks[np.isfinite(episode.ticks["sent"]).all(axis=1)]
    human = ticks["driver"] == Driver.HUMAN
    return ticks["now_ns"].astype(np.int64), ticks["sent"], np.isin(ticks["mode"], _DRIVEN) & ~human, human


def spans_of_a_person(episode: Episode) -> list[tuple[float, float]]:
    """When a person drove [s since the first tick]."""
    ticks = episode.ticks
    edges = np.flatnonzero(np.diff(np.pad((ticks["driver"] == Driver.HUMAN).astype(np.int8), 1)))
    times = (ticks["now_ns"] - ticks["now_ns"][0]) * 1e-9
    return [(float(times[a]), float(times[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _newest(times_ns: Int, instants_ns: Int) -> Int:
    return np.clip(np.searchsorted(times_ns, instants_ns, side="right") - 1, 0, len(times_ns) - 1)


def load_policies(bundles: Sequence[Bundle], labels: Sequence[str]) -> dict[str, tuple[Bundle, Policy]]:
    """Policies of verified bundles, warmed up.

    Raises:
        SpecError: a graph that does not run.
        MisfitError: bundles of different robots.
    """
    first = bundles[0].manifest
    policies: dict[str, tuple[Bundle, Policy]] = {}
    for label, bundle in zip(labels, bundles, strict=True):
        if bundle.manifest.joints != first.joints:
            raise MisfitError(
                f"bundle {bundle.manifest.name}: joints {list(bundle.manifest.joints)} are not those of bundle "
                f"{first.name}, {list(first.joints)}"
            )
        policy = Policy(bundle)
        policy.warm_up()
        policies[label] = bundle, policy
    return policies
