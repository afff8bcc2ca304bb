"""A GPT as one would write it in plain PyTorch: the baseline of the benchmarks.

Blocks of the gpt2 or the llama preset with `scaled_dot_product_attention`, `cross_entropy` on all
logits and torch's fused AdamW with gradient clipping. Same shape and arithmetic as the preset.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.config import Config, ModelConfig
from pretrain.config.block_style import LLAMA


class Block(nn.Module):
    """Pre-norm attention and MLP with biases, [b, s, h] -> [b, s, h]."""

    def __init__(self, hidden: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.projection = nn.Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, ffn)
        self.down = nn.Linear(ffn, hidden)

    def forward(self, x: Tensor) -> Tensor:
        b, s, h = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, s, 3, self.heads, h // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(attended.transpose(1, 2).reshape(b, s, h))
        down: Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + down


class LlamaBlock(nn.Module):
    """Pre-norm attention with rotary positions and SwiGLU, [b, s, h] -> [b, s, h]."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        hidden, self.heads, self.groups = (
            model.hidden_size,
            model.attention_heads,
            model.query_groups,
        )
        self.width = hidden // self.heads
        self.norm1 = nn.RMSNorm(hidden, eps=1e-5)
        self.q = nn.Linear(hidden, hidden, bias=False)
        self.kv = nn.Linear(hidden, 2 * self.groups * self.width, bias=False)
        self.projection = nn.Linear(hidden, hidden, bias=False)
        self.norm2 = nn.RMSNorm(hidden, eps=1e-5)
        self.gate_up = nn.Linear(hidden, 2 * model.ffn_width, bias=False)
        self.down = nn.Linear(model.ffn_width, hidden, bias=False)
        self.turn: Tensor
        self.register_buffer("turn", rotary(model), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, s, h = x.shape
        normed = self.norm1(x)
        q = self.q(normed).view(b, s, self.heads, self.width).transpose(1, 2)
        kv = self.kv(normed).view(b, s, 2, self.groups, self.width)
        k, v = kv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            self._turned(q),
            self._turned(k),
            v,
            is_causal=True,
            enable_gqa=self.heads != self.groups,
        )
        x = x + self.projection(attended.transpose(1, 2).reshape(b, s, h))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        down: Tensor = self.down(F.silu(gate) * up)
        return x + down

    def _turned(self, x_bnsd: Tensor) -> Tensor:
        cos, sin = self.turn.to(x_bnsd.dtype)[:, : x_bnsd.size(2)]
        first, second = x_bnsd.chunk(2, dim=-1)
        return x_bnsd * cos + torch.cat((-second, first), dim=-1) * sin


def rotary(model: ModelConfig) -> Tensor:
    """Cosines and sines of rotary positions (arXiv 2104.09864), [2, s, d]."""
    width = model.hidden_size // model.attention_heads
    inverse = model.rope_base ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.arange(model.sequence_length, dtype=torch.float32)[:, None] * inverse
    angles = torch.cat((angles, angles), dim=1)
    return torch.stack((angles.cos(), angles.sin()))


class PlainGPT(nn.Module):
    """Token ids [b, s] -> logits [b, s, vocabulary]."""

    def __init__(self, config: Config, vocabulary: int) -> None:
        super().__init__()
        model = config.model
        llama = model.style == LLAMA
        self.tokens = nn.Embedding(vocabulary, model.hidden_size)
        self.positions = None if llama else nn.Embedding(model.sequence_length, model.hidden_size)
        blocks = (
            LlamaBlock(model)
            if llama
            else Block(model.hidden_size, model.attention_heads, model.ffn_width)
            for _ in range(model.layers)
        )
        self.blocks = nn.Sequential(*blocks)
        norm = nn.RMSNorm if llama else nn.LayerNorm
        self.norm = norm(model.hidden_size, eps=1e-5)
        self.head = nn.Linear(model.hidden_size, vocabulary, bias=False)
        if model.tied:
            self.head.weight = self.tokens.weight
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=model.initial_std)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Token ids [b, s] -> what the head takes, [b, s, h]."""
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions(torch.arange(tokens.size(1), device=tokens.device))
        hidden: Tensor = self.norm(self.blocks(x))
        return hidden

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(tokens))
        return logits

    def loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Mean over all labels, a scalar."""
        return self.loss_of(self.hidden(tokens), labels)

    def loss_of(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """The same from the last hidden states [b, s, h]."""
        return F.cross_entropy(self.head(hidden).flatten(0, 1), labels.flatten())


def fused_adamw(config: Config, model: nn.Module) -> torch.optim.AdamW:
    """The optimizer of all that is plain."""
    options = config.optimizer
    return torch.optim.AdamW(
        model.parameters(),
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        weight_decay=options.weight_decay,
        fused=True,
    )


class PlainTrainer:
    """The usual training step around :class:`PlainGPT`.

    Args:
        master_weights: in bf16, keep fp32 weights and compute under `torch.autocast`; weights,
            gradients and moments are bf16 otherwise.
        compiled: what goes through `torch.compile`: "blocks" each block and the loss by itself,
            "whole" forward pass and loss together; nothing if empty.
    """

    def __init__(
        self,
        config: Config,
        vocabulary: int,
        device: torch.device,
        master_weights: bool = False,
        compiled: str = "",
    ) -> None:
        with device:  # draws initial weights there
            self.model = PlainGPT(config, vocabulary).to(device)
        bf16 = config.training.precision == "bf16"
        if bf16 and not master_weights:
            self.model.to(torch.bfloat16)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16 and master_weights)
        if compiled == "blocks":
            for block in self.model.blocks:
                block.compile()
            self.model.loss_of = torch.compile(self.model.loss_of)  # type: ignore[method-assign]
        self.loss = torch.compile(self.model.loss) if compiled == "whole" else self.model.loss
        self.micro_batch = config.training.micro_batch or config.training.global_batch
        self.clip_norm = config.optimizer.clip_norm
        self.optimizer = fused_adamw(config, self.model)

    def step(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Forward, backward, clip, update. Returns the loss of the last micro-batch."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = -(-len(tokens) // self.micro_batch)
        for inputs, targets in zip(tokens.chunk(parts), labels.chunk(parts), strict=True):
            with self.autocast:
                loss: Tensor = self.loss(inputs, targets)
            (loss / parts if parts > 1 else loss).backward()
        if self.clip_norm > 0.0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        return loss
