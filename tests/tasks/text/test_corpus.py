"""Reading prepared corpora: what is read is the packed text, and what each fault is called."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from pretrain.config import load_config, parse_arguments
from pretrain.data.indexed import IndexedCorpus, bin_path, idx_path
from pretrain.data.tokenizers import CharacterTokenizer, save_tokenizer
from pretrain.errors import ConfigError, UserError
from pretrain.ragged import Documents
from pretrain.selection.orders.transforms import Insert, Keep
from pretrain.selection.selector import Selection
from pretrain.tasks.text import indexed as indexed_text
from pretrain.tasks.text.batches import PackedBatches
from pretrain.tasks.text.corpus import BlendedCorpus, BlendedText, short_names, split_documents
from pretrain.tasks.text.data import Text
from pretrain.tasks.text.indexed import IndexedText
from pretrain.tasks.text.selection import Chooser
from pretrain.tasks.text.task import CorpusTask
from tests.data.corpora import END, LETTERS, made_up, save_letters, write_corpus

LENGTH = 16
INSERT = Insert(LETTERS.special("<plan>"), LETTERS.special("</plan>"))


def in_memory(documents) -> Text:
    sentences = [sentence for document in documents for sentence in document]
    return Text(Documents.of(sentences), np.cumsum([0, *map(len, documents)]))


def equal(found: Documents, expected: Documents) -> bool:
    return (
        found.tokens.tolist() == expected.tokens.tolist()
        and found.offsets.tolist() == expected.offsets.tolist()
    )


@pytest.mark.parametrize("ended", [False, True])
def test_an_indexed_text_is_the_text_in_memory(tmp_path, ended):
    documents = made_up(60, seed=0)
    corpus = IndexedCorpus(write_corpus(tmp_path / "c", documents, ended))
    for first, last in ((0, 60), (13, 41), (59, 60)):
        text, expected = IndexedText(corpus, first, last, ended), in_memory(documents[first:last])
        assert (len(text), text.tokens) == (len(expected), expected.tokens)
        numbers = np.random.default_rng(1).permutation(len(expected.sentences))
        assert equal(text.take(numbers), expected.take(numbers))
        assert equal(text.before(numbers, 7), expected.before(numbers, 7))
        assert text.opens(numbers).tolist() == expected.opens(numbers).tolist()
        for some in (1, 3, None):
            assert equal(text.spread(some).documents, expected.spread(some).documents)
        for transform in (INSERT, Keep()):
            packed, packed_expected = (t.packed(transform, LENGTH) for t in (text, expected))
            assert packed.positions == packed_expected.positions
            assert packed.sequences == packed_expected.sequences
            positions = np.arange(packed.positions)
            assert packed.at(positions).tolist() == packed_expected.at(positions).tolist()
            assert packed.starts(numbers).tolist() == packed_expected.starts(numbers).tolist()
        begins = np.random.default_rng(2).integers(0, max(1, packed.positions - 40), 20)
        width = min(40, packed.positions)
        rows = packed.cut(begins, width, END)
        assert rows.tolist() == packed_expected.cut(begins, width, END).tolist()


def test_a_blend_reads_each_source_as_if_it_were_alone(tmp_path):
    parts, texts = [], []
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        documents = made_up(20, seed)
        corpus = IndexedCorpus(write_corpus(tmp_path / name, documents))
        parts.append(IndexedText(corpus, 0, 20))
        texts.append(in_memory(documents))
    blend, joined = BlendedText(parts), Text.joined(texts)
    numbers = np.random.default_rng(1).permutation(len(joined.sentences))
    assert equal(blend.take(numbers), joined.take(numbers))
    assert equal(blend.before(numbers, 9), joined.before(numbers, 9))
    assert blend.opens(numbers).tolist() == joined.opens(numbers).tolist()
    assert len(blend.take(np.zeros(0, np.int64))) == 0
    first_token = Chooser(Selection("first"))
    for transform in (INSERT, Keep()):
        packed = blend.packed(transform, LENGTH)
        reader = PackedBatches(
            blend,
            transform,
            END,
            SimpleNamespace(indices=lambda step, rank, ranks: np.array(step)),
            lambda step: first_token,
            0,
            1,
            LENGTH,
        )
        for first, each, text in zip(packed.firsts, packed.each, texts, strict=True):
            alone = PackedBatches(
                text,
                reader.transform,
                reader.end_id,
                reader.sampler,
                reader.selection_at,
                0,
                1,
                LENGTH,
            )
            expected = alone.read(list(range(each)), first_token)
            found = reader.read([first + number for number in range(each)], first_token)
            for of_blend, of_text in zip(found[:4], expected[:4], strict=True):
                assert of_blend.tolist() == of_text.tolist()


def test_every_document_is_counted_once_on_whichever_rank(tmp_path, monkeypatch):
    monkeypatch.setattr(indexed_text, "BLOCK", 64)
    documents = made_up(50, seed=3)
    corpus = IndexedCorpus(write_corpus(tmp_path / "c", documents, ended=True))
    text, expected = IndexedText(corpus, 5, 45, True), in_memory(documents[5:45])
    for whole, every in ((True, expected.documents), (False, expected.sentences)):
        for ranks in (1, 3):
            found = []
            for rank in range(ranks):
                for examples in text.counted(whole, rank, ranks, 100)():
                    assert examples.tokens <= 100 or len(examples) == 1
                    source = examples.source
                    found += [source.between(i, i + 1).tokens.tolist() for i in range(len(source))]
            wanted = [every.between(i, i + 1).tokens.tolist() for i in range(len(every))]
            assert sorted(found) == sorted(wanted)


def test_a_budget_counts_as_many_tokens_spread_over_the_text(tmp_path, monkeypatch):
    monkeypatch.setattr(indexed_text, "BLOCK", 64)
    corpus = IndexedCorpus(write_corpus(tmp_path / "c", made_up(200, seed=3)))
    text = IndexedText(corpus, 0, 200, budget=1000)
    counted = sum(examples.tokens for examples in text.counted(True, 0, 1, 100)())
    assert 800 < counted < 1200
    assert text.counted_tokens == 1024
    assert text.blocks[0] == 0
    assert len(set(np.diff(text.blocks))) <= 2


def configured(folder, blend, **sections):
    values = {
        "model": {"sequence_length": LENGTH, "layers": 1, "hidden_size": 32},
        "data": {
            "task": "corpus",
            "blend": [f"{folder / name}:{weight}" for name, weight in blend.items()],
            "tokenizer": save_letters(folder),
            "split": "80,10,10",
            **sections.pop("data", {}),
        },
        "selection": {"strategy": "ntp", **sections.pop("selection", {})},
        "training": {"global_batch": 4, **sections.pop("training", {})},
        **sections,
    }
    return load_config(None, values)


def tokens_of(task: CorpusTask, step: int, ranks=1, saved=None, since=0):
    """All that the ranks of a step read, in their order."""
    sampler, rows = task.sampler(saved or {}, since), []
    fitter = task.fitter
    chooser = fitter.selector(*fitter.fit(None))
    for rank in range(ranks):
        topology = SimpleNamespace(reader_rank=rank, data=SimpleNamespace(size=ranks))
        batches = task.batches(lambda _: chooser, sampler, topology)
        rows += batches.read(step, chooser)[0].tolist()
    return rows


@pytest.mark.parametrize("strategy", ["ntp", "random"])
def test_the_token_stream_is_a_function_of_seed_and_step(tmp_path, strategy):
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        write_corpus(tmp_path / name, made_up(60, seed))
    blend, selection = {"a": 0.6, "b": 0.3, "c": 0.1}, {"strategy": strategy}
    config = configured(tmp_path, blend, selection=selection)
    task = CorpusTask(config)
    whole = [tokens_of(task, step) for step in range(30)]
    saved = task.sampler({}, 0).state(11)
    for ranks in (2, 4):
        again = CorpusTask(config)
        assert [tokens_of(again, s, ranks, saved, 11) for s in range(11, 30)] == whole[11:]
    other = CorpusTask(configured(tmp_path, blend, selection=selection, training={"seed": 1}))
    assert [tokens_of(other, step) for step in range(30)] != whole


def test_sides_take_documents_in_order_and_no_token_is_on_two(tmp_path):
    documents = made_up(50, seed=5)
    write_corpus(tmp_path / "c", documents)
    for side, first in (("validation", 40), ("test", 45)):
        corpus = BlendedCorpus(configured(tmp_path, {"c": 1}, data={"evaluate_on": side}))
        assert equal(
            corpus.parts[0].train.spread(None).documents, in_memory(documents[:40]).documents
        )
        expected = in_memory(documents[first : first + 5])
        assert equal(corpus.held_out(None)["c"].documents, expected.documents)
    assert split_documents(1000, (969, 30, 1)) == [0, 969, 999, 1000]
    assert str(corpus.parts[0]).startswith("c: 40 documents, ")
    summary = CorpusTask(configured(tmp_path, {"c": 1}, training={"steps": 30})).summary
    assert summary.endswith("epochs in 30 steps")


def test_document_boundaries_are_told_only_where_documents_are_kept_apart(tmp_path):
    write_corpus(tmp_path / "c", made_up(60, seed=0))
    reads, chooser = [], Chooser(Selection("ntp"))
    for mask in (True, False):
        data, training = {"document_mask": mask}, {"global_batch": 16}
        task = CorpusTask(configured(tmp_path, {"c": 1}, data=data, training=training))
        topology = SimpleNamespace(reader_rank=0, data=SimpleNamespace(size=1))
        batches = task.batches(lambda _: chooser, task.sampler({}, 0), topology)
        reads.append(batches.read(0, chooser))
    masked, plain = reads
    for one, other in zip(masked[:3], plain[:3], strict=True):
        assert one.tolist() == other.tolist()
    assert (masked.starts == (masked.tokens == END)).all()
    assert plain.starts is None
    assert masked[3].any()


def fault(folder, blend=None, error=UserError, **sections) -> str:
    with pytest.raises(error) as caught:
        CorpusTask(configured(folder, blend or {"c": 1}, **sections))
    return str(caught.value)


def test_what_is_wrong_with_a_corpus_is_said_by_name(tmp_path):
    prefix = write_corpus(tmp_path / "c", made_up(60, seed=0))
    index, tokens = idx_path(prefix), bin_path(prefix)
    whole = index.read_bytes(), tokens.read_bytes()
    assert "c.idx: begins with b'XXIDIDX" in _with(index, b"XX" + whole[0][2:], tmp_path)
    assert "bytes, but" in _with(index, whole[0][:-8], tmp_path)
    assert "it is too short" in _with(tokens, whole[1][:-2], tmp_path)
    manifest = tmp_path / "c.manifest.json"
    content = manifest.read_bytes()
    wrong = content.replace(b'"documents": 60', b'"documents": 61')
    assert "60 documents, but the manifest says 61" in _with(manifest, wrong, tmp_path)
    assert "cannot be read" in fault(tmp_path, {"nowhere": 1})
    # A pointer in the middle is found when it is followed.
    broken = bytearray(whole[0])
    place = IndexedCorpus(prefix).layout.pointers + 8 * 20
    broken[place : place + 8] = (10**9).to_bytes(8, "little")
    index.write_bytes(broken)
    with pytest.raises(UserError, match="sequence 20 reaches beyond the corpus; the index is dama"):
        CorpusTask(configured(tmp_path, {"c": 1})).text.take(np.arange(40))


def _with(path, content: bytes, folder) -> str:
    before = path.read_bytes()
    path.write_bytes(content)
    message = fault(folder)
    path.write_bytes(before)
    return message


def test_sources_that_cannot_be_trained_on_are_refused(tmp_path):
    write_corpus(tmp_path / "c", made_up(60, seed=0))
    write_corpus(tmp_path / "empty", [])
    write_corpus(tmp_path / "tiny", [[[1, 2]]] * 5)
    write_corpus(tmp_path / "few", made_up(4, seed=1))
    write_corpus(tmp_path / "plain", made_up(60, seed=2), sentences=False)
    for suffix in ("bin", "idx", "manifest.json"):
        shutil.copy(tmp_path / f"c.{suffix}", tmp_path / f"copy.{suffix}")
    assert "empty.bin: the corpus is empty; leave" in fault(tmp_path, {"c": 1, "empty": 1})
    assert "tiny: 6 training tokens are too few for one sequence of model.sequence_length 16" in (
        fault(tmp_path, {"c": 1, "tiny": 1}, ConfigError, data={"split": "60,20,20"})
    )
    message = fault(tmp_path, {"few": 1}, ConfigError, data={"split": "98,1,1"})
    assert "of the 4 documents of" in message
    assert "none is left for validation" in message
    assert "c and copy hold the same corpus" in fault(tmp_path, {"c": 1, "copy": 1}, ConfigError)
    assert "was prepared without --sentences" in fault(
        tmp_path, {"plain": 1}, ConfigError, selection={"strategy": "first"}
    )
    save_tokenizer(CharacterTokenizer("abc"), tmp_path / "other.json")
    other = {"data": {"tokenizer": tmp_path / "other.json"}}
    assert "give the tokenizer of the corpus" in fault(tmp_path, **other)


@pytest.mark.parametrize(
    "data,needle",
    [
        ({"blend": []}, "data.task corpus needs data.blend, the corpora to read"),
        ({"blend": ["a:0.5", "a"]}, "data.blend names a twice"),
        ({"blend": ["a:heavy"]}, "data.blend.0.weight: input should be a valid number"),
        ({"blend": ["a:0"]}, "data.blend.0.weight: input should be greater than 0"),
        ({"blend": [{"prefx": "a"}]}, "unknown field data.blend.0.prefx; did you mean"),
        ({"split": "98,2"}, "data.split '98,2' is not three numbers with commas between them"),
        ({"split": "98,0,2"}, "data.split 98,0,2 leaves nothing for validation"),
        ({"tokenizer": None}, "data.task corpus needs data.tokenizer"),
        ({"path": "x"}, "data.path x is of no use to data.task corpus"),
        ({"test_fraction": 0.2}, "data.test_fraction 0.2 is of no use to data.task corpus"),
        ({"task": "text", "path": "x"}, "is of no use to data.task text"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_field(data, needle):
    values = {"task": "corpus", "blend": ["a", "b:2"], "tokenizer": "t.model", **data}
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"data": values})
    assert needle in str(caught.value)


@pytest.mark.parametrize(
    "other", ["a/./c", "a/../a/c", "link/c", "linked", "{here}/a/c", "~/a/c"], ids=str
)
def test_a_corpus_by_another_name_is_refused(other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c.bin").touch()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "linked.bin").symlink_to("a/c.bin")
    blend = ["a/c:0.7", "a/d", other.format(here=tmp_path)]
    with pytest.raises(ConfigError, match=r"data\.blend names a/c twice"):
        load_config(None, {"data": {"task": "corpus", "blend": blend, "tokenizer": "t.model"}})


def test_a_blend_is_written_long_or_short():
    long = '[{"prefix": "a", "weight": 0.7}, {"prefix": "b"}]'
    for given in ("a:0.7,b", long):
        arguments = ["--data.task", "corpus", "--data.tokenizer", "t.model", "--data.blend", given]
        config, _ = parse_arguments(arguments, "test")
        assert [(str(source.prefix), source.weight) for source in config.data.blend] == [
            ("a", 0.7),
            ("b", 1.0),
        ]


def test_names_are_as_short_as_tells_sources_apart():
    assert short_names(["corpora/web", "corpora/books"]) == ["web", "books"]
    assert short_names(["a/web", "b/web"]) == ["a/web", "b/web"]
    assert short_names(["web", "a/web"]) == ["web", "a/web"]


def test_of_an_endless_sentence_only_the_beginning_is_counted_and_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(indexed_text, "SENTENCE", 10)
    corpus = IndexedCorpus(write_corpus(tmp_path / "c", [[[1] * 50, [2, 3]], [list(range(20))]]))
    text = IndexedText(corpus, 0, 2)
    counted = [examples.source.lengths.tolist() for examples in text.counted(False, 0, 1, 1000)()]
    assert counted == [[10, 2, 10]]
    chosen = Chooser(Selection("random"), longest=10)(text, np.arange(3))
    assert chosen.max() < 10
    assert text.take(np.arange(3)).lengths.tolist() == [50, 2, 20]
