"""What takes time with foreign folders (reading a shelf, hashing a bundle), done beside a run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from export.bundle import Bundle
from export.shelf import Newest
from spec.errors import CadenzaError

Checked = Bundle | Newest | None
"""What a shelf offers, or a bundle whose every hash was right."""


class Checks:
    """Runs one after the other in a thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="weights")

    def __call__(self, work: Callable[[], Checked]) -> Future[Checked]:
        return self._pool.submit(_looked_at, work)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _looked_at(work: Callable[[], Checked]) -> Checked:
    """Whatever a foreign folder brings about, the run goes on."""
    try:
        return work()
    except CadenzaError:
        raise
    except Exception as error:
        raise CadenzaError(f"cannot be looked at: {type(error).__name__}: {error}") from error
