"""Megatron-LM's command lines as configurations: what they say, and what they name as left out."""

from pathlib import Path

import pytest
import yaml

from tools import plan
from tools.megatron.command import flags_of_script
from tools.megatron.translation import translate
from tools.megatron_arguments import main

GPT3 = r"""#!/bin/bash
# A GPT of 175 billion parameters
NODES=128
TP=8
DATA=$2   # a prefix
LAUNCH=(--nproc_per_node 8 --nnodes $NODES)
MODEL=(
    --num-layers 96
    --hidden-size 12288
    --num-attention-heads 96      # heads of 128
    --seq-length 2048 --max-position-embeddings 2048
)
TRAIN="--micro-batch-size 1 --global-batch-size 1536 --train-samples 153600000"
torchrun ${LAUNCH[@]} pretrain_gpt.py ${MODEL[@]} $TRAIN \
    --tensor-model-parallel-size ${TP} --pipeline-model-parallel-size 8 \
    --num-layers-per-virtual-pipeline-stage 4 --sequence-parallel --use-distributed-optimizer \
    --lr 6.0e-5 --min-lr=6.0e-6 --lr-decay-style cosine --lr-warmup-fraction .01 \
    --adam-beta1 0.9 --adam-beta2 0.95 --weight-decay 0.1 --clip-grad 1.0 --init-method-std 0.006 \
    --bf16 --recompute-granularity full --recompute-method uniform --recompute-num-layers 1 \
    --data-path $DATA --vocab-file gpt2-vocab.json --merge-file gpt2-merges.txt \
    --split 949,50,1 --save ${1:-checkpoints/gpt3} --save-interval 1000 --eval-iters 10 \
    --overlap-grad-reduce --no-such-flag 7
"""
LLAMA_LINE = """
--num-layers 32 --hidden-size 4096 --ffn-hidden-size 11008 --num-attention-heads 32
--group-query-attention --num-query-groups 8 --seq-length 4096
--position-embedding-type rope --rotary-base 500000 --swiglu --normalization RMSNorm
--disable-bias-linear --untie-embeddings-and-output-weights --attention-dropout 0 --hidden-dropout 0
--micro-batch-size 2 --global-batch-size 256 --train-iters 1000 --lr 3e-4 --lr-warmup-iters 100
--bf16 --tensor-model-parallel-size 2 --sequence-parallel --use-distributed-optimizer
--tokenizer-type HuggingFaceTokenizer --tokenizer-model llama.json --vocab-size 32000
--data-path 0.7 corpora/web 0.3 corpora/books --reset-position-ids --reset-attention-mask
--fp8-format hybrid
"""
LLAMA = LLAMA_LINE.split()


@pytest.fixture
def gpt3(tmp_path) -> Path:
    path = tmp_path / "gpt3.sh"
    path.write_text(GPT3)
    return path


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, dict]:
    assert main(arguments) == 0
    text = capsys.readouterr().out
    return text, yaml.safe_load(text)


def test_a_script_of_a_gpt(gpt3, capsys):
    text, values = printed([str(gpt3)], capsys)

    assert values["model"] == {
        "preset": "gpt2", "gelu": "tanh", "layers": 96, "hidden_size": 12288,
        "attention_heads": 96, "sequence_length": 2048, "vocabulary_size": 51200,
        "dropout": 0.1, "init_std": 0.006,
    }  # fmt: skip
    assert values["parallel"] == {
        "tensor": 8, "pipeline": 8, "virtual_pipeline": 3, "sequence_parallel": True,
        "zero_stage": 1,
    }  # fmt: skip
    assert values["training"] == {
        "global_batch": 1536, "micro_batch": 1, "steps": 100_000, "precision": "bf16",
        "recompute": "full", "seed": 1234,
    }  # fmt: skip
    assert values["optimizer"] == {
        "name": "adamw", "learning_rate": 6e-5, "minimum_fraction": pytest.approx(0.1),
        "schedule": "cosine", "warmup_steps": 1000, "beta1": 0.9, "beta2": 0.95,
        "weight_decay": 0.1, "clip_norm": 1.0,
    }  # fmt: skip
    assert values["data"]["document_mask"] is False
    assert values["run"]["directory"] == "checkpoints/gpt3"
    assert values["checkpoint"] == {"save_every": 1000}
    for name in ("--nproc-per-node", "--no-such-flag", "--overlap-grad-reduce", "--eval-iters",
                 "--recompute-method"):  # fmt: skip
        assert name in text, name
    assert "data.blend corpora/CORPUS: put the corpora's prefixes there" in text


def test_the_command_line_of_a_llama(capsys):
    text, values = printed(["--", *LLAMA], capsys)

    assert values["model"] == {
        "preset": "llama", "layers": 32, "hidden_size": 4096, "ffn_size": 11008,
        "attention_heads": 32, "kv_heads": 8, "sequence_length": 4096, "vocabulary_size": 32256,
        "dropout": 0.0, "init_std": 0.02, "rope_base": 500_000,
    }  # fmt: skip
    assert values["data"] == {
        "task": "corpus", "blend": ["corpora/web:0.7", "corpora/books:0.3"], "split": "969,30,1",
        "tokenizer": "llama.json", "document_mask": True,
    }  # fmt: skip
    optimizer = values["optimizer"]
    assert (optimizer["schedule"], optimizer["decay_steps"]) == ("wsd", 900), "linear by default"
    assert (optimizer["weight_decay"], optimizer["beta2"]) == (0.01, 0.999), "as not given there"
    assert "--fp8-format (no part of the models here)" in text


@pytest.mark.parametrize("kind", ["script", "arguments"])
def test_the_planner_takes_it(kind, gpt3, tmp_path, capsys):
    text, _ = printed([str(gpt3)] if kind == "script" else LLAMA, capsys)
    (tmp_path / "made.yaml").write_text(text)

    assert plan.main(["--config", str(tmp_path / "made.yaml"), "--json"]) == 0


def test_a_size_that_is_missing_is_named(capsys):
    assert main(["--num-layers", "2"]) == 2
    assert "--hidden-size is not on the command line" in capsys.readouterr().err
    assert main(["nowhere.sh"]) == 2
    assert "nowhere.sh: cannot be read" in capsys.readouterr().err
    words = [word if word != "32" else "many" for word in LLAMA]
    assert main(words) == 2
    assert "many: expected a whole number" in capsys.readouterr().err


def test_blocks_that_no_preset_has_are_named():
    given = flags_of_script(" ".join(LLAMA).replace("--normalization RMSNorm", ""))
    (first, *_) = translate(given).differs
    assert first == ("norm is layer_norm on the command line, and rms_norm in model.preset llama")


def test_the_last_of_two_counts():
    assert flags_of_script("A=(--lr 1)\nB=(\n  --lr 2 # 3\n  '--x y'\n)\nrun ${A[@]}") == {
        "--lr": ["2"],
        "--x": ["y"],
    }
