"""MSMT17, versions 1 and 2: images in two folders, splits in list files."""

from __future__ import annotations

from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet.data.datasets.layout import Layout, child, inside
from stcanet_runtime.errors import DataError, quote_choices

TREE = """\
MSMT17_V1/  (or MSMT17_V2/ with mask_train_v2/ and mask_test_v2/)
  train/           0000/0000_000_01_0303morning_0008_0.jpg …
  test/            0000/0000_000_01_0302morning_0009_0.jpg …
  list_train.txt   0000/0000_000_01_0303morning_0008_0.jpg 0
  list_val.txt     list_query.txt     list_gallery.txt"""

LISTS = {"train": "list_train.txt", "val": "list_val.txt", "query": "list_query.txt", "gallery": "list_gallery.txt"}
_IMAGES = {"train": ("mask_train_v2", "train"), "test": ("mask_test_v2", "test")}
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
    folders = {kind: child(root, *names) for kind, names in _IMAGES.items()}
    train, test = folders["train"], folders["test"]
    if train is None or test is None:
        absent = quote_choices([_IMAGES[kind][1] for kind, folder in folders.items() if folder is None])
        raise DataError(f"{root} is not in the MSMT17 layout: missing the image folder {absent}; expected\n{TREE}")
    lists = {split: _read_list(root / name, train if split in ("train", "val") else test) for split, name in LISTS.items()}
    version = "V2" if train.name.startswith("mask") else "V1"
    protocol = {"version": version}
    return ReIDDataset(
        root.resolve().name,
        root,
        lists["train"],
        lists["query"],
        lists["gallery"],
        val=lists["val"],
        protocol=protocol,
    )


def _read_list(path: Path, images: Path) -> tuple[Sample, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return tuple(_parse(line, images, f"{path} line {number}") for number, line in enumerate(lines, 1) if line.strip())


def _parse(line: str, images: Path, source: str) -> Sample:
    name, _, pid = line.strip().rpartition(" ")
    fields = Path(name).stem.split("_")
    camera = fields[_CAMERA_FIELD] if len(fields) > _CAMERA_FIELD else ""
    if not (pid.isascii() and pid.isdigit() and camera.isascii() and camera.isdigit() and int(camera) > 0):
        raise DataError(f"{source}: expected 'PID/PID_NUMBER_CAMERA_….jpg LABEL', got '{line.strip()}'")
    return Sample((inside(images, name, source),), int(pid), int(camera) - 1)


LAYOUT = Layout(
    "msmt17",
    ("msmt",),
    tracklets=False,
    tree=TREE,
    fits=fits,
    read=read,
    published={"": {"train": 30248, "val": 2373, "query": 11659, "gallery": 82161}},
)
