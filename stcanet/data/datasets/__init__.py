"""Readers. One file per layout; :func:`load_dataset` tells which one a path is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stcanet.data.datasets import cuhk03, dukemtmcreid, dukemtmcvidreid, manifest, market1501, mars, msmt17
from stcanet.data.datasets.base import ReIDDataset, Sample, cameras_known
from stcanet.data.datasets.layout import Layout, count_notes, subfolders, without_junk
from stcanet_runtime.errors import DataError, LayoutError, OptionError, quote_choices

__all__ = [
    "LAYOUTS",
    "Layout",
    "ReIDDataset",
    "Sample",
    "cameras_known",
    "find_layout",
    "load_dataset",
    "parse_source",
    "split_source",
]

LAYOUTS = tuple(module.LAYOUT for module in (market1501, dukemtmcreid, msmt17, cuhk03, mars, dukemtmcvidreid))
"""Every published layout; a CSV manifest takes any other data."""

_SEARCH_DEPTH = 2  # folders below the given one that are looked into: dukemtmc-reid/DukeMTMC-reID/


def load_dataset(source: Path | str) -> ReIDDataset:
    """Read a data set, without the junk in it (pid −1).

    Args:
        source: A folder, recognised by what is in it (or in the one data set below it), or a ``.csv`` manifest; either of
            ``PATH`` and ``NAME[:VARIANT]=PATH``, such as ``mars:torchreid=data/mars``. `stcanet datasets` lists the names.

    Raises:
        DataError: There is nothing, or it is not as expected.
        OptionError: There is no such variant.
    """
    layout, variant, path = parse_source(str(source))
    if path.suffix.lower() == ".csv" and layout is None:
        return manifest.read_manifest(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder or .csv manifest; {_offer()}")
    found, folder = _recognise(path, layout)
    chosen = found.resolve(variant)
    dataset = without_junk(found.read(folder, chosen))
    if layout is None and not found.is_called(folder.resolve().name):
        return dataset  # some other data in this layout
    dataset = replace(dataset, name=found.name)
    return replace(dataset, notes=dataset.notes + count_notes(dataset, found.published.get(chosen, {})))


def find_layout(name: str) -> Layout | None:
    """The layout that :meth:`Layout.is_called` so."""
    return next((layout for layout in LAYOUTS if layout.is_called(name)), None)


def parse_source(source: str) -> tuple[Layout | None, str, Path]:
    """Layout, variant and path of what :func:`split_source` takes apart.

    Raises:
        OptionError: There is no such layout.
    """
    label, path = split_source(source)
    if not label:
        return None, "", path
    name, _, variant = label.partition(":")
    layout = find_layout(name)
    if layout is None:
        raise OptionError("data set", name, quote_choices([lay.name for lay in LAYOUTS]))
    return layout, variant, path


def split_source(source: str) -> tuple[str, Path]:
    """``NAME[:VARIANT]`` and path of ``NAME[:VARIANT]=PATH``; of ``PATH`` alone no name.

    What exists is a path, whatever signs it has. Whether there is such a layout is not looked at.
    """
    label, equals, rest = source.partition("=")
    return (label, Path(rest)) if equals and label and not Path(source).exists() else ("", Path(source))


def _recognise(path: Path, layout: Layout | None) -> tuple[Layout, Path]:
    """The one layout that a folder has, or the one data set below it.

    Raises:
        LayoutError: None fits.
        DataError: More than one fits.
    """
    wanted = (layout,) if layout else LAYOUTS
    folders = [path]
    for _ in range(1 + _SEARCH_DEPTH):
        fitting = [(_most_special([lay for lay in wanted if lay.fits(folder)]), folder) for folder in folders]
        found = [(lay, folder) for lay, folder in fitting if lay]
        if len(found) > 1:
            listed = ", ".join(f"{folder} ({lay.name})" for lay, folder in found)
            raise DataError(f"{path} holds several data sets: {listed}; give one of them")
        if found:
            return found[0]
        # A folder of crops by the thousand has no folders in it that are worth a look.
        folders = [below for folder in folders for below in subfolders(folder)[:1000]][:1000]
    if layout:
        raise DataError(f"{path} is not in the layout of {layout.name}; expected\n{layout.tree}")
    raise LayoutError(f"{path} is in none of the layouts that are known; {_offer()}{_hint(path)}")


def _most_special(fitting: list[Layout]) -> Layout | None:
    """DukeMTMC-reID has the folders of Market-1501 too; the later layout is the narrower one."""
    return fitting[-1] if fitting else None


def _offer() -> str:
    return f"known are {quote_choices([layout.name for layout in LAYOUTS])} (stcanet datasets --tree), and .csv manifests"


def _hint(path: Path) -> str:
    tracks = subfolders(path)
    if tracks and all(not subfolders(track) and any(track.iterdir()) for track in tracks[:20]):
        return "; folders of frames alone do not say who is who: list them in a .csv with path,pid,camid,split,track"
    return ""
