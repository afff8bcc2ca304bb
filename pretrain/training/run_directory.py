"""The folder of a run: what it was asked, what it selected, whether it is complete."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.config import Config, read_yaml
from pretrain.data.tokenizers import TextTokenizer, Tokenizer, save_tokenizer
from pretrain.data.tokenizers.files import ending_of
from pretrain.errors import ConfigError, UserError
from pretrain.files import json_text, write_text
from pretrain.locks import locked
from pretrain.run_files import (
    CHECKPOINTS,
    CONFIG,
    LOCK,
    OWN,
    PASSING,
    RESULT,
    SET_ASIDE,
    VOCABULARY,
)
from pretrain.training.checkpoint.compatibility import any_checkpoint, changes


@dataclass(frozen=True)
class RunDirectory:
    """Folder of a run; used on the first rank only."""

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While inside, no other process trains in the folder, on whichever machine.

        Raises:
            UserError: one does, or the folder cannot be written.
        """
        busy = f"run.directory {self.path} is in use by a run that has not ended:"
        way_out = f"wait for it, stop it (touch {self.path / 'stop'}), or choose another folder"
        with ExitStack() as held:
            try:
                held.enter_context(locked(self.path / LOCK, busy, way_out))
            except OSError as error:
                raise self._unwritable(error) from error
            yield

    def prepare(self, config: Config) -> None:
        """Make the folder ready; what another run left there stays unless `run.overwrite` is on.

        A run that is not complete, or is to have more steps than it was complete after, is gone on
        with where `checkpoint.resume` allows it: from its checkpoints, or, where it has none yet,
        from the start with the same configuration.

        Raises:
            ConfigError: the folder holds another run, or one that is complete, and `run.overwrite`
                is off.
            UserError: the folder cannot be written.
        """
        try:
            held = [name for name in OWN if (self.path / name).exists()]
            if not config.run.overwrite:
                if set(held) - set(PASSING):
                    self._check_goes_on(config, held)
                with suppress(OSError):  # its time says when the run was last started
                    os.utime(self.path / CONFIG)
                return
            for name in held:
                old = self.path / name
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _check_goes_on(self, config: Config, held: Sequence[str]) -> None:
        """Whether the run that is there may be gone on with; errors: see :meth:`prepare`."""
        result = self.result()
        why = ""
        if config.checkpoint.resume == "never":
            why = "checkpoint.resume never starts over"
        elif result is not None:
            done = int(result.get("steps", config.training.steps))
            if not any_checkpoint(self.path):
                why = f"complete after {done:,} steps, and without a checkpoint to go on from"
            elif config.training.steps <= done and not self._goes_back(config):
                why = f"complete after {done:,} steps; more training.steps go on from there"
        elif not any_checkpoint(self.path):
            path = self.path / CONFIG
            before = read_yaml(path) if path.exists() else None
            different = list(changes(before, config)) if before else ["its config.yaml is gone"]
            why = "; ".join(different)
        if why:
            raise ConfigError(
                f"run.directory {self.path} already holds a run ({', '.join(held)}): {why}; choose "
                "another folder, or pass --run.overwrite true to lose that run"
            )

    def _goes_back(self, config: Config) -> bool:
        """Whether one of the run's own checkpoints is named to go on from."""
        named = Path(config.checkpoint.resume).resolve()
        return named.parent == (self.path / CHECKPOINTS).resolve()

    def begin(self, config: Config, tokenizer: Tokenizer) -> None:
        """Write the resolved configuration and the tokenizer. Called once nothing speaks against
        the run, so that a start that is refused leaves the folder as it was. What says that an
        earlier stretch was complete is set aside.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            result = self.result()
            if result is not None:
                aside = self.path / SET_ASIDE
                aside.mkdir(exist_ok=True)
                os.replace(self.path / RESULT, aside / f"result-{result.get('steps', 0):08d}.json")
        except OSError as error:
            raise self._unwritable(error) from error
        self.write_config(config)
        self.keep_tokenizer(tokenizer)

    def write_config(self, config: Config) -> None:
        """Write the resolved configuration.

        Raises:
            UserError: it cannot be written.
        """
        try:
            write_text(self.path / CONFIG, config.to_yaml())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"run.directory {self.path}: {error.strerror or error}")

    def keep_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Write the tokenizer of the texts, so that the model can be used without them.

        Raises:
            UserError: it cannot be written.
        """
        if isinstance(tokenizer, TextTokenizer):
            path = (self.path / VOCABULARY).with_suffix(ending_of(tokenizer))
            save_tokenizer(tokenizer, path)

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the run as complete.

        Raises:
            UserError: that cannot be written, so it is not.
        """
        result = {**result, "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        try:
            write_text(self.path / RESULT, json_text(result, indent=2) + "\n")
        except OSError as error:
            raise UserError(
                f"{self.path / RESULT}: {error.strerror or error}; all steps are done, but the run "
                "is not complete. Make room; the same command goes on from the last checkpoint"
            ) from error

    def result(self) -> dict[str, Any] | None:
        """What :meth:`finish` wrote; None for a run that is not complete.

        Raises:
            UserError: it cannot be read.
        """
        path = self.path / RESULT
        if not path.exists():
            return None
        try:
            loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path}: is not what a complete run leaves ({error}); put it back, or remove it "
                "to go on from the last checkpoint"
            ) from None
        return loaded
