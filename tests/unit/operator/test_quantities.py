"""Quantities as the API server writes them."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kvpool_operator.build.quantities import canonical_quantity

SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)},
}


def amount(quantity: str) -> Fraction:
    number = quantity.rstrip("numkKMGTPEi")
    return Fraction(number) * SUFFIXES[quantity.removeprefix(number)]


@pytest.mark.parametrize(
    ("told", "canonical"),
    [
        (2, "2"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1.3Gi", "1395864371200m"),
        ("0.5Ki", "512"),
        ("2000M", "2G"),
        ("0", "0"),
        ("0Gi", "0"),
        ("1e3", "1e3"),
        ("1000e3", "1e6"),
        ("5E-1", "500e-3"),
        ("7e0", "7"),
        ("3E", "3E"),
        (".5", "500m"),
        ("0.1n", "1n"),
        ("a lot", "a lot"),
        ("1.2.3", "1.2.3"),
        ("12345678901234567890.1Ei", "14233598694204363376525398901173885337600m"),
    ],
)
def test_amounts_have_one_way_to_be_written(told, canonical):
    assert canonical_quantity(told) == canonical


@example(31249991, 1, "n")
@given(st.integers(0, 10**9), st.integers(0, 3), st.sampled_from(sorted(SUFFIXES)))
def test_the_amount_stays_and_a_canonical_one_is_left_alone(digits, decimals, suffix):
    told = f"{digits / 10**decimals:.{decimals}f}{suffix}"
    found = canonical_quantity(told)
    assert canonical_quantity(found) == found
    smallest = Fraction(1, 10**9)
    assert 0 <= amount(found) - amount(told) < smallest
