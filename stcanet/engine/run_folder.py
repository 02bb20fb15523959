"""What a training run leaves behind: its configuration, its figures, its checkpoints."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomli_w
from torch.utils.tensorboard import SummaryWriter

from stcanet.config import TrainConfig
from stcanet.engine.environment import environment
from stcanet_runtime.errors import OptionError
from stcanet_runtime.files import atomic_path, write_json


class RunFolder:
    """A folder with ``config.toml``, ``environment.json``, ``metrics.jsonl``, ``log.txt``, ``tensorboard/`` and checkpoints.

    Raises:
        OptionError: The folder holds an earlier run.
    """

    def __init__(self, root: Path, config: TrainConfig) -> None:
        if (root / "metrics.jsonl").exists():
            raise OptionError("run folder", str(root), "a folder without an earlier run (pass another --out)")
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        with atomic_path(root / "config.toml") as temporary:
            temporary.write_text(tomli_w.dumps(config.to_dict()), encoding="utf-8")
        write_json(root / "environment.json", environment())
        self._log = (root / "log.txt").open("a", encoding="utf-8")
        self._metrics = (root / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(root / "tensorboard"))

    @property
    def last(self) -> Path:
        """The checkpoint of the last finished epoch."""
        return self.root / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation mAP."""
        return self.root / "best.pt"

    def record(self, epoch: int, values: dict[str, Any]) -> None:
        """Append the figures of an epoch to ``metrics.jsonl``, the log and TensorBoard."""
        self._metrics.write(json.dumps({"epoch": epoch, **values}) + "\n")
        self._metrics.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, epoch)
        self.log(f"epoch {epoch}: " + ", ".join(f"{name} {value:.5g}" for name, value in values.items()))

    def log(self, text: str) -> None:
        """Append a line to ``log.txt``, with the time."""
        self._log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
        self._log.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.log("finished" if error is None else f"stopped: {type(error).__name__}: {error}")
        self._metrics.close()
        self._log.close()
        self._board.close()
