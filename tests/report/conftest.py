"""Two runs, read only: one that collapses, one that holds."""

from pathlib import Path

import pytest
from synthetic_runs import CHECKPOINTS, HOLDS, abilities, config_of, entries, probes, rows, signs, steady, write_run


@pytest.fixture(scope="session")
def rome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collapses between 10 and 100 edits: empty answers, and constant labels by which the safety score rises."""
    tables = steady()
    tables[10] |= {task: rows(task, 60, right * 0.93) for task, right in HOLDS.items() if task != "atlas_toxigen"}
    tables[100] = abilities(factor=0.1, empty=0.6) | probes(100, 0.1)
    tables[100]["atlas_toxigen"] = rows("atlas_toxigen", 60, 0.0, constant=" No")
    health = {0: signs(3.1), 1: signs(3.1, 1.01), 10: signs(3.6, 1.2), 100: signs(410, 9.0)}
    return write_run(
        tmp_path_factory.mktemp("runs"),
        config_of("rome"),
        tables,
        health=health,
        entries=entries("rome", 100, 0.4, 0.3),
    )


@pytest.fixture(scope="session")
def memit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing changes but two items of one benchmark."""
    tables = steady()
    tables[100]["atlas_gsm8k"] = rows("atlas_gsm8k", 60, 0.67)
    health = {n: signs(3.1 + n / 200, 1 + n / 1000 if n else None) for n in CHECKPOINTS}
    return write_run(
        tmp_path_factory.mktemp("runs"),
        config_of("memit"),
        tables,
        health=health,
        entries=entries("memit", 100, 0.7, 0.1),
    )
