"""What blocks are made of, by `model.preset`."""

from typing import get_args

from pretrain.config import ModelConfig
from pretrain.config.block_style import BLOCK_STYLES, GPT2, LLAMA


def test_every_preset_has_a_style_and_every_style_a_preset():
    assert get_args(ModelConfig.model_fields["preset"].annotation) == tuple(BLOCK_STYLES)


def test_what_follows_from_a_style():
    assert (GPT2.norm_vectors, GPT2.mlp_inputs, GPT2.mlp_matrices) == (2, 1, 2)
    assert (LLAMA.norm_vectors, LLAMA.mlp_inputs, LLAMA.mlp_matrices) == (1, 2, 3)
    assert (GPT2.rotary, LLAMA.rotary) == (False, True)
    # 8/3 x 128 = 341.3, up to a multiple of 64.
    assert (GPT2.ffn_width(128), LLAMA.ffn_width(128)) == (512, 384)


def test_a_model_takes_the_rest_from_its_style():
    llama = ModelConfig(preset="llama")
    assert (llama.style, llama.ffn_width, llama.tied) == (LLAMA, 384, False)
    assert ModelConfig(preset="llama", tie_embeddings=True, ffn_size=7).ffn_width == 7
    assert ModelConfig().tied
