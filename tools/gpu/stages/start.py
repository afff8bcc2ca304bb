"""What the machine is, and whether a run starts and ends on it."""

from __future__ import annotations

import importlib.util
import json
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pretrain.run_files import RESULT
from tools.gpu.report import Options, Report, python

PACKAGES = (
    "torch", "triton", "deepspeed", "megatron-core", "numpy", "numba", "pydantic",
    "pydantic-settings", "sentencepiece", "sentencex", "rouge-score", "safetensors", "transformers",
    "accelerate", "tensorboard", "matplotlib", "transformer-engine", "torchao",
)  # fmt: skip
REFERENCE = {"exact_match": 0.749, "std": 0.24, "steps": 3000}
"""The smoke configuration on a CPU (README): its exact match with seed 0, and the sample standard
deviation over three seeds of 4,000 steps."""


def run(options: Options, report: Report) -> None:
    """Environment, rates, dry run, smoke run."""
    with report.part("environment") as figures:
        figures.update(environment(options.device))
    with report.part("rates") as figures:
        figures.update(rates(options))
    with tempfile.TemporaryDirectory() as folder:
        with report.part("dry_run") as figures:
            figures.update(dry_run(options, Path(folder)))
        with report.part("smoke") as figures:
            figures.update(smoke(options, Path(folder)))


def environment(device: str) -> dict[str, Any]:
    """Versions, and the device.

    Raises:
        RuntimeError: there is no CUDA device where one is asked for.
    """
    found: dict[str, Any] = {"python": platform.python_version(), "packages": {}}
    for name in PACKAGES:
        try:
            found["packages"][name] = version(name)
        except PackageNotFoundError:
            found["packages"][name] = None
    found["device"] = "CPU"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA device; --device cpu --tiny checks the script")
        properties = torch.cuda.get_device_properties(0)
        found.update(
            device=torch.cuda.get_device_name(0),
            memory_bytes=properties.total_memory,
            multiprocessors=properties.multi_processor_count,
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
            nccl=".".join(map(str, torch.cuda.nccl.version())),
            compiler=importlib.util.find_spec("triton") is not None,
        )
    return found


def timed(work: Callable[[], object], device: str, repeats: int) -> float:
    """Seconds of one call, the mean of `repeats` after two that warm up."""
    for _ in range(2):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def rates(options: Options) -> dict[str, Any]:
    """What the device reaches: a bf16 product of square matrices on random numbers, and a copy
    within its memory (bytes read and written)."""
    side = 256 if options.tiny else 8192
    a, b = (torch.randn(side, side, device=options.device).bfloat16() for _ in range(2))
    seconds = timed(lambda: a @ b, options.device, 2 if options.tiny else 20)
    source = torch.empty(
        1 << (20 if options.tiny else 30), dtype=torch.uint8, device=options.device
    )
    target = torch.empty_like(source)
    copying = timed(lambda: target.copy_(source), options.device, 2 if options.tiny else 10)
    return {
        "matrix_side": side,
        "bf16_flops": 2 * side**3 / seconds,
        "copy_bytes_per_second": 2 * len(source) / copying,
    }


def dry_run(options: Options, folder: Path) -> dict[str, Any]:
    """gpt2_124m on a sample of text: built, planned, and one step of its real batch."""
    text, tokenizer = "data/shakespeare.sample.txt", folder / "spiece.model"
    train = ["-m", "tools.train_tokenizer", "--kind", "unigram", "--size", "4096"]
    python([*train, "--input", text, "--out", str(tokenizer)], options.left)
    command = ["pretrain/main.py", "--config", "configs/gpt2_124m.yaml", "--dry-run"]
    command += ["--data.path", text, "--data.tokenizer", str(tokenizer)]
    command += ["--run.device", options.device, "--run.directory", str(folder / "dry")]
    if options.tiny:
        command += ["--training.global_batch", "2", "--training.micro_batch", "1"]
        command += ["--model.layers", "1", "--model.hidden_size", "64"]
        command += ["--model.attention_heads", "2", "--model.sequence_length", "64"]
    said = python(command, options.left)
    return {"printed": said.split("\n---\n")[-1].strip().splitlines()}


def smoke(options: Options, folder: Path) -> dict[str, Any]:
    """The smoke configuration to its end; its exact match beside a CPU's."""
    steps = 20 if options.tiny else REFERENCE["steps"]
    command = ["pretrain/main.py", "--config", "configs/smoke/multiplication.yaml"]
    command += ["--run.device", options.device, "--run.directory", str(folder / "smoke")]
    command += ["--run.progress", "false", "--training.steps", str(steps)]
    if options.tiny:
        command += ["--training.evaluate_every", "20", "--optimizer.warmup_steps", "5"]
    python(command, options.left)
    result = json.loads((folder / "smoke" / RESULT).read_text("utf-8"))
    found = {
        "exact_match": result["metrics"]["exact_match"],
        "train_seconds": result["train_seconds"],
        "steps": steps,
        "reference": REFERENCE,
    }
    if not options.tiny:
        away = abs(found["exact_match"] - REFERENCE["exact_match"])
        found["holds"] = away <= REFERENCE["std"]
    return found
