"""Where the processor or GPU computes in bfloat16, and the autocast context of a training step."""

from __future__ import annotations

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16, so that it is faster there than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a training step computes.

    Not Accelerate's own: that fixes one precision for the life of the process.

    Args:
        precision: "bf16", "fp32", or "auto": bf16 where the processor or GPU has it.
        device: Where it computes.

    Raises:
        ValueError: If `precision` is none of these.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"unknown precision {precision!r}; expected 'auto', 'bf16' or 'fp32'")
    enabled = precision == "bf16" or (precision == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
