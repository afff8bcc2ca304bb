#!/usr/bin/env bash
# zstandard 0.25.0: a .zst file that was cut in the middle of a copy reads as a shorter whole one.
#
# Guess: an error at the end of the data, as gzip (EOFError), bz2 and lzma give.
# Seen:  stream_reader and open() give what was there and end without a word; of 20,000 lines, half of
#        the file gives a part, and no error.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
packages zstandard==0.25.0
expect 'import gzip, io, random
import zstandard

random.seed(0)
text = "".join(f"{random.random()}\n" for _ in range(20000)).encode()
whole = zstandard.compress(text)
half = whole[: len(whole) // 2]
for name, read in {
    "stream_reader": lambda: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(half)).read(),
    "open": lambda: zstandard.open(io.BytesIO(half), "rb").read(),
    "gzip": lambda: gzip.open(io.BytesIO(gzip.compress(text)[:90000])).read(),
}.items():
    try:
        lines = read().count(b"\n")
        print(name, "some of the lines, no error" if 0 < lines < 20000 else lines)
    except Exception as error:
        print(name, type(error).__name__)' \
'stream_reader some of the lines, no error
open some of the lines, no error
gzip EOFError'
