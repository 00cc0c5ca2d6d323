"""The list of models that an engine serves."""

import msgspec
from msgspec import Raw, Struct


class _Named(Struct):
    id: str
    parent: str | None = None


class _Listing(Struct):
    data: list[Raw]


_listing = msgspec.json.Decoder(_Listing)
_named = msgspec.json.Decoder(_Named)


def model_card(listing: bytes, name: str) -> bytes | None:
    """The entry of one model, as the engine wrote it; None where it is not in the list, or this is no list."""
    try:
        return next((bytes(card) for card in _listing.decode(listing).data if _named.decode(card).id == name), None)
    except msgspec.DecodeError:
        return None


def adapter_names(listing: bytes) -> frozenset[str]:
    """The models of a list that stand on another, as vLLM lists LoRA adapters; none where this is no list."""
    try:
        cards = [_named.decode(card) for card in _listing.decode(listing).data]
    except msgspec.DecodeError:
        return frozenset()
    return frozenset(card.id for card in cards if card.parent is not None)
