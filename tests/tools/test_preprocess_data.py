import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest

from pretrain.data.indexed import IndexedCorpus, check_tokenizer, read_manifest
from pretrain.data.sentences import split_sentences
from pretrain.data.tokenizers import CharacterTokenizer, load_tokenizer, save_tokenizer
from pretrain.errors import UserError
from tools.preprocess_data import main
from tools.preprocessing import shards as parts
from tools.preprocessing import workers as crew
from tools.preprocessing.corpus import parts_folder

ALPHABET = "abcdefghijklmnopqrstuvwxyz .\n"
NAMES = ("bin", "idx", "bad.jsonl", "manifest.json")


@pytest.fixture
def sources(tmp_path):
    """A tokenizer, and 300 documents in three files, some of them bad. Returns the documents."""
    drawn = random.Random(0)
    save_tokenizer(CharacterTokenizer(ALPHABET), tmp_path / "t.json")
    texts = [
        "".join(drawn.choices("abcde", k=drawn.randrange(1, 200))) + f". it is {'x' * (i % 9)}."
        for i in range(300)
    ]
    json_lines = [json.dumps({"text": text}) for text in texts[:200]]
    json_lines.insert(150, '{"text": 5}')
    (tmp_path / "a.jsonl").write_text("\n".join(json_lines[:121]))
    (tmp_path / "b.jsonl").write_text("\n".join(json_lines[121:]))
    (tmp_path / "c.txt").write_text("\n\n".join(texts[200:]))
    return texts


def command(tmp_path, output, *more):
    inputs = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl", "c.txt")]
    tokenizer, prefix = str(tmp_path / "t.json"), str(tmp_path / output)
    options = ["--input", *inputs, "--tokenizer", tokenizer, "--output", prefix, "--unit", "0.003"]
    return [*options, *more]


def files(tmp_path, output):
    return {name: (tmp_path / f"{output}.{name}").read_bytes() for name in NAMES}


def read_alone(prefix):
    """Documents of sequences, by nothing but the description of the format."""
    index, ids = Path(f"{prefix}.idx").read_bytes(), Path(f"{prefix}.bin").read_bytes()
    assert index[:9] == b"MMIDIDX\0\0"
    number = [int.from_bytes(index[i : i + 8], "little") for i in (9, 18, 26)]
    assert number[0] == 1
    assert index[17] == 8  # uint16
    sequences, boundaries = number[1], number[2]
    at = 34

    def take(count, width):
        nonlocal at
        cut = [index[at + i * width : at + (i + 1) * width] for i in range(count)]
        at += count * width
        return [int.from_bytes(each, "little") for each in cut]

    lengths, pointers, ends = take(sequences, 4), take(sequences, 8), take(boundaries, 8)
    assert at == len(index)
    found = []
    for length, pointer in zip(lengths, pointers, strict=True):
        content = ids[pointer : pointer + 2 * length]
        found.append(
            [int.from_bytes(content[i : i + 2], "little") for i in range(0, 2 * length, 2)]
        )
    return [found[a:b] for a, b in pairwise(ends)]


def under_mpirun(ranks, call):
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if mpirun is None:
        pytest.skip("there is no mpirun; it comes with the package openmpi")
    return [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", str(ranks), *call]


def run_ranks(tmp_path, launcher, ranks, arguments):
    call = [sys.executable, "-m", "tools.preprocess_data", *arguments]
    if launcher == "mpirun":
        done = subprocess.run(
            under_mpirun(ranks, call), capture_output=True, text=True, timeout=120
        )
        return done.returncode, done.stdout, done.stderr
    processes = []
    for rank in range(ranks):
        slurm = {"SLURM_PROCID": rank, "SLURM_NTASKS": ranks, "SLURM_JOB_ID": 7, "SLURM_STEP_ID": 0}
        environment = os.environ | {name: str(value) for name, value in slurm.items()}
        processes.append(
            subprocess.Popen(
                call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    ended = [process.communicate(timeout=120) for process in processes]
    codes = [process.returncode for process in processes]
    return max(codes), ended[0][0], "".join(error for _, error in ended)


def test_documents_come_back_in_order(tmp_path, sources, capsys):
    assert main(command(tmp_path, "c", "--end-of-document", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    tokenizer = load_tokenizer(tmp_path / "t.json")
    end = tokenizer.special("<end>")
    expected = [[*tokenizer.encode(text).tolist(), end] for text in sources]
    assert read_alone(tmp_path / "c") == [[document] for document in expected]
    corpus = IndexedCorpus(tmp_path / "c", check=True)
    assert [corpus.document(i).tolist() for i in range(300)] == expected
    manifest = read_manifest(tmp_path / "c")
    assert {name: report[name] for name in manifest} == manifest
    assert manifest["tokens"] == sum(map(len, expected))
    assert manifest["text_bytes"] == sum(map(len, sources))
    assert [source["documents"] for source in manifest["sources"]] == [121, 79, 100]
    assert [source["bad"] for source in manifest["sources"]] == [0, 1, 0]
    check_tokenizer(tmp_path / "c", tokenizer)
    with pytest.raises(UserError, match="made with tokenizer"):
        check_tokenizer(tmp_path / "c", CharacterTokenizer("ab"))
    bad = [json.loads(line) for line in (tmp_path / "c.bad.jsonl").read_text().splitlines()]
    assert [(Path(line["file"]).name, line["line"]) for line in bad] == [("b.jsonl", 30)]
    assert not parts_folder(tmp_path / "c").exists()


def test_megatron_reads_sentences_of_documents(tmp_path, sources):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    assert main(command(tmp_path, "c", "--sentences")) == 0
    tokenizer = load_tokenizer(tmp_path / "t.json")
    expected = [
        [tokenizer.encode(sentence).tolist() for sentence in split_sentences(text)]
        for text in sources
    ]
    assert read_alone(tmp_path / "c") == expected
    dataset = IndexedDataset(str(tmp_path / "c"))
    ends = dataset.document_indices.tolist()
    found = [[dataset[i].tolist() for i in range(a, b)] for a, b in pairwise(ends)]
    assert found == expected
    assert dataset[0].dtype == np.uint16
    assert max(map(len, expected)) > 1


@pytest.mark.parametrize("more", [(), ("--sentences", "--end-of-document")])
def test_workers_write_the_same_bytes(tmp_path, sources, more):
    outputs = []
    for workers in ("1", "2", "4"):
        assert main(command(tmp_path, f"w{workers}", *more, "--workers", workers)) == 0
        outputs.append(files(tmp_path, f"w{workers}"))
    assert outputs[0] == outputs[1] == outputs[2]


def test_units_of_other_sizes_give_the_same_bytes(tmp_path, sources):
    assert main(command(tmp_path, "a")) == 0
    assert main(command(tmp_path, "b", "--unit", "0.0001")) == 0
    assert main(command(tmp_path, "c", "--unit", "16")) == 0
    a, b, c = (files(tmp_path, name) for name in "abc")
    assert [a[name] for name in NAMES[:3]] == [b[name] for name in NAMES[:3]]
    assert [a[name] for name in NAMES[:3]] == [c[name] for name in NAMES[:3]]


@pytest.mark.distributed
@pytest.mark.parametrize(
    "launcher,ranks,workers", [("mpirun", 2, 1), ("mpirun", 4, 1), ("mpirun", 2, 2), ("srun", 2, 2)]
)
def test_ranks_write_the_same_bytes(tmp_path, sources, launcher, ranks, workers):
    assert main(command(tmp_path, "one")) == 0
    arguments = command(tmp_path, "many", "--workers", str(workers))
    code, out, err = run_ranks(tmp_path, launcher, ranks, arguments)
    assert code == 0, err
    assert "300 documents" in out
    assert files(tmp_path, "many") == files(tmp_path, "one")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.distributed
@pytest.mark.parametrize("launcher", ["mpirun", "srun"])
def test_an_error_ends_all_ranks(tmp_path, sources, launcher):
    (tmp_path / "c.idx").touch()
    code, _, err = run_ranks(tmp_path, launcher, 2, command(tmp_path, "c"))
    assert code == 2
    assert err.count("error: ") == 1
    assert "c.idx is there already" in err
    (tmp_path / "c.idx").unlink()
    code, _, err = run_ranks(tmp_path, launcher, 2, command(tmp_path, "c", "--bad-share", "0"))
    assert code == 2
    assert "are bad" in err or "is bad" in err


def test_work_that_was_killed_goes_on(tmp_path, sources):
    assert main(command(tmp_path, "whole")) == 0
    arguments = command(tmp_path, "c", "--unit", "0.0003")
    assert main(command(tmp_path, "whole", "--unit", "0.0003", "--overwrite")) == 0
    folder = parts_folder(tmp_path / "c")
    drawn = random.Random(1)
    process = subprocess.Popen([sys.executable, "-m", "tools.preprocess_data", *arguments])
    while not list(folder.glob("*.json")) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(drawn.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main([*arguments, "--workers", "2"]) == 0
    assert files(tmp_path, "c") == files(tmp_path, "whole")


@pytest.mark.distributed
@pytest.mark.parametrize("killed", ["a rank", "mpirun"])
def test_a_killed_mpi_job_goes_on(tmp_path, sources, killed):
    (tmp_path / "c.txt").write_text("\n\n".join(sources * 3))  # half a second's work
    arguments = command(tmp_path, "c", "--unit", "0.0003")
    assert main(command(tmp_path, "whole", "--unit", "0.0003")) == 0
    folder = parts_folder(tmp_path / "c")
    call = [sys.executable, "-m", "tools.preprocess_data", *arguments]
    job = subprocess.Popen(under_mpirun(3, call))
    while len(list(folder.glob("*.json"))) < 3:
        assert job.poll() is None
        time.sleep(0.005)
    ranks = psutil.Process(job.pid).children()
    assert len(ranks) == 3
    if killed == "mpirun":
        job.terminate()
    else:
        ranks[-1].kill()
    assert job.wait(60) != 0
    _, alive = psutil.wait_procs(ranks, 30)
    assert not alive
    assert list(folder.glob("*.json"))
    assert main([*arguments, "--workers", "2"]) == 0
    assert files(tmp_path, "c") == files(tmp_path, "whole")


def test_a_worker_that_dies_is_told(tmp_path, sources, capsys, monkeypatch):
    monkeypatch.setattr(crew, "_child", os._exit)
    assert main(command(tmp_path, "c", "--workers", "2")) == 2
    assert "a worker process ended, with exit code" in capsys.readouterr().err


class Killed(BaseException):
    """Stands for a signal."""


class Stops:
    """Raises at the n-th call of what writes: renaming, and copying in the kernel."""

    def __init__(self, monkeypatch, at):
        self.at, self.calls = at, 0
        for name in ("replace", "copy_file_range"):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, call):
        def called(*arguments):
            self.calls += 1
            if self.calls == self.at:
                raise Killed
            return call(*arguments)

        return called


def test_work_that_was_interrupted_anywhere_goes_on(tmp_path, sources, monkeypatch):
    with monkeypatch.context() as patched:
        stops = Stops(patched, None)
        assert main(command(tmp_path, "whole")) == 0
    last = range(stops.calls - 5, stops.calls + 1)  # the manifest, and giving names
    for at in (*random.Random(0).sample(range(1, stops.calls - 5), 10), *last):
        with monkeypatch.context() as patched:
            Stops(patched, at)
            with pytest.raises(Killed):
                main(command(tmp_path, f"c{at}"))
        assert main(command(tmp_path, f"c{at}")) == 0
        assert files(tmp_path, f"c{at}") == files(tmp_path, "whole")
        assert not parts_folder(tmp_path / f"c{at}").exists()


def test_damaged_parts_are_done_again(tmp_path, sources, monkeypatch):
    assert main(command(tmp_path, "whole")) == 0
    with monkeypatch.context() as patched:
        patched.setattr(os, "copy_file_range", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            main(command(tmp_path, "c"))
    folder = parts_folder(tmp_path / "c")
    damaged = parts.part_path(folder, 0, "tokens")
    damaged.write_bytes(damaged.read_bytes()[:-2] + b"\xff\xff")
    parts.part_path(folder, 1, "json").write_text("{")
    parts.part_path(folder, 2, "lengths").write_bytes(b"")
    assert main(command(tmp_path, "c")) == 0
    assert files(tmp_path, "c") == files(tmp_path, "whole")


def test_parts_are_copied_where_the_kernel_does_not(tmp_path, sources, monkeypatch):
    assert main(command(tmp_path, "whole")) == 0

    def refused(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refused)
    assert main(command(tmp_path, "c")) == 0
    assert files(tmp_path, "c") == files(tmp_path, "whole")


def test_nothing_is_overwritten_unless_asked(tmp_path, sources, capsys):
    for name in NAMES:
        path = tmp_path / f"c.{name}"
        path.write_text("mine")
        assert main(command(tmp_path, "c")) == 2
        assert f"c.{name} is there already" in capsys.readouterr().err
        assert path.read_text() == "mine"
        assert not parts_folder(tmp_path / "c").exists()
        assert main(command(tmp_path, "c", "--overwrite")) == 0
        assert path.read_bytes() != b"mine"
        for each in NAMES:
            (tmp_path / f"c.{each}").unlink()


def test_unfinished_work_of_another_command_is_kept(tmp_path, sources, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "copy_file_range", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            main(command(tmp_path, "c"))
    capsys.readouterr()
    assert main(command(tmp_path, "c", "--sentences")) == 2
    assert "unfinished work of another command, with another sentences" in capsys.readouterr().err
    (tmp_path / "a.jsonl").write_text('{"text": "changed"}')
    assert main(command(tmp_path, "c")) == 2
    assert "with another sources" in capsys.readouterr().err
    assert main(command(tmp_path, "c", "--overwrite")) == 0
    assert read_manifest(tmp_path / "c")["documents"] == 180


def test_a_full_disk_is_told_and_work_goes_on(tmp_path, sources, capsys, monkeypatch):
    assert main(command(tmp_path, "whole")) == 0

    def full(*_):
        raise OSError(28, "No space left on device")

    for attribute, owner in (("add", parts.PartWriter), ("copy_file_range", os)):
        with monkeypatch.context() as patched:
            patched.setattr(owner, attribute, full)
            assert main(command(tmp_path, "c")) == 2
        error = capsys.readouterr().err
        assert re.search(r"c\.parts: cannot be written \(No space left on device\); what is", error)
    assert main(command(tmp_path, "c")) == 0
    assert files(tmp_path, "c") == files(tmp_path, "whole")


def prepare_one(tmp_path, name, content, *more):
    save_tokenizer(CharacterTokenizer(ALPHABET), tmp_path / "t.json")
    (tmp_path / name).write_bytes(content)
    arguments = ["--input", str(tmp_path / name), "--tokenizer", str(tmp_path / "t.json")]
    return main([*arguments, "--output", str(tmp_path / "c"), *more])


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("a.txt", b"", "the files are empty"),
        ("a.txt", b"\n \n\n", r"no document with a token \(0 bad, 0 blank\)"),
        ("a.jsonl", b'{"text": ""}\n', r"no document with a token \(0 bad, 1 blank\)"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "\xff"}\n', r"a\.jsonl, line 3: not UTF-8 \(byte"),
        ("a.txt", b"a\n\nb\xff", r"1 of 2 records are bad, more than --bad-share 0\.01 allows"),
    ],
)
def test_input_that_cannot_be_used_is_told(tmp_path, capsys, name, content, message):
    assert prepare_one(tmp_path, name, content) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "c.idx").exists()


def test_a_line_of_100_mb_is_bad(tmp_path, capsys):
    content = b'{"text": "a"}\n{"text": "' + b"x" * 100_000_000 + b'"}\n{"text": "b"}\n'
    assert prepare_one(tmp_path, "a.jsonl", content) == 2
    message = r"a\.jsonl, line 2: a line of more than 64 MiB \(--longest\)"
    assert re.search(message, capsys.readouterr().err)
    assert prepare_one(tmp_path, "a.jsonl", content, "--bad-share", "0.5", "--overwrite") == 0
    assert len(read_alone(tmp_path / "c")) == 2
    assert len((tmp_path / "c.bad.jsonl").read_text()) < 500


def test_many_bad_lines_stop_the_work_early(tmp_path, capsys):
    content = b"{}\n" * 400
    assert prepare_one(tmp_path, "a.jsonl", content * 5, "--unit", "0.001") == 2
    error = capsys.readouterr().err
    assert "records so far are bad, more than --bad-share 0.01 allows" in error


@pytest.mark.parametrize(
    "option,value", [("--bad-share", "2"), ("--workers", "0"), ("--unit", "0"), ("--gap", "x")]
)
def test_options_out_of_range_are_refused(tmp_path, capsys, option, value):
    with pytest.raises(SystemExit):
        prepare_one(tmp_path, "a.txt", b"a", option, value)
    assert option in capsys.readouterr().err
