"""Causes that an engine names itself: how vLLM and what it stands on word them, and what to do about each."""

import re
from collections.abc import Sequence

from kvpool_operator.last_words import errors, plain_lines

_LOG_CAUSES: Sequence[tuple[str, re.Pattern[str], str]] = (
    (
        "CudaOutOfMemory",
        re.compile(
            r"(?:CUDA|HIP) out of memory|OutOfMemoryError|CUDA error: out of memory|No available memory for the cache"
            r"|less than desired GPU memory",
            re.IGNORECASE,
        ),
        "give the engine more GPU memory, or lower --gpu-memory-utilization or --max-model-len in spec.engine.args",
    ),
    (
        "CpuOffloadTooLarge",
        re.compile(r"CPU KV offload shared region"),
        "lower spec.engine.cpuOffload.size, or raise the Pod's memory or what podTemplate lets /dev/shm hold",
    ),
    (
        "HostOutOfMemory",
        re.compile(r"can(?:no|')t allocate memory|^MemoryError", re.IGNORECASE),
        "raise spec.resources.limits.memory, or ask for less (--max-model-len, VLLM_CPU_KVCACHE_SPACE)",
    ),
    (
        "CpuOffloadUnsupported",
        re.compile(r"CPU Offloading is currently only supported", re.IGNORECASE),
        "take cpuOffload out of spec.engine: vLLM offloads from CUDA, ROCm and XPU devices only",
    ),
    (
        "KVCacheTooSmall",
        re.compile(r"KV\s+cache is needed, which is larger|larger than the (?:available|maximum).{0,40}KV cache"),
        "lower --max-model-len in spec.engine.args, or give the engine more GPUs",
    ),
    (
        "ContextTooLong",
        re.compile(r"max_model_len .{0,40}is greater than the derived"),
        "lower --max-model-len in spec.engine.args to what the model was made for",
    ),
    (
        "ModelAccessDenied",
        re.compile(r"gated repo|401 Client Error|403 Client Error|Access to model .* is restricted", re.IGNORECASE),
        "name a Secret with a token that may read it in spec.model.source.hub.secretRef",
    ),
    (
        "ModelNotFound",
        re.compile(
            r"404 Client Error|Repository Not Found|is not a local folder and is not a valid model|Repo id must be in"
            r"|Invalid repository ID or local directory|Cannot find any model weights|RevisionNotFound",
            re.IGNORECASE,
        ),
        "check spec.model.name and spec.model.source; a private model also needs spec.model.source.hub.secretRef",
    ),
    (
        "HubUnreachable",
        re.compile(r"couldn't connect to '|outgoing traffic has been disabled|offline mode is enabled", re.IGNORECASE),
        "let the engine reach the hub, or name a folder or volume with the weights in spec.model.source",
    ),
    (
        "UnsupportedModel",
        re.compile(r"does not recognize this architecture|Model architectures .{0,80}(?:not supported|failed)"),
        "choose an engine image whose vLLM knows this model",
    ),
    (
        "BrokenWeights",
        re.compile(r"SafetensorError"),
        "fetch the model's files anew: these are cut off or damaged",
    ),
    (
        "PortInUse",
        re.compile(r"Address already in use|Errno 98\b", re.IGNORECASE),
        "end what listens there, or move the engine's port",
    ),
    (
        "InvalidBlockSize",
        re.compile(r"No common block size|block.size .{0,60}(?:not supported|must be)", re.IGNORECASE),
        "set spec.engine.blockSize to a multiple that the attention backend takes",
    ),
    (
        "UnrecognizedArguments",
        re.compile(r"unrecognized arguments?:", re.IGNORECASE),
        "mend spec.engine.args, or choose an image that knows them",
    ),
    (
        "FileMissing",
        re.compile(
            r"FileNotFoundError|No such file or directory|appears path-like, but doesn't exist|No adapter found"
        ),
        "put the file where the engine looks for it, or mend the path in the spec",
    ),
    (
        "InvalidArguments",
        re.compile(r"error: argument |validation errors? for \w*(?:Config|Args)\b"),
        "mend spec.engine.args",
    ),
    (
        "Killed",
        re.compile(r"Failed core proc\(s\): \{[^}]*: -9\b|died unexpectedly \(exit code: -9\)"),
        "a child of it was killed by SIGKILL, as the kernel does when memory runs out: see the node's kernel log",
    ),
)
"""Code, what the engine then says, and the mend. The first that fits wins, so the more particular stand first."""


Cause = tuple[str, str, str]
"""(code, what was said, mend)"""

_MUTE = (
    "a process of the engine died without a word, as when the kernel kills it for want of memory: see the node's "
    "kernel log, and raise spec.resources.limits.memory"
)


def known_cause(words: str) -> Cause | None:
    """The last error first, since earlier ones may have been got over; then its echoes.

    Plain lines come last: the log of a container that failed may begin in the middle of an error.
    """
    found, echoes = errors(words)
    for said in (*reversed(found), *reversed(echoes), *reversed(plain_lines(words))):
        for code, pattern, mend in _LOG_CAUSES:
            if pattern.search(said):
                return code, said, mend
    return None


def only_echoes(log: str) -> Cause | None:
    """A process of vLLM has died, the others say so, and nothing in the whole log says why: it could not speak."""
    found, echoes = errors(log)
    return None if found or not echoes else ("EngineCoreDied", echoes[0], _MUTE)
