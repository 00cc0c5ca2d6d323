"""Bodies that are about tokens alone."""

from __future__ import annotations

from pydantic import BaseModel

from kvpool_sim.forms.base import Ids


class TextForm(BaseModel):
    """Plain text of `/tokenize`."""

    model: str | None = None
    prompt: str
    return_token_strs: bool | None = False


class IdsForm(BaseModel):
    """`/detokenize`."""

    model: str | None = None
    tokens: Ids
