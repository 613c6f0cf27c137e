"""Bus budget: the arithmetic of bytes, and the refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.dynamixel.budget import check_rate, predict
from drivers.dynamixel.protocol import packet, sync_read, sync_write
from spec.errors import SpecError


def test_seven_servos() -> None:
    """217 bytes by sync read: 2.2 ms at 1 Mbps; fast sync read saves one frame a servo."""
    plain = predict(1_000_000, 7, fast=False)
    assert round((plain.read + plain.write) * 1e5) == 217
    assert plain.total == pytest.approx(2.17e-3)
    assert predict(4_000_000, 7, fast=False).total == pytest.approx(0.5425e-3)
    assert predict(1_000_000, 7).total < plain.total


@given(st.integers(1, 16), st.booleans())
def test_bytes_are_those_really_sent(servos: int, fast: bool) -> None:
    ids = list(range(1, servos + 1))
    request = len(sync_read(126, 10, ids, fast=fast))
    write = len(sync_write(116, 4, dict.fromkeys(ids, bytes(4))))
    answer = 8 + servos * 14 if fast else servos * len(packet(1, 0x55, bytes(11)))
    budget = predict(1_000_000, servos, fast=fast)
    assert (budget.read + budget.write) * 1e5 == pytest.approx(request + answer + write)


def test_return_delay_and_latency_timer_are_counted() -> None:
    plain = predict(1_000_000, 6, return_delay_us=500, latency_timer_ms=16, fast=False)
    assert plain.return_delay == pytest.approx(3e-3)
    assert plain.latency == pytest.approx(16e-3)
    assert predict(1_000_000, 6, return_delay_us=500).return_delay == pytest.approx(0.5e-3)


def test_impossible_rate_is_refused_with_numbers_and_remedy() -> None:
    budget = predict(1_000_000, 6)
    check_rate(budget, 400)
    with pytest.raises(
        SpecError, match=r"1000.*ms a tick at 1000000 baud.*period is 1.00 ms.*raise the baud to 2000000"
    ):
        check_rate(budget, 1000)
    with pytest.raises(SpecError, match=r"lower it to \d+ or less$"):
        check_rate(budget, 20_000)
    check_rate(budget, budget.rate_hz)
