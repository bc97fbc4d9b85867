"""The installer: which torch it takes, and that it does nothing twice. No package is installed here."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    return module


@pytest.fixture
def asked(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What pip was asked for; the CPU build is found nowhere unless a test says so."""
    calls: list[tuple[str, ...]] = []

    def refuse(_: Path, *arguments: str) -> bool:
        calls.append(arguments)
        return False

    monkeypatch.setattr(installer, "pip", lambda _, *arguments: calls.append(arguments))
    monkeypatch.setattr(installer, "pip_accepts", refuse)
    return calls


def test_with_a_gpu_the_plain_torch(
    installer: ModuleType, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "has_gpu", lambda: True)
    installer.install_torch(Path("python"))
    assert asked == [("torch==2.13.0",)]


def test_without_a_gpu_the_cpu_build_first(
    installer: ModuleType, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "has_gpu", lambda: False)
    installer.install_torch(Path("python"))
    assert asked == [("torch==2.13.0+cpu",), ("torch==2.13.0", "--index-url", installer.CPU_INDEX), ("torch==2.13.0",)]


def test_vllm_without_a_gpu_is_the_cpu_build_less_what_is_built_for_cuda(
    installer: ModuleType, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installer.venv, "create", lambda folder, with_pip: folder.mkdir())
    monkeypatch.setattr(installer, "has_torch", lambda _: False)
    monkeypatch.setattr(installer, "has_gpu", lambda: False)
    monkeypatch.setattr(installer.subprocess, "run", lambda command, check: asked.append(tuple(command[3:])))
    installer.install(tmp_path / "venv", ["dev", "vllm"])
    *_, vllm, removal, errata = asked
    assert vllm == (installer.VLLM_ON_CPU,) and removal == ("uninstall", "-q", "-y", *installer.BUILT_FOR_CUDA)
    assert errata == ("-e", f"{ROOT}[dev]")


def test_vllm_on_a_gpu_brings_its_own_torch(
    installer: ModuleType, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installer.venv, "create", lambda folder, with_pip: folder.mkdir())
    monkeypatch.setattr(installer, "has_torch", lambda _: False)
    monkeypatch.setattr(installer, "has_gpu", lambda: True)
    installer.install(tmp_path / "venv", ["dev", "vllm"])
    assert asked == [("-e", f"{ROOT}[dev,vllm]")]


@pytest.mark.parametrize(
    ("listing", "found"), [("GPU 0: NVIDIA H200 (UUID: x)", True), ("No devices were found", False)]
)
def test_a_gpu_is_what_nvidia_smi_lists(
    listing: str, found: bool, installer: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{listing}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert installer.has_gpu() is found


def test_a_second_call_does_nothing(
    installer: ModuleType, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installer.venv, "create", lambda folder, with_pip: folder.mkdir(exist_ok=True))
    monkeypatch.setattr(installer, "has_torch", lambda _: True)
    installer.install(tmp_path / "venv", ["dev"])
    assert len(asked) == 1 and asked[0][-1].endswith("[dev]") and "-c" in asked[0]
    installer.install(tmp_path / "venv", ["dev"])
    assert len(asked) == 1
    installer.install(tmp_path / "venv", [])
    assert len(asked) == 2


def test_an_old_python_is_told(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installer.sys, "argv", ["install.py"])
    monkeypatch.setattr(installer.sys, "version_info", (3, 10, 0))
    assert installer.main() == 2
    assert "3.11" in capsys.readouterr().err
