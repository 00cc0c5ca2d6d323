"""Resource quantities as the API server writes them back, so that what is asked and what is read compare equal."""

import re
from decimal import ROUND_CEILING, Context, Decimal, localcontext

_FORM = re.compile(r"([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?")
_EXACT = Context(prec=250)
"""Digits enough for every quantity of that form: 80 written ones, 99 of an exponent, 60 of a binary suffix's powers."""
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
_EXPONENTS = {suffix: exponent for exponent, suffix in _DECIMAL.items()}


def canonical_quantity(told: int | str) -> str:
    """The same amount with the largest suffix that leaves a whole number: "0.5" is "500m", "1024Mi" is "1Gi".

    What is no quantity is returned as it is: the schema refuses it, and the API server has the last word.
    """
    found = _FORM.fullmatch(str(told))
    if found is None:
        return str(told)
    with localcontext(_EXACT):
        return _canonical(Decimal(found[1]), found[2] or "")


def _canonical(number: Decimal, suffix: str) -> str:
    if suffix in _BINARY[1:]:
        amount = number * 1024 ** _BINARY.index(suffix)
        return _binary(amount) if amount >= 1024 and not amount % 1 else _decimal(amount, "")
    if suffix[:1] in ("e", "E") and suffix != "E":
        return _decimal(number.scaleb(int(suffix[1:])), "e")
    return _decimal(number.scaleb(_EXPONENTS[suffix]), "")


def _binary(amount: Decimal) -> str:
    place = 0
    while place < len(_BINARY) - 1 and amount % 1024 == 0:
        amount, place = amount / 1024, place + 1
    return f"{int(amount)}{_BINARY[place]}"


def _decimal(amount: Decimal, style: str) -> str:
    """By steps of a thousand, none finer than a nano; with the style `e` as an exponent instead of a suffix."""
    if not amount:
        return "0"
    amount = amount.scaleb(9).to_integral_value(rounding=ROUND_CEILING).scaleb(-9)
    exponent = next(e for e in sorted(_DECIMAL, reverse=True) if not amount.scaleb(-e) % 1)
    suffix = _DECIMAL[exponent] if style != "e" else f"e{exponent}" if exponent else ""
    return f"{int(amount.scaleb(-exponent))}{suffix}"
