"""Text to token ids and back.

Ids of text come first, those of special tokens after them, so that no text is ever encoded as a
special token, whatever it contains. No token stands for more than one digit.
"""

from pretrain.data.tokenizers.base import PAD, SPECIALS, UNKNOWN, TextTokenizer, Tokenizer
from pretrain.data.tokenizers.files import check_ending, load_tokenizer, save_tokenizer
from pretrain.data.tokenizers.hugging_face import HuggingFaceTokenizer
from pretrain.data.tokenizers.labels import LabelTokenizer
from pretrain.data.tokenizers.pieces import SentencePieceTokenizer, train_pieces
from pretrain.data.tokenizers.records import RecordTokenizer
from pretrain.data.tokenizers.symbols import SymbolTokenizer
from pretrain.data.tokenizers.vocabulary import CharacterTokenizer, WordTokenizer, split_words

__all__ = [
    "PAD",
    "SPECIALS",
    "UNKNOWN",
    "CharacterTokenizer",
    "HuggingFaceTokenizer",
    "LabelTokenizer",
    "RecordTokenizer",
    "SentencePieceTokenizer",
    "SymbolTokenizer",
    "TextTokenizer",
    "Tokenizer",
    "WordTokenizer",
    "check_ending",
    "load_tokenizer",
    "save_tokenizer",
    "split_words",
    "train_pieces",
]
