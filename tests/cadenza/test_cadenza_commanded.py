"""A command of this program that another one runs."""

from __future__ import annotations

import pytest

from cadenza.commanded import perform
from spec.errors import CadenzaError


def test_a_command_that_is_refused_refuses_in_its_own_words_and_one_that_is_not_says_nothing() -> None:
    perform("service", "--help")
    with pytest.raises(CadenzaError, match=r"^--bundle: None"):
        perform("service", "show")
