"""The most memory that this process has held."""

import sys

import torch


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes at the most so far: of the process, and of its tensors on the GPUs if the model is on one."""
    found = {}
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["process"] = peak if sys.platform == "darwin" else peak * 1024
    if device.type == "cuda":
        found["gpu"] = sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    return found
