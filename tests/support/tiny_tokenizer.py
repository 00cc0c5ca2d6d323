"""A byte-level BPE tokenizer trained on the spot, with ChatML's special tokens, as a model folder holds it."""

import json
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXT = [
    "The engines of a pool share prompts but not memory, so each keeps the prefixes it has seen.",
    "You are a careful assistant. Answer in one sentence, and say what you do not know.",
    "def prefill(tokens):\n    return [token for token in tokens if token > 0]\n",
] * 20
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]


@cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[AddedToken(each, normalized=False, special=True) for each in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(*, bos: bool = False) -> Tokenizer:
    """A fresh copy; with `bos` it frames texts as Llama's does."""
    tokenizer = Tokenizer.from_str(_trained())
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))]
        )
    return tokenizer


def write_model_folder(folder: Path, template: str | list[dict[str, str]] | None = None, **config: object) -> Path:
    """tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    told = {"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|endoftext|>", **config}
    if template is not None:
        told["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return folder
