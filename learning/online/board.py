"""Numbers of a run for TensorBoard: ``tensorboard --logdir OUT/tb``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

TENSORBOARD = "tb"


class TensorBoard:
    """Writes event files; one more each time that a run is resumed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def resume(self, update: int) -> None:
        """What came after ``update`` is no longer shown."""
        self._writer = SummaryWriter(str(self._folder / TENSORBOARD), purge_step=update + 1, max_queue=1000)

    def show(self, update: int, numbers: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, update)

    def flush(self) -> None:
        """Hand everything to the file system."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
