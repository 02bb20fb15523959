"""Crops with their embeddings: made of a folder, joined, and as files (.npz)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.embeddings import as_embeddings
from stcanet_runtime.errors import DataError, ImageError, OptionError, StcanetError
from stcanet_runtime.files import atomic_path, check_writable
from stcanet_runtime.images.crops import list_images, list_tracklets, parse_name
from stcanet_runtime.inference.encoder import Encoder
from stcanet_runtime.npz import read_npz
from stcanet_runtime.progress import Progress
from stcanet_runtime.wording import counted

if TYPE_CHECKING:
    from stcanet_runtime.gallery import Entry

_OTHER_MODELS = "the embeddings are of different models; embed all of them with one"


@dataclass(frozen=True)
class Crops:
    """A folder of crops with their embeddings."""

    paths: list[Path]
    embeddings: NDArray[np.float32]
    """``[N, D]``"""
    pids: NDArray[np.int64] | None
    """``[N]``, None unless every name tells."""
    camids: NDArray[np.int64] | None
    """``[N]``, None unless every name tells."""
    skipped: list[dict[str, str]]
    """Path and reason of what could not be read."""
    model: str | None = None
    """SHA-256 of the model; None where a file does not tell."""
    entries: Sequence[Entry] = ()
    """``[N]``, what a gallery knew of them; none unless all were exported from one."""

    def select(self, chosen: NDArray[np.bool_]) -> Crops:
        """Those that are chosen ``[N]``."""
        paths = [path for path, kept in zip(self.paths, chosen.tolist(), strict=True) if kept]
        pids, camids = (None if ids is None else ids[chosen] for ids in (self.pids, self.camids))
        entries = [entry for entry, kept in zip(self.entries, chosen.tolist(), strict=False) if kept]
        return Crops(paths, self.embeddings[chosen], pids, camids, self.skipped, self.model, entries)

    def people(self) -> Crops:
        """Those of somebody, as far as it is known who they are of: no junk (−1), no distractors (0)."""
        return self if self.pids is None else self.select(self.pids > 0)


def embed(
    encoder: Encoder, sources: Sequence[Path], batch_size: int, skip_bad: bool, progress: Progress | None = None
) -> Crops:
    """Embed files and folders.

    Args:
        encoder: The model.
        sources: Images, or folders of crops; in this order.
        batch_size: Rows of a run.
        skip_bad: Leave out images that cannot be read, unless none can.
        progress: As of :meth:`Encoder.encode`.

    Raises:
        DataError: One is not there or holds no image, or no image can be read.
        ImageError: One cannot be read, and `skip_bad` is not set.
    """
    paths = [image for source in sources for image in list_images(source)]
    bad: dict[int, ImageError] = {}
    on_error = bad.__setitem__ if skip_bad else None
    embeddings = encoder.encode(paths, batch_size=batch_size, progress=progress, on_error=on_error)
    if len(bad) == len(paths):
        raise DataError(f"none of {counted(len(paths), 'image', 'images')} can be read; the first: {bad[0]}")
    good = [path for index, path in enumerate(paths) if index not in bad]
    pids, camids = _identities(good)
    return Crops(
        good,
        embeddings,
        pids,
        camids,
        [{"path": str(e.source), "reason": e.reason} for e in bad.values()],
        encoder.model_sha256,
    )


def embed_tracklets(encoder: Encoder, sources: Sequence[Path], batch_size: int, progress: Progress | None = None) -> Crops:
    """Embed folders of frames, each as one tracklet that bears the folder's name.

    Args:
        encoder: The model, of clips or of images.
        sources: Folders of frames, or of such folders; in this order. An image is a tracklet of one frame.
        batch_size: Frames of a batch.
        progress: As of :meth:`Encoder.encode_tracklets`.

    Raises:
        DataError: One is not there or holds no image.
        ImageError: A frame cannot be read.
    """
    tracklets = [found for source in sources for found in list_tracklets(source).items()]
    names = [name for name, _ in tracklets]
    embeddings = encoder.encode_tracklets([frames for _, frames in tracklets], batch_size=batch_size, progress=progress)
    return Crops(names, embeddings, *_identities(names), [], encoder.model_sha256)


def join(parts: Sequence[Crops]) -> Crops:
    """All of these, in order; identities and cameras are known where every part knows them.

    Raises:
        DataError: They are of different models or dimensions, or a gallery knew some of them: what names tell of the others
            would be lost.
    """
    model = common_model(parts)
    if len({part.embeddings.shape[1] for part in parts}) > 1:
        raise DataError(_OTHER_MODELS)

    def joined(columns: Sequence[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
        known = [column for column in columns if column is not None]
        return np.concatenate(known) if len(known) == len(columns) else None

    paths = [path for part in parts for path in part.paths]
    entries = [entry for part in parts for entry in part.entries]
    if entries and len(entries) < len(paths):
        raise DataError("what a gallery exported and other crops are enrolled one after the other, not in one call")
    return Crops(
        paths,
        np.concatenate([part.embeddings for part in parts]),
        joined([part.pids for part in parts]),
        joined([part.camids for part in parts]),
        [item for part in parts for item in part.skipped],
        model,
        entries,
    )


def common_model(parts: Sequence[Crops]) -> str | None:
    """The model of all of them, as far as it is known."""
    models = {part.model for part in parts if part.model is not None}
    if len(models) > 1:
        raise DataError(_OTHER_MODELS)
    return models.pop() if models else None


def _identities(paths: Sequence[Path]) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    names = [name for path in paths if (name := parse_name(path)) is not None]
    if len(names) < len(paths):
        return None, None
    pids, camids = np.array(names, np.int64).T.copy()
    return pids, camids


def check_output(path: Path) -> None:
    """Raise now what `save` would after the work, and what would leave a file under an untrue name.

    Raises:
        OptionError: The name does not end with .npz.
        OSError: Nothing can be written there.
    """
    if path.suffix.lower() != ".npz":
        raise OptionError("the file of embeddings", str(path), "a name that ends with .npz")
    check_writable(path)


def save(crops: Crops, output: Path, more: Mapping[str, Any] | None = None) -> None:
    """Write `embeddings`, `paths`, where the names tell `pids` and `camids`, and `more`; plain arrays, nothing pickled."""
    paths = np.array([str(path) for path in crops.paths])
    arrays: dict[str, Any] = {"embeddings": crops.embeddings, "paths": paths, **(more or {})}
    if crops.pids is not None and crops.camids is not None:
        arrays |= {"pids": crops.pids, "camids": crops.camids}
    if crops.model is not None:
        arrays["model"] = np.array(crops.model)
    with atomic_path(output) as temporary, temporary.open("wb") as file:  # a file: np.savez adds .npz to other names
        np.savez(file, **arrays)


def load(path: Path) -> Crops:
    """Read what `save` wrote.

    Raises:
        DataError: It is no such file.
    """
    expected = "as `stcanet infer -o` writes them"
    try:
        arrays = read_npz(path, ("embeddings", "paths", "pids", "camids", "model"))
        if missing := [name for name in ("embeddings", "paths") if name not in arrays]:
            raise DataError(f"{path} lacks {' and '.join(missing)}; expected embeddings and paths, {expected}")
        embeddings, paths = as_embeddings(arrays["embeddings"], f"{path}: embeddings"), arrays["paths"]
        if paths.dtype.kind != "U" or any("\0" in name for name in paths.ravel().tolist()):
            raise DataError(f"{path}: paths must be text, the name of a file each")
        # Safe casting: a NaN among them would become a number.
        ids = [arrays[name].astype(np.int64, casting="safe") if name in arrays else None for name in ("pids", "camids")]
        model = str(arrays["model"]) if "model" in arrays else None
    except StcanetError:
        raise
    except (ValueError, TypeError) as error:  # TypeError: ids that are no whole numbers
        raise DataError(f"{path} is not a .npz file of embeddings, {expected}: {error}") from None
    if any(array is not None and array.shape != (len(embeddings),) for array in (paths, *ids)):
        raise DataError(f"{path}: embeddings, paths, pids and camids must have the same length")
    if not len(embeddings):
        raise DataError(f"{path} holds no embeddings")
    return Crops([Path(name) for name in paths.tolist()], embeddings, ids[0], ids[1], [], model)
