"""The link over real sockets: what breaks off goes on, what is not allowed learns nothing, what is slow gives way."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fleet_kit import MUCH, SHARED, Running, anything_goes, content_of, parcel, reader, running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learning.fleet import listening
from learning.fleet.client import AccessError, EpisodeError, Link, LinkError, RejectedError, StoppedError
from learning.fleet.inbox import Inbox
from learning.fleet.server import Conduct
from learning.fleet.token import read_or_make_token, read_token
from spec.errors import SpecError

CONTENT = content_of(900_000)


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[Running]:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with running(Inbox(tmp_path / "inbox", MUCH, anything_goes), shelf, Conduct(uploads=2)) as learner:
        yield learner


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One learner for many examples."""
    with running(Inbox(tmp_path_factory.mktemp("inbox"), MUCH, anything_goes)) as learner:
        yield learner


def ignored(_count: int) -> None:
    pass


def send(link: Link, content: bytes, **names: str) -> bool:
    standing = link.standing(parcel(content, **names))
    return link.send(parcel(content, **names), reader(content), standing.offset, ignored).whole


def asked(learner: Running, content: bytes, offset: int, **names: str) -> bytes:
    """Head of an upload."""
    about = parcel(content, **names)
    path = f"/v1/robots/{about.robot}/episodes/{about.episode}"
    lines = [
        f"PATCH {path}?sha256={about.sha256}&size={about.size}&offset={offset} HTTP/1.1",
        f"Host: 127.0.0.1:{learner.port}",
        f"Authorization: Bearer {SHARED}",
        f"Content-Length: {about.size - offset}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def everything(connection: socket.socket) -> bytes:
    """What the server says until it hangs up."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def until(holds: object, seconds: float = 10.0) -> None:
    """Waits for something that another thread brings about."""
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_episode_arrives_bit_equal_and_is_reported(learner: Running) -> None:
    with learner.link() as link:
        assert send(link, CONTENT)
        assert link.standing(parcel(CONTENT)).whole
        assert link.identity() == learner.inbox.identity
    assert learner.arrived() == CONTENT
    assert learner.events == [{"event": "received", "robot": "arm", "episode": "one", "bytes": len(CONTENT)}]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 1500), min_size=1, max_size=4), seed=st.integers(0, 1 << 60))
def test_cut_off_at_any_byte_of_the_request_it_goes_on(lasting: Running, cuts: list[int], seed: int) -> None:
    content = content_of(1200, seed)
    names = {"robot": "arm", "episode": f"cut-{seed}"}
    with lasting.link() as link:
        for cut in cuts:
            try:
                start = link.standing(parcel(content, **names))
            except EpisodeError:  # the last connection still counts
                continue
            request = asked(lasting, content, start.offset, **names) + content[start.offset :]
            with socket.create_connection(("127.0.0.1", lasting.port)) as connection:
                connection.sendall(request[:cut])
        until(lambda: sent_now(link, content, **names))
    assert lasting.arrived(**names) == content


def sent_now(link: Link, content: bytes, **names: str) -> bool:
    try:
        return link.standing(parcel(content, **names)).whole or send(link, content, **names)
    except EpisodeError:  # the connection that was cut off still counts, or has just brought more
        return False


def _busy(link: Link, content: bytes, names: dict[str, str]) -> bool:
    try:
        link.standing(parcel(content, **names))
    except EpisodeError:
        return True
    return False


def test_an_upload_that_its_robot_breaks_off_keeps_what_came(learner: Running) -> None:
    stop, sent = threading.Event(), []

    def count(size: int) -> None:
        sent.append(size)
        if sum(sent) > 500_000:
            stop.set()

    with learner.link(stop=stop, bytes_per_s=4e6) as link, pytest.raises(StoppedError):
        link.send(parcel(CONTENT), reader(CONTENT), 0, count)
    with learner.link() as link:
        until(lambda: not _busy(link, CONTENT, {}))
        assert 0 < link.standing(parcel(CONTENT)).offset <= sum(sent)
        until(lambda: sent_now(link, CONTENT))
    assert learner.arrived() == CONTENT


def test_a_robot_that_falls_silent_gives_up_its_place(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, MUCH, anything_goes)
    with running(inbox, conduct=Conduct(patience_s=0.2)) as learner, learner.link() as link:
        with socket.create_connection(("127.0.0.1", learner.port)) as connection:
            connection.sendall(asked(learner, CONTENT, 0) + CONTENT[:1000])
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408")
        assert link.standing(parcel(CONTENT)).offset == 1000


def test_two_robots_at_once_and_no_more(learner: Running) -> None:
    held = [socket.create_connection(("127.0.0.1", learner.port)) for _ in range(2)]
    try:
        for number, connection in enumerate(held):
            connection.sendall(asked(learner, CONTENT, 0, robot=f"arm{number}") + CONTENT[:1000])
        with learner.link() as link:
            until(lambda: _busy(link, CONTENT, {"robot": "arm0"}) and _busy(link, CONTENT, {"robot": "arm1"}))
            with pytest.raises(LinkError, match="too many"):
                link.send(parcel(CONTENT), reader(CONTENT), 0, ignored)
            with pytest.raises(EpisodeError, match="another request"):
                link.standing(parcel(CONTENT, robot="arm0"))
            for connection in held:
                connection.sendall(CONTENT[1000:])
                assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    finally:
        for connection in held:
            connection.close()
    assert learner.arrived("arm0") == learner.arrived("arm1") == CONTENT


def test_replayed_tampered_and_oversize(learner: Running) -> None:
    tampered = bytearray(CONTENT)
    tampered[1234] ^= 1
    with learner.link() as link:
        with pytest.raises(EpisodeError, match="altered"):
            link.send(parcel(CONTENT), reader(bytes(tampered)), 0, ignored)
        assert link.standing(parcel(CONTENT)).offset == 0
        assert send(link, CONTENT)
        with pytest.raises(RejectedError, match="another content"):
            send(link, bytes(tampered))
    replay = asked(learner, CONTENT, 0)
    with socket.create_connection(("127.0.0.1", learner.port)) as connection:
        connection.sendall(replay)
        assert everything(connection).endswith(b'{"whole":true,"offset":900000}')
    huge = parcel(CONTENT, episode="huge")
    with learner.link() as link, pytest.raises(RejectedError, match="takes"):
        link.standing(type(huge)(huge.robot, huge.episode, huge.sha256, 1 << 40))
    body = asked(learner, CONTENT, 0, episode="more").replace(b"Content-Length: 900000", b"Content-Length: 900001")
    with socket.create_connection(("127.0.0.1", learner.port)) as connection:
        connection.sendall(body + CONTENT + b"x")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")
    assert learner.arrived() == CONTENT


TOKENS = [None, "", "Bearer", f"Bearer {SHARED}x", f"Basic {SHARED}", f"Bearer {SHARED[:-1]}", "Bearer é"]
ROUTES = [
    ("GET", "/v1/status"),
    ("GET", f"/v1/robots/arm/episodes/one?sha256={'0' * 64}&size=1"),
    ("PATCH", f"/v1/robots/arm/episodes/one?sha256={'0' * 64}&size=1&offset=0"),
    ("GET", "/v1/weights"),
    ("GET", "/v1/weights/weights-000001/bundle.json"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", f"Bearer {SHARED}x", f"Basic {SHARED}", f"Bearer {SHARED[:-1]}", "Bearer é"],
)
def test_nothing_without_the_token(lasting: Running, method: str, path: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode()}
    answer = httpx.request(method, lasting.url + path, headers=headers, trust_env=False)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert lasting.inbox.identity not in answer.text


def test_a_robot_with_another_token_is_told_so(lasting: Running) -> None:
    with lasting.link("another-token-of-a-robot") as link, pytest.raises(AccessError, match="token"):
        link.identity()


HOSTILE = [
    "/v1/robots/%2e%2e/episodes/one",
    "/v1/robots/..%2f..%2fetc/episodes/one",
    "/v1/robots/arm/episodes/%2e%2e%2fone",
    "/v1/robots/arm/episodes/one%00",
    "/v1/robots/arm/episodes/.one",
    "/v1/robots/arm/../../status/episodes/one",
    "/v1/weights/%2e%2e/received.jsonl",
    "/v1/weights/..%2finbox/token",
    "/v1/weights/weights-000001/..%2f..%2fsecret",
    "/v1/weights//etc/passwd",
    "/v1/weights/weights-000001/link.onnx",
    "/v1/weights/weights-000001",
    "//v1/status",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_no_name_leaves_its_folder(learner: Running, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("secret")
    bundle = tmp_path / "shelf" / "weights-000001"
    bundle.mkdir()
    (bundle / "link.onnx").symlink_to(tmp_path / "secret")
    before = sorted(tmp_path.rglob("*"))
    for method in ("GET", "PATCH"):
        with socket.create_connection(("127.0.0.1", learner.port)) as connection:
            head = f"{method} {path}?sha256={'0' * 64}&size=6&offset=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n"
            connection.sendall(f"{head}Authorization: Bearer {SHARED}\r\nConnection: close\r\n\r\nsecret".encode())
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        assert answer[9:12] in {b"400", b"404", b"405"}, answer
        assert b"secret" not in answer.partition(b"\r\n\r\n")[2].replace(b"..%2f..%2fsecret", b"")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("numbers", ["size=x", "size=-1", "size=1e3", "size=9999999999999999", "size=", "size=%D9%A1"])
def test_numbers_that_are_none(lasting: Running, numbers: str) -> None:
    url = f"{lasting.url}/v1/robots/arm/episodes/one?sha256={'0' * 64}&{numbers}"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {SHARED}"}, trust_env=False)
    assert answer.status_code == 400


def test_newest_is_told_once_and_waited_for(learner: Running, tmp_path: Path) -> None:
    newest = tmp_path / "shelf" / "newest.json"
    with learner.link() as link:
        assert link.newest("", 0) is None
        newest.write_bytes(b'{"weights": 1}')
        content, tag = link.newest("", 0) or (b"", "")
        assert content == b'{"weights": 1}'
        assert link.newest(tag, 0) is None
        threading.Timer(0.3, newest.write_bytes, (b'{"weights": 2}',)).start()
        content, _ = link.newest(tag, 30) or (b"", "")
        assert content == b'{"weights": 2}'


def test_a_file_of_a_bundle_is_gone_on_with(learner: Running, tmp_path: Path) -> None:
    folder = tmp_path / "shelf" / "weights-000001"
    folder.mkdir()
    (folder / "decoder.onnx").write_bytes(CONTENT)
    target = tmp_path / "decoder"
    with learner.link() as link:
        for have in (0, 1, 500_000, len(CONTENT)):  # the last: killed before it was renamed
            target.write_bytes(CONTENT[:have])
            link.fetch("weights-000001", "decoder.onnx", target, len(CONTENT))
            assert target.read_bytes() == CONTENT
        target.unlink()
        with pytest.raises(LinkError, match="larger"):
            link.fetch("weights-000001", "decoder.onnx", target, len(CONTENT) - 1)
        with pytest.raises(LinkError, match="not on the shelf"):
            link.fetch("weights-000002", "decoder.onnx", tmp_path / "other", 1)


def test_who_connects_and_says_nothing_is_sent_away(lasting: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEAD_S", 0.1)
    for said in (b"", b"GET /v1/sta", b"POST / HTTP/1.1\r\n" + b"x: y\r\n" * 5):
        with socket.create_connection(("127.0.0.1", lasting.port), timeout=10) as connection:
            connection.sendall(said)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    with lasting.link() as link:
        assert link.identity()


def test_a_crowd_does_not_keep_robots_out_for_ever(lasting: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "CONNECTIONS", 3)
    crowd = [socket.create_connection(("127.0.0.1", lasting.port)) for _ in range(8)]
    with lasting.link() as link:
        with pytest.raises(LinkError):
            link.identity()
        for one in crowd:
            one.close()
        until(lambda: _reachable(link))


def _reachable(link: Link) -> bool:
    try:
        return bool(link.identity())
    except LinkError:
        return False


ANSWERS = [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"]
ANSWERS += [
    b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    for status in (b"200 OK", b"302 Found", b"500 No", b"404 No")
    for body in (b"<html>", b"[1]", b'{"whole": 1}', b'{"whole": true, "offset": "9"}', b"[" * 100_000)
]


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_whatever_answers_instead_of_a_learner_is_trouble_and_no_more(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as impostor:

        def say() -> None:
            connection, _ = impostor.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=say)
        thread.start()
        with Link(f"http://127.0.0.1:{impostor.getsockname()[1]}", lambda: SHARED) as link, pytest.raises(LinkError):
            link.standing(parcel(CONTENT))
        thread.join()


def test_nobody_there_is_trouble() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Link(f"http://127.0.0.1:{port}", lambda: SHARED) as link, pytest.raises(LinkError, match=str(port)):
        link.identity()


@pytest.mark.parametrize(
    "url", ["", "learner", "ftp://x", "http://", "http://u:p@x", "http://x/path", "http://x:y", "http://x?q"]
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(SpecError, match="--server"):
        Link(url, lambda: SHARED)


def test_encrypted_for_those_who_know_the_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=learner", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    listening.check_certificate(certificate, key)
    with pytest.raises(SpecError, match="cannot be used"):
        listening.check_certificate(key, certificate)
    with running(Inbox(tmp_path / "inbox", MUCH, anything_goes), tls=(certificate, key)) as learner:
        with learner.link(certificate=certificate) as link:
            assert send(link, CONTENT)
        with learner.link() as stranger, pytest.raises(AccessError, match="certificate"):
            stranger.identity()
        with Link(f"http://127.0.0.1:{learner.port}", lambda: SHARED) as plain, pytest.raises(LinkError):
            plain.identity()
        assert learner.arrived() == CONTENT


def test_the_token_is_made_once_and_only_for_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fleet" / "token"
    made = read_or_make_token(path)
    assert read_or_make_token(path) == read_token(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(SpecError, match="chmod 600"):
        read_token(path)
    monkeypatch.setenv("CADENZA_TOKEN", made)
    assert read_token(None) == made
    for bad in ("", "short", "with a space in it somewhere"):
        path.write_text(bad)
        path.chmod(0o600)
        with pytest.raises(SpecError) as refused:
            read_token(path)
        assert bad == "" or bad not in str(refused.value)
        assert ("empty" in str(refused.value)) is (bad == "")


def test_a_full_disk_leaves_no_half_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "fleet" / "token"
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(SpecError, match="No space left"):
            read_or_make_token(path)
    assert not list(path.parent.iterdir())
    assert read_or_make_token(path) == read_token(path)
    assert [item.name for item in path.parent.iterdir()] == ["token"]
