"""Devices, and the precision of matrix products on them."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import torch

from polytask.errors import ConfigError
from polytask.terms import Precision


def choose_device(name: str, place: str = "train.device") -> torch.device:
    """Return the device for `auto` or a device name. Raises ConfigError if there is no such device.

    Args:
        place: the option that holds the name, for messages.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{place}: found {name!r}; accepted: auto, cpu, cuda, cuda:0, ...") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{place}: found {name!r}, but torch sees no GPU; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():  # `cuda` has no index
        raise ConfigError(f"{place}: found {name!r}, but torch sees {torch.cuda.device_count()} GPUs, counted from 0")
    return device


def fast_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"))
    return False


def computes_bf16(device: torch.device, precision: Precision) -> bool:
    """Whether the encoder multiplies in bfloat16: if requested, or with `auto` if the hardware is fast at it."""
    return precision == "bf16" or (precision == "auto" and fast_bf16(device))


def autocast(
    device: torch.device, precision: Precision, *, cache_enabled: bool = True
) -> AbstractContextManager[object]:
    """Return the autocast context in which the encoder runs.

    Args:
        cache_enabled: whether cast weights are cached until the context exits; not for sharded weights.
    """
    on = computes_bf16(device, precision)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on, cache_enabled=cache_enabled)


def pass_overhead(device: torch.device, *, packs: bool = False) -> int:
    """Return the cost of one more pass through the encoder, in tokens of padding that would cost the same.

    Args:
        packs: whether layers compute rows without their padding, as in training. Rows that are sorted by length
            before they are divided into batches, as in prediction, have next to none.
    """
    return (2048 if device.type == "cuda" else 128) * (8 if packs else 1)


def name_of(device: torch.device) -> str:
    """Return a human-readable name of a device."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def peak_mib(device: torch.device) -> float | None:
    """Return the peak memory of this process in MiB: of the GPU if it computes there, otherwise of the process.

    None if the system does not report it.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
