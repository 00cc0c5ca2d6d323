"""Amounts in rules: of Kubernetes' CEL library for quantities what our rules call."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

_FORM = re.compile(r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?")
_TENS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def amount_of(text: str) -> Decimal:
    """`500m` is 0.5, `1Ki` is 1024. Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    number, suffix = Decimal(found[1]), found[2] or ""
    if suffix in _BINARY[1:]:
        return number * Decimal(1024) ** _BINARY.index(suffix)
    return number.scaleb(_TENS[suffix] if suffix in _TENS else int(suffix[1:]))


def is_quantity(text: str) -> bool:
    return _FORM.fullmatch(text) is not None


def _quantity(text: str) -> str:
    """CEL passes between functions what it has types for: so the amount stays text until it is compared."""
    amount_of(text)
    return text


def _is_greater(one: str, other: str) -> bool:
    return amount_of(one) > amount_of(other)


FUNCTIONS: Mapping[str, Callable[..., str | bool]] = {
    "quantity": _quantity,
    "isQuantity": is_quantity,
    "isGreaterThan": _is_greater,
}
"""By the names they have in a rule; a method takes what it is called on as its first argument."""
