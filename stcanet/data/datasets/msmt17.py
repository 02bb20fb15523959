"""MSMT17, versions 1 and 2: images in two folders, splits in list files."""

from __future__ import annotations

from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet.data.datasets.layout import Images, Layout, child
from stcanet_runtime.errors import DataError, quote_choices

TREE = """\
MSMT17_V1/  (or MSMT17_V2/ with mask_train_v2/ and mask_test_v2/)
  train/           0000/0000_000_01_0303morning_0008_0.jpg …
  test/            0000/0000_000_01_0302morning_0009_0.jpg …
  list_train.txt   0000/0000_000_01_0303morning_0008_0.jpg 0
  list_val.txt     list_query.txt     list_gallery.txt"""

LISTS = {"train": "list_train.txt", "val": "list_val.txt", "query": "list_query.txt", "gallery": "list_gallery.txt"}
_IMAGES = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
_CAMERA_FIELD = 2  # of a name cut at its underscores


def fits(root: Path) -> bool:
    """Whether the lists of training and query images are there."""
    return (root / LISTS["train"]).is_file() or (root / LISTS["query"]).is_file()


def read(root: Path, variant: str = "") -> ReIDDataset:  # noqa: ARG001
    """Read the four lists; identities as they are given there, cameras from the file names (``01`` is camera 0).

    The images of list_val.txt are of training identities; they are set aside for choosing a checkpoint.

    Raises:
        DataError: A list or folder is missing, a line is malformed, or an image does not exist.
    """
    if missing := [name for name in LISTS.values() if not (root / name).is_file()]:
        raise DataError(f"{root} is not in the MSMT17 layout: missing {quote_choices(missing)}; expected\n{TREE}")
    version, train, test = _find_images(root)
    images = {"train": Images(train), "val": Images(train), "query": Images(test), "gallery": Images(test)}
    lists = {split: _read_list(root / name, images[split]) for split, name in LISTS.items()}
    return ReIDDataset(
        root.resolve().name,
        root,
        lists["train"],
        lists["query"],
        lists["gallery"],
        val=lists["val"],
        counts_apart=True,
        protocol={"version": version},
    )


def _find_images(root: Path) -> tuple[str, Path, Path]:
    """The version whose two image folders are there, and those: images of two versions must not be mixed up."""
    found = {version: (child(root, train), child(root, test)) for version, (train, test) in _IMAGES.items()}
    complete = [(version, train, test) for version, (train, test) in found.items() if train and test]
    if len(complete) == 1:
        return complete[0]
    if complete:
        raise DataError(f"{root} holds the images of MSMT17 V1 and of V2; keep each version in a folder of its own")
    begun = next((version for version, folders in found.items() if any(folders)), "V1")
    absent = quote_choices([name for name, folder in zip(_IMAGES[begun], found[begun], strict=True) if folder is None])
    raise DataError(f"{root} is not in the MSMT17 layout: missing the image folder {absent}; expected\n{TREE}")


def _read_list(path: Path, images: Images) -> tuple[Sample, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return tuple(_parse(line, images, f"{path} line {number}") for number, line in enumerate(lines, 1) if line.strip())


def _parse(line: str, images: Images, source: str) -> Sample:
    name, _, pid = line.strip().rpartition(" ")
    fields = Path(name).stem.split("_")
    camera = fields[_CAMERA_FIELD] if len(fields) > _CAMERA_FIELD else ""
    if not (pid.isascii() and pid.isdigit() and camera.isascii() and camera.isdigit() and int(camera) > 0):
        raise DataError(f"{source}: expected 'PID/PID_NUMBER_CAMERA_….jpg LABEL', got '{line.strip()}'")
    return Sample((images.find(name, source),), int(pid), int(camera) - 1)


LAYOUT = Layout(
    "msmt17",
    ("msmt", "msmt17-v1", "msmt17-v2"),
    tracklets=False,
    tree=TREE,
    fits=fits,
    read=read,
    published={"": {"train": 30248, "val": 2373, "query": 11659, "gallery": 82161}},
)
