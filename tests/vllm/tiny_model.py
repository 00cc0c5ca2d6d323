"""Makes a random Llama of a few MB, its tokenizer trained on this repository's own text, and a LoRA adapter for it.

Runs where vLLM is installed.

python tiny_model.py FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text()


def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((path.read_text() for path in sorted(ROOT.glob("*/**/*.py"))), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def model(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=32,
            max_position_embeddings=16384,
            bos_token_id=None,
            eos_token_id=2,
        )
    )


def save_adapter(folder: Path) -> None:
    """As PEFT saves one; large enough to change what is generated."""
    adapted = {"q_proj": 256, "v_proj": 128}
    weights = {}
    for layer in range(4):
        for name, outputs in adapted.items():
            place = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{place}.lora_A.weight"] = torch.randn(8, 256) / 4
            weights[f"{place}.lora_B.weight"] = torch.randn(outputs, 8) / 4
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**told, "target_modules": list(adapted)}))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    words = tokenizer()
    words.save_pretrained(folder)
    model(8000).save_pretrained(folder)
    save_adapter(folder / "adapter")
