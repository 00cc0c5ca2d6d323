"""Amounts in rules compare as the API server compares them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvpool_api.admission.quantities import FUNCTIONS, amount_of, is_quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", 1),
        ("1.", 1),
        (".5", "0.5"),
        ("500m", "0.5"),
        ("3u", "0.000003"),
        ("4n", "0.000000004"),
        ("2k", 2000),
        ("1Ki", 1024),
        ("1.5Gi", 1_610_612_736),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1e3", 1000),
        ("1E-2", "0.01"),
        ("-1", -1),
    ],
)
def test_an_amount_is_what_its_suffix_says(text, amount):
    assert is_quantity(text)
    assert amount_of(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "m", "1 ", "1mi", "1Ki5", "one", "1e", "."])
def test_what_is_no_amount_is_told(text):
    assert not is_quantity(text)
    with pytest.raises(ValueError, match="is no quantity"):
        FUNCTIONS["quantity"](text)


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_amounts_compare_whatever_their_suffixes(one, other):
    above = FUNCTIONS["isGreaterThan"]
    assert above(f"{one}m", f"{other}u") == (1000 * one > other)
    assert above(f"{one}Ki", f"{other}") == (1024 * one > other)
