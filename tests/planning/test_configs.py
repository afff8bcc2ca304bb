"""Every configuration of a real size loads, is planned and fits; its small sibling runs."""

import re
from pathlib import Path

import pytest

from pretrain.config import load_config
from pretrain.errors import ConfigError
from pretrain.main import main
from pretrain.planning import make_plan
from pretrain.planning.plan import vocabulary_of
from pretrain.testing.processes import run_gang

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Parameters in billions, GPUs.
REAL = {
    "gpt2_124m": (0.124, 1),
    "gpt2_350m": (0.355, 1),
    "gpt_1.3b": (1.3, 8),
    "llama_7b": (6.7, 32),
    "llama_70b": (69.0, 256),
    "gpt_175b": (174.6, 1024),
}
SIBLINGS = {"gpt2_124m": 1, "gpt2_350m": 1, "gpt_1.3b": 2, "llama_7b": 4, "llama_70b": 4,
            "gpt_175b": 4}  # fmt: skip
VOCABULARIES = {"corpus_30m": 8192, "corpus": 2048, "plays": 8192, "shakespeare": 4096}
USABLE = 0.9 * 80e9


def test_every_configuration_of_a_real_size_has_a_test_and_a_sibling():
    named = {path.stem for path in CONFIGS.glob("*.yaml")} - {"plays", "debtags", "corpus_30m"}
    assert named == set(REAL) == set(SIBLINGS)
    assert {path.stem for path in (CONFIGS / "layouts").glob("*.yaml")} == named


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_planned_without_its_data(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where there is neither a text nor a tokenizer
    config = load_config(path)
    if config.data.task == "multilabel":
        with pytest.raises(ConfigError, match=r"set model\.vocabulary_size"):
            vocabulary_of(config)  # how many labels there are is known from the texts alone
    else:
        size = vocabulary_of(config)
        assert size == VOCABULARIES.get(path.stem, size)


@pytest.mark.parametrize("name", list(REAL))
def test_a_real_size_fits_the_gpus_that_its_comment_names(name):
    path = CONFIGS / f"{name}.yaml"
    billions, gpus = REAL[name]
    comment = path.read_text().split("\nmodel:")[0]
    assert f"--gpus {gpus}\n" in comment
    assert re.search(rf"on {gpus:,} GPUs? of 80 GB", comment)
    plan = make_plan(load_config(path), gpus)
    assert plan.cost.parameters / 1e9 == pytest.approx(billions, rel=0.02)
    assert all(memory.peak < USABLE for memory in plan.stages)
    assert plan.largest.peak == max(memory.peak for memory in plan.stages)


@pytest.mark.parametrize("name", list(REAL))
def test_a_sibling_has_the_same_layout(name):
    real, small = (load_config(CONFIGS / folder / f"{name}.yaml") for folder in (".", "layouts"))
    assert small.model.preset == real.model.preset
    assert small.training.precision == real.training.precision
    assert small.training.recompute == real.training.recompute
    assert small.parallel.zero_stage == real.parallel.zero_stage
    assert small.parallel.sequence_parallel == real.parallel.sequence_parallel
    for field in ("tensor", "pipeline", "virtual_pipeline"):
        several = [getattr(config.parallel, field) > 1 for config in (real, small)]
        assert several[0] == several[1], field


def train(name: str, directory: Path) -> int:
    path = CONFIGS / "layouts" / f"{name}.yaml"
    return main(["--config", str(path), "--run.directory", str(directory)])


@pytest.mark.distributed
@pytest.mark.parametrize("ranks", sorted(set(SIBLINGS.values())))
def test_siblings_train(ranks, tmp_path):
    names = [name for name, processes in SIBLINGS.items() if processes == ranks]
    calls = [(train, name, tmp_path / name) for name in names]
    for name, codes in zip(names, run_gang(ranks, calls), strict=True):
        assert codes == [0] * ranks
        assert (tmp_path / name / "result.json").exists()
