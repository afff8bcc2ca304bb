"""The same numbers as on a CPU, no wait for the device in a step, and a killed run to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pretrain.run_files import CHECKPOINTS, MANIFEST, METRICS, RESULT
from tools.gpu import reference
from tools.gpu.report import ROOT, Options, Report
from tools.gpu.syncs import counted

TOLERANCES = {
    "fp32": {"loss": 1e-4, "grad_norm": 1e-4},
    "bf16": {"loss": 2e-2, "grad_norm": 1e-1},
}
"""Relative to the CPU's; in bf16 those that layouts are held to (docs/layouts.md)."""

DETERMINISTIC = (
    "import sys, torch; torch.use_deterministic_algorithms(True, warn_only=True); "
    "from pretrain.main import main; sys.exit(main(sys.argv[1:]))"
)
"""A run whose kernels add in the same order each time; attention's backward pass does not by
itself."""


def run(options: Options, report: Report) -> None:
    """Loss and gradient norm beside the CPU's, waits, kill and go on."""
    known = reference.read()
    for precision in reference.PRECISIONS:
        with report.part(precision) as figures:
            steps = 3 if options.tiny else reference.STEPS
            found = reference.trained(precision, options.device, steps)
            figures.update(compared(found, known[precision], TOLERANCES[precision]))
    with report.part("waits") as figures:
        waits = waits_of_a_step(options.device)
        figures.update(holds=not waits, waits=waits)
    with report.part("killed"), tempfile.TemporaryDirectory() as folder:
        report.add("killed", killed_and_gone_on(options, Path(folder)))


def compared(
    found: dict[str, list[float]], known: dict[str, list[float]], tolerances: dict[str, float]
) -> dict[str, Any]:
    """Largest relative difference of each figure over the steps that were run, and whether all of
    them are within their tolerance."""
    away = {
        name: max(abs(a - b) / abs(b) for a, b in zip(values, known[name], strict=False))
        for name, values in found.items()
    }
    return {
        "steps": len(found["loss"]),
        "away": away,
        "tolerances": tolerances,
        "holds": all(away[name] <= tolerances[name] for name in away),
    }


def waits_of_a_step(device: str, leaves_out: bool = False) -> dict[str, int]:
    """What a step in bf16 waits for the device for, after three that warm up, with spikes watched.

    Args:
        leaves_out: on a CPU, leave out tokens that do not count, which a GPU does not.
    """
    from pretrain.distributed import topology as topologies
    from tools.bench.subject import ALONE

    config = reference.config_of("bf16", device)
    config.training.spike_zscore = 8.0
    with topologies.start(config, ALONE) as topology:
        from pretrain.model.gpt import build
        from pretrain.objectives import cross_entropy
        from pretrain.training.engine import Engine

        engine = Engine(config, topology, build(config, topology, reference.VOCABULARY))
        batch = next(reference.batches(config)).to(topology.device)
        for _ in range(3):
            engine.train_step(batch, 1e-3)
        left_out = frozenset({"cpu"} if leaves_out else ())
        with patch.object(cross_entropy, "LEAVES_OUT", left_out), counted(device) as waits:
            engine.train_step(batch, 1e-3)
    return dict(waits)


def killed_and_gone_on(options: Options, folder: Path) -> dict[str, Any]:
    """A run that is killed after its first checkpoint and started again, beside one that is not:
    lines of metrics and the last checkpoint's tensors have to be the same to the bit."""
    steps, every = (20, 5) if options.tiny else (400, 50)
    whole, cut = folder / "whole", folder / "cut"
    unhurt = _start(options, whole, steps, every)
    first = _start(options, cut, steps, every)
    checkpoint = cut / CHECKPOINTS / f"step-{every:08d}" / MANIFEST
    end = time.monotonic() + 0.6 * options.left
    while not checkpoint.is_file() and first.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    was_running = first.returncode == -signal.SIGKILL
    last = f"step-{steps:08d}"
    early = (cut / CHECKPOINTS / last / MANIFEST).is_file()
    for process in (unhurt, _start(options, cut, steps, every)):
        said, _ = process.communicate(timeout=max(1.0, options.left))
        if process.returncode:
            raise RuntimeError(f"a run ended with {process.returncode}: {said[-1500:]}")
    result = json.loads((cut / RESULT).read_text("utf-8"))
    losses = [_losses(run) for run in (whole, cut)]
    files = [_checksums(run / CHECKPOINTS / last) for run in (whole, cut)]
    return {
        "killed_while_it_ran": was_running and not early,
        "went_on_from_step": result["resumed_at"],
        "lines": len(losses[0]),
        "same_lines": losses[0] == losses[1],
        "same_tensors": files[0] == files[1],
        "holds": was_running and not early and result["resumed_at"] > 0
        and losses[0] == losses[1] and files[0] == files[1],
    }  # fmt: skip


def _start(options: Options, folder: Path, steps: int, every: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DETERMINISTIC]
    command += ["--config", "configs/smoke/multiplication.yaml", "--training.precision", "bf16"]
    command += ["--run.device", options.device, "--run.directory", str(folder)]
    command += ["--run.progress", "false", "--run.tensorboard", "false", "--run.log_every", "5"]
    command += ["--training.steps", str(steps), "--training.evaluate_every", "0"]
    command += ["--optimizer.warmup_steps", "5", "--checkpoint.save_every", str(every)]
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _losses(folder: Path) -> list[tuple[int, float, float]]:
    """Step, loss and gradient norm of each logged step; those that were done twice, once."""
    lines = (folder / METRICS).read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return sorted({(r["step"], r["loss"], r["grad_norm"]) for r in records})


def _checksums(folder: Path) -> dict[str, str]:
    """Of each file of a checkpoint."""
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    return {name: file["sha256"] for name, file in manifest["files"].items()}
