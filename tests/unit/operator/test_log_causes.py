"""Real ends of vLLM 0.32.0 (engine_ends/, captured from failing starts), and words of its sources: their causes."""

from pathlib import Path

import pytest
from kvpool_operator.last_words import LONGEST, errors, holds_root_cause, last_error, plain_lines
from kvpool_operator.status.causes import ContainerLog, cause
from kvpool_operator.status.log_causes import known_cause, only_echoes

ENDS = Path(__file__).parent / "engine_ends"
STATUS_BYTES = 2048
"""What a kubelet keeps of a log in a Pod's status."""


def end(name: str) -> str:
    return (ENDS / f"{name}.log").read_text()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("unrecognized", "UnrecognizedArguments", "api_server.py: error: unrecognized arguments: --nope"),
        ("bad_dtype", "InvalidArguments", "api_server.py: error: argument --dtype: invalid choice: 'nonsense' (choose"),
        ("extra", "InvalidArguments", "1 validation error for KVEventsConfig: enable: Unexpected keyword argument"),
        ("json", "InvalidArguments", "1 validation error for KVEventsConfig: Invalid JSON: key must be a string at"),
        (
            "gated",
            "ModelAccessDenied",
            "OSError: You are trying to access a gated repo. Make sure to have access to it",
        ),
        ("denied", "ModelAccessDenied", "Access to model org/denied is restricted and you are not in the authorized"),
        ("private", "ModelNotFound", "OSError: org/private is not a local folder and is not a valid model identifier"),
        ("notfound", "ModelNotFound", "OSError: org/nowhere is not a local folder and is not a valid model"),
        ("missing_folder", "ModelNotFound", "'namespace/repo_name': '/models/none'"),
        (
            "empty_folder",
            "ModelNotFound",
            "ValidationError: 1 validation error for ModelConfig: Value error, Invalid re",
        ),
        ("no_weights", "ModelNotFound", "RuntimeError: Cannot find any model weights with `/models/noweights`"),
        ("torn_weights", "BrokenWeights", "SafetensorError: Error while deserializing header: incomplete metadata"),
        (
            "bad_arch",
            "UnsupportedModel",
            "has model type `nosuch` but Transformers does not recognize this architecture",
        ),
        ("nonet", "HubUnreachable", "OSError: We couldn't connect to 'http://127.0.0.1:9' to load the files"),
        ("offline", "HubUnreachable", "LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder"),
        ("too_long", "ContextTooLong", "User-specified max_model_len (10000000) is greater than the derived"),
        (
            "kv_small",
            "KVCacheTooSmall",
            "ValueError: To serve at least one request with the model's max seq len (1000000)",
        ),
        (
            "host_memory",
            "HostOutOfMemory",
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 51200000",
        ),
        ("block_size", "InvalidBlockSize", "ValueError: No common block size for 7 (CPU_ATTN: [MultipleOf(32)])."),
        ("chat_template", "FileMissing", "The supplied chat template string (/none/t.jinja) appears path-like, but"),
        ("lora", "FileMissing", "ValueError: Loading lora a failed: No adapter found for /none/adapter"),
        ("port_in_use", "PortInUse", "OSError: [Errno 98] Address already in use"),
        ("events_in_use", "PortInUse", "zmq.error.ZMQError: Address already in use (addr='tcp://*:28997')"),
    ],
)
def test_what_a_real_engine_said_last_is_understood(name, code, words):
    found, said, mend = known_cause(end(name))
    assert found == code
    assert words in said
    assert mend


@pytest.mark.parametrize(
    "name", ["kv_small", "host_memory", "block_size", "events_in_use", "no_weights", "torn_weights"]
)
def test_a_pods_status_is_too_short_for_what_a_child_process_of_vllm_says_and_that_is_known(name):
    kept = end(name).encode()[-STATUS_BYTES:].decode(errors="replace")
    assert not holds_root_cause(kept)
    assert holds_root_cause(end(name))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "CudaOutOfMemory",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total",
        ),
        (
            "CpuOffloadUnsupported",
            "Exception: CPU Offloading is currently only supported on CUDA-alike and XPU GPUs",
        ),
        (
            "CpuOffloadTooLarge",
            "RuntimeError: Insufficient space in /dev/shm for CPU KV offload shared region in /dev/shm: 65536 MiB"
            " required, 32768 MiB free. Increase /dev/shm (e.g. --shm-size or --ipc=host).",
        ),
        ("CudaOutOfMemory", "RuntimeError: CUDA error: out of memory"),
        ("CudaOutOfMemory", "ValueError: No available memory for the cache blocks. Try increasing it"),
        (
            "CudaOutOfMemory",
            "ValueError: Free memory on device cuda:0 (2/80 GiB) is less than desired GPU memory utilization",
        ),
        ("Killed", "Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor."),
        ("HostOutOfMemory", "OSError: [Errno 12] Cannot allocate memory"),
        ("FileMissing", "FileNotFoundError: [Errno 2] No such file or directory: '/models/x/config.json'"),
    ],
)
def test_words_that_need_a_gpu_or_a_full_node_are_understood_from_vllms_sources(code, words):
    found, said, _ = known_cause(f"INFO:     begin\n(EngineCore pid=9) ERROR 11-24 13:47:47 [core.py:1] {words}\n")
    assert (found, said) == (code, words)


@pytest.mark.parametrize("name", ["core_killed", "core_dead"])
def test_an_engine_core_that_was_killed_leaves_only_echoes(name):
    """Captured: its process got SIGKILL while it loaded, and while it served (then vLLM's server ends with code 0)."""
    log = end(name)
    assert known_cause(log) is None
    code, said, mend = only_echoes(log)
    assert code == "EngineCoreDied"
    assert "root cause" in said
    assert "kernel" in mend
    ended = {"terminated": {"exitCode": 0}}
    died = {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "engine", "lastState": ended}]}}
    assert cause(died, log=ContainerLog("engine", log)).code == "EngineCoreDied"
    assert cause(died).message == "p: ended with exit code 0, not restarted yet: it said nothing"
    assert only_echoes("ValueError: x") is None


ECHO = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (
            "KeyError: 'a'\nINFO:     Shutting down\n/usr/lib/x.py:254: UserWarning: leaked\n  warnings.warn('x')",
            "KeyError: 'a'",
        ),
        (f"ValueError: the cause\nTraceback (most recent call last):\n  File\n{ECHO}", "ValueError: the cause"),
        (
            f"ValueError: the cause\nTraceback (most recent call last):\n  File\n{ECHO}\nBrokenPipeError: [Errno 32]",
            "ValueError: the cause",
        ),
        (f"nothing else\n{ECHO}", ECHO),
        (
            "Traceback (most recent call last):\n  File\njinja2.exceptions.TemplateNotFound: x.jinja",
            "jinja2.exceptions.TemplateNotFound: x.jinja",
        ),
        (
            'bash: vllm: command not found\nINFO:     127.0.0.1:1 - "GET /Error: x HTTP/1.1" 500',
            "bash: vllm: command not found",
        ),
        ('127.0.0.1 - - [24/Nov/2026] "GET /ValueError: x HTTP/1.1" 500 -\nstopped', "stopped"),
        ("(APIServer pid=1) WARNING 11-24 14:00:00 [x.py:1] errors like `OSError: [Errno 24]` may come\nend", "end"),
        ("(APIServer pid=1) ValueError: printed\n(APIServer pid=1)   more", "ValueError: printed more"),
        ("OSError: first line\n\nsecond line\nINFO:     bye", "OSError: first line second line"),
        ("ERROR:    [Errno 13] error while attempting to bind", "[Errno 13] error while attempting to bind"),
        ("one\ntwo\n", "two"),
        ("INFO:     only this", "INFO:     only this"),
        ("  ", "it said nothing"),
        ("", "it said nothing"),
    ],
)
def test_the_last_error_is_found_behind_and_amid_what_only_looks_like_one(log, told):
    assert last_error(log) == told


def test_a_pydantic_error_tells_each_field_and_not_the_value():
    log = """pydantic_core._pydantic_core.ValidationError: 2 validation errors for CacheConfig
block_size
  Input should be greater than 0 [type=greater_than, input_value={'secret': 1}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.14/v/greater_than
swap_space
  Field required [type=missing, input_value=ArgsKwargs(()), input_type=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.14/v/missing
"""
    assert last_error(log) == (
        "ValidationError: 2 validation errors for CacheConfig: "
        "block_size: Input should be greater than 0 swap_space: Field required"
    )


def test_an_error_that_was_got_over_is_not_the_cause():
    log = "OSError: 401 Client Error. \nINFO:     went on without it\nOSError: [Errno 98] Address already in use"
    assert known_cause(log)[0] == "PortInUse"


def test_the_cause_is_seen_even_where_the_log_begins_amid_it():
    assert known_cause("of memory. CUDA out of memory. Tried to allocate\n")[0] == "CudaOutOfMemory"
    assert known_cause("all is well") is None
    assert plain_lines("INFO:     a\n\nb") == ["b"]


def test_a_long_error_loses_its_end():
    (told,), _ = errors("ValueError: " + "x" * 1000)
    assert len(told) == LONGEST
    assert told.endswith("…")


def test_the_last_words_in_a_pods_status_suffice_where_the_engine_itself_failed():
    kept = end("unrecognized")
    state = {"terminated": {"exitCode": 2, "message": kept}}
    crashed = {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "engine", "lastState": state}]}}
    assert cause(crashed).message == (
        "p: api_server.py: error: unrecognized arguments: --nope; "
        "mend spec.engine.args, or choose an image that knows them"
    )
