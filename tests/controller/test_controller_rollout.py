"""Which bundle a run drives: a shelf that misbehaves, an operator who changes their mind, a process that dies."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import write_tiny_bundle

from controller.desk import SOCKET, Client, Desk, connected
from controller.reception import Reception
from controller.weights.checks import Checks
from controller.weights.office import Office
from controller.weights.rollout import Rollout, Said
from export.bundle import Bundle
from export.shelf import NEWEST_FILE, bundle_name, offer
from spec.errors import CadenzaError

JOINTS = ("a", "b")
DISTANCE: dict[str, Any] = {"chunks": 8}


def put(shelf: Path, weights: int, ramp: float = 0.01, *, rollback: bool = False) -> Bundle:
    bundle = write_tiny_bundle(shelf / bundle_name(weights), JOINTS, weights=weights, ramp=ramp)
    offer(shelf, bundle, rollback)
    return bundle


def at_once(work: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(work())
    except CadenzaError as error:
        future.set_exception(error)
    return future


class Run:
    """A rollout, and an inference process that heeds or refuses."""

    def __init__(self, bundle: Bundle, shelf: Path | None) -> None:
        self.told: list[dict[str, Any]] = []
        self.forgotten: list[int] = []
        self.rollout = Rollout(bundle, shelf, self._tell, at_once)
        self.said: list[Said] = []
        self.now_s = 0.0
        self.ready = True

    def _tell(self, **command: Any) -> bool:
        if command["do"] == "forget":
            self.forgotten.append(command["request"])
        else:
            self.told.append(command)
        return True

    def look(self, turns: int = 3) -> list[str]:
        """Kinds of what has come about."""
        for _ in range(turns):
            self.now_s += 1.1
            self.rollout.look(self.now_s, ready=self.ready)
        said = self.rollout.said()
        self.said += said
        return [one.kind for one in said]

    def hear(self, kind: str) -> None:
        self.rollout.heard(kind, {"request": self.told[-1]["request"], "text": kind, "distance": DISTANCE})

    def drive(self, weights: int) -> None:
        """Inference was told these and takes them."""
        self.look()
        assert self.told[-1]["weights"] == weights, self.told
        self.hear("rollback" if self.told[-1]["back"] else "swap")
        assert self.rollout.driving.weights == weights
        self.look()

    @property
    def drove(self) -> list[int]:
        return [one["weights"] for one in self.rollout.report()["drove"]]


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


@pytest.fixture
def run(shelf: Path, tmp_path: Path) -> Run:
    shelf.mkdir()
    return Run(write_tiny_bundle(tmp_path / "first", JOINTS, weights=1), shelf)


def test_the_newest_of_a_shelf_is_taken_once(run: Run, shelf: Path) -> None:
    assert run.look() == []
    put(shelf, 3)
    run.look()
    (command,) = run.told
    assert (command["do"], command["weights"], command["back"]) == ("swap", 3, False)
    assert (command["bundle"], len(command["sha256"])) == (str(shelf / "weights-000003"), 64)
    run.hear("swap_trial")
    assert run.rollout.status()["candidate"] == {"what": "weights-000003", "by": "shelf", "state": "shadow"}
    assert run.look(5) == ["swap_trial"]
    run.hear("swap")
    assert run.look(5) == ["swap"]
    assert len(run.told) == 1
    assert run.drove == [1, 3]
    record = run.rollout.report()["drove"][-1]
    assert (record["sha256"], record["by"]) == (command["sha256"], "shelf")


def test_nothing_is_told_before_the_process_can_hear_it(run: Run, shelf: Path) -> None:
    run.ready = False
    put(shelf, 2)
    run.look()
    assert run.told == []
    run.ready = True
    run.drive(2)


def test_what_was_refused_is_not_tried_again_but_its_successor_is(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    run.look()
    run.hear("swap_refused")
    run.look(5)
    assert len(run.told) == 1
    assert run.rollout.report()["refused"] == ["swap_refused"]
    put(shelf, 3)
    run.drive(3)


def test_a_shelf_that_offers_faster_than_anything_can_be_tried(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    run.look(2)
    put(shelf, 3)
    run.look(1)
    put(shelf, 4)
    run.look(1)
    assert len(run.told) == 1
    run.drive(2)
    run.drive(4)
    assert run.drove == [1, 2, 4]


def test_a_newer_offer_takes_the_place_of_one_that_is_tried_for_long(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    run.look()
    assert run.look(20) == []
    put(shelf, 3)
    assert run.look() == ["swap_refused"]
    assert [command["weights"] for command in run.told] == [2, 3]
    assert run.forgotten == [run.told[0]["request"]]
    run.rollout.heard("swap", {"request": run.told[0]["request"], "text": "late", "distance": DISTANCE})
    assert run.rollout.driving.weights == 2, "it drove before it heard that it was not wanted any more"
    run.drive(3)
    assert run.drove == [1, 2, 3]
    run.rollout.roll_back()
    run.drive(2)


@pytest.mark.parametrize("wish", ["back", "swap", "off"])
def test_what_is_in_shadow_is_called_off_by_another_wish(run: Run, shelf: Path, wish: str) -> None:
    """It went on: in the end it drove, and the books said that the first still did."""
    put(shelf, 2)
    run.look()
    run.hear("swap_trial")
    match wish:
        case "back":
            run.rollout.roll_back()
        case "swap":
            run.rollout.swap(write_tiny_bundle(shelf / "mine", JOINTS, weights=50).folder)
        case _:
            run.rollout.follow(False)
    assert "swap_refused" in run.look()
    assert run.forgotten == [run.told[0]["request"]]
    assert [command["weights"] for command in run.told[1:]] == ([50] if wish == "swap" else [])


@pytest.mark.parametrize("state", ["shadow", "loading", "on the shelf"])
def test_a_mistyped_path_leaves_everything_as_it_was(run: Run, shelf: Path, state: str) -> None:
    """It took the place of the shelf's candidate, which then was not taken from the shelf again."""
    put(shelf, 2)
    if state != "on the shelf":
        run.look()
    if state == "shadow":
        run.hear("swap_trial")
    before = run.rollout.status()
    number = run.rollout.swap(shelf / "nowhere")
    run.look(1)
    refused = [one for one in run.said if one.kind == "swap_refused"]
    assert [(one.request, one.settled) for one in refused] == [(number, True)]
    assert refused[0].text.startswith("nowhere: ")
    assert run.forgotten == []
    if state != "on the shelf":
        assert run.rollout.status() == before
    run.drive(2)
    assert [command["weights"] for command in run.told] == [2]


def test_while_a_bundle_is_looked_at_the_candidate_goes_on_and_the_last_wish_counts(
    run: Run, shelf: Path, tmp_path: Path
) -> None:
    put(shelf, 2)
    run.look()
    slow: list[Future[Any]] = []

    def later(_: Callable[[], Any]) -> Future[Any]:
        slow.append(Future())
        return slow[-1]

    run.rollout._check, at_hand = later, run.rollout._check
    first = run.rollout.swap(tmp_path / "a")
    run.rollout.swap(tmp_path / "b")
    run.rollout._check = at_hand
    run.look()
    (dropped,) = [one for one in run.said if one.settled]
    assert (dropped.request, dropped.text) == (first, "a: another one came in its place")
    assert slow[0].cancelled()
    run.hear("swap")
    assert run.rollout.driving.weights == 2
    assert run.rollout.status()["candidate"] == {"what": "b", "by": "operator", "state": "checking"}
    put(shelf, 3)
    run.look()
    assert len(run.told) == 1, "the operator's goes first"
    slow[1].set_result(write_tiny_bundle(tmp_path / "b", JOINTS, weights=50))
    run.drive(50)


def test_a_wish_that_is_looked_at_is_dropped_for_the_way_back(run: Run, shelf: Path, tmp_path: Path) -> None:
    put(shelf, 2)
    run.drive(2)
    wish = run.rollout.swap(write_tiny_bundle(tmp_path / "mine", JOINTS, weights=50).folder)
    run.rollout.roll_back()
    run.look()
    assert [one.request for one in run.said if one.kind == "swap_refused"] == [wish]
    run.drive(1)
    assert run.drove == [1, 2, 1]


def test_who_is_asked_to_go_back_and_dies_starts_again_with_what_was_before(run: Run, shelf: Path) -> None:
    """It was told that the way back was refused, and one that dies with every look could never be left."""
    put(shelf, 2)
    run.drive(2)
    run.rollout.roll_back()
    run.look()
    assert run.rollout.died()
    assert run.look() == ["rollback"]
    assert (run.rollout.driving.weights, run.drove) == (1, [1, 2, 1])
    run.rollout.roll_back()
    assert run.look() == ["swap_refused"]
    assert not run.rollout.died()


def test_what_can_not_be_gone_back_to_is_passed_over(run: Run, shelf: Path) -> None:
    for weights in (2, 3):
        put(shelf, weights)
        run.drive(weights)
    run.rollout.roll_back()
    run.look()
    assert run.told[-1]["weights"] == 2
    run.hear("swap_refused")
    assert run.look() == ["swap_refused"]
    assert run.rollout.driving.weights == 3
    run.rollout.roll_back()
    run.look()
    assert [command["weights"] for command in run.told] == [2, 3, 2, 1]
    run.hear("rollback")
    assert run.drove == [1, 2, 3, 1]


@pytest.mark.parametrize("harm", [FileNotFoundError, ValueError, MemoryError])
def test_a_folder_that_brings_about_anything_is_a_refusal(harm: type[Exception]) -> None:
    """A bundle that was moved away while it was looked at ended the run with a traceback."""

    def work() -> None:
        raise harm("gone")

    checks = Checks()
    with pytest.raises(CadenzaError, match=f"cannot be looked at: {harm.__name__}: gone"):
        checks(work).result()
    checks.close()


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "newest.json"),
        (b'{"weights": -1, "bundle": "x", "sha256": ""}', "weights"),
        (b'{"weights": 2, "bundle": "../first", "sha256": ""}', "not a plain folder name"),
        (b'{"weights": 2, "bundle": "nowhere", "sha256": ""}', "not a bundle"),
        (b'{"weights": 2, "bundle": "nowhere", "sha256": "", "extra": 1}', "extra"),
    ],
)
def test_a_shelf_in_disorder_is_told_once_and_looked_at_again(run: Run, shelf: Path, garbage: bytes, why: str) -> None:
    (shelf / NEWEST_FILE).write_bytes(garbage)
    assert run.look(6) == ["swap_refused"]
    assert why in run.said[0].text
    assert run.told == []
    put(shelf, 3)
    run.drive(3)


def test_a_bundle_altered_on_the_shelf_never_reaches_inference(run: Run, shelf: Path) -> None:
    bundle = put(shelf, 2)
    bundle.decoder.write_bytes(b"x" + bundle.decoder.read_bytes()[1:])
    assert run.look(5) == ["swap_refused"]
    assert "altered" in run.said[0].text
    assert run.told == []


def test_another_bundle_than_the_one_on_offer_is_refused(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    write_tiny_bundle(shelf / bundle_name(2), JOINTS, weights=2, ramp=0.3)
    assert run.look() == ["swap_refused"]
    assert run.told == []


def test_an_older_or_equal_version_is_left_alone(run: Run, shelf: Path) -> None:
    put(shelf, 5)
    run.drive(5)
    put(shelf, 4)
    assert run.look(5) == ["weights"]
    assert "older than 5" in run.said[-1].text
    put(shelf, 5)
    assert run.look(5) == []
    assert len(run.told) == 1


def test_one_number_stands_for_one_content(run: Run, shelf: Path) -> None:
    put(shelf, 5)
    run.drive(5)
    run.rollout.roll_back()
    run.drive(1)
    write_tiny_bundle(shelf / "other", JOINTS, weights=5, ramp=0.2)
    run.rollout.swap(shelf / "other")
    assert run.look() == ["swap_refused"]
    assert "drove in this run already, with other content" in run.said[-1].text


def test_back_and_following_only_what_is_newer_than_all_so_far(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    run.drive(2)
    put(shelf, 3)
    run.drive(3)
    run.rollout.roll_back()
    run.look(1)
    assert (run.told[-1]["weights"], run.told[-1]["back"]) == (2, True)
    run.drive(2)
    run.look(5)
    assert run.rollout.driving.weights == 2
    run.rollout.roll_back()
    run.drive(1)
    count = len(run.told)
    run.rollout.roll_back()
    assert run.look() == ["swap_refused"]
    assert "nothing to go back to" in run.said[-1].text
    assert len(run.told) == count
    put(shelf, 4)
    run.drive(4)
    assert run.drove == [1, 2, 3, 2, 1, 4]
    run.rollout.roll_back()
    run.drive(1)


def test_on_again_takes_what_was_rolled_back_from(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    run.drive(2)
    run.rollout.roll_back()
    run.drive(1)
    assert run.rollout.follow(False) is None
    put(shelf, 3)
    assert run.look(5) == ["weights"]
    assert run.said[-1].text == f"following {shelf} no more"
    assert run.rollout.driving.weights == 1
    put(shelf, 2)
    assert run.rollout.follow(True) is None
    run.drive(2)


def test_a_shelf_may_go_back_on_purpose(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    run.drive(2)
    put(shelf, 3, ramp=0.02)
    run.drive(3)
    put(shelf, 2, rollback=True)
    run.look()
    assert (run.told[-1]["weights"], run.told[-1]["back"]) == (2, True)
    run.drive(2)
    assert run.look(5) == []
    put(shelf, 4)
    run.drive(4)


def test_a_shelf_that_goes_back_to_what_never_drove_here_has_it_tried(run: Run, shelf: Path) -> None:
    put(shelf, 5)
    run.drive(5)
    put(shelf, 3, rollback=True)
    run.look()
    assert (run.told[-1]["weights"], run.told[-1]["back"]) == (3, False)
    run.hear("swap_refused")
    run.look(5)
    assert len(run.told) == 2, "once"


def test_the_operators_wish_goes_first(run: Run, shelf: Path, tmp_path: Path) -> None:
    run.rollout.swap(write_tiny_bundle(tmp_path / "mine", JOINTS, weights=50, ramp=0.02).folder)
    put(shelf, 60)
    run.drive(50)
    run.look()
    assert run.told[-1]["weights"] == 60
    run.drive(60)


def test_an_operator_may_choose_an_older_one_and_keeps_it(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    run.drive(2)
    put(shelf, 3)
    run.drive(3)
    run.rollout.swap(shelf / bundle_name(2))
    run.drive(2)
    assert not run.told[-1]["back"], "it is tried like any other"
    assert run.look(5) == []
    assert [command["weights"] for command in run.told] == [2, 3, 2], "what the shelf offered before is not tried again"


@pytest.mark.parametrize("how", ["refused", "killed"])
def test_what_an_operator_named_in_vain_keeps_nothing_of_the_shelf_away(
    run: Run, shelf: Path, tmp_path: Path, how: str
) -> None:
    """Its number was that of another learner: all that the shelf offered below it was passed over in silence."""
    run.rollout.swap(write_tiny_bundle(tmp_path / "mine", JOINTS, weights=50).folder)
    run.look()
    if how == "refused":
        run.hear("swap_refused")
    else:
        run.rollout.died()
    assert run.look() == ["swap_refused"]
    put(shelf, 2)
    run.drive(2)


def test_inference_killed_in_a_trial(run: Run, shelf: Path) -> None:
    """What it was trying may be why, so it is not tried again."""
    put(shelf, 2)
    run.look()
    run.rollout.died()
    assert run.look(5) == ["swap_refused"]
    assert "died while it was tried" in run.said[-1].text
    assert (len(run.told), run.rollout.driving.weights) == (1, 1)
    put(shelf, 3)
    run.drive(3)


def test_inference_killed_right_after_the_swap_goes_on_with_the_new_one(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    run.drive(2)
    run.rollout.died()
    assert run.look() == []
    assert run.rollout.driving.weights == 2
    run.rollout.roll_back()
    run.drive(1)


def test_what_can_not_be_loaded_any_more_gives_way_to_the_one_before(run: Run, shelf: Path) -> None:
    put(shelf, 2)
    run.drive(2)
    assert run.rollout.step_back()
    assert run.rollout.driving.weights == 1
    run.look(5)
    assert len(run.told) == 1, "the shelf still offers it"
    assert not run.rollout.step_back()


def test_a_run_without_a_shelf(tmp_path: Path) -> None:
    run = Run(write_tiny_bundle(tmp_path / "first", JOINTS, weights=1), None)
    assert run.rollout.follow(True) == "this run follows no shelf; start it with --follow"
    run.rollout.swap(tmp_path / "nowhere")
    assert run.look() == ["swap_refused"]
    run.rollout.swap(write_tiny_bundle(tmp_path / "second", JOINTS, weights=2).folder)
    run.drive(2)
    json.dumps(run.rollout.report())


acts = st.lists(
    st.sampled_from(["offer", "older", "garbage", "accept", "refuse", "trial", "die", "back", "on", "off", "operator"]),
    max_size=25,
)


@settings(max_examples=20, deadline=None)
@given(acts)
def test_whatever_happens_only_what_inference_took_drives(
    tmp_path_factory: pytest.TempPathFactory, what: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    shelf = folder / "shelf"
    shelf.mkdir()
    run = Run(write_tiny_bundle(folder / "first", JOINTS, weights=1), shelf)
    number, expected = 1, 1
    open_requests: dict[int, int] = {}
    """What inference was told and has not settled: request → weights. It may have settled it before it hears more."""
    for act in what:
        before = len(run.told)
        match act:
            case "offer":
                number += 1
                put(shelf, number)
            case "older":
                put(shelf, max(1, number - 1))
            case "garbage":
                (shelf / NEWEST_FILE).write_bytes(b"\xff\x00")
            case "accept" | "refuse" | "trial" if run.told:
                request = run.told[-1]["request"]
                run.hear({"accept": "swap", "refuse": "swap_refused", "trial": "swap_trial"}[act])
                if act != "trial" and (settled := open_requests.pop(request, None)) is not None and act == "accept":
                    expected = settled
            case "die":
                open_requests.clear()
                if run.rollout.died():
                    expected = run.told[-1]["weights"]
                    assert run.told[-1]["back"]
            case "back":
                run.rollout.roll_back()
            case "on" | "off":
                run.rollout.follow(act == "on")
            case "operator":
                run.rollout.swap(shelf / bundle_name(number))
            case _:
                pass
        run.look()
        open_requests |= {told["request"]: told["weights"] for told in run.told[before:]}
        assert run.rollout.driving.weights == expected
        assert len(run.told) <= before + 2
    report = run.rollout.report()
    assert report["drove"][-1]["weights"] == expected
    json.dumps(report)


# -- the desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / ("deep" * 40)
    folder.mkdir()
    desk = Desk(folder)
    desk.folder = folder  # type: ignore[attr-defined]
    yield desk
    desk.close()


def _lines(link: socket.socket) -> list[dict[str, Any]]:
    link.setblocking(False)
    try:
        data = link.recv(65536)
    except BlockingIOError:
        return []
    return [json.loads(line) for line in data.splitlines()]


def test_only_its_user_may_speak_at_the_desk_however_deep_the_folder(desk: Desk) -> None:
    folder: Path = desk.folder  # type: ignore[attr-defined]
    assert len(str(folder)) > 107
    assert (folder / SOCKET).stat().st_mode & 0o777 == 0o600
    with connected(folder) as link:
        assert link is not None
        link.sendall(b'{"do": "sta')
        assert desk.requests() == []
        link.sendall(b'tus"}\n{"do": "more"}\n')
        asked = desk.requests()
        assert [document for _, document in asked] == [{"do": "status"}, {"do": "more"}]
        asked[0][0].answer({"n": 1}, last=False)
        asked[0][0].answer({"n": 2})
        desk.send()
        assert _lines(link) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    "rubbish", [b"\n\nhello\n", b"[1]\n", b"[" * 100_000 + b"\n", b"\xff\xfe\n", b"x" * 70_000, b'{"do": "\\ud800"}\n']
)
def test_rubbish_at_the_desk_harms_nobody(desk: Desk, rubbish: bytes) -> None:
    folder: Path = desk.folder  # type: ignore[attr-defined]
    with connected(folder) as link, connected(folder) as other:
        assert link is not None
        assert other is not None
        link.settimeout(5)
        link.setblocking(False)
        rest = rubbish
        answers: list[dict[str, Any]] = []
        for _ in range(20):
            try:
                rest = rest[link.send(rest) :] if rest else rest
            except OSError:
                rest = b""
            assert desk.requests() == []
            desk.send()
            try:
                answers += _lines(link)
            except ConnectionResetError:
                break
        assert [answer["kind"] for answer in answers][:1] == ["error"]
        other.sendall(b'{"do": "status"}\n')
        assert len(desk.requests()) == 1


def test_who_hangs_up_or_never_reads_holds_nobody_up(desk: Desk) -> None:
    folder: Path = desk.folder  # type: ignore[attr-defined]
    with connected(folder) as link:
        assert link is not None
        link.sendall(b'{"do": 1}\n')
        ((client, _),) = desk.requests()
    client.answer({"kind": "late"})
    desk.send()
    desk.requests()
    desk.send()
    with connected(folder) as link:
        assert link is not None
        link.sendall(b'{"do": 2}\n')
        ((client, _),) = desk.requests()
        client.answer({"long": "x" * 2_000_000})
        desk.send()
        assert client.unsent
        unsent = len(client.unsent)
        for _ in range(5):
            link.sendall(b"rubbish\n" * 1000)
            assert desk.requests() == []
            desk.send()
        assert len(client.unsent) == unsent, "answers nobody reads pile up"


def test_who_asks_nothing_makes_way(desk: Desk) -> None:
    """Eight who never said a word kept everybody else out."""
    folder: Path = desk.folder  # type: ignore[attr-defined]
    with ExitStack() as stack:
        waiting = stack.enter_context(connected(folder))
        assert waiting is not None
        waiting.sendall(b'{"do": "swap"}\n')
        assert len(desk.requests()) == 1
        for _ in range(10):
            stack.enter_context(connected(folder))
            assert desk.requests() == []
        last = stack.enter_context(connected(folder))
        assert last is not None
        last.sendall(b'{"do": "status"}\n')
        assert [document for _, document in desk.requests()] == [{"do": "status"}]
        assert len(desk._clients) == 8
        assert desk._clients[0].asked


def test_a_killed_run_leaves_a_socket_that_the_next_one_replaces(tmp_path: Path) -> None:
    dead = Desk(tmp_path)
    dead._listening.close()  # without a word, as kill -9 does
    os.close(dead._lock)
    assert (tmp_path / SOCKET).exists()
    with connected(tmp_path) as link:
        assert link is None
    alive = Desk(tmp_path)
    with pytest.raises(CadenzaError, match="another run is on there"):
        Desk(tmp_path)
    with connected(tmp_path) as link:
        assert link is not None
    alive.close()
    assert not (tmp_path / SOCKET).exists()


def test_of_two_runs_that_start_in_one_folder_one_is_refused(tmp_path: Path) -> None:
    """Both used to find nobody there; the second then took the first one's socket away."""
    first = Desk(tmp_path)
    first._listening.close()  # it does not listen yet
    (tmp_path / SOCKET).unlink()
    with pytest.raises(CadenzaError, match="another run is on there"):
        Desk(tmp_path)
    os.close(first._lock)
    Desk(tmp_path).close()


def test_an_office_answers_who_waits(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def tell(**command: Any) -> bool:
        told.append(command)
        return True

    first = write_tiny_bundle(tmp_path / "first", JOINTS, weights=1)
    second = write_tiny_bundle(tmp_path / "second", JOINTS, weights=2)
    office = Office(first, None, tell)
    office.rollout._check = at_once
    reception = Reception(tmp_path, office, dict, lambda: "no fault", lambda: None)

    def look(now_s: float) -> None:
        reception.look()
        office.look(now_s, ready=True)
        reception.look()

    with connected(tmp_path) as link:
        assert link is not None

        def ask(**document: Any) -> None:
            link.sendall(json.dumps(document).encode() + b"\n")
            look(0.0)

        ask(do="swap", bundle=str(second.folder))
        office.rollout.heard("swap_trial", {"request": told[0]["request"], "text": "t", "distance": DISTANCE})
        look(1.0)
        office.rollout.heard("swap", {"request": told[0]["request"], "text": "s", "distance": DISTANCE})
        look(2.0)
        assert [answer["kind"] for answer in _lines(link)] == ["swap_trial", "swap"]
    for request, kind in (
        ({"do": "status"}, "status"),
        ({"do": "weights"}, "weights"),
        ({"do": "recover"}, "error"),
        ({"do": "report"}, "error"),
        ({"do": "follow", "on": True}, "error"),
        ({"do": "follow", "on": 1}, "error"),
        ({"do": "swap"}, "error"),
        ({"do": "swap", "bundle": "a\0b"}, "error"),
        ({"do": "swap", "bundle": "/nowhere"}, "swap_refused"),
        ({}, "error"),
    ):
        with connected(tmp_path) as link:
            assert link is not None
            link.sendall(json.dumps(request).encode() + b"\n")
            look(3.0)
            look(4.0)
            assert [answer["kind"] for answer in _lines(link)] == [kind], request
    reception.close()
    office.close()


def test_a_client_says_goodbye_only_once() -> None:
    a, b = socket.socketpair()
    client = Client(a)
    client.answer({"k": 1}, last=False)
    assert not client.leaving
    client.answer({"k": 2})
    assert client.leaving
    a.close()
    b.close()
