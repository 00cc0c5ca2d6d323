"""What one router process is told at its start: a configuration file, where the admin token is, the environment."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kvpool_api.labels import member_selector
from kvpool_api.wire import ROUTER_ADMIN_PORT, ROUTER_HTTP_PORT, RouterConfig, TokenizerConfig
from pydantic import ValidationError

from kvpool_router.admin_token import NoToken, TokenFile
from kvpool_router.membership.file_impl import FileMembership
from kvpool_router.membership.kube_impl import KubeMembership
from kvpool_router.membership.pods_api import ApiServer, PodsApi
from kvpool_router.membership.protocol import Membership

SHUTDOWN_S = 30.0
HTTPS_PORT = 443
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts the service account's `token` and `ca.crt` in every Pod."""
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - in a cluster, NetworkPolicies say who may connect

LOOPBACK = "127.0.0.1"


class SettingsError(Exception):
    """The process cannot start; one line that says what, why and the mend."""


class Address(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `build_router` needs to know."""

    config: RouterConfig
    router: str
    """Name of this router's pod."""
    http: Address
    admin: Address
    admin_token: Callable[[], str]
    """The token that the admin port wants now. Raises NoToken."""
    membership: Membership
    """Follows nothing before it is asked to."""
    tokenizer: TokenizerConfig
    shared: tuple[Address, Address] | None = None
    """For http and admin: where the pool's routers answer in turns, each beside its own addresses."""
    shutdown_s: float = SHUTDOWN_S
    """How long streams may go on after SIGTERM."""


def load_settings(
    config_file: Path, admin_token_file: Path, env: Mapping[str, str], credentials: Path = SERVICE_ACCOUNT
) -> Settings:
    """Reads the two files, the token to see that there is one. `credentials` is the service account's folder.

    Raises SettingsError.
    """
    config = _config(config_file)
    host = _listen_host(env.get("POD_IP"))
    return Settings(
        config=config,
        router=env.get("POD_NAME", "router"),
        http=Address(host, _port(env, "KVPOOL_HTTP_PORT", ROUTER_HTTP_PORT)),
        admin=Address(host, _port(env, "KVPOOL_ADMIN_PORT", ROUTER_ADMIN_PORT)),
        admin_token=_token(admin_token_file),
        membership=_membership(config, credentials, env),
        tokenizer=_tokenizer(config, env),
        shared=_shared(env),
    )


def _config(path: Path) -> RouterConfig:
    try:
        return RouterConfig.model_validate_json(_text(path, "the pool's ConfigMap <pool>-router"))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in error.errors())
        raise SettingsError(
            f"{path} is no valid router configuration ({wrong}); the operator writes it: run both at one version."
        ) from error


def _tokenizer(config: RouterConfig, env: Mapping[str, str]) -> TokenizerConfig:
    """A folder named by the environment wins: simulated engines bring a tokenizer of their own."""
    path = env.get("KVPOOL_TOKENIZER_PATH")
    return TokenizerConfig(path=path) if path else config.tokenizer


def _token(path: Path) -> Callable[[], str]:
    file = TokenFile(path)
    try:
        file.now()
    except NoToken as error:
        raise SettingsError(str(error)) from error
    return file.now


def _text(path: Path, origin: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}); mount {origin} there.") from error


def _membership(config: RouterConfig, credentials: Path, env: Mapping[str, str]) -> Membership:
    """The file that a local cluster names, else the API server that Kubernetes names to every Pod."""
    file, host = env.get("KVPOOL_MEMBERSHIP_FILE"), env.get("KUBERNETES_SERVICE_HOST")
    if file:
        return FileMembership(Path(file))
    if not host:
        raise SettingsError(
            "KUBERNETES_SERVICE_HOST is not set, so this is no Pod of a cluster whose API tells the pool's engines;"
            " set KVPOOL_MEMBERSHIP_FILE to a file with a v1 PodList of them."
        )
    port = _port(env, "KUBERNETES_SERVICE_PORT", HTTPS_PORT)
    server = ApiServer(f"https://{f'[{host}]' if ':' in host else host}:{port}", credentials)
    return KubeMembership(PodsApi(server, config.namespace, member_selector(config.pool)))


def _shared(env: Mapping[str, str]) -> tuple[Address, Address] | None:
    """The loopback port that a local cluster gives its user for the pool, and the one above."""
    if "KVPOOL_SHARED_PORT" not in env:
        return None
    port = _port(env, "KVPOOL_SHARED_PORT", ROUTER_HTTP_PORT)
    return Address(LOOPBACK, port), Address(LOOPBACK, port + 1)


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    told = env.get(name, str(default))
    if not (told.isdecimal() and 0 <= int(told) <= 65535):
        raise SettingsError(f"{name} is {told!r}; set it to a port number from 0 to 65535, or leave it out.")
    return int(told)


def _listen_host(pod_ip: str | None) -> str:
    """A pod on one machine with others keeps to its own loopback address; in a cluster probes and forwards need all."""
    try:
        return pod_ip if pod_ip and ipaddress.ip_address(pod_ip).is_loopback else ALL_ADDRESSES
    except ValueError as error:
        raise SettingsError(f"POD_IP is {pod_ip!r}, which is no IP address; set it from status.podIP.") from error
