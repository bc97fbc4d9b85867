"""Every test runs offline, in one torch thread, with a cache folder of its own."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported: OpenMP reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

_connect = socket.socket.connect


def _connect_locally(self: socket.socket, address: Any) -> None:
    """Sockets inside the machine work; anything else is a hidden download."""
    outside = self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost")
    if outside:
        raise AssertionError(f"a test reached for the network: {address}")
    _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _connect_locally)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ERRATA_CACHE points into the test's own folder; what the user has built stays untouched."""
    folder: Path = tmp_path_factory.getbasetemp() / "errata-cache"
    monkeypatch.setenv("ERRATA_CACHE", str(folder))
    return folder
