"""Which device, and in which precision it multiplies."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import torch

from polytask.errors import ConfigError
from polytask.terms import Precision


def choose_device(name: str, place: str = "train.device") -> torch.device:
    """Turn `auto` or a device's name into a device. Raises ConfigError where there is none such.

    Args:
        place: where the name was found, for people.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{place}: found {name!r}; accepted: auto, cpu, cuda, cuda:0, ...") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{place}: found {name!r}, and torch sees no GPU; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():  # `cuda` has no index
        raise ConfigError(f"{place}: found {name!r}, and torch sees {torch.cuda.device_count()} GPUs, counted from 0")
    return device


def fast_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        return bool(found.get("amx_bf16") or found.get("avx512_bf16") or found.get("bf16"))
    return False


def computes_bf16(device: torch.device, precision: Precision) -> bool:
    """Whether the encoder multiplies in bfloat16: when asked for, or when `auto` finds it fast."""
    return precision == "bf16" or (precision == "auto" and fast_bf16(device))


def autocast(device: torch.device, precision: Precision, *, keeps: bool = True) -> AbstractContextManager[object]:
    """Return the context in which the encoder runs.

    Args:
        keeps: whether rounded weights are kept for as long as the context lasts; sharded ones are not to be.
    """
    on = computes_bf16(device, precision)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on, cache_enabled=keeps)


def pass_overhead(device: torch.device) -> int:
    """What one more pass through the encoder costs, in tokens that could be encoded meanwhile."""
    return 2048 if device.type == "cuda" else 128


def name_of(device: torch.device) -> str:
    """Return what a person calls a device."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def peak_mib(device: torch.device) -> float | None:
    """Return the most memory that this process has held, in MiB: the GPU's where it computes there.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
