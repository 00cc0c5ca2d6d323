import random
import socket

import pytest
from kvpool_cli import ports
from kvpool_cli.errors import FAILED, UserError


@pytest.fixture
def taken():
    """A port in use, and free ones below it: far from those that the kernel gives to connections."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", ports.first_free(random.randrange(15_000, 30_000, 2), 4) + 2))
        listening.listen()
        yield listening.getsockname()[1]


def test_free_ports_are_nobodys_business(taken):
    ports.require_free(ports.first_free(20_000, 4), ["one", "two"])


def test_a_port_in_use_is_named_with_the_pool_and_the_option_to_give(taken):
    with pytest.raises(UserError) as caught:
        ports.require_free(taken - 2, ["one", "two"])
    assert caught.value.exit_code == FAILED
    assert f"port {taken} on 127.0.0.1, which pool two needs, is in use" in str(caught.value)
    suggested = int(str(caught.value).rpartition("--port ")[2])
    ports.require_free(suggested, ["one", "two"])


def test_a_row_of_free_ports_leaves_out_the_taken_one(taken):
    assert ports.first_free(taken, 2) > taken


def test_a_machine_without_free_ports_is_one_line(monkeypatch):
    monkeypatch.setattr(ports, "is_free", lambda *_: False)
    with pytest.raises(UserError, match="no 4 free ports in a row"):
        ports.first_free(ports.HIGHEST_PORT - 10, 4)
