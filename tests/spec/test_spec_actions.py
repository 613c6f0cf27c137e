"""Action spaces: encode undoes decode."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spec.action import ActionSpace, decode, encode
from spec.chunk import Chunk

angles = st.floats(-4, 4)


@pytest.mark.parametrize("space", list(ActionSpace))
@given(actions=arrays(np.float64, (5, 3), elements=angles), reference=arrays(np.float64, 3, elements=angles))
def test_encode_is_the_inverse_of_decode(space: ActionSpace, actions: np.ndarray, reference: np.ndarray) -> None:
    targets = decode(space, actions, reference)
    np.testing.assert_allclose(encode(space, targets, reference), actions, atol=1e-12)


def test_deltas_accumulate_from_the_reference() -> None:
    targets = decode(ActionSpace.JOINT_DELTA, np.array([[0.1], [0.2]]), np.array([1.0]))
    np.testing.assert_allclose(targets, [[1.1], [1.3]])


def test_decode_never_hands_back_the_callers_array() -> None:
    actions = np.zeros((2, 1))
    assert not np.shares_memory(decode(ActionSpace.JOINT_POSITION, actions, np.zeros(1)), actions)


def test_a_chunk_ends_when_its_last_action_is_due() -> None:
    chunk = Chunk(sequence=0, observed_ns=1_000, step_ns=100, targets=np.zeros((8, 6)))
    assert chunk.ends_ns == 1_800
