"""The model against independent arithmetic: shapes, attention, counts, initial weights."""

import pytest
import torch
from torch.nn import functional as F

from pretrain.config import load_config
from pretrain.distributed import topology
from pretrain.model.flops import model_cost, peak_flops
from pretrain.testing.processes import run_gang

MODELS = [
    {"preset": "gpt2"},
    {"preset": "gpt2", "tie_embeddings": False, "kv_heads": 2, "ffn_size": 48},
    {"preset": "llama"},
    {"preset": "llama", "kv_heads": 1, "tie_embeddings": True},
]
SHAPE = {"layers": 2, "hidden_size": 32, "attention_heads": 4, "sequence_length": 12}


def make_config(model, parallel=None, **sections):
    values = {"model": {**SHAPE, **model}, "parallel": parallel or {}, **sections}
    return load_config(None, values)


def parameters(model, parallel=None, **sections):
    """Named parameters of this process, by global name."""
    config = make_config(model, parallel, **sections)
    with topology.start(config) as here:
        from pretrain.model.gpt import build
        from pretrain.model.initialise import global_name

        chunks = build(config, here, 40)
        return {
            global_name(chunk, name): p.detach().clone()
            for chunk in chunks
            for name, p in chunk.named_parameters()
        }


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_parameters_are_counted_without_building(model):
    built = sum(p.numel() for p in parameters(model).values())
    assert model_cost(make_config(model).model, 40).parameters == built


def test_embeddings_of_orders_are_counted_and_change_no_other_weight():
    plain = parameters({})
    told = parameters({}, selection={"strategy": "any_order"})
    assert model_cost(make_config({}).model, 40, asks_units=True).parameters == sum(
        p.numel() for p in told.values()
    )
    embedding = "embedding.tokentype_embeddings"
    own = {f"{embedding}.{name}.weight" for name in ("present", "asked")}
    assert told.keys() - plain.keys() == own
    assert all(told[name].shape == (13, 32) for name in own)
    assert all(torch.equal(told[name], weight) for name, weight in plain.items())


def test_a_model_that_is_told_nothing_takes_natural_order():
    config = make_config({}, selection={"strategy": "any_order"})
    with topology.start(config) as here, torch.no_grad():
        from pretrain.model.gpt import build

        model = build(config, here, 40)[0].eval()
        tokens = torch.arange(10).view(2, 5)
        inputs = (tokens, torch.arange(5).expand(2, 5), None)
        natural = torch.arange(1, 6).expand(2, 5)
        assert torch.equal(model(*inputs), model(*inputs, asked=natural))
        other = natural.clone()
        other[:, 3] = 5
        changed = (model(*inputs) != model(*inputs, asked=other)).any(dim=2)
        # What is asked for at a place, and what the token after it is: nothing before.
        assert changed.tolist() == [[False, False, False, True, True]] * 2


def test_flops_of_a_known_model():
    # 2 layers: qkv 32x96, projection 32x32, MLP 2x32x128, attention 2x12x32; output 32x40.
    per_layer = 2 * (32 * 96 + 32 * 32 + 2 * 32 * 128) + 4 * 32 * 12
    expected = 3 * (2 * per_layer + 2 * 32 * 40)
    assert model_cost(make_config({}).model, 40).flops_per_token == expected


def test_an_unknown_device_has_no_peak():
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert peak_flops("NVIDIA A100-SXM4-40GB", "bf16") == 312e12
    assert peak_flops("CPU", "fp32") is None
    assert peak_flops("NVIDIA Unheard Of", "bf16") is None


def forward(model):
    config = make_config(model)
    tokens = torch.randint(0, 40, (3, 12), generator=torch.Generator().manual_seed(0))
    with topology.start(config) as here:
        from pretrain.model.gpt import build

        chunk = build(config, here, 40)[0].eval()
        with torch.no_grad():
            logits = chunk(tokens, torch.arange(12).expand_as(tokens), None)
            later = tokens.clone()
            later[:, 8:] = 0
            other = chunk(later, torch.arange(12).expand_as(tokens), None)
            mask = torch.ones(3, 12)
            loss = chunk(
                tokens, torch.arange(12).expand_as(tokens), None, labels=tokens, loss_mask=mask
            )
        weights = {name: p.detach().clone() for name, p in chunk.named_parameters()}
    return tokens, logits, other, loss, weights


def by_hand(tokens, weights, heads=4):
    """GPT-2's arithmetic written out; Megatron stores q, k and v head by head."""
    w = weights
    position = w["embedding.position_embeddings.weight"][: tokens.size(1)]
    x = w["embedding.word_embeddings.weight"][tokens] + position

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def dense(x, name):
        return x @ w[f"{name}.weight"].t() + w[f"{name}.bias"]

    for layer in range(2):
        prefix = f"decoder.layers.{layer}"
        b, s, h = x.shape
        qkv = dense(norm(x, f"{prefix}.input_layernorm"), f"{prefix}.self_attention.linear_qkv")
        q, k, v = qkv.view(b, s, heads, 3, h // heads).permute(3, 0, 2, 1, 4)
        scores = q @ k.transpose(-1, -2) / (h // heads) ** 0.5
        scores = scores.masked_fill(torch.ones(s, s).triu(1).bool(), float("-inf"))
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, s, h)
        x = x + dense(mixed, f"{prefix}.self_attention.linear_proj")
        inner = F.gelu(dense(norm(x, f"{prefix}.pre_mlp_layernorm"), f"{prefix}.mlp.linear_fc1"))
        x = x + dense(inner, f"{prefix}.mlp.linear_fc2")
    x = norm(x, "decoder.final_layernorm")
    return x @ w["embedding.word_embeddings.weight"].t()


def test_gpt2_equals_its_arithmetic_written_out():
    tokens, logits, _, loss, weights = forward({"preset": "gpt2"})
    expected = by_hand(tokens, weights)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    summed = F.cross_entropy(expected.flatten(0, 1), tokens.flatten(), reduction="sum")
    torch.testing.assert_close(loss, summed, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_model_is_causal(model):
    _, logits, other, _, _ = forward(model)
    torch.testing.assert_close(logits[:, :8], other[:, :8], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(logits[:, 8:], other[:, 8:])


def test_grouped_queries_equal_repeated_keys_and_values():
    from megatron.core.transformer.enums import AttnMaskType

    from pretrain.model.attention import SdpaCoreAttention
    from pretrain.model.gpt import transformer_config

    config = transformer_config(make_config({"kv_heads": 2}))
    attention = SdpaCoreAttention(config, 1, AttnMaskType.causal, "self").eval()
    q, k, v = torch.randn(12, 3, 4, 8), torch.randn(12, 3, 2, 8), torch.randn(12, 3, 2, 8)
    repeated = (x.repeat_interleave(2, dim=2) for x in (k, v))
    torch.testing.assert_close(attention(q, k, v, None), attention(q, *repeated, None))


def test_other_masks_are_refused():
    from megatron.core.transformer.enums import AttnMaskType

    from pretrain.model.attention import SdpaCoreAttention
    from pretrain.model.gpt import transformer_config

    config = transformer_config(make_config({}))
    with pytest.raises(ValueError, match="causal"):
        SdpaCoreAttention(config, 1, AttnMaskType.padding, "self")


def test_initial_weights():
    weights = parameters({"preset": "gpt2", "hidden_size": 64, "ffn_size": 512, "init_std": 0.1})
    assert weights["decoder.layers.0.mlp.linear_fc1.weight"].std() == pytest.approx(0.1, rel=0.05)
    scaled = weights["decoder.layers.1.mlp.linear_fc2.weight"].std()
    assert scaled == pytest.approx(0.1 / 4**0.5, rel=0.05)
    assert (weights["decoder.layers.0.mlp.linear_fc1.bias"] == 0).all()
    assert (weights["decoder.final_layernorm.weight"] == 1).all()


@pytest.mark.distributed
@pytest.mark.parametrize("model", MODELS[:3], ids=str)
def test_initial_weights_do_not_depend_on_the_layout(model):
    whole = parameters(model)
    split, staged = run_gang(
        2, [(parameters, model, {"tensor": 2}), (parameters, model, {"pipeline": 2})]
    )
    for name, full in whole.items():
        for held in staged:
            if name in held:
                assert torch.equal(held[name], full), name
        parts = [held[name] for held in split]
        if parts[0].shape == full.shape:
            assert torch.equal(parts[0], full), name
            continue
        dimension = next(i for i, n in enumerate(full.shape) if parts[0].shape[i] != n)
        gated = model["preset"] == "llama" and name.endswith("linear_fc1.weight")
        if gated:  # each rank holds its half of the gate, then its half of the values
            halves = [part.chunk(2) for part in parts]
            joined = torch.cat([half[i] for i in range(2) for half in halves])
        else:
            joined = torch.cat(parts, dimension)
        assert torch.equal(joined, full), name
