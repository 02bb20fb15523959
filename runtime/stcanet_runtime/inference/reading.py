"""Images read ahead: while a model runs on one batch, the next one is decoded and resized by several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

from PIL import Image

from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.preprocess import ImageSource

_READERS = 4
Key = TypeVar("Key")


def read_ahead(
    batches: Iterable[Mapping[Key, ImageSource]], read: Callable[[Key, ImageSource], UInt8Array]
) -> Iterator[dict[Key, Future[UInt8Array]]]:
    """Crops of each batch by the keys of its images; those of the next batch are on their way.

    Two batches are in memory at a time.

    Args:
        batches: Images to read; a batch is asked for when the one before it is given out.
        read: Decodes and resizes one; called from several threads. What it raises is raised by the future.
    """
    alone = threading.Lock()

    def read_safely(key: Key, image: ImageSource) -> UInt8Array:
        # A PIL image is decoded when it is first looked at, and one that is there twice must not be so by two threads.
        with alone if isinstance(image, Image.Image) else nullcontext():
            return read(key, image)

    pool = ThreadPoolExecutor(_READERS, "stcanet-reader")
    try:
        ahead = None
        for batch in batches:
            ready, ahead = ahead, {key: pool.submit(read_safely, key, image) for key, image in batch.items()}
            if ready is not None:
                yield ready
        if ahead is not None:
            yield ahead
    finally:
        pool.shutdown(cancel_futures=True)  # after an error nobody waits for the rest
