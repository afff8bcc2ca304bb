"""Cross entropy over a vocabulary that is split over tensor-parallel ranks.

The output projection and the loss are one operation that works through the tokens in blocks: the
logits of a block are turned into their gradient at once, so the full [tokens, vocabulary] matrix
never exists. A token may have several labels, each with a share of it. Shapes: n tokens, k labels
of each, h hidden, v vocabulary rows of this rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pretrain.objectives.blocks import block_tokens
from pretrain.products import product

Term = Callable[[Tensor, Tensor], Tensor]
"""What is added to the loss of each token [n]: a function of log Z [n], the log of the sum of
exponentiated logits over the whole vocabulary, and of the token's nats [n]."""

LEAVES_OUT = frozenset({"cpu"})
"""Devices on which tokens that do not count have no logits computed. How many do is known to the
device alone: elsewhere the host would wait for it in every micro-batch."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum over tokens of mask * (nats + term), nats the cross entropy of hidden @ weight.T.

    With p the softmax, y the label as a one-hot row (or the shares of several) and t the term, the
    gradient of a token's loss with respect to its logits is (1 + dt/dnats) (p - y) + dt/dlogZ p.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_nh: Tensor,
        weight_vh: Tensor,
        labels_nk: Tensor,
        mask_n: Tensor,
        group: dist.ProcessGroup | None,
        term: Term | None,
        shares_nk: Tensor | None,
    ) -> Tensor:
        tokens, rows = hidden_nh.size(0), weight_vh.size(0)
        block = block_tokens(hidden_nh.device.type, rows)
        wants_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        parallel = group is not None and dist.get_world_size(group) > 1
        first_row = dist.get_rank(group) * rows if parallel else 0
        total = hidden_nh.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden_nh) if wants_grad else None
        grad_weight: Tensor | None = None
        for start in range(0, tokens, block):
            part = slice(start, min(start + block, tokens))
            logits = product(hidden_nh[part], weight_vh).float()
            largest = logits.amax(1, keepdim=True)
            if parallel:
                dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
            logits.sub_(largest)
            local = labels_nk[part] - first_row
            owned = (local >= 0) & (local < rows)
            local = local.clamp(0, rows - 1)
            if shares_nk is None:
                target = logits.gather(1, local).squeeze(1) * owned.squeeze(1)
            else:
                owned = owned * shares_nk[part]
                target = (logits.gather(1, local) * owned).sum(1)
            exps = logits.exp_()
            norm = exps.sum(1)
            if parallel:
                both = torch.stack((norm, target))
                dist.all_reduce(both, group=group)
                norm, target = both
            nats = norm.log() - target
            onto_p = onto_y = mask_n[part]
            if term is None:
                total += (nats * mask_n[part]).sum()
            else:
                added, by_log_z, by_nats = _with_slopes(term, norm.log() + largest[:, 0], nats)
                total += ((nats + added) * mask_n[part]).sum()
                onto_y = mask_n[part] * (1.0 + by_nats)
                onto_p = onto_y + mask_n[part] * by_log_z
            if grad_hidden is None:
                continue
            grad = exps.mul_((onto_p / norm).unsqueeze(1))
            grad.scatter_add_(1, local, -(onto_y.unsqueeze(1) * owned))
            grad = grad.to(hidden_nh.dtype)
            grad_hidden[part] = product(grad, weight_vh.t())
            of_block = product(grad.t(), hidden_nh[part].t())
            grad_weight = of_block.float() if grad_weight is None else grad_weight.add_(of_block)
        if wants_grad:
            if grad_weight is None:
                grad_weight = torch.zeros_like(weight_vh)
            ctx.save_for_backward(grad_hidden, grad_weight.to(weight_vh.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        (scale,) = outputs
        return (
            grad_hidden * scale.to(grad_hidden.dtype),
            grad_weight * scale.to(grad_weight.dtype),
            None,
            None,
            None,
            None,
            None,
        )


def _with_slopes(term: Term, log_z_n: Tensor, nats_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The term of each token, and its derivatives by log Z and by nats, all [n]."""
    with torch.enable_grad():
        inputs = [tensor.detach().requires_grad_() for tensor in (log_z_n, nats_n)]
        added = term(*inputs)
        slopes = torch.autograd.grad(added.sum(), inputs, allow_unused=True)
    by_log_z, by_nats = (
        torch.zeros_like(nats_n) if slope is None else slope.detach() for slope in slopes
    )
    return added.detach(), by_log_z, by_nats


def linear_cross_entropy(
    hidden_nh: Tensor,
    weight_vh: Tensor,
    labels_n: Tensor,
    mask_n: Tensor,
    group: dist.ProcessGroup | None = None,
    term: Term | None = None,
    shares_nk: Tensor | None = None,
) -> Tensor:
    """Masked sum of the cross entropy of `hidden @ weight.T` in nats, an fp32 scalar.

    Tokens that do not count have no logits computed on a CPU (:data:`LEAVES_OUT`).

    Args:
        hidden_nh: [n, h], the same on every rank of `group`. Its gradient is this rank's part
            only: sum it over `group`, as Megatron's `copy_to_tensor_model_parallel_region` does.
        weight_vh: [v, h], rows `rank * v` to `(rank + 1) * v` of the vocabulary.
        labels_n: [n] token ids of the whole vocabulary; [n, k] with shares.
        mask_n: [n] float weight of each token.
        group: tensor-parallel group; None for an undivided vocabulary.
        term: added to each token's nats before the mask; nothing if not given.
        shares_nk: [n, k] float32 share of each label in what its token is compared with; a token's
            sum to 1 where its mask is not 0. None for one label each.
    """
    if hidden_nh.device.type in LEAVES_OUT:
        counted = mask_n.nonzero().squeeze(1)
        if len(counted) < len(mask_n):
            hidden_nh, labels_n, mask_n = (x[counted] for x in (hidden_nh, labels_n, mask_n))
            shares_nk = None if shares_nk is None else shares_nk[counted]
    labels_nk = labels_n.unsqueeze(1) if shares_nk is None else labels_n
    loss: Tensor = _LinearCrossEntropy.apply(
        hidden_nh, weight_vh, labels_nk, mask_n, group, term, shares_nk
    )
    return loss
