"""Log probabilities in the two shapes that OpenAI's APIs have for them."""

from collections.abc import Sequence

from kvpool_sim.answers.shape import Likely


def of_chat(told: Sequence[Likely]) -> dict[str, object]:
    content = [
        _entry(each.text, each.logprob) | {"top_logprobs": [_entry(*other) for other in each.others]} for each in told
    ]
    return {"content": content}


def of_completion(told: Sequence[Likely], offset: int) -> dict[str, object]:
    """`offset` counts the characters before the first token."""
    offsets = []
    for each in told:
        offsets.append(offset)
        offset += len(each.text)
    return {
        "text_offset": offsets,
        "token_logprobs": [each.logprob for each in told],
        "tokens": [each.text for each in told],
        "top_logprobs": [dict([*each.others, (each.text, each.logprob)]) for each in told],
    }


def _entry(text: str, logprob: float) -> dict[str, object]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
