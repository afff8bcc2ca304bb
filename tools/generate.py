"""What a model answers: digits and labels in natural order, text without inserted tokens.

    python -m tools.generate --checkpoint runs/NAME --prompt "35*07="
    python -m tools.generate --model DIR --prompts FILE --raw

From a checkpoint of ours, of any layout, or from a folder that tools.export_hf wrote.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pretrain.console import run_program
from pretrain.errors import UserError
from pretrain.paths import path_argument
from tools.hf.folders import CONFIG, Weights, inside, read_json
from tools.hf.restored_generation import FACTS, Exported, Restorer
from tools.hf.sampling import Sampling

Answer = Callable[[str], str]


@contextmanager
def from_checkpoint(
    path: Path, sampling: Sampling, raw: bool, most: int | None
) -> Iterator[Answer]:
    """Prompt -> text, by a checkpoint of ours.

    Raises:
        UserError: it is not whole.
    """
    from tools.hf.facts import facts_of
    from tools.hf.own_model import own_model
    from tools.hf.trained import Trained

    trained = Trained.read(path)
    restorer = Restorer(facts_of(trained))
    tokenizer = trained.tokenizer
    with own_model(trained, sampling) as model:

        def answer(prompt: str) -> str:
            restorer.check(prompt)
            written = restorer.write(tokenizer.encode(prompt).tolist(), model, most)
            if raw:
                return restorer.show(written, tokenizer.decode, raw)
            natural = restorer.restore(written)
            told: str | None = trained.config.data.answer(tokenizer, natural)
            return restorer.show(natural, tokenizer.decode, raw) if told is None else told

        yield answer


@contextmanager
def from_export(path: Path, sampling: Sampling, raw: bool, most: int | None) -> Iterator[Answer]:
    """Prompt -> text, by transformers; nothing in the folder is run.

    Raises:
        UserError: the folder is not one that tools.export_hf wrote, or transformers is missing.
    """
    try:
        import transformers
    except ImportError:
        raise UserError("--model needs transformers; run: pip install transformers") from None
    for name in (CONFIG, FACTS, "tokenizer.json", "tokenizer_config.json"):
        inside(path, name)
    read_json(path, FACTS)
    Weights(path)
    try:
        exported = Exported.load(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"--model {path}: cannot be read: {error}") from error
    transformers.set_seed(sampling.seed)
    yield lambda prompt: exported.generate(prompt, raw, most, **sampling.for_transformers())


def _prompts(given: Sequence[str], path: Path | None) -> list[str]:
    prompts = list(given)
    if path is not None:
        try:
            prompts += [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--prompts {path}: cannot be read: {error}") from error
    if not prompts:
        raise UserError("nothing to answer; give --prompt TEXT or --prompts FILE, one a line")
    return prompts


def _sampling(options: argparse.Namespace) -> Sampling:
    bounds = (
        ("--temperature", options.temperature, options.temperature >= 0, "0 or more"),
        ("--top-k", options.top_k, options.top_k >= 0, "0 or more"),
        ("--top-p", options.top_p, 0 < options.top_p <= 1, "above 0 and at most 1"),
        ("--max-tokens", options.max_tokens, options.max_tokens is None or options.max_tokens > 0,
         "1 or more"),
    )  # fmt: skip
    for name, value, holds, expected in bounds:
        if not holds:
            raise UserError(f"{name} {value}: expected {expected}")
    return Sampling(options.temperature, options.top_k, options.top_p, options.seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Print one answer a line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools.generate", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint", type=path_argument, help="folder of a run or of a checkpoint"
    )
    source.add_argument("--model", type=path_argument, help="folder that tools.export_hf wrote")
    parser.add_argument("--prompt", action="append", default=[], help="may be given repeatedly")
    parser.add_argument("--prompts", type=path_argument, help="file with one prompt a line")
    parser.add_argument("--raw", action="store_true", help="the model's own order")
    parser.add_argument("--max-tokens", type=int, help="of a continuation (text)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 for the likeliest tokens")
    parser.add_argument("--top-k", type=int, default=0, help="draw from so many tokens; 0 for all")
    parser.add_argument("--top-p", type=float, default=1.0, help="draw from this share")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    options = parser.parse_args(argv)
    try:
        prompts, sampling = _prompts(options.prompt, options.prompts), _sampling(options)
        opened = from_export if options.model else from_checkpoint
        path = options.model or options.checkpoint
        with opened(path, sampling, options.raw, options.max_tokens) as answer:
            for prompt in prompts:
                try:
                    print(answer(prompt), flush=True)
                except ValueError as error:
                    raise UserError(str(error)) from error
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    run_program(main)
