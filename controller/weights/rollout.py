"""The bundles of one run: which drives, which drove before, which is to be next.

Knows nothing of processes: orders to the inference process go through a function, its answers come to :meth:`heard`.
Whatever takes time (reading a shelf, hashing a bundle) happens elsewhere, see :mod:`controller.weights.checks`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from controller.weights.checks import Checked
from controller.weights.lineage import Lineage
from export.bundle import Bundle, read_bundle
from export.shelf import Newest, open_newest, read_newest
from spec.errors import CadenzaError

LOOK_S = 1.0
"""How often a shelf is looked at [s]."""
PATIENCE_S = 10.0
"""A candidate from a shelf makes way for a newer one after this time [s]. A trial takes one or two; a learner that
offers faster than that would otherwise never see any of its weights drive."""


@dataclass(slots=True, eq=False)
class Request:
    """A wish to have another bundle drive."""

    number: int
    by: str
    """``shelf``, ``operator`` or ``rollback``."""
    what: str
    """The bundle, in words."""
    state: str = "checking"
    """Then ``loading`` and ``shadow``."""
    checking: Future[Checked] | None = None
    offered: int = -1
    """What the shelf had offered when it was asked for."""
    bundle: Bundle | None = None
    since_s: float = 0.0
    """Monotonic [s]."""
    back: bool = False
    """It drove before in this run."""
    told: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """Something came about: for the screen, the record, and whoever waits for the request. Kinds as in
    :class:`controller.workers.exchange.News`; ``weights`` for what concerns no request."""

    kind: str
    text: str
    request: int | None = None
    settled: bool = False
    recorded: bool = False
    """The inference process has put it on record, and that is told already."""
    distance: dict[str, Any] = field(default_factory=dict)


class Rollout:
    """Decides what inference is to load, and keeps the books.

    Args:
        bundle: drives at the beginning; verified.
        shelf: to follow; None: nothing is followed, whatever is asked.
        tell: sends an order to the inference process.
        check: runs what takes time.
    """

    def __init__(
        self,
        bundle: Bundle,
        shelf: Path | None,
        tell: Callable[..., bool],
        check: Callable[[Callable[[], Checked]], Future[Checked]],
    ) -> None:
        self.shelf, self._tell, self._check = shelf, tell, check
        self.following = shelf is not None
        self._lineage = Lineage(bundle)
        self._refused: list[str] = []
        self._requests = 0
        self._request: Request | None = None
        """In hand."""
        self._wish: Request | None = None
        """What the operator named and nobody has looked at yet. Until it is found whole, everything goes on."""
        self._told: dict[int, Request] = {}
        self._looking: Future[Checked] | None = None
        self._look_s = 0.0
        self._floor = -1
        self._offered = -1
        self._newest: Newest | None = None
        self._heeded: Newest | None = None
        self._trouble = ""
        self._said: list[Said] = []

    @property
    def driving(self) -> Bundle:
        """What drives."""
        return self._lineage.driving

    # -- what the operator asks for

    def swap(self, folder: Path) -> int:
        """Have a bundle drive, whatever its version; returns the number of the request."""
        self._drop_wish()
        self._wish = self._asked("operator", folder.name)
        self._wish.offered = self._offered
        self._wish.checking = self._check(partial(read_bundle, folder))
        return self._wish.number

    def roll_back(self) -> int:
        """Have the bundle drive that drove before. Nothing is followed until something newer than all so far comes."""
        self._drop_wish()
        request = self._begin(self._asked("rollback", "the one before"))
        self._floor = max(self._floor, self._offered, self.driving.weights)
        if (previous := self._lineage.previous) is None:
            self._settle(request, f"weights {self.driving.weights} are the first of this run; nothing to go back to")
            return request.number
        request.bundle, request.state, request.back = previous, "loading", True
        return request.number

    def follow(self, following: bool) -> str | None:
        """Follow the shelf, or not; on also means what was rolled back from. Returns why not, if so."""
        if following and self.shelf is None:
            return "this run follows no shelf; start it with --follow"
        self.following = following
        request = self._request
        if not following and request is not None and request.by == "shelf":
            self._settle(request, "the shelf is followed no more", bar=False)
        if following:
            self._floor, self._look_s, self._heeded = -1, 0.0, None
        self._say("weights", f"following {self.shelf} {'again' if following else 'no more'}")
        return None

    def status(self) -> dict[str, Any]:
        """JSON-able."""
        request, previous = self._request or self._wish, self._lineage.previous
        return {
            "driving": self.driving.weights,
            "bundle": str(self.driving.folder),
            "previous": None if previous is None else previous.weights,
            "following": self.following,
            "shelf": None if self.shelf is None else str(self.shelf),
            "offered": None if self._newest is None else self._newest.weights,
            "above": None if self._floor < 0 else self._floor,
            "candidate": None if request is None else {"what": request.what, "by": request.by, "state": request.state},
        }

    def report(self) -> dict[str, Any]:
        """Every version that drove, in order, and what was refused. JSON-able."""
        return {**self.status(), "drove": self._lineage.record, "refused": self._refused}

    # -- what comes about

    def said(self) -> list[Said]:
        """What has come about since the last call."""
        said, self._said = self._said, []
        return said

    def look(self, now_s: float, *, ready: bool) -> None:
        """Let time pass.

        Args:
            now_s: monotonic [s].
            ready: whether the inference process takes orders.
        """
        if self._wish is not None and _done(self._wish.checking):
            self._take(self._wish)
        self._look_at_shelf(now_s)
        request = self._request
        if request is None:
            return
        if _done(request.checking):
            self._take(request)
        if request is self._request and request.bundle is not None and not request.told and ready:
            bundle = request.bundle
            request.told = self._tell(
                do="swap",
                request=request.number,
                bundle=str(bundle.folder.resolve()),
                weights=bundle.weights,
                sha256=bundle.sha256,
                back=request.back,
            )
            if request.told:
                self._told[request.number] = request

    def heard(self, kind: str, message: dict[str, Any]) -> None:
        """The inference process says what became of a request."""
        number, text, distance = message["request"], message["text"], message["distance"]
        request = self._told.get(number)
        if request is None:  # of a process that is gone
            return
        wanted = request is self._request
        if kind == "swap_trial":
            request.state = "shadow"
            if wanted:
                self._said.append(Said(kind, text, number))
            return
        del self._told[number]
        if wanted:
            self._request = None
            self._said.append(Said(kind, text, number, settled=True, recorded=True, distance=distance))
        if kind != "swap_refused":  # it may have come to drive before it heard that it was not wanted any more
            self._arrived(request)
        elif wanted:
            self._refuse(request, text)

    def died(self) -> bool:
        """The inference process is gone; its successor starts with what drives. What it was trying may be why.

        Returns whether that is another bundle than before: one that was to be gone back to needs no trial.
        """
        self._told.clear()
        request = self._request
        if request is None or not request.told:
            return False
        if request.by != "rollback":
            self._settle(request, "the inference process died while it was tried")
            return False
        self._request, before = None, self.driving.weights
        self._arrived(request)
        text = f"weights {before} -> {self.driving.weights}: the inference process starts again with them"
        self._said.append(Said("rollback", text, request.number, settled=True))
        return True

    def step_back(self) -> bool:
        """What drives cannot be loaded any more: take the one before. False where there is none."""
        if (previous := self._lineage.previous) is None:
            return False
        self._floor = max(self._floor, self.driving.weights)
        self._lineage.go_back(previous, "step back")
        self._say("weights", f"going on with weights {self.driving.weights}")
        return True

    # -- inside

    def _asked(self, by: str, what: str) -> Request:
        self._requests += 1
        return Request(self._requests, by, what)

    def _begin(self, request: Request) -> Request:
        """Take it in hand, in the place of an older one."""
        if self._request is not None:
            self._settle(self._request, "another one came in its place", bar=False)
        self._request = request
        return request

    def _drop_wish(self) -> None:
        if self._wish is not None:
            self._settle(self._wish, "another one came in its place", bar=False)

    def _look_at_shelf(self, now_s: float) -> None:
        if self.shelf is None or not self.following:
            return
        if self._looking is not None:
            if self._looking.done():
                looking, self._looking = self._looking, None
                self._heed(looking, now_s)
        elif now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            self._looking = self._check(partial(read_newest, self.shelf))

    def _heed(self, looking: Future[Checked], now_s: float) -> None:
        """A shelf in disorder is told once, and looked at again."""
        try:
            newest = looking.result()
        except CadenzaError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._refused.append(str(error))
                self._say("swap_refused", str(error))
            return
        if not isinstance(newest, Newest):
            return
        self._trouble = ""
        first, self._heeded, self._newest = newest != self._heeded, newest, newest
        self._offered = max(self._offered, newest.weights)
        goes_back = newest.rollback and first and newest.weights != self.driving.weights
        if newest.weights < self.driving.weights and first and not goes_back:
            self._say(
                "weights",
                f"{self.shelf} offers {newest.weights}, older than {self.driving.weights} that drive",
            )
        if not goes_back and newest.weights <= max(self._floor, self.driving.weights):
            return
        busy = self._wish or self._request
        if busy is not None and busy.by == "shelf" and busy.what == newest.bundle:
            return
        if busy is not None and (busy.by != "shelf" or now_s < busy.since_s + PATIENCE_S):
            self._heeded = None  # what is in hand goes first; then this one
            return
        assert self.shelf is not None  # noqa: S101 (it was looked at)
        request = self._begin(self._asked("shelf", newest.bundle))
        request.since_s, request.offered = now_s, newest.weights
        request.checking = self._check(partial(open_newest, self.shelf, newest))

    def _take(self, request: Request) -> None:
        """A bundle was looked at whole."""
        try:
            found = self._found(request)
        except CadenzaError as error:
            self._settle(request, str(error))
            return
        if request is self._wish:
            self._wish = None
            self._floor = max(self._floor, request.offered)
            self._begin(request)
        request.bundle, request.state = found, "loading"
        known = self._lineage.drove(found.weights) is not None
        request.back = request.by == "shelf" and known and found.weights < self.driving.weights

    def _found(self, request: Request) -> Bundle:
        """The bundle that was looked at. Raises CadenzaError where it must not drive."""
        assert request.checking is not None  # noqa: S101 (it is done)
        checking, request.checking = request.checking, None
        found = checking.result()
        assert isinstance(found, Bundle)  # noqa: S101 (that is what was asked)
        known = self._lineage.drove(found.weights)
        if known is not None and known.sha256 != found.sha256:
            raise CadenzaError(f"weights {found.weights} drove in this run already, with other content")
        return found

    def _settle(self, request: Request, why: str, *, bar: bool = True) -> None:
        """It is not to drive."""
        if request is self._wish:
            self._wish = None
        else:
            self._request = None
        if request.checking is not None:
            request.checking.cancel()
        if request.number in self._told:
            self._tell(do="forget", request=request.number)
        text = f"{request.what}: {why}"
        if bar:
            self._refuse(request, text)
        else:
            self._refused.append(text)
        self._said.append(Said("swap_refused", text, request.number, settled=True))

    def _refuse(self, request: Request, text: str) -> None:
        """What was refused once is not taken from the shelf again, and not gone back to. What the operator named may be
        of another learner: its number says nothing of the shelf's."""
        self._refused.append(text)
        if request.by == "shelf":
            self._floor = max(self._floor, request.offered)
        elif request.by == "rollback" and request.bundle is not None:
            self._lineage.pass_over(request.bundle)

    def _arrived(self, request: Request) -> None:
        """It drives."""
        assert request.bundle is not None  # noqa: S101 (inference was told)
        if request.by == "rollback":
            self._lineage.go_back(request.bundle, request.by)
        else:
            self._lineage.go_on(request.bundle, request.by)

    def _say(self, kind: str, text: str) -> None:
        self._said.append(Said(kind, text))


def _done(checking: Future[Checked] | None) -> bool:
    return checking is not None and checking.done()
