"""MARS: tracklets as ranges of two lists of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet.data.datasets.layout import Images, Layout, child
from stcanet.data.matlab import as_integers, check_range, load_mat
from stcanet_runtime.errors import DataError, quote_choices

TREE = """\
mars/
  bbox_train/  0001/0001C1T0001F001.jpg …   (or bbox_train/bbox_train/)
  bbox_test/   0002/0002C1T0001F001.jpg …   (0000 distractors, 00-1 junk)
  info/        train_name.txt  test_name.txt
               tracks_train_info.mat  tracks_test_info.mat  query_IDX.mat"""

_INFO = ("train_name.txt", "test_name.txt", "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat")
_GALLERY = {
    "official": "the gallery keeps the query tracklets, as the authors evaluate: without them queries may have no match",
    "torchreid": "the gallery is without the query tracklets; queries without a match are left out",
}


def fits(root: Path) -> bool:
    """Whether the info folder with the list of test tracklets is there."""
    info = child(root, "info")
    return info is not None and any((info / name).is_file() for name in _INFO)


def read(root: Path, variant: str = "official") -> ReIDDataset:
    """Read the original tracklets. Pid −1 is junk, pid 0 in the gallery a distractor.

    Args:
        root: The folder.
        variant: 'official' or 'torchreid': whether the queries stay in the gallery.

    Raises:
        DataError: A file is missing or malformed, or a tracklet names a frame that is not there.
    """
    info = child(root, "info")
    missing = [name for name in _INFO if info is None or not (info / name).is_file()]
    folders = [_frames_folder(root, name) for name in ("bbox_train", "bbox_test")]
    missing += [f"{name}/" for name, folder in zip(("bbox_train", "bbox_test"), folders, strict=True) if folder is None]
    if missing or info is None or folders[0] is None or folders[1] is None:
        raise DataError(f"{root} is not in the MARS layout: missing {quote_choices(missing)}; expected\n{TREE}")
    train = _read_tracks(info / "train_name.txt", info / "tracks_train_info.mat", "track_train_info", folders[0])
    test = _read_tracks(info / "test_name.txt", info / "tracks_test_info.mat", "track_test_info", folders[1])
    chosen = _read_queries(info / "query_IDX.mat", len(test))
    queries = set(chosen.tolist())
    gallery = [sample for place, sample in enumerate(test) if variant == "official" or place not in queries]
    return ReIDDataset(
        root.resolve().name,
        root,
        tuple(train),
        tuple(test[place] for place in chosen.tolist()),
        tuple(gallery),
        tracklets=True,
        protocol={"gallery": f"MARS, {variant}: {_GALLERY[variant]}"},
    )


def _frames_folder(root: Path, name: str) -> Path | None:
    outer = child(root, name)
    return outer and (child(outer, name) or outer)


def _read_tracks(names: Path, tracks: Path, key: str, folder: Path) -> list[Sample]:
    try:
        frames = names.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {names}: {error}") from error
    info = as_integers(load_mat(tracks, key)[key], 4, tracks, key)  # first and last frame from 1, identity, camera
    if not len(info):
        raise DataError(f"{tracks}: '{key}' has no tracklets")
    check_range(info[:, :2], 1, len(frames), tracks, key)
    check_range(info[:, 2], -1, 1 << 31, tracks, f"{key} (identities)")
    check_range(info[:, 3], 1, 1 << 31, tracks, f"{key} (cameras)")
    images = Images(folder)
    return [_tracklet(row, frames, images, f"{tracks} tracklet {number}") for number, row in enumerate(info.tolist(), 1)]


def _tracklet(row: list[int], names: list[str], images: Images, source: str) -> Sample:
    first, last, pid, camera = row
    if first > last:
        raise DataError(f"{source}: it begins at frame {first} and ends at {last}")
    frames = names[first - 1 : last]
    if mixed := {name[:6] for name in frames if name[:6] != frames[0][:6]}:  # 0001C1: identity and camera
        raise DataError(f"{source}: frames of {frames[0][:6]} and of {min(mixed)} in one tracklet")
    return Sample(tuple(images.find(f"{name[:4]}/{name}", source) for name in frames), pid, camera - 1)


def _read_queries(path: Path, total: int) -> NDArray[np.int64]:
    places = as_integers(load_mat(path, "query_IDX")["query_IDX"], None, path, "query_IDX")
    check_range(places, 1, total, path, "query_IDX")
    return places - 1


LAYOUT = Layout(
    "mars",
    (),
    tracklets=True,
    tree=TREE,
    fits=fits,
    read=read,
    published={
        "official": {"train": 8298, "query": 1980, "gallery": 11310},
        "torchreid": {"train": 8298, "query": 1980, "gallery": 9330},
    },
    variants=_GALLERY,
)
