"""Whether bfloat16 is worth it here: a processor that does not multiply it takes several times as long as for float32."""

import torch


def multiplies_bfloat16() -> bool:
    """Return whether this machine's CPU has instructions for products of bfloat16."""
    can = torch.cpu.get_capabilities()
    return any(can.get(name) for name in ("avx512_bf16", "amx_bf16"))
