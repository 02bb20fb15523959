"""A small synthetic data set, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import narrow
import pytest

from stcanet.data.synthetic import SynthConfig, generate


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 drawn identities in 3 cameras, 64×32, in the Market-1501 layout."""
    root = tmp_path_factory.mktemp("data") / "people"
    generate(
        root, SynthConfig(identities=24, test_identities=8, cameras=3, images_per_camera=3, height=64, width=32, distractors=4)
    )
    return root


@pytest.fixture(scope="module")
def narrow_network() -> Iterator[None]:
    """Networks of this process are narrow; see `narrow`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stcanet.model.backbone.get_model", narrow.make)
        yield
