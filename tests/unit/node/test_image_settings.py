"""What the base image is made from, and how pip reaches its registry while an image is built."""

import pytest
from kvnode import base_image, pip_settings
from kvnode.base_image import Source, apt_source
from kvnode.failure import NodeFailure

BOOKWORM = 'PRETTY_NAME="Debian"\nVERSION_CODENAME=bookworm\n'
DEB822 = """Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
"""


def test_the_mirror_is_that_of_the_machines_own_suite():
    expected = Source("http://mirror.example/debian", "bookworm")
    assert apt_source(BOOKWORM, ["deb https://tools.example/apt stable main\n", DEB822]) == expected
    one_line = "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main contrib\n"
    assert apt_source(BOOKWORM, [one_line]) == expected


def test_a_machine_that_is_no_debian_or_has_no_mirror_is_told_so():
    with pytest.raises(NodeFailure, match="names no VERSION_CODENAME"):
        apt_source("ID=other\n", [DEB822])
    with pytest.raises(NodeFailure, match=r"no mirror for trixie; add one to /etc/apt/sources\.list"):
        apt_source(BOOKWORM.replace("bookworm", "trixie"), [DEB822, "deb-src http://m.example/d trixie main\n"])


def test_the_base_is_named_by_what_goes_into_it(monkeypatch):
    monkeypatch.setattr(base_image, "here", lambda: Source("http://one.example", "bookworm"))
    first = base_image.tag()
    monkeypatch.setattr(base_image, "here", lambda: Source("http://two.example", "bookworm"))
    assert base_image.tag() == first
    monkeypatch.setattr(base_image, "here", lambda: Source("http://one.example", "trixie"))
    assert base_image.tag() != first


def test_the_environments_settings_win_over_those_of_files():
    listed = (
        ":env:.cert='/by/environment.pem'\nglobal.cert='/by/file.pem'\nglobal.index-url='https://index.example/it'\n"
    )
    assert pip_settings.parsed(listed) == {"cert": "/by/environment.pem", "index-url": "https://index.example/it"}


def test_a_build_is_lent_settings_and_certificates_by_mounts_alone(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    written = tmp_path / "pip.conf"
    settings = {"cert": "/machine/ca.pem", "index-url": "https://index.example/it", "timeout": "9"}
    volumes = pip_settings.volumes(settings | {"find-links": str(wheels)}, written)
    assert volumes == [f"{written}:/etc/pip.conf:ro", f"/machine/ca.pem:{pip_settings.CERTIFICATES}:ro"]
    assert written.read_text().splitlines() == [
        "[global]",
        "disable-pip-version-check = true",
        "index-url = https://index.example/it",
        f"cert = {pip_settings.CERTIFICATES}",
    ]
    assert written.stat().st_mode & 0o077 == 0, "an index's address may hold a password"
    (wheels / "a.whl").touch()
    assert f"{wheels}:{pip_settings.WHEELS}:ro" in pip_settings.volumes({"find-links": str(wheels)}, written)
