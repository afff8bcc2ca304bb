"""Text in a job: packed documents stay apart, every layout trains and scores like one process."""

import copy
import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pretrain.config import Config, load_config
from pretrain.data.batch import Batch, Sampler, positions_of
from pretrain.data.loader import BatchFeed
from pretrain.data.tokenizers import CharacterTokenizer, WordTokenizer
from pretrain.distributed import topology
from pretrain.errors import ConfigError
from pretrain.selection.orders.transforms import Keep
from pretrain.selection.schedule import SelectionSchedule
from pretrain.selection.selector import Selection
from pretrain.tasks.text.data import Text, lay_out
from pretrain.tasks.text.evaluation import TextEvaluator, text_bytes
from pretrain.tasks.text.scores import END, OTHER
from pretrain.tasks.text.selection import Chooser
from pretrain.tasks.text.task import TextTask
from pretrain.testing.processes import run_gang
from tools.fit_selection import main as fit_selection

SAMPLE = Path(__file__).parents[3] / "data" / "shakespeare.sample.txt"
STEPS = 4


@pytest.fixture(scope="module")
def play(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("text") / "play.txt"
    path.write_text("\n".join(SAMPLE.read_text().splitlines()[40:700]))
    return str(path)


def make_config(path: str, strategy: str = "max_mi", **sections) -> Config:
    values = {
        "model": {
            "layers": 4,
            "hidden_size": 32,
            "attention_heads": 4,
            "sequence_length": 48,
            "init_std": 0.2,
            "vocabulary_size": 208,  # for all layouts
            **sections.pop("model", {}),
        },
        "data": {"task": "text", "path": path, "vocabulary": 200, "test_fraction": 0.2},
        "selection": {"strategy": strategy, **sections.pop("selection", {})},
        "training": {
            "global_batch": 8,
            "micro_batch": 2,
            "steps": STEPS,
            "evaluation_examples": 12,
        },
        "run": {"progress": False},
        **sections,
    }
    return load_config(None, values)


def train_and_score(config: Config):
    """Losses of the first steps, metrics of held-out text after them, and samples."""
    task = TextTask(config)
    with topology.start(config) as here:
        from pretrain.inference.forward import Forward
        from pretrain.model.gpt import build
        from pretrain.training.engine import Engine

        sampler = Sampler(task.examples, config.training.global_batch, 0)
        schedule = SelectionSchedule(config, here, task.fitter, sampler)
        vocabulary = config.vocabulary_size(task.tokenizer.size)
        engine = Engine(config, here, build(config, here, vocabulary))
        source = task.batches(schedule, sampler, here)
        share = config.training.global_batch // here.data.size
        feed = BatchFeed(source, here, share, config.model.sequence_length, range(STEPS))
        evaluator = task.evaluator(Forward(here, engine.deepspeed.module), schedule)
        losses = []
        for _, batch in feed:
            assert batch.positions is not None
            losses.append(engine.mean_loss(engine.train_step(batch, 1e-3)))
        result = evaluator.run(schedule.current)
    return losses, result.values, result.samples


VARIANTS: dict[str, dict] = {
    "max_mi": {"selection": {"features": "before", "minimum_count": 1}},
    "random": {"model": {"preset": "llama", "kv_heads": 2}},
    "min_mi": {  # as none of the others: drawn anew, with slots, for a share of the sentences
        "selection": {
            "minimum_count": 1,
            "plan_candidates": 3,
            "plan_temperature": 2.0,
            "plan_slot": True,
            "plan_share": 0.6,
            "plan_draws": 4,
            "plan_chain": True,
        }
    },
}
LAYOUTS = [
    ("min_mi", {}),
    ("min_mi", {"tensor": 2}),
    ("min_mi", {"pipeline": 2}),
    ("max_mi", {"zero_stage": 3}),
    ("max_mi", {"tensor": 2, "sequence_parallel": True}),
    ("max_mi", {"pipeline": 2, "virtual_pipeline": 2}),
    ("random", {}),
    ("random", {"tensor": 2}),
    ("random", {"pipeline": 2}),
]


@pytest.mark.distributed
def test_every_layout_trains_and_scores_like_one_process(play):
    def call(strategy, layout):
        return train_and_score, make_config(
            play, strategy, parallel=layout, **copy.deepcopy(VARIANTS[strategy])
        )

    singles = run_gang(1, [call(strategy, {}) for strategy in VARIANTS])
    expected = {strategy: single[0] for strategy, single in zip(VARIANTS, singles, strict=True)}
    spread = run_gang(2, [call(*layout) for layout in LAYOUTS])
    for (strategy, layout), results in zip(LAYOUTS, spread, strict=True):
        losses, metrics, samples = expected[strategy]
        json.dumps(samples)
        for their_losses, theirs, their_samples in results:
            assert their_losses == pytest.approx(losses, rel=1e-5), layout
            assert theirs == pytest.approx(metrics, rel=1e-4), layout
            assert their_samples == samples, layout
    drawn = expected["min_mi"][1]
    assert drawn["iw_1_bits_per_token"] == pytest.approx(drawn["elbo_bits_per_token"], rel=0.01)
    assert drawn["iw_4_bits_per_token"] < drawn["iw_1_bits_per_token"]
    assert drawn["elbo_bits_per_token"] < drawn["joint_bits_per_token"]
    assert drawn["unmarked_bits_per_token"] < drawn["plain_bits_per_token"]


@pytest.mark.parametrize("model", [{"preset": "gpt2"}, {"preset": "llama", "kv_heads": 2}])
def test_packed_documents_do_not_see_each_other(play, model):
    config = make_config(play, model=model)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 100, (2, 48), generator=generator)
    starts = torch.zeros(2, 48, dtype=torch.bool)
    starts[0, [10, 30]] = starts[1, 20] = True
    with topology.start(config) as here, torch.no_grad():
        from pretrain.model.gpt import build, document_inputs

        chunk = build(config, here, 208)[0].eval()

        def logits(tokens, starts):
            return chunk(tokens, **document_inputs(tokens, positions_of(starts)))

        before = logits(tokens, starts)
        changed = tokens.clone()
        changed[0, 10:30] = (changed[0, 10:30] + 1) % 100
        after = logits(changed, starts)
        others = torch.ones(48, dtype=torch.bool)
        others[10:30] = False
        assert torch.equal(after[0, others], before[0, others])
        assert torch.equal(after[1], before[1])
        assert (after[0, 10:30] - before[0, 10:30]).abs().min() > 0
        # Each document as if it were alone, on the path without a mask.
        for row, parts in ((0, [0, 10, 30, 48]), (1, [0, 20, 48])):
            for first, last in pairwise(parts):
                part = tokens[row : row + 1, first:last]
                alone = logits(part, torch.zeros_like(part, dtype=torch.bool))
                torch.testing.assert_close(before[row, first:last], alone[0], atol=1e-4, rtol=1e-4)


def evaluator_of(config: Config, here: topology.Topology) -> tuple[TextTask, TextEvaluator]:
    from pretrain.inference.forward import Forward
    from pretrain.model.gpt import build

    task = TextTask(config)
    schedule = SelectionSchedule(config, here, task.fitter, Sampler(task.examples, 8, 0))
    module = build(config, here, config.vocabulary_size(task.tokenizer.size))
    return task, task.evaluator(Forward(here, module), schedule)


def test_scores_are_those_of_the_stream_token_by_token(play):
    config = make_config(play, "first")
    with topology.start(config) as here, torch.no_grad():
        from pretrain.model.gpt import document_inputs

        task, evaluator = evaluator_of(config, here)
        whole = evaluator.chosen, 0, len(evaluator.chosen)
        found, _ = evaluator._score(evaluator._windows(task.transform, *whole))
        text, end = task.file.test.spread(12), evaluator.end_id
        numbers = np.arange(len(text.sentences))
        stream = lay_out(text, numbers, evaluator.chosen, task.transform, end).tokens
        stream = torch.tensor([*stream.tolist(), end])
        nats = 0.0
        for first in range(0, len(stream) - 1, 48):
            row = stream[first : first + 49][None]
            tokens, labels = row[:, :-1], row[:, 1:]
            inputs = document_inputs(tokens, positions_of(tokens == end))
            logits = evaluator.forward.chunks[0].eval()(tokens, **inputs)
            nats += float(torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="sum"))
        assert found.nats.sum() == pytest.approx(nats, rel=1e-5)
        assert found.counts.sum() == len(stream) - 1
        assert found.original_tokens == text.tokens
        assert found.counts[END] == len(text)
        plain, _ = evaluator._score(evaluator._windows(Keep(), *whole))
        assert plain.counts[OTHER] == text.tokens


@pytest.mark.parametrize("strategy", ["first", "blank", "max_mi"])
def test_one_plan_is_bounded_by_the_joint(play, strategy):
    config = make_config(play, strategy, training={"evaluation_examples": 2, "global_batch": 8})
    with topology.start(config) as here:
        _, evaluator = evaluator_of(config, here)
        found = evaluator.run(Chooser(Selection(strategy))).values
    names = ("elbo", "iw_1", "iw_4", "exact")
    bounds = [found[f"{name}_bits_per_token"] for name in names]
    assert bounds == pytest.approx([found["joint_bits_per_token"]] * 4, rel=1e-12)
    assert "unmarked_bits_per_token" not in found


def test_a_model_that_may_not_write_a_mark_has_all_of_the_rest(play):
    selection = {"plan_share": 0.5}
    config = make_config(play, "first", selection=selection)
    with topology.start(config) as here, torch.no_grad():
        from pretrain.model.gpt import document_inputs

        task, evaluator = evaluator_of(config, here)
        opening, end = task.transform.opening, evaluator.end_id
        windows = evaluator._windows(Keep(), evaluator.chosen, 0, 3)
        found, _ = evaluator._score(windows, opening)
        nats = 0.0
        for tokens, labels, kinds in zip(
            *map(torch.from_numpy, (windows.tokens, windows.labels, windows.kinds)), strict=True
        ):
            inputs = document_inputs(tokens[None], positions_of(tokens[None] == end))
            logits = evaluator.forward.chunks[0].eval()(tokens[None], **inputs)[0]
            logits[:, opening] = -torch.inf
            each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            nats += float(each[kinds >= 0].sum())
    assert found.nats.sum() == pytest.approx(nats, rel=1e-5)


def test_generated_text_is_restored_before_it_is_scored(play):
    config = make_config(play, "max_mi")
    with topology.start(config) as here:
        task, evaluator = evaluator_of(config, here)
        opening, closing = task.tokenizer.special("<plan>"), task.tokenizer.special("</plan>")
        prompts = []

        def generate(source, units, pad_id, lengths):
            """Goes on with the truth, told by its first token, and ends."""
            rows = np.full((len(source), units), 3)
            for row, (begin, _) in zip(rows, evaluator._prompts(24), strict=True):
                true = evaluator._true(begin, 6).tolist()
                told = [opening, true[0], closing, *true, evaluator.end_id]
                row[: len(told)] = told
            prompts.append((source, lengths))
            return rows

        evaluator.decoder = SimpleNamespace(generate=generate)
        metrics, samples = evaluator._generate()
    assert {metric.name: metric.value for metric in metrics}["rouge1"] == 1.0
    source, lengths = prompts[0]
    for row, length, sample in zip(source, lengths, samples, strict=True):
        assert row[0] == evaluator.end_id
        assert row[1] == opening
        assert length <= 24
        assert sample["prediction"] == sample["target"]
        assert sample["raw"].startswith(f"<plan> {sample['selected'][0]} </plan>")
        assert "<" not in sample["source"].replace("<unk>", "")


def test_what_is_unfinished_is_no_text(play):
    config = make_config(play, "first")
    with topology.start(config) as here:
        task, evaluator = evaluator_of(config, here)
    opening, closing, end = (task.tokenizer.special(x) for x in ("<plan>", "</plan>", "<end>"))
    for raw, expected in (
        ([opening, 1, closing, 1, opening, 2], [opening, 1, closing, 1]),
        ([opening, 1, closing, end, opening, 2], [opening, 1, closing]),
        ([1, opening], [1, opening]),
        ([1], [1]),
        ([end], []),
    ):
        assert evaluator._finished(np.array(raw)).tolist() == expected


def test_nothing_inserted_is_plain_text(play):
    config = make_config(play, "ntp")
    with topology.start(config) as here:
        _, evaluator = evaluator_of(config, here)
        result = evaluator.run(Chooser(Selection("ntp")))
    metrics = result.values
    assert metrics["plain_perplexity"] == metrics["conditional_perplexity"]
    assert "plan_bits" not in metrics
    assert result.headline == "joint_bits_per_token"
    assert not result.higher_is_better
    assert 1.0 < result.value < 2 * math.log2(208)
    assert 0.9 < metrics["original_tokens_per_position"] < 1.0


def test_a_text_that_tokens_do_not_tell_has_no_bytes():
    characters = CharacterTokenizer(sorted(set("ab üΩ.\n")))
    texts = ["ab ü. Ω.", "b\n\na"]
    text = Text.encoded(texts, characters)
    assert text_bytes(text, characters) == sum(len(each.encode()) for each in texts) == 14
    assert text_bytes(text.spread(1), characters) == 10
    assert text_bytes(Text.encoded(["ab c"], characters), characters) is None  # <unk>
    words = WordTokenizer(["a", "b"])
    assert text_bytes(Text.encoded(["a b"], words), words) is None
    shorter = replace(text, sizes=text.sizes + 1)
    assert text_bytes(shorter, characters) is None


def test_a_table_is_fitted_by_itself_and_used(play, tmp_path, capsys):
    settings = tmp_path / "c.yaml"
    table = tmp_path / "table"
    settings.write_text(make_config(play, "max_mi").to_yaml())
    assert fit_selection(["--config", str(settings), "--out", str(table)]) == 0
    assert "each example's own, by pmi" in capsys.readouterr().out
    config = make_config(play, "max_mi", selection={"table": table})
    chosen = []
    for each in (config, make_config(play, "max_mi"), make_config(play, "min_mi")):
        with topology.start(each) as here:
            chosen.append(evaluator_of(each, here)[1].chosen.tolist())
    assert chosen[0] == chosen[1] != chosen[2]


def test_too_little_text_is_refused(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("One. Two.\n\nThree.")
    with pytest.raises(ConfigError, match=r"too few for one sequence of model.sequence_length 48"):
        TextTask(make_config(str(path)))


def test_one_document_a_sequence_needs_no_mask():
    from pretrain.model.gpt import document_inputs

    tokens = torch.zeros(2, 3, dtype=torch.int64)
    inputs = document_inputs(tokens, positions_of(torch.zeros(2, 3, dtype=torch.bool)))
    assert inputs["attention_mask"] is None
    assert inputs["position_ids"].tolist() == [[0, 1, 2]] * 2
    mask = document_inputs(tokens, torch.tensor([[0, 1, 0]] * 2))["attention_mask"]
    assert mask[0, 0].tolist() == [[True, False, False], [True, True, False], [False, False, True]]


def test_micro_batches_and_devices_keep_positions():
    positions = torch.arange(12).view(4, 3)
    batch = Batch(positions, positions, positions.float(), 12, positions)
    parts = list(batch.to(torch.device("cpu")).micro_batches(2))
    assert [part.positions.tolist() for part in parts] == [
        positions[:2].tolist(),
        positions[2:].tolist(),
    ]
    assert positions_of(torch.tensor([[True, False, False]])) is None
    starts = torch.tensor([[False, False, True, True, False], [False] * 5])
    assert positions_of(starts).tolist() == [[0, 1, 0, 0, 1], [0, 1, 2, 3, 4]]
