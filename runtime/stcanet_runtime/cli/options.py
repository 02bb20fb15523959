"""Options that several commands have: each with one name, help and check, so that a slip has status 2 in all of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from stcanet_runtime.errors import OptionError, quote_choices
from stcanet_runtime.inference.providers import EP_NAMES
from stcanet_runtime.wording import listed

PROVIDERS = ("auto", *EP_NAMES)
Value = TypeVar("Value")


def check_choice(name: Value, choices: Iterable[str]) -> Value:
    """The name, or None where none was given; BadParameter where it is none of the choices."""
    known = list(choices)
    if name is not None and name not in known:
        raise typer.BadParameter(f"'{name}' is not known; take {quote_choices(known)}")
    return name


def check_value(value: Value, check: Callable[[Any], object]) -> Value:
    """The value, or None where none was given; BadParameter where `check` raises OptionError."""
    try:
        if value is not None:
            check(value)
    except OptionError as error:
        raise typer.BadParameter(f"'{value}' is not {error.expected}") from None
    return value


def check_provider(name: str) -> str:
    """The name; BadParameter where there is no such provider. Whether it can run here is told when it shall."""
    return check_choice(name, PROVIDERS)


def check_providers(names: list[str] | None) -> list[str] | None:
    """The names; BadParameter where one is no provider."""
    for name in names or []:
        check_provider(name)
    return names


def provider_option(what: str, check: Callable[[Any], Any] = check_provider) -> Any:
    """An option that names a provider; its help begins with what it is for."""
    return typer.Option(callback=check, help=f"{what}: {listed(PROVIDERS)}; a name runs there or fails.")


def check_metric(name: str) -> str:
    """The name; BadParameter where there is no such distance."""
    from stcanet_runtime.retrieval.distance import METRICS

    return check_choice(name, METRICS)


def check_threshold(value: float | None) -> float | None:
    """The value; BadParameter where it can be no distance."""
    from stcanet_runtime.arrays import check_not_negative

    return check_value(value, lambda given: check_not_negative(given, "threshold"))


def check_apart(inputs: Iterable[str | Path | None], *outputs: tuple[str, Path | None]) -> None:
    """See that nothing that is read would be written over, under whatever name, nothing written twice, and no package changed.

    Args:
        inputs: What is read: paths, and other names, which are no files.
        outputs: Options, each with the file that it names.
    """
    read = [path for path in inputs if path is not None and os.path.exists(path)]  # noqa: PTH110  (Path raises for long names)
    packages = _package_folders(read)
    written: set[str] = set()
    for option, path in outputs:
        if path is None:
            continue
        hint, place = f"'{option}'", os.path.realpath(path)
        if path.exists() and any(path.samefile(one) for one in read):
            raise typer.BadParameter(f"{path} is an input and would be written over; take another place", param_hint=hint)
        if (one := next((one for one in read if place in _sidecars(one)), None)) is not None:
            raise typer.BadParameter(f"{path} has the name of a log of {one}; take another place", param_hint=hint)
        if any(Path(place).is_relative_to(package) for package in packages):
            raise typer.BadParameter(
                f"{path} is inside a model package, whose files are fixed; take another place", param_hint=hint
            )
        if place in written:
            raise typer.BadParameter(f"{path} would be written twice; take different names", param_hint=hint)
        written.add(place)


def _sidecars(path: str | Path) -> list[str]:
    """What SQLite takes for a part of this file, where it is a gallery, and removes or replays."""
    return [os.path.realpath(path) + suffix for suffix in ("-wal", "-shm", "-journal")]


def _package_folders(read: Iterable[str | Path]) -> set[str]:
    """Folders of packages among what is read: a manifest has the hashes of its files, and there are no others beside them."""
    from stcanet_runtime.package.archive import MANIFEST_NAME, MODEL_NAME

    places = map(Path, map(os.path.realpath, read))
    folders = (place.parent if place.name == MODEL_NAME else place for place in places)
    return {str(folder) for folder in folders if (folder / MANIFEST_NAME).is_file()}


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from ``256x128``."""
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text.lower())
    if match is None:
        raise typer.BadParameter(f"'{text}' is no size; write HEIGHTxWIDTH, as 256x128", param_hint="'--size'")
    return int(match[1]), int(match[2])


PACKAGE = Annotated[Path | None, typer.Option(help="Model package, where a folder of crops is given.")]
PROVIDER = Annotated[str, provider_option("Where the model runs")]
THREADS = Annotated[int | None, typer.Option(min=1, help="Threads of each model. Default: the provider's, or a CPU quota's.")]
METRIC = Annotated[str, typer.Option(callback=check_metric, help="Distance between embeddings: cosine or euclidean.")]
RERANK = Annotated[bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours: all queries at once, exact.")]
K1 = Annotated[int, typer.Option(min=1, help="With --rerank: neighbours of the reciprocal sets.")]
K2 = Annotated[int, typer.Option(min=1, help="With --rerank: neighbours that are averaged.")]
SAME_CAMERA = Annotated[
    bool,
    typer.Option(
        help="Leave out nothing but the query's own file. Default: the same person seen by the same camera is left out, as in "
        "the Market protocol; all of that camera where it is not known who they are."
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
LAMBDA = Annotated[
    float,
    typer.Option("--lambda", min=0.0, max=1.0, help="With --rerank: weight of the original distance; the rest is Jaccard."),
]
