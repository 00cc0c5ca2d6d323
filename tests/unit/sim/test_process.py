"""The simulated engine as a process of its own."""

import asyncio
import signal
import socket
import sys
import urllib.request

import pytest
from eventually import eventually
from kvpool_sim import command as program
from kvpool_sim import tokenizer_path
from kvpool_sim.process import serve
from kvpool_sim.settings import SettingsError, parse
from kvpool_sim.tokenizer import train

EVENTS = '{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"ENDPOINT","topic":"t"}'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def term_is_harmless():
    """The server raises the signal once more, for whoever handled it before, when it has ended."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("term_is_harmless")
async def test_a_term_signal_ends_it_in_peace(tmp_path):
    port = free_port()
    told, _ = parse(
        ["m", "--port", str(port), "--kv-events-config", EVENTS.replace("ENDPOINT", f"ipc://{tmp_path}/e")], {}
    )
    running = asyncio.create_task(serve(told))

    async def healthy():
        def asked():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                return answer.status == 200

        try:
            return await asyncio.to_thread(asked)
        except OSError:
            return False

    await eventually(healthy)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(running, 10)


async def test_a_taken_address_is_said_in_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told, _ = parse(["m", "--port", str(taken.getsockname()[1])], {})
        with pytest.raises(SettingsError, match="cannot be bound: Address already in use"):
            await serve(told)
    config = EVENTS.replace("ENDPOINT", "ipc:///no/such/folder/e")
    told, _ = parse(["m", "--port", str(free_port()), "--kv-events-config", config], {})
    with pytest.raises(SettingsError, match=r"KV event endpoints on .* cannot be bound"):
        await serve(told)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--sim-timing", "h900"], "no such row"),
        (["--max-modellen", "9"], "vllm: error: unrecognized arguments: --max-modellen 9\n"),
    ],
)
def test_a_wrong_argument_ends_the_program_with_exit_code_2(wrong, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kvpool_sim", "m", *wrong])
    assert program.main() == 2
    assert words in capsys.readouterr().err


def test_the_tokenizer_that_ships_is_what_the_script_makes(tmp_path, monkeypatch):
    text = tmp_path / "text"
    text.write_text("a small text about blocks and prefixes " * 20)
    monkeypatch.setattr(train, "HERE", tmp_path)
    train.main([str(text)])
    shipped = (tokenizer_path() / "tokenizer_config.json").read_text()
    assert (tmp_path / "tokenizer_config.json").read_text() == shipped
    assert (tmp_path / "tokenizer.json").exists()
