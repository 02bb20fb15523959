"""Golden vectors as they are written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stcanet_export.golden import write_golden


def test_numpy_2_0_takes_every_keyword_for_an_array(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, np.ndarray] = {}
    monkeypatch.setattr(np, "savez_compressed", lambda path, **arrays: seen.update(arrays) or path.touch())
    spec = SimpleNamespace(height=32, width=16, clip_length=None, name="images")
    side = SimpleNamespace(spec=spec, embed=lambda crops: (np.zeros((len(crops), 8), np.float32), np.ones(len(crops))))
    write_golden(tmp_path / "golden.npz", side)  # type: ignore[arg-type]
    assert sorted(seen) == ["embeddings", "images", "jpeg", "jpeg_pixels", "norms"]
