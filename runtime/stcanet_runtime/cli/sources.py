"""What commands are given to work on: stored embeddings, and folders of crops with the model to embed them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stcanet_runtime.cli import ranks
from stcanet_runtime.cli.ranks import Crops
from stcanet_runtime.encoder import Encoder
from stcanet_runtime.errors import DataError

BATCH_SIZE = 32


def load_sources(sources: Sequence[Path], package: Path | None, provider: str = "auto", skip_bad: bool = False) -> Crops:
    """Embeddings of all sources, in order.

    Args:
        sources: ``.npz`` files as `infer` writes them, images, or folders of crops.
        package: Model package; needed for images only.
        provider: Where it runs.
        skip_bad: Leave out unreadable images.

    Raises:
        DataError: A folder without a package, embeddings of different models or dimensions, or files that are not as expected.
    """
    stored = [source.suffix.lower() == ".npz" for source in sources]
    if not all(stored) and package is None:
        raise DataError(f"{sources[stored.index(False)]}: to embed images a model is needed; add --package PACKAGE")
    encoder = None if package is None or all(stored) else Encoder.load(package, provider)
    parts = []
    for source in sources:
        if source.suffix.lower() == ".npz":
            parts.append(ranks.load(source))
        else:
            assert encoder is not None
            parts.append(ranks.embed(encoder, source, BATCH_SIZE, skip_bad))
    return ranks.join(parts)
