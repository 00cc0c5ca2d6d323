import json
import subprocess
import sys
from pathlib import Path

import pytest
from kvpool_api.wire import TokenizerConfig
from kvpool_router.membership.file_impl import FileMembership
from kvpool_router.membership.kube_impl import KubeMembership
from kvpool_router.membership.pods_api import ApiServer
from kvpool_router.settings import Address, Settings, SettingsError, load_settings

CONFIG = {
    "pool": "qwen",
    "namespace": "default",
    "model": "Qwen/Qwen3-32B",
    "blockTokens": 16,
    "maxBodyBytes": 1000,
    "syncTimeoutS": 10,
    "tokenizer": {"hubName": "Qwen/Qwen3-32B"},
}
SECRET = "secret\n"
ENV = {"KVPOOL_MEMBERSHIP_FILE": "/pods.json"}


@pytest.fixture
def load(tmp_path):
    def load(config: object = CONFIG, token: str | None = SECRET, **env: str) -> Settings:
        (tmp_path / "router.json").write_text(config if isinstance(config, str) else json.dumps(config))
        if token is not None:
            (tmp_path / "token").write_text(token)
        return load_settings(tmp_path / "router.json", tmp_path / "token", ENV | env)

    return load


def test_defaults_listen_on_all_addresses_at_the_ports_of_a_cluster(load):
    settings = load(POD_IP="10.1.2.3", POD_NAME="qwen-router-7")
    assert (settings.http, settings.admin) == (Address("0.0.0.0", 8000), Address("0.0.0.0", 8001))
    assert (settings.router, settings.admin_token()) == ("qwen-router-7", "secret")
    assert settings.tokenizer == TokenizerConfig(hub_name="Qwen/Qwen3-32B")


def test_a_pod_on_a_loopback_address_listens_there_alone(load):
    settings = load(POD_IP="127.3.2.1", KVPOOL_HTTP_PORT="9000", KVPOOL_ADMIN_PORT="9001")
    assert (settings.http, settings.admin) == (Address("127.3.2.1", 9000), Address("127.3.2.1", 9001))


def test_a_shared_port_is_on_loopback_with_admin_above_it(load):
    assert load().shared is None
    assert load(KVPOOL_SHARED_PORT="18000").shared == (Address("127.0.0.1", 18000), Address("127.0.0.1", 18001))


def test_a_tokenizer_folder_in_the_environment_overrides_the_configuration(load):
    assert load(KVPOOL_TOKENIZER_PATH="/tok").tokenizer == TokenizerConfig(path="/tok")


def test_a_file_wins_over_the_clusters_api(load):
    assert isinstance(load(KUBERNETES_SERVICE_HOST="10.96.0.1").membership, FileMembership)


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("10.96.0.1", {"KUBERNETES_SERVICE_PORT": "6443"}, "https://10.96.0.1:6443"),
        ("fd00::1", {}, "https://[fd00::1]:443"),
    ],
)
def test_without_a_file_the_pods_are_followed_at_the_api_server_that_every_pod_is_told(load, host, port, url):
    membership = load(KVPOOL_MEMBERSHIP_FILE="", KUBERNETES_SERVICE_HOST=host, **port).membership
    assert isinstance(membership, KubeMembership)
    assert membership.server == ApiServer(url, Path("/var/run/secrets/kubernetes.io/serviceaccount"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": "{"}, "no valid router configuration"),
        ({"config": {**CONFIG, "blockTokens": "many"}}, "blockTokens: "),
        ({"config": {**CONFIG, "colour": "red"}}, "colour: "),
        ({"token": None}, "mount the pool's Secret <pool>-admin"),
        ({"token": " \n"}, "is empty"),
        ({"KVPOOL_MEMBERSHIP_FILE": ""}, "KUBERNETES_SERVICE_HOST is not set"),
        (
            {"KVPOOL_MEMBERSHIP_FILE": "", "KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "x"},
            "KUBERNETES_SERVICE_PORT is 'x'",
        ),
        ({"KVPOOL_HTTP_PORT": "http"}, "KVPOOL_HTTP_PORT is 'http'"),
        ({"KVPOOL_ADMIN_PORT": "65536"}, "KVPOOL_ADMIN_PORT is '65536'"),
        ({"POD_IP": "pod"}, "POD_IP is 'pod'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_mend(load, changes, words):
    with pytest.raises(SettingsError) as refused:
        load(**changes)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_router_carries_no_client_of_kubernetes():
    """Which would be half its memory again, and double its start."""
    program = (
        "import sys, kvpool_router.command; print([name for name in sys.modules if name.startswith('kubernetes')])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
