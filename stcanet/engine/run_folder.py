"""What a training run leaves behind: its configuration, its figures, its checkpoints."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomli_w
from torch.utils.tensorboard import SummaryWriter

from stcanet.config import TrainConfig, load_toml, make_config
from stcanet.engine import run_files
from stcanet.engine.environment import environment
from stcanet_runtime.errors import CheckpointError, DataError, OptionError
from stcanet_runtime.files import atomic_path, check_writable, lock, read_json, remove_temporaries, write_json, write_text
from stcanet_runtime.wording import counted


class RunFolder:
    """A folder with ``config.toml``, ``environment.json``, ``metrics.jsonl``, ``log.txt``, ``tensorboard/`` and checkpoints.

    Args:
        root: The folder to make.
        config: Settings of the run.
        resume_after: Epochs that a run in the folder has behind it, to go on with it: figures of later epochs are dropped,
            since they come again, and half-written files of a killed process are removed. None starts a new run.

    Raises:
        OptionError: The folder holds an earlier run or is a file, and `resume_after` is None; or another process trains in it.
        DataError: The figures or the environment of the run to go on with are damaged.
    """

    def __init__(self, root: Path, config: TrainConfig, resume_after: int | None = None) -> None:
        if resume_after is None:
            check_unused(root)
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._held = ExitStack()
        try:
            self._held.enter_context(lock(root / run_files.LOCK, wait=False))
        except BlockingIOError:
            raise OptionError("run folder", str(root), "one that no other process is training in just now") from None
        if resume_after is not None:
            remove_temporaries(root)
            _keep_epochs(root / run_files.METRICS, resume_after)
        with atomic_path(root / run_files.CONFIG) as temporary:
            temporary.write_text(tomli_w.dumps(config.to_dict()), encoding="utf-8")
        _record_environment(root / run_files.ENVIRONMENT, resume_after)
        log = (root / run_files.LOG).open("a", encoding="utf-8", errors="backslashreplace")  # of file names in errors
        self._log = self._held.enter_context(log)
        self._metrics = self._held.enter_context((root / run_files.METRICS).open("a", encoding="utf-8"))
        board = SummaryWriter(str(root / "tensorboard"), purge_step=None if resume_after is None else resume_after + 1)
        self._board = self._held.enter_context(board)

    def record(self, epoch: int, values: dict[str, Any]) -> None:
        """Append the figures of an epoch to ``metrics.jsonl``, the log and TensorBoard."""
        self._metrics.write(json.dumps({"epoch": epoch, **values}) + "\n")
        self._metrics.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, epoch)
        self._board.flush()
        self.log(f"epoch {epoch}: " + ", ".join(f"{name} {value:.5g}" for name, value in values.items()))

    def log(self, text: str) -> None:
        """Append a line to ``log.txt``, with the time."""
        self._log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
        self._log.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._held:  # where the disk is full, the line fails, and all is closed and unlocked still
            self.log("finished" if error is None else f"stopped: {type(error).__name__}: {error}")


def check_unused(root: Path) -> None:
    """Raise OptionError where there is an earlier run, or a file in the way, and OSError where nothing can be written.

    A run that has neither a figure nor a state is none: it may have failed at once, by a setting that is mended now.
    """
    figures = root / run_files.METRICS
    if (root / run_files.STATE).exists() or (figures.exists() and figures.stat().st_size > 0):
        raise OptionError("run folder", str(root), "a folder without an earlier run (pass another --out, or --resume it)")
    if not next(path for path in (root, *root.parents) if path.exists()).is_dir():
        raise OptionError("run folder", str(root), "a folder, and a file is in its way")
    check_writable(root / run_files.METRICS)


def saved_state(root: Path, finished: bool) -> Path | None:
    """The file that the run in a folder goes on from; None where it was killed before there was anything to keep.

    Args:
        root: The folder.
        finished: Whether the run was not killed, but shall be a longer one now.

    Raises:
        CheckpointError: The file is gone, and so is what it would take to go on.
        DataError: The figures of the run are damaged.
    """
    state = root / run_files.STATE
    if state.exists():
        return state
    epochs = max((row["epoch"] for row in run_files.read_metrics(root / run_files.METRICS)), default=0)
    # Figures come before the state, so a run that was killed while it first saved has one epoch.
    if finished or epochs > 1:
        behind = counted(epochs, "epoch", "epochs")
        raise CheckpointError(
            f"{root} has {behind} behind it, but no {state.name} to go on from; put it back, or train anew into another folder"
        )
    return None


def run_config(root: Path) -> TrainConfig:
    """The settings of the run in a folder.

    Raises:
        OptionError: There is no run.
        ConfigError: Its settings cannot be read.
    """
    run_files.check_run(root)
    return make_config(load_toml(root / run_files.CONFIG))


def _record_environment(path: Path, resume_after: int | None) -> None:
    """Where a run was begun stays; where it was resumed comes after it, in a list."""
    if resume_after is None or not path.exists():
        write_json(path, environment())
        return
    try:
        facts = read_json(path)
        facts.setdefault("resumed", []).append({"after_epoch": resume_after, **environment()})
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error}; correct it or remove it") from error
    write_json(path, facts)


def _keep_epochs(path: Path, epochs: int) -> None:
    """Drop the lines of later epochs, and a last line that was cut off."""
    rows = run_files.read_metrics(path)
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows if row["epoch"] <= epochs))
