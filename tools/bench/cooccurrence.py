"""What people count co-occurrences with today: the baselines of our own counter.

Token by token in one document, every route with the same result, so that they can be compared:
scipy's sparse matrices, a dictionary in plain Python, and the `cooccur` program of GloVe. Word by
label over many documents: scikit-learn. A count belongs to an ordered pair of tokens at most
`window` places apart, to the left or to the right; a matrix is therefore symmetric, and a token
next to itself counts twice.

Letters of shapes: n tokens of a document, V vocabulary, L labels.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sysconfig
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import csr_matrix, eye
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import MultiLabelBinarizer

from pretrain.errors import UserError

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[.,;:!?]")
CORPUS_CHARACTERS = 8_000_000
# Installed packages and, since many distributions leave them out, tests.
NOT_COLLECTED = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
# `struct cooccur_rec` of GloVe's common.h; words are numbered from 1.
GLOVE_RECORD = np.dtype([("word1", np.int32), ("word2", np.int32), ("value", np.float64)])


def windowed_pairs(n: int, window: int) -> int:
    """Ordered pairs of different places at most `window` apart in a document of n tokens."""
    farthest = max(0, min(window, n - 1))
    return 2 * farthest * n - farthest * (farthest + 1)


def scipy_sparse(tokens: np.ndarray, vocabulary: int, window: int) -> csr_matrix:
    """Count with scipy: tokens [n] int32 -> counts [V, V] int64.

    Row t of a sparse matrix holds whatever stands up to `window` places before token t, repeats
    included; multiplying by the identity adds the repeats up. On a million tokens (V 8,192, window
    10) all other routes that were tried took two to four times as long: `sum_duplicates`, which
    sorts; the product of a one-hot matrix [V, n] and a matrix of windows [n, V]; one matrix per
    offset; one COO matrix of all offsets; sorting or `np.bincount` of pair numbers. The columns of
    a row are in no order, since putting them in order takes time.
    """
    n, reach = len(tokens), min(window, len(tokens) - 1)
    shape = (vocabulary, vocabulary)
    if reach < 1:
        return csr_matrix(shape, dtype=np.int64)
    one_hot = csr_matrix((np.ones(n, np.int8), tokens, np.arange(n + 1)), shape=(n, vocabulary))
    places = one_hot.T.tocsr()
    # Ahead of the document stands a token that the table has no column for.
    padded = np.concatenate([np.full(reach, vocabulary, dtype=np.int32), tokens])
    windows = sliding_window_view(padded, reach)[:n]
    before = windows[places.indices].ravel()
    starts = places.indptr.astype(np.int64) * reach
    rows = csr_matrix(
        (np.ones(len(before), dtype=np.int64), before, starts), shape=(vocabulary, vocabulary + 1)
    )
    half = rows @ eye(vocabulary + 1, vocabulary, dtype=np.int64, format="csr")
    return csr_matrix(half + half.T)


def python_dict(tokens: list[int], window: int) -> dict[tuple[int, int], int]:
    """Count with a dictionary: n tokens -> {(token, token): count}, without zeros.

    `collections.Counter`, fed with one `zip` per offset, was slower than this `defaultdict`. Each
    pair is looked up once while reading, and mirrored at the end, when there are fewer.
    """
    counts: defaultdict[tuple[int, int], int] = defaultdict(int)
    for place, token in enumerate(tokens):
        for earlier in tokens[max(0, place - window) : place]:
            counts[token, earlier] += 1
    mirrored: defaultdict[tuple[int, int], int] = defaultdict(int)
    for (token, earlier), count in counts.items():
        mirrored[token, earlier] += count
        mirrored[earlier, token] += count
    return mirrored


def find_glove() -> str | None:
    """Where the search path has GloVe's `cooccur`, if it has it."""
    found = shutil.which("cooccur")
    return None if found is None else str(Path(found).absolute())


def glove_cooccur(
    tokens: np.ndarray, vocabulary: int, window: int, folder: Path, program: str
) -> tuple[csr_matrix, float]:
    """Count with GloVe: tokens [n] int32 -> counts [V, V] int64, seconds.

    Pennington, Socher and Manning 2014, https://github.com/stanfordnlp/GloVe, src/cooccur.c. The
    seconds are the program's run from start to end. They include that it reads the document as text
    and looks every word up, and that it writes its counts to a file, since it has no other
    interface; they do not include writing its input nor reading its output, which we do here.

    Args:
        tokens: the document.
        vocabulary: V.
        window: places to the left and to the right.
        folder: an existing folder, for the input, the output and what the program leaves between.
        program: absolute path of the program, see :func:`find_glove`.

    Raises:
        UserError: the program failed or its counts do not add up.
    """
    numbered = _write_glove_input(tokens, folder)
    # Names without folders: the program copies them into 200 characters without looking.
    command = [program, "-verbose", "0", "-symmetric", "1", "-window-size", str(window)]
    command += ["-distance-weighting", "0", "-memory", "4.0"]
    command += ["-vocab-file", "vocabulary.txt", "-overflow-file", "overflow"]
    with (folder / "document.txt").open("rb") as text, (folder / "counts.bin").open("wb") as counts:
        started = time.perf_counter()
        ended = subprocess.run(
            command, cwd=folder, stdin=text, stdout=counts, stderr=subprocess.PIPE, check=False
        )
        seconds = time.perf_counter() - started
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip()
        raise UserError(f"{program} ended with code {ended.returncode}: {said}")
    records = _read_glove_output(folder / "counts.bin", windowed_pairs(len(tokens), window))
    rows, columns = numbered[records["word1"] - 1], numbered[records["word2"] - 1]
    values = records["value"].astype(np.int64)
    return csr_matrix((values, (rows, columns)), shape=(vocabulary, vocabulary)), seconds


def _write_glove_input(tokens: np.ndarray, folder: Path) -> np.ndarray:
    """Write document and vocabulary, and return the tokens in the vocabulary's order."""
    frequencies = np.bincount(tokens)
    numbered = np.argsort(-frequencies, kind="stable")[: np.count_nonzero(frequencies)]
    lines = (f"w{token} {frequencies[token]}\n" for token in numbered.tolist())
    (folder / "vocabulary.txt").write_text("".join(lines), encoding="ascii")
    words = " ".join(f"w{token}" for token in tokens.tolist())
    (folder / "document.txt").write_text(words + "\n", encoding="ascii")
    return numbered


def _read_glove_output(path: Path, pairs: int) -> np.ndarray:
    """Records of the program, whose values add up to `pairs`.

    Where all counts fit its dense table, the program merges them with an empty file, of which it
    reads whatever the last read has left: the first record twice, or, without any pair, rubbish.
    """
    records = np.fromfile(path, dtype=GLOVE_RECORD)
    if pairs == 0:
        return records[:0]
    values = records["value"]
    surplus = values.sum() - pairs
    if surplus > 0 and values[0] == 2 * surplus:
        values[0] = surplus
    if values.sum() != pairs:
        raise UserError(f"{path}: {values.sum():.0f} pairs were counted, but there are {pairs}")
    return records


def count_vectorizer_labels(
    texts: list[str], labels: list[list[str]]
) -> tuple[csr_matrix, list[str], list[str]]:
    """Count documents with scikit-learn, one text and any number of labels each.

    Returns:
        Documents that hold the word and carry the label, [V, L] int64; the V words, as
        CountVectorizer finds them (lower case, two letters or more); the L labels.
    """
    vectorizer = CountVectorizer(binary=True)
    binarizer = MultiLabelBinarizer(sparse_output=True)
    X = vectorizer.fit_transform(texts)
    Y = binarizer.fit_transform(labels)
    return csr_matrix(X.T @ Y), list(vectorizer.get_feature_names_out()), list(binarizer.classes_)


def words_of(text: str, vocabulary: int, tokens: int | None) -> np.ndarray:
    """Words and punctuation marks of a text in lower case, as ids [tokens] int32.

    The vocabulary - 1 words that are most frequent in the whole text have ids from 0, the most
    frequent first and, among equals, the one that comes first in the text. All others have the last
    id, vocabulary - 1. A text with more words than `tokens` is cut; one with fewer is repeated from
    its start, as often as it takes. None leaves it as it is.

    Raises:
        UserError: the text has no word.
    """
    words = WORD.findall(text.lower())
    if not words:
        raise UserError("the corpus has no words; give another text with --corpus FILE")
    known = Counter(words).most_common(vocabulary - 1)
    ids = {word: number for number, (word, _) in enumerate(known)}
    found = np.array([ids.get(word, vocabulary - 1) for word in words], dtype=np.int32)
    return found if tokens is None else np.resize(found, tokens)


def natural_corpus(path: Path | None) -> str:
    """The text of a UTF-8 file or, without one, a text that every machine has.

    That is the docstrings of Python's standard library, English prose mixed with words of code: the
    same on all machines whose Python has the same version and all of its library.

    Raises:
        UserError: there is no such file, or nothing in it.
    """
    if path is None:
        return docstrings(Path(sysconfig.get_path("stdlib")), CORPUS_CHARACTERS)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(
            f"--corpus {path} cannot be read: {error.strerror}; give a file of UTF-8 text"
        ) from None
    if not text.strip():
        raise UserError(f"--corpus {path} is empty; give a file with text")
    return text


def docstrings(folder: Path, characters: int) -> str:
    """Docstrings of the Python files in a folder, one after the other, in sorted order of files.

    Collects until there are as many characters as asked for, or all. Files that this version of
    Python cannot parse are left out.

    Raises:
        UserError: there are no docstrings.
    """
    collected: list[str] = []
    missing = characters
    for file in _python_files(folder):
        if missing <= 0:
            break
        found = _docstrings_of(file)
        collected += found
        missing -= sum(map(len, found))
    if not collected:
        raise UserError(f"{folder} has no docstrings to count; give a text with --corpus FILE")
    return "\n".join(collected)


def _python_files(folder: Path) -> Iterator[Path]:
    names = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.py")}
    for name in sorted(names):
        if NOT_COLLECTED.isdisjoint(name.split("/")):
            yield names[name]


def _docstrings_of(file: Path) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in other people's strings
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(tree) if isinstance(node, documented))
    return [text for node in nodes if (text := ast.get_docstring(node))]
