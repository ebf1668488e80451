"""Compile what computes one row per shopper, and use the result only after it has proved itself.

Privacy rests on each row depending on its own shopper alone, and a compiler can break that in silence:
TorchInductor 2.13 summed rows over all shoppers for a model that used `repeat_interleave`
(https://github.com/pytorch/pytorch/issues/188084). So every compiled function is tried on made-up numbers of
the right shapes before it sees a shopper:

| trial                                            | otherwise                                  |
|--------------------------------------------------|--------------------------------------------|
| it compiles (there is a C++ compiler, …)         | the function as it was, and one log line   |
| its rows equal those of the function as it was   | the same                                   |
| every other shopper NaN: no bit of the rest moves | the same                                   |

The trial looks at shapes alone, so its outcome says nothing about any shopper and is the same every time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import structlog
import torch

Rows = dict[str, torch.Tensor]
Shared = Mapping[str, torch.Tensor]
RowFunction = Callable[[Shared, Sequence[torch.Tensor], Sequence[torch.Tensor]], Rows]
"""(shared tensors, public ones, (B, …) columns of B shoppers) → name → (B, …) rows."""

_log = structlog.get_logger("fedcart.client")


class Form(NamedTuple):
    """What a compiled function is specialised to, tensor by tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Form":
        """Return the form of a tensor."""
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)

    def filled(self, generator: torch.Generator) -> torch.Tensor:
        """Return a tensor of this form with made-up numbers: bits, or normals with rows of length about 1."""
        width = self.shape[-1] if self.shape else 1
        numbers = torch.randn(self.shape, generator=generator) / max(width, 1) ** 0.5
        values = numbers > 0 if self.dtype == torch.bool else numbers
        tensor = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)
        return tensor.copy_(values)


class Forms(NamedTuple):
    """The forms of all arguments of a RowFunction; hashable."""

    shared: tuple[tuple[str, Form], ...]
    public: tuple[Form, ...]
    columns: tuple[Form, ...]

    @classmethod
    def of(cls, shared: Shared, public: Sequence[torch.Tensor], columns: Sequence[torch.Tensor]) -> "Forms":
        """Return the forms of a call's arguments."""
        return cls(
            tuple((name, Form.of(t)) for name, t in shared.items()),
            tuple(map(Form.of, public)),
            tuple(map(Form.of, columns)),
        )


def compiled_or_eager(eager: RowFunction, forms: Forms) -> RowFunction:
    """Return `eager` compiled for arguments of these forms; `eager` itself where that fails or cannot be trusted.

    It is never compiled a second time unseen: for other forms, threads or modes it is `eager` that runs.
    """
    from torch._dynamo.exc import FailOnRecompileLimitHit  # a second to import, and mostly not needed

    fast: RowFunction = torch.compile(  # type: ignore[call-overload]  # the overloads forget the last two options
        eager, fullgraph=True, dynamic=False, isolate_recompiles=True, recompile_limit=1
    )
    try:
        fault = _fault(fast, eager, forms)
    except Exception as error:  # a compiler fails in many ways, and none of them may stop a charged round
        fault = _first_line(error)
    if fault is not None:
        _log.warning("gradients are not compiled: steps take longer, nothing else changes", reason=fault)
        return eager

    def tried_or_eager(
        shared: Shared, public: Sequence[torch.Tensor], columns: Sequence[torch.Tensor]
    ) -> Rows:
        try:
            return fast(shared, public, columns)
        except FailOnRecompileLimitHit:  # other forms, threads or modes than were tried
            return eager(shared, public, columns)

    return tried_or_eager


def _fault(fast: RowFunction, eager: RowFunction, forms: Forms) -> str | None:
    """Return what is wrong with `fast`, or None."""
    generator = torch.Generator().manual_seed(0)
    shared = {name: form.filled(generator) for name, form in forms.shared}
    public = [form.filled(generator) for form in forms.public]
    columns = [form.filled(generator) for form in forms.columns]
    expected, rows = eager(shared, public, columns), fast(shared, public, columns)
    lengths = {name: wanted.flatten(1).norm(dim=1) for name, wanted in expected.items()}
    longest = torch.stack(list(lengths.values())).max()
    for name, wanted in expected.items():
        eps = torch.finfo(wanted.dtype).eps  # a gradient that is zero but for rounding is no fault
        allowed = eps**0.5 * lengths[name].max() + 1000 * eps * longest
        if not ((rows[name] - wanted).flatten(1).norm(dim=1) <= allowed).all():  # NaN fails too
            return f"the compiled gradient of {name} is wrong"
    for column in columns:
        if column.is_floating_point():
            column[::2] = torch.nan
    for name, row in fast(shared, public, columns).items():
        if not torch.equal(row[1::2], rows[name][1::2]):
            return f"the compiled gradient of {name} mixes shoppers"
    return None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
