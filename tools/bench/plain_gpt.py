"""A GPT as one would write it in plain PyTorch: the baseline of the benchmarks.

GPT-2 blocks with `scaled_dot_product_attention`, tied embeddings, `cross_entropy` on all logits and
torch's fused AdamW with gradient clipping. Same shape and arithmetic as the gpt2 preset.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.config import Config


class Block(nn.Module):
    """Pre-norm attention and MLP, [b, s, h] -> [b, s, h]."""

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


class PlainGPT(nn.Module):
    """Token ids [b, s] -> logits [b, s, vocabulary]."""

    def __init__(self, config: Config, vocabulary: int) -> None:
        super().__init__()
        model = config.model
        self.tokens = nn.Embedding(vocabulary, model.hidden_size)
        self.positions = nn.Embedding(model.sequence_length, model.hidden_size)
        self.blocks = nn.Sequential(
            *(
                Block(model.hidden_size, model.attention_heads, model.ffn_width)
                for _ in range(model.layers)
            )
        )
        self.norm = nn.LayerNorm(model.hidden_size)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=model.initial_std)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.size(1), device=tokens.device)
        x = self.blocks(self.tokens(tokens) + self.positions(positions))
        return F.linear(self.norm(x), self.tokens.weight)


class PlainTrainer:
    """The usual training step around :class:`PlainGPT`."""

    def __init__(self, config: Config, vocabulary: int, device: torch.device) -> None:
        self.model = PlainGPT(config, vocabulary).to(device)
        options = config.optimizer
        self.clip_norm = options.clip_norm
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            weight_decay=options.weight_decay,
            fused=True,
        )

    def step(self, tokens: Tensor, labels: Tensor) -> None:
        """Forward, backward, clip, update."""
        logits = self.model(tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
