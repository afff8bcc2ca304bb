"""ROUGE in any script.

rouge-score's own rule for words keeps ASCII alone: by it other scripts have no words, and `über` is
`ber`. On ASCII text the rule here gives the same words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

ROUGE = ("rouge1", "rouge2", "rougeL")
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u3005-\u3007\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
"""Characters of scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Tai,
Japanese, Chinese."""
JOINERS = "\u200c\u200d"
"""Shape the letters on both sides, and part no words."""


def rouge(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L (Lin, 2004) by the package rouge-score.

    Args:
        pairs: the true text and the generated one, at least one pair.
    """
    from rouge_score.rouge_scorer import RougeScorer  # slow to import

    scorer = RougeScorer(list(ROUGE), tokenizer=Words())
    scores = [scorer.score(true, generated) for true, generated in pairs]
    return {name: float(np.mean([score[name].fmeasure for score in scores])) for name in ROUGE}


class Words:
    """Words as ROUGE compares them: those of ASCII letters by their Porter stems, as rouge-score
    has it, others as they are, but for capitals and how accents are put together."""

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._english = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """Words of a text."""
        found: list[str] = []
        for word in words_of(unicodedata.normalize("NFC", text.casefold())):
            found += self._english.tokenize(word) if word.isascii() else [word]
        return found


def words_of(text: str) -> list[str]:
    """Runs of letters and digits with their marks; one for each character, with its marks, of a
    script that puts no spaces between words."""
    words: list[str] = []
    inside = single = False
    for character in text:
        kind = unicodedata.category(character)[0]
        if inside and (kind == "M" or character in JOINERS):
            words[-1] += character
        elif kind in "LN":
            was_single, single = single, UNSPACED.match(character) is not None
            if inside and not (single or was_single):
                words[-1] += character
            else:
                words.append(character)
            inside = True
        else:
            inside = False
    return words
