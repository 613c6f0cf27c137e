"""The socket of the server: uvicorn, bounded against those who connect and say nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from spec.errors import SpecError

HEAD_S = 10.0
"""For the head of the first request; uvicorn itself would wait for ever."""
CONNECTIONS = 128


class PatientProtocol(H11Protocol):
    """Closes connections that do not say what they want, and those beyond what the server bears."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._head = self.loop.call_later(HEAD_S, self._say_goodbye)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.cancel()
        super().connection_lost(exc)

    def _say_goodbye(self) -> None:
        # uvicorn declares no Optional: it is None until the first head is complete.
        if cast("object", self.cycle) is None:
            self.transport.abort()


def is_loopback(host: str) -> bool:
    """True for addresses that only this machine reaches."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SpecError where there is none to be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError("--host, --port", f"{host}:{port}", f"cannot listen: {reason}") from None
    # Connections inherit it; asyncio sets it only where the protocol is named. Without it an answer takes 40 ms more.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def check_certificate(certificate: Path, key: Path) -> None:
    """Raises SpecError where the two do not open, or not belong together."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise SpecError("--tls-cert, --tls-key", f"{certificate}, {key}", f"cannot be used: {reason}") from None


def server(app: ASGIApp, tls: tuple[Path, Path] | None = None) -> uvicorn.Server:
    """A server to :meth:`~uvicorn.Server.run` on a socket.

    Args:
        tls: certificate and key.
    """
    certificate, key = (None, None) if tls is None else tls
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=16_384,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    return uvicorn.Server(config)
