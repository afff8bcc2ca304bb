"""Which kernels win on this device: attention by backend, the loss by implementation, fp8."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tools.gpu.report import Options, Report
from tools.gpu.stages.start import timed

BACKENDS = {
    "torch's own choice": None,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
SHAPES = {  # batch, heads, sequence, head width
    "350M@1024": (32, 16, 1024, 64),
    "350M@4096": (8, 16, 4096, 64),
    "1.3B@1024": (16, 16, 1024, 128),
    "1.3B@4096": (4, 16, 4096, 128),
}
FP8 = ("transformer_engine", "torchao")
Route = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Hidden states, weight, labels and mask to the summed loss."""


def run(options: Options, report: Report) -> None:
    """All three."""
    for name, shape in SHAPES.items():
        with report.part(f"attention {name}") as figures:
            b, n, s, d = (2, 2, 64, 16) if options.tiny else shape
            figures.update(attention(options, b, n, s, d))
    with report.part("loss") as figures:
        tokens, hidden, rows = (64, 32, 256) if options.tiny else (16384, 1024, 50304)
        figures.update(losses(options, tokens, hidden, rows))
    with report.part("fp8") as figures:
        figures.update(fp8(options))


def attention(options: Options, b: int, n: int, s: int, d: int) -> dict[str, Any]:
    """FLOP/s forward and backward of causal attention, by backend; [s, b, n, d] in memory as our
    layer has it. Counted 3 x 4 b n s s d / 2, the causal half."""
    shape = (s, b, n, 3 * d)
    mixed = torch.randn(shape, device=options.device, dtype=torch.bfloat16, requires_grad=True)
    gradient = torch.randn(b, n, s, d, device=options.device, dtype=torch.bfloat16)
    flops = 6 * b * n * s * s * d
    found: dict[str, Any] = {"shape": [b, n, s, d]}

    def step() -> None:
        q, k, v = mixed.permute(1, 2, 0, 3).split(d, dim=-1)
        F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(gradient)
        mixed.grad = None

    for name, backend in BACKENDS.items():
        if options.device == "cpu" and backend is not None:
            continue
        try:
            if backend is None:
                seconds = timed(step, options.device, 2 if options.tiny else 10)
            else:
                with sdpa_kernel(backend):
                    seconds = timed(step, options.device, 10)
            found[name] = flops / seconds
        except RuntimeError as error:  # this backend cannot do it here
            found[name] = str(error).splitlines()[0][:200]
    return found


def loss_routes() -> dict[str, Route]:
    """Ways to the summed cross entropy of hidden [n, h] @ weight [v, h], labels [n], mask [n]."""
    from pretrain.objectives.cross_entropy import linear_cross_entropy

    def all_logits(hidden: Tensor, weight: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return F.cross_entropy((hidden @ weight.t()).float(), labels, reduction="sum")

    routes: dict[str, Route] = {"ours": linear_cross_entropy, "all logits": all_logits}
    torchs: Any = getattr(F, "linear_cross_entropy", None)
    if torchs is not None:
        options = torch.nn.LinearCrossEntropyOptions()

        def in_chunks(hidden: Tensor, weight: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
            loss: Tensor = torchs(hidden, weight, labels, reduction="sum", options=options)
            return loss

        routes["torch in chunks"] = in_chunks
    return routes


def losses(options: Options, tokens: int, hidden: int, rows: int) -> dict[str, Any]:
    """Seconds forward and backward, and bytes beside inputs and gradients, of each way."""
    generator = torch.Generator().manual_seed(0)
    device, dtype = options.device, torch.bfloat16
    x = torch.randn(tokens, hidden, generator=generator).to(device, dtype).requires_grad_()
    w = (torch.randn(rows, hidden, generator=generator) / hidden**0.5).to(device, dtype)
    w.requires_grad_()
    labels = torch.randint(0, rows, (tokens,), generator=generator).to(device)
    mask = torch.ones(tokens, device=device)
    found: dict[str, Any] = {"tokens": tokens, "hidden": hidden, "vocabulary": rows}
    found["torch has linear_cross_entropy"] = hasattr(F, "linear_cross_entropy")
    for name, route in loss_routes().items():
        try:
            found[name] = _loss(route, (x, w, labels, mask), device, 1 if options.tiny else 5)
        except (RuntimeError, TypeError) as error:
            found[name] = str(error).splitlines()[0][:200]
    return found


def _loss(route: Any, inputs: tuple[Tensor, ...], device: str, repeats: int) -> dict[str, Any]:
    x, w, *_ = inputs

    def step() -> Tensor:
        x.grad = w.grad = None
        loss: Tensor = route(*inputs)
        loss.backward()
        return loss

    value = float(step())
    peak = None
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(step, device, repeats)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() - before
    return {"loss": value, "seconds": seconds, "bytes": peak}


def fp8(options: Options) -> dict[str, Any]:
    """Which packages for fp8 are there, and the rate of torch's own product of fp8 matrices."""
    present = [name for name in FP8 if importlib.util.find_spec(name) is not None]
    found: dict[str, Any] = {
        "packages": present,
        "trained": False,
        "said": f"there: {', '.join(present) or 'neither ' + ' nor '.join(FP8)}; training in fp8 "
        "is not a part of this project, only torch's product of fp8 matrices is timed",
    }
    if options.device == "cuda" and torch.cuda.get_device_capability() >= (8, 9):
        side = 8192
        one = torch.ones((), device="cuda")
        a, b = (torch.randn(side, side, device="cuda").to(torch.float8_e4m3fn) for _ in range(2))

        def product() -> Tensor:
            out: Tensor = torch._scaled_mm(
                a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
            )
            return out

        found["fp8_flops"] = 2 * side**3 / timed(product, "cuda", 10)
    return found
