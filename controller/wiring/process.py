"""One process below the supervisor, seen from above: started, listened to, stopped, started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.2, 5.0
_TAIL_BYTES = 4096
_DEATH_S = 0.5
"""A killed process is gone after so long, as a rule at once [s]."""


@dataclass(slots=True)
class Process:
    """A ``python -m MODULE`` that speaks the language of :mod:`controller.wiring.child`.

    Args:
        name: unique within the run.
        module: what to run.
        arguments: its command line.
        log: file that takes its standard error.
    """

    name: str
    module: str
    arguments: Sequence[str]
    log: Path
    ready: dict[str, Any] | None = None
    """What it said when it became ready; None before."""
    report: dict[str, Any] = field(default_factory=dict)
    """What it said at its end."""
    refusal: str | None = None
    """Why it cannot work, in its own words; it is not started again."""
    restarts: int = 0
    beats: int = 0
    """Signs of life it gave when it was asked for one."""
    vitals: dict[str, Any] = field(default_factory=dict)
    """What it said of itself with the newest."""
    fault: str = ""
    """Why we ended it; empty where we did not."""
    _child: subprocess.Popen[bytes] | None = None
    _output: bytes = b""
    _backoff_s: float = FIRST_BACKOFF_S
    _retry_s: float = 0.0

    def start(self) -> None:
        """Start it; does not wait."""
        self.ready, self.vitals, self.fault = None, {}, ""
        self._output = b""
        with self._opened_log() as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments, "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for the supervisor: it ends the run in order.
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )
        assert self._child.stdout is not None  # noqa: S101 (it is a pipe)
        os.set_blocking(self._child.stdout.fileno(), False)

    def _opened_log(self) -> IO[bytes]:
        """On a disk that has gone full or read-only a successor is worth more than what it would have written."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            return self.log.open("ab")
        except OSError:
            return Path(os.devnull).open("ab")

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status; negative for a signal, None while it runs."""
        return None if self._child is None else self._child.poll()

    def listen(self) -> list[dict[str, Any]]:
        """What it has said since the last call; never blocks."""
        if self._child is None or self._child.stdout is None or self._child.stdout.closed:
            return []
        while data := self._read(self._child.stdout.fileno()):
            self._output += data
        *lines, self._output = self._output.split(b"\n")
        messages = [json.loads(line) for line in lines if line.startswith(b"{")]
        for message in messages:
            match message["kind"]:
                case "beat":
                    self.beats, self.vitals = self.beats + 1, message
                case "ready":
                    self.ready, self._backoff_s = message, FIRST_BACKOFF_S
                case "report":
                    self.report = {key: value for key, value in message.items() if key != "kind"}
                case "refused":
                    self.refusal = message["text"]
                case _:
                    pass
        return [message for message in messages if message["kind"] != "beat"]

    @staticmethod
    def _read(descriptor: int) -> bytes:
        try:
            return os.read(descriptor, 65536)
        except BlockingIOError:
            return b""

    def tell(self, **command: Any) -> bool:
        """Send one order; False where it is gone."""
        if self._child is None or self._child.stdin is None:
            return False
        try:
            self._child.stdin.write(json.dumps(command).encode() + b"\n")
            self._child.stdin.flush()
        except (BrokenPipeError, ValueError):
            return False
        return True

    def may_restart(self) -> bool:
        """True once it is dead, did not refuse, and its pause is over. Pauses grow while it keeps dying."""
        if self.alive or self.refusal is not None:
            return False
        now = time.monotonic()
        if self._retry_s == 0.0:
            self._retry_s = now + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)
        return now >= self._retry_s

    def restart(self) -> None:
        """Start the successor of a dead process."""
        self.restarts += 1
        self._retry_s = 0.0
        self._release()
        self.start()

    def terminate(self) -> None:
        """Ask it to end; does not wait."""
        if self.alive and self._child is not None:
            self._child.send_signal(signal.SIGTERM)

    def kill(self, why: str = "") -> None:
        """End it at once, without a word; also one that is stopped.

        One that is stuck in a driver dies when the driver lets go of it, and is not waited for: nobody else would be
        looked after meanwhile.

        Args:
            why: for whoever asks how it came to its end.
        """
        if self._child is not None:
            self.fault = why or self.fault
            self._child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_DEATH_S)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; one that does not end in time is killed. Returns its exit status."""
        if self._child is None:
            return None
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self.listen()
        self._release()
        return self._child.returncode

    def ending(self) -> str:
        """How it came to its end, in words. Of one that we killed they are why: a bare SIGKILL would be looked for in
        the kernel, which kills where memory runs out."""
        status = self.status
        if status == -signal.SIGKILL and self.fault:
            return f"{self.fault}, so it was ended"
        if status is not None and status < 0:
            return f"killed by {signal.Signals(-status).name}"
        words = self.last_words()
        return f"ended with status {status}" + (f": {words}" if words else "")

    def last_words(self) -> str:
        """The last line of its log."""
        try:
            lines = self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def memory_mb(self) -> float:
        """Resident memory [MB]; 0 once it is gone."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _release(self) -> None:
        if self._child is not None:
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        continue
