"""Recorded episodes as a LeRobotDataset v3.0, for training elsewhere. Never the live format."""

from episodes.lerobot.layout import Only, Settings
from episodes.lerobot.publishing import Existing, Summary, export

__all__ = ["Existing", "Only", "Settings", "Summary", "export"]
