#!/usr/bin/env bash
# datatrove 0.10.1: DocumentTokenizer shuffles the documents and puts no end token after them.
#
# Guess: documents in the order they came, each followed by the tokenizer's end token.
# Seen:  shuffled by default (shuffle_documents=False keeps the order), and no end token unless
#        eos_token is given; only the index beside the ids tells documents apart.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
packages datatrove==0.10.1 tokenizers==0.23.1 numpy==2.3.4
expect 'from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.tokens.tokenizer import DocumentTokenizer
from tokenizers import Tokenizer, models, pre_tokenizers

words = {"</s>": 0, **{f"w{number}": number for number in range(1, 9)}}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="</s>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer.add_special_tokens(["</s>"])
tokenizer.save("tokenizer.json")
documents = [Document(text=f"w{number}", id=str(number)) for number in range(1, 9)]
for name, options in {
    "defaults": {},
    "asked": {"shuffle_documents": False, "eos_token": "</s>"},
}.items():
    step = DocumentTokenizer(name, tokenizer_name_or_path="tokenizer.json", seed=0, **options)
    step.run(iter(documents))
    (ids,) = Path(name).glob("*.ds")
    found = np.fromfile(ids, "<u2").tolist()
    words = [word for word in found if word]
    order = "in order" if words == sorted(words) else "shuffled"
    print(f"{name}: {len(words)} words {order}, {found.count(0)} ends")' \
'defaults: 8 words shuffled, 0 ends
asked: 8 words in order, 8 ends'
