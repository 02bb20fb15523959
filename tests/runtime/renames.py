"""An interrupt at a bad moment, for tests of folders that are replaced."""

from __future__ import annotations

from pathlib import Path

import pytest


def interrupt_the_second_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the new folder is about to take the place of the old one, which has just been moved away."""
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "fresh":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
