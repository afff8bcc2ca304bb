"""Names that the configuration does not have: each gets the one that was meant, or none."""

import re

import pytest

from pretrain.config import load_config, parse_arguments
from pretrain.config.load import all_fields
from pretrain.config.names import ELSEWHERE, hint
from pretrain.errors import ConfigError


def refused_option(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(list(arguments), "test", lambda parser: parser.add_argument("--jobs"))
    return str(caught.value)


def refused_file(values: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, values)
    return str(caught.value)


def test_what_other_programs_names_stand_for_is_in_the_configuration():
    fields = all_fields()
    for name, meant in ELSEWHERE.items():
        found = re.findall(r"[a-z]+\.[a-z_0-9]+", meant)
        assert found, name
        assert set(found) <= set(fields), name
        assert name not in fields


def test_no_name_of_other_programs_is_a_field_here():
    assert not {name.rpartition(".")[2] for name in all_fields()} & set(ELSEWHERE)


@pytest.mark.parametrize(
    "option,field",
    [
        # Megatron-LM
        ("--tensor-model-parallel-size", "parallel.tensor"),
        ("--pipeline-model-parallel-size", "parallel.pipeline"),
        ("--num-layers", "model.layers"),
        ("--seq-length", "model.sequence_length"),
        ("--micro-batch-size", "training.micro_batch"),
        ("--global-batch-size", "training.global_batch"),
        ("--train-iters", "training.steps"),
        ("--lr", "optimizer.learning_rate"),
        ("--lr-decay-style", "optimizer.schedule"),
        ("--clip-grad", "optimizer.clip_norm"),
        ("--save-interval", "checkpoint.save_every"),
        ("--load", "checkpoint.resume"),
        ("--bf16", "training.precision"),
        ("--recompute-granularity", "training.recompute"),
        # Hugging Face's Trainer
        ("--per_device_train_batch_size", "training.micro_batch"),
        ("--gradient_accumulation_steps", "training.micro_batch"),
        ("--max_steps", "training.steps"),
        ("--output_dir", "run.directory"),
        ("--logging_steps", "run.log_every"),
        ("--max_grad_norm", "optimizer.clip_norm"),
        ("--training.num_train_epochs", "training.steps"),
    ],
)
def test_an_option_of_other_programs_gets_the_name_here(option, field):
    assert f"unknown option {option}; here it is {field}" in refused_option(option, "2")
    assert f"unknown option {option}; here it is {field}" in refused_option(f"{option}=2")


@pytest.mark.parametrize(
    "values,field",
    [
        ({"train_batch_size": 32}, "training.global_batch"),
        ({"train_micro_batch_size_per_gpu": 4}, "training.micro_batch"),
        ({"gradient_accumulation_steps": 2}, "training.micro_batch"),
        ({"zero_optimization": {"stage": 2}}, "parallel.zero_stage"),
        ({"fp16": {"enabled": True}}, "training.precision"),
        ({"optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}}, "optimizer.name"),
        ({"optimizer": {"params": {"lr": 1e-3}}}, "optimizer.learning_rate"),
        ({"optimizer": {"lr": 1e-3}}, "optimizer.learning_rate"),
        ({"scheduler": {"type": "WarmupLR"}}, "optimizer.schedule"),
        ({"gradient_clipping": 1.0}, "optimizer.clip_norm"),
        ({"model": {"num_layers": 4}}, "model.layers"),
        ({"model": {"n_embd": 4}}, "model.hidden_size"),
    ],
)
def test_a_key_of_other_programs_gets_the_name_here(values, field):
    assert f"; here it is {field}" in refused_file(values)


@pytest.mark.parametrize(
    "option,meant",
    [
        ("--training.stepz", "training.steps"),
        ("--trainin.steps", "training.steps"),
        ("--hidden-size", "model.hidden_size"),
        ("--training.learning_rate", "optimizer.learning_rate"),
        ("--parallel.zero-stage", "parallel.zero_stage"),
        ("--job", "jobs"),
    ],
)
def test_a_misspelt_option_gets_the_one_that_is_near(option, meant):
    assert f"did you mean {meant}?" in refused_option(option, "2")


@pytest.mark.parametrize("option", ["--model.experts", "--moe", "--model.x", "--wandb.project"])
def test_where_nothing_is_near_nothing_is_meant(option):
    said = refused_option(option, "2")
    assert "did you mean" not in said
    assert "here it is" not in said
    assert "--help lists every field" in said


def test_where_nothing_is_near_the_fields_beside_it_are_listed():
    said = refused_file({"checkpoint": {"wandb": 1}})
    assert "unknown field checkpoint.wandb; known: checkpoint.save_every, " in said
    assert "training.steps" not in said
    assert "unknown field wandb; known: model, parallel, " in refused_file({"wandb": {}})


def test_nested_names_are_compared_part_by_part():
    known = ["data.blend.0.prefix", "data.blend.0.weight"]
    assert hint("data.blend.0.prefx", known) == "; did you mean data.blend.0.prefix?"
    assert "did you mean" not in hint("data.blend.0.share", known)
