"""How this machine's pip reaches its registry, lent to a build while it runs: no image and no file keeps it."""

import ast
import subprocess
import sys
from pathlib import Path

PASSED = ("cert", "extra-index-url", "index-url", "no-index", "proxy", "trusted-host")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""In the image, where the build may lay the machine's own over it."""
WHEELS = "/tmp/wheels"


def here() -> dict[str, str]:
    """pip's settings of this machine by their long names; none where this interpreter has no pip."""
    argv = [sys.executable, "-m", "pip", "config", "list"]
    return parsed(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)


def parsed(listed: str) -> dict[str, str]:
    """From the lines of `pip config list`, such as `global.cert='/a'` or `:env:.cert='/b'`; the environment's win."""
    found: dict[str, str] = {}
    lines = [line for line in listed.splitlines() if "=" in line]
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    return found


def volumes(settings: dict[str, str], written: Path) -> list[str]:
    """buildah's --volume values; `written` is where the pip.conf that they lay into the build is put."""
    lines = ["[global]", "disable-pip-version-check = true"]
    lines += [f"{name} = {settings[name]}" for name in PASSED if name in settings and name != "cert"]
    mounted = [f"{written}:/etc/pip.conf:ro"]
    if "cert" in settings:
        lines.append(f"cert = {CERTIFICATES}")
        mounted.append(f"{settings['cert']}:{CERTIFICATES}:ro")
    links = settings.get("find-links", "")
    if links and Path(links).is_dir() and any(Path(links).iterdir()):
        lines.append(f"find-links = {WHEELS}")
        mounted.append(f"{links}:{WHEELS}:ro")
    written.write_text("\n".join(lines) + "\n")
    written.chmod(0o600)
    return mounted
