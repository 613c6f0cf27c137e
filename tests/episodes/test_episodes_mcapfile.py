"""Our MCAP writer against the readers of the mcap package: data, indexes, checksums, statistics."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import NonSeekingReader, SeekingReader
from mcap.stream_reader import StreamReader

from episodes.mcapfile import CHUNK_BYTES, McapFile

_ENTRIES = st.lists(
    st.one_of(
        st.tuples(st.just("message"), st.integers(0, 2), st.integers(0, 1 << 62), st.integers(0, 300_000)),
        st.tuples(st.just("flush"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("metadata"), st.just(0), st.just(0), st.integers(0, 50)),
        st.tuples(st.just("attachment"), st.just(0), st.integers(0, 1 << 62), st.integers(0, 5000)),
    ),
    max_size=25,
)


def written(entries: list[tuple[str, int, int, int]]) -> tuple[bytes, list[tuple[str, int, int, bytes]]]:
    stream = io.BytesIO()
    file = McapFile(stream, "test")
    schemas = ("a.A", "a.B", "a.A")
    channels = [file.channel(f"/{k}", schema, schema.encode()) for k, schema in enumerate(schemas)]
    messages = []
    for number, (what, channel, time_ns, size) in enumerate(entries):
        if what == "message":
            data = bytes([number]) * size
            file.message(channels[channel], time_ns, data, number)
            messages.append((f"/{channel}", time_ns, number, data))
        elif what == "metadata":
            file.metadata(f"facts {number}", {"ü": "x" * size})
        elif what == "attachment":
            file.attachment(time_ns, f"file {number}", "text/plain", bytes(size))
        else:
            file.flush()
            assert file.size == len(stream.getvalue())
    file.finish()
    assert file.size == len(stream.getvalue())
    return stream.getvalue(), messages


def read(reader: Any, **query: Any) -> list[tuple[str, int, int, bytes]]:
    return [
        (channel.topic, message.log_time, message.sequence, message.data)
        for _, channel, message in reader.iter_messages(**query)
    ]


@settings(deadline=None)
@given(_ENTRIES, st.integers(0, 1 << 62), st.integers(0, 1 << 62))
def test_readers_find_everything(entries: list[tuple[str, int, int, int]], one: int, other: int) -> None:
    content, messages = written(entries)
    seeking = SeekingReader(io.BytesIO(content), validate_crcs=True)
    in_file_order = read(NonSeekingReader(io.BytesIO(content), validate_crcs=True), log_time_order=False)
    assert in_file_order == messages
    by_time = sorted(messages, key=lambda item: item[1])
    assert [item[1] for item in read(seeking)] == [item[1] for item in by_time]
    assert sorted(read(seeking)) == sorted(messages)
    start, end = min(one, other), max(one, other)
    found = read(seeking, topics=["/0", "/2"], starting_at=start, ending_before=end)
    assert sorted(found) == sorted(item for item in messages if item[0] != "/1" and start <= item[1] < end)

    summary = seeking.get_summary()
    assert summary is not None
    assert summary.statistics is not None
    counts = {summary.channels[key].topic: count for key, count in summary.statistics.channel_message_counts.items()}
    assert counts == Counter(topic for topic, *_ in messages)
    assert summary.statistics.message_count == len(messages)
    if messages:
        assert summary.statistics.message_start_time == by_time[0][1]
        assert summary.statistics.message_end_time == by_time[-1][1]
    assert {schema.name for schema in summary.schemas.values()} == {"a.A", "a.B"}
    attached = [number for number, entry in enumerate(entries) if entry[0] == "attachment"]
    assert [item.name for item in seeking.iter_attachments()] == [f"file {number}" for number in attached]
    assert [item.log_time for item in seeking.iter_attachments()] == [entries[number][2] for number in attached]
    facts = [number for number, entry in enumerate(entries) if entry[0] == "metadata"]
    assert [item.name for item in seeking.iter_metadata()] == [f"facts {number}" for number in facts]


def test_chunks_stay_small_and_nothing_waits_beyond_them() -> None:
    stream = io.BytesIO()
    file = McapFile(stream, "test")
    channel = file.channel("/a", "a.A", b"")
    for number in range(3000):
        file.message(channel, number, bytes(1000), number)
        assert file.size - len(stream.getvalue()) <= CHUNK_BYTES + 1100
    file.finish()
    reader = StreamReader(io.BytesIO(stream.getvalue()), emit_chunks=True, validate_crcs=True)
    sizes = [record.uncompressed_size for record in reader.records if type(record).__name__ == "Chunk"]
    assert len(sizes) == 12
    assert max(sizes) <= CHUNK_BYTES + 1100
