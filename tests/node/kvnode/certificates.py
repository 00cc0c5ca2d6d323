"""An authority of the node's own and what it signs, by the openssl program (3.0 or newer)."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvnode.failure import NodeFailure

DAYS = "365"
EMPTY_SETTINGS = "[req]\ndistinguished_name = none\nx509_extensions = these\n[none]\n[these]"
"""The machine's own openssl.cnf must not add to what is signed."""
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    pair: Pair

    @property
    def certificate(self) -> Path:
        return self.pair.certificate

    def server(self, name: str, hosts: Sequence[str]) -> Pair:
        """`hosts`: names and addresses, each as openssl writes it (`DNS:kubernetes`, `IP:10.96.0.1`)."""
        extensions = ("extendedKeyUsage=serverAuth", f"subjectAltName={','.join(hosts)}")
        return self._issue(name, f"/CN={name}", extensions)

    def client(self, name: str, subject: str) -> Pair:
        return self._issue(name, subject, ("extendedKeyUsage=clientAuth",))

    def _issue(self, name: str, subject: str, extensions: Sequence[str]) -> Pair:
        folder = self.certificate.parent
        pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
        signed = ("-CA", str(self.pair.certificate), "-CAkey", str(self.pair.key))
        _self_signed(pair, subject, (*extensions, "basicConstraints=critical,CA:FALSE"), signed)
        return pair


def authority(folder: Path, name: str) -> Authority:
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    _self_signed(pair, f"/CN={name}", ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"))
    return Authority(pair)


def signing_key(folder: Path, name: str) -> Pair:
    """A key pair without a certificate: `certificate` is its public half."""
    pair = Pair(folder / f"{name}.pub", folder / f"{name}.key")
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(pair.key))
    _openssl("pkey", "-in", str(pair.key), "-pubout", "-out", str(pair.certificate))
    return pair


def _self_signed(pair: Pair, subject: str, extensions: Sequence[str], more: Sequence[str] = ()) -> None:
    settings = pair.key.with_suffix(".cnf")
    settings.write_text("\n".join([EMPTY_SETTINGS, *extensions, ""]))
    files = ("-config", str(settings), "-keyout", str(pair.key), "-out", str(pair.certificate))
    _openssl("req", "-x509", *CURVE, "-days", DAYS, "-subj", subject, *files, *more)


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NodeFailure(f"openssl {words[0]} failed: {done.stderr.strip()}; it must be openssl 3.0 or newer")
