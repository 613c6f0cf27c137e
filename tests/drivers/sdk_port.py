"""The Dynamixel SDK's own port, for tests in which a foreign client talks to the virtual arm."""

from __future__ import annotations

from dynamixel_sdk import PortHandler

PATIENCE_MS = 2000.0


class PatientPort(PortHandler):
    """Waits two seconds for an answer where the SDK waits 34 ms.

    The SDK looks at the time only after looking for bytes: on a busy machine it gives up with the answer already there.
    """

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802  the SDK calls it so
        self.setPacketTimeoutMillis(PATIENCE_MS)
