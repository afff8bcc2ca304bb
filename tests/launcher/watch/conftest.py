"""Made-up folders of runs."""

import json
import time
from pathlib import Path

import pytest


class MadeUp:
    """A run's folder, as if its processes had written it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)

    def config(self, text="training: {steps: 200}\n"):
        (self.path / "config.yaml").write_text(text)
        self.age("config.yaml", 3600)
        return self

    def age(self, name, seconds):
        import os

        then = time.time() - seconds
        os.utime(self.path / name, (then, then))

    def lines(self, name, objects):
        text = "".join(json.dumps(values) + "\n" for values in objects)
        (self.path / name).write_text(text)
        return self

    def metrics(self, steps=100, seconds=0.5, mfu=None, loss=None):
        more = {} if mfu is None else {"mfu": mfu}
        return self.lines("metrics.jsonl", (
            {"step": step, "loss": loss or 3.0 + 7.0 / step, "step_seconds": seconds,
             "tokens_per_second": 20_480.0, **more}
            for step in range(10, steps + 1, 10)
        ))  # fmt: skip

    def ranks(self, *ranks, age=0.0, slow=(), step=100):
        """`ranks.json`; each rank is what differs from one that trains."""
        rows = [
            {"rank": number, "host": f"n{number // 2}", "pid": 1, "stage": 0, "step": step,
             "operation": "forward", "seconds_still": 0.1, "seconds_silent": 0.2,
             "forward_seconds": 0.1, "failed": "", **differs}
            for number, differs in enumerate(ranks or ({},))
        ]  # fmt: skip
        values = {"time": time.time() - age, "interval": 1.0, "ranks": rows,
                  "stragglers": list(slow)}  # fmt: skip
        (self.path / "ranks.json").write_text(json.dumps(values))
        return self

    def checkpoint(self, step, size=2_000_000, ago=60):
        folder = self.path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        files = {"rank-00000-of-00001.safetensors": {"bytes": size, "sha256": ""}}
        manifest = {"step": step, "tokens": 0, "updates": step, "layout": "", "fingerprint": "",
                    "config": {}, "finished": "", "files": files, "format": 1}  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest))
        self.age(folder / "manifest.json", ago)
        return self

    def attempts(self, *events):
        """`slurm/attempts.jsonl`: (event, step, seconds ago, verdict, why)."""
        (self.path / "slurm").mkdir(exist_ok=True)
        starts = 0
        lines = []
        for event, step, ago, verdict, why in events:
            starts += event == "start"
            then = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - ago))
            line = {"event": event, "job": "7", "step": step, "restart": starts - 1,
                    "nodes": "n[1-2]", "time": then}  # fmt: skip
            if event == "end":
                line |= {"code": 0, "verdict": verdict, "why": why}
            lines.append(line)
        return self.lines("slurm/attempts.jsonl", lines)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A made-up run that has its configuration, where there is no SLURM."""
    monkeypatch.setattr("launcher.slurm.commands.installed", lambda: False)
    return MadeUp(tmp_path / "run").config()
