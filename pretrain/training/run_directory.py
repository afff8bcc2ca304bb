"""The folder of a run: what it was asked, what it selected, whether it is complete."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.config import Config, read_yaml
from pretrain.data.tokenizers import TextTokenizer, Tokenizer, save_tokenizer
from pretrain.data.tokenizers.files import ending_of
from pretrain.errors import ConfigError, UserError
from pretrain.files import write_text
from pretrain.run_files import CONFIG, OWN, RESULT, VOCABULARY
from pretrain.training.checkpoint.compatibility import any_checkpoint, changes


@dataclass(frozen=True)
class RunDirectory:
    """Folder of a run; used on the first rank only."""

    path: Path

    def prepare(self, config: Config) -> None:
        """Make the folder and write the resolved configuration.

        A run that is not complete is gone on with where `checkpoint.resume` allows it: from its
        checkpoints, or, where it has none yet, from the start with the same configuration.

        Raises:
            ConfigError: the folder holds another run, or one that is complete, and `run.overwrite`
                is off.
            UserError: the folder cannot be written.
        """
        try:
            held = [name for name in OWN if (self.path / name).exists()]
            if held and not config.run.overwrite:
                if self._goes_on(config):
                    write_text(self.path / CONFIG, config.to_yaml())
                    return
                raise ConfigError(
                    f"run.directory {self.path} already holds a run ({', '.join(held)}); choose "
                    "another folder, or pass --run.overwrite true to lose that run"
                )
            for name in held:
                old = self.path / name
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / CONFIG, config.to_yaml())
        except OSError as error:
            raise UserError(f"run.directory {self.path}: {error.strerror or error}") from error

    def _goes_on(self, config: Config) -> bool:
        if config.checkpoint.resume == "never" or (self.path / RESULT).exists():
            return False
        if any_checkpoint(self.path):
            return True
        path = self.path / CONFIG
        before = read_yaml(path) if path.exists() else {}
        return bool(before) and not list(changes(before, config))

    def keep_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Write the tokenizer of the texts, so that the model can be used without them.

        Raises:
            UserError: it cannot be written.
        """
        if isinstance(tokenizer, TextTokenizer):
            path = (self.path / VOCABULARY).with_suffix(ending_of(tokenizer))
            save_tokenizer(tokenizer, path)

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the run as complete."""
        result = {**result, "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        write_text(self.path / RESULT, json.dumps(result, indent=2) + "\n")

    def result(self) -> dict[str, Any] | None:
        """What :meth:`finish` wrote; None for a run that is not complete."""
        path = self.path / RESULT
        if not path.exists():
            return None
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return loaded
