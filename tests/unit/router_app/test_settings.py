import json

import pytest
from kvpool_api.wire import TokenizerConfig
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
    assert (settings.router, settings.admin_token) == ("qwen-router-7", "secret")
    assert settings.tokenizer == TokenizerConfig(hub_name="Qwen/Qwen3-32B")


def test_a_pod_on_a_loopback_address_listens_there_alone(load):
    settings = load(POD_IP="127.3.2.1", KVPOOL_HTTP_PORT="9000", KVPOOL_ADMIN_PORT="9001")
    assert (settings.http, settings.admin) == (Address("127.3.2.1", 9000), Address("127.3.2.1", 9001))


def test_a_tokenizer_folder_in_the_environment_overrides_the_configuration(load):
    assert load(KVPOOL_TOKENIZER_PATH="/tok").tokenizer == TokenizerConfig(path="/tok")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": "{"}, "no valid router configuration"),
        ({"config": {**CONFIG, "blockTokens": "many"}}, "blockTokens: "),
        ({"config": {**CONFIG, "colour": "red"}}, "colour: "),
        ({"token": None}, "mount the pool's Secret <pool>-admin"),
        ({"token": " \n"}, "is empty"),
        ({"KVPOOL_MEMBERSHIP_FILE": ""}, "KVPOOL_MEMBERSHIP_FILE is not set"),
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
