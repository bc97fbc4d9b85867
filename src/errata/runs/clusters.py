"""What launches workers on a cluster: Ray, and Slurm through submitit. Each is an extra. No torch here.

Both find the runs' folders on storage that all machines share, under the same path.
"""

import os
import socket
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from errata.errors import BadInput
from errata.runs.executors import PATIENCE, Died, Ended, report
from errata.runs.jobs import PULSE, Job
from errata.types import Progress

CARRIED = ("ERRATA_", "HF_", "TOKENIZERS_", "OMP_", "MKL_")
"""Beginnings of the environment variables that workers are given: they decide results, or where files are."""
SHARED = ("timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "name")
"""What submitit calls the same for every scheduler; all else is Slurm's own."""
REACHED_WITHIN = 10.0
"""Seconds in which the head of a Ray cluster must answer."""
DAY = 24 * 60
TIMEOUTS = 100
"""How often a run that goes on from where it was may run out of time."""


@dataclass
class RayCluster:
    """One task a run on a Ray cluster.

    address: of the cluster, None for that of RAY_ADDRESS, one on this machine, or else a new one on this machine.
    """

    address: str | None = None
    _running: dict[Any, Job] = field(default_factory=dict)
    _ray: Any = None
    _connected: bool = False

    def submit(self, job: Job) -> None:
        if self._ray is None:
            self._connect()
        needs = job.needs
        self._warn_of_waiting(job)
        # A fresh process for each run, as on one machine; attempts are counted in one place, the sweep.
        task = self._ray.remote(max_calls=1, max_retries=0)(_work)
        wanted = {"num_cpus": needs.threads, "num_gpus": needs.gpus, "memory": needs.memory or None}
        self._running[task.options(name=job.run.path.name, **wanted).remote(job)] = job

    def wait(self, progress: Progress | None) -> list[Ended]:
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=PULSE)
        ended = [(self._running.pop(ref), self._result(ref)) for ref in ready]
        report(list(self._running.values()), progress)
        return ended

    def stop(self) -> None:
        if self._ray is None:
            return
        for ref in self._running:
            self._ray.cancel(ref, force=True)  # no harm: a run may be killed at any moment
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=PATIENCE)
        self._running.clear()
        if self._connected:
            self._ray.shutdown()
        self._ray, self._connected = None, False

    def _connect(self) -> None:
        self._ray = _extra("ray", "ray")
        if self._ray.is_initialized():
            return
        carried = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
        try:
            _reach(self.address)
            self._ray.init(self.address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": carried})
        except (OSError, ValueError, RuntimeError) as error:
            self._ray = None
            raise BadInput(
                f"no Ray cluster can be reached at {self.address or 'the usual places'}: {error} Start one with "
                "`ray start --head`, and give its address with --address."
            ) from error
        self._connected = True

    def _warn_of_waiting(self, job: Job) -> None:
        """A task that fits on no machine waits without a word, for one that may never come."""
        asked = {"CPU": job.needs.threads, "GPU": job.needs.gpus, "memory": job.needs.memory}
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(machine.get(name, 0) >= n for name, n in asked.items()) for machine in machines):
            warnings.warn(
                f"no machine of the Ray cluster has what {job.run.path.name} asks for ({job.needs}); it waits for one. "
                "--threads, --gpus and --memory say what a run asks for.",
                stacklevel=2,
            )

    def _result(self, ref: Any) -> Exception | None:
        try:
            found: Exception | None = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return Died(f"the worker on the Ray cluster was lost: {_first_line(error)}")
        return found


@dataclass
class Slurm:
    """One Slurm job a run, through submitit; a job that is preempted or runs out of time goes on in a new one.

    folder: for submitit's files, shared by all machines. settings: as `sbatch` names them, such as partition; or of
    `SHARED`, by default `timeout_min` of a day. cluster: what submitit launches with; "local" for processes on this
    machine.
    """

    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = "slurm"
    _running: list[tuple[Job, Any]] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        submitit = _extra("submitit", "slurm")
        try:
            executor = submitit.AutoExecutor(self.folder, cluster=self.cluster, slurm_max_num_timeout=TIMEOUTS)
        except RuntimeError as error:
            raise BadInput(f"no Slurm on this machine: {error} Give the command where `sbatch` works.") from error
        try:
            executor.update_parameters(**self._parameters(job))
        except AssertionError as error:  # submitit's way to refuse a value
            raise BadInput(f"--slurm: {error}") from error
        self._running.append((job, executor.submit(_Resumed(job))))

    def wait(self, progress: Progress | None) -> list[Ended]:
        if not (done := [(job, task) for job, task in self._running if task.done()]):
            time.sleep(PULSE)
        self._running = [pair for pair in self._running if pair not in done]
        report([job for job, _ in self._running], progress)
        return [(job, self._result(task)) for job, task in done]

    def stop(self) -> None:
        """Cancelled jobs take a moment to end, and hold their runs until then."""
        for _, task in self._running:
            task.cancel()
        deadline = time.monotonic() + PATIENCE
        while not all(task.done(force_check=True) for _, task in self._running) and time.monotonic() < deadline:
            time.sleep(PULSE)
        self._running.clear()

    def _parameters(self, job: Job) -> dict[str, Any]:
        needs = job.needs
        needed: dict[str, Any] = {"name": "errata", "timeout_min": DAY, "cpus_per_task": needs.threads}
        if needs.memory:
            needed["mem_gb"] = -(-needs.memory // 1024**3)
        if needs.gpus:
            needed["gpus_per_node"] = -int(-needs.gpus // 1)
        shared = {name: value for name, value in self.settings.items() if name in SHARED}
        others = {name: value for name, value in self.settings.items() if name not in SHARED}
        return {**needed, **shared, "slurm_additional_parameters": others}

    def _result(self, task: Any) -> Exception | None:
        errors = import_module("submitit.core.utils")
        try:
            found: Exception | None = task.result()
        except (errors.UncompletedJobError, errors.FailedJobError) as error:
            return Died(f"Slurm job {task.job_id} was lost: {_first_line(error)}")
        return found


@dataclass(frozen=True)
class _Resumed:
    """A job as submitit calls it; `checkpoint` is its word for what to do in the next job when this one must end."""

    job: Job

    def __call__(self) -> Exception | None:
        return self.job()

    def checkpoint(self) -> Any:
        return import_module("submitit.helpers").DelayedSubmission(self)


def _reach(address: str | None) -> None:
    """OSError where nothing answers at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_WITHIN).close()


def _work(job: Job) -> Exception | None:
    return job()


def _extra(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise BadInput(
            f"the executor {extra} needs {module}, which is not installed. Install it: pip install 'errata[{extra}]', "
            f"or in a clone: python install.py --extra {extra}"
        ) from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
