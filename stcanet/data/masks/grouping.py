"""Which labels of a human parser belong to which part, and what the parser takes: a TOML file (``lip.toml`` is one)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stcanet.data.masks.labels import read_names
from stcanet.data.masks.layout import PARTS
from stcanet_runtime.errors import ConfigError, DataError
from stcanet_runtime.files import read_toml
from stcanet_runtime.preprocess import IMAGENET_MEAN, IMAGENET_STD

LIP = Path(__file__).with_name("lip.toml")
"""The grouping of the 20 labels of LIP, which is the default."""

_MAX_LABEL = 255
"""Also the usual mark of pixels that nobody labelled, so it is no sign of other labels."""


@dataclass(frozen=True)
class ParserSpec:
    """Input and output of a human-parsing model; the defaults are those of models trained on LIP."""

    height: int = 256
    width: int = 256
    mean: Sequence[float] = IMAGENET_MEAN
    """Of values in 0..1, in the order of the channels."""
    std: Sequence[float] = IMAGENET_STD
    channels: Literal["rgb", "bgr"] = "rgb"
    output: Literal["nchw", "nhwc", "labels"] = "nchw"
    """Scores ``[1, labels, h, w]``, scores ``[1, h, w, labels]``, or label values ``[1, h, w]``."""

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            _require(name, value, type(value) is int and value >= 1, "a number of pixels, at least 1")
        for name in ("mean", "std"):
            value = getattr(self, name)
            numbers = isinstance(value, (list, tuple)) and len(value) == 3 and all(type(v) in (int, float) for v in value)
            _require(name, value, numbers and (name == "mean" or min(value) > 0), "three numbers, std above 0")
        _require("channels", self.channels, self.channels in ("rgb", "bgr"), "'rgb' or 'bgr'")
        _require("output", self.output, self.output in ("nchw", "nhwc", "labels"), "'nchw', 'nhwc' or 'labels'")


@dataclass(frozen=True)
class Grouping:
    """Labels as parts."""

    table: NDArray[np.uint8]
    """``[256]``: the part of each label value, 0 for background."""
    names: int = 0
    """How many label values, from 0, have names; 0 where none has, and any may come."""
    parser: ParserSpec = field(default_factory=ParserSpec)

    def __call__(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part map of a label map, ``[H, W]`` both.

        Raises:
            DataError: It has a label that the grouping does not know, so its labels are others.
        """
        parts = self.table[labels]
        strange = labels[(labels >= self.names) & (labels < _MAX_LABEL) & (parts == 0)]
        if self.names and strange.size:
            raise DataError(
                f"its label {strange.max()} is none of the {self.names} of the grouping, which is for other labels; "
                "pass --grouping with theirs"
            )
        return parts


def load_grouping(path: Path = LIP) -> Grouping:
    """Read a grouping.

    Raises:
        ConfigError: It cannot be read, names an unknown label or part, or puts a label into two parts.
    """
    content = read_toml(path, "grouping")
    try:
        _known(content, ("labels", "label_file", "parts", "parser"), "")
        names = _names(content, path.parent)
        parser = content.get("parser", {})
        _known(parser, [item.name for item in fields(ParserSpec)], "parser.")
        return Grouping(_table(content.get("parts", {}), names), len(names), ParserSpec(**parser))
    except ConfigError as error:
        raise ConfigError(f"grouping {path}: {error}") from None


def _names(content: Mapping[str, Any], folder: Path) -> list[str]:
    file, names = content.get("label_file"), content.get("labels", [])
    _require("labels", names, isinstance(names, list) and all(isinstance(name, str) for name in names), "a list of names")
    if file is None:
        return list(names)
    _require("label_file", file, isinstance(file, str), "the name of a file")
    return read_names(folder / file)


def _table(parts: Mapping[str, Any], names: Sequence[str]) -> NDArray[np.uint8]:
    _known(parts, PARTS, "parts.")
    _require("parts", dict(parts), bool(parts), f"a table with labels for {', '.join(PARTS)}")
    table = np.zeros(_MAX_LABEL + 1, np.uint8)
    for number, part in enumerate(PARTS, start=1):
        labels = parts.get(part, [])
        _require(f"parts.{part}", labels, isinstance(labels, list), "a list of labels")
        for label in labels:
            value = _value(label, names)
            if table[value]:
                raise ConfigError(f"label {label!r} is in two parts: {PARTS[table[value] - 1]} and {part}")
            table[value] = number
    return table


def _value(label: object, names: Sequence[str]) -> int:
    if type(label) is int:
        _require("a label value", label, 0 <= label <= _MAX_LABEL, f"from 0 to {_MAX_LABEL}")
        return label
    if label not in names:
        raise ConfigError(f"there is no label {label!r}; known are {', '.join(names) or 'none: give labels or label_file'}")
    return list(names).index(str(label))


def _known(table: object, names: Sequence[str], prefix: str) -> None:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')} must be a table, got {table!r}")
    if unknown := sorted(set(table) - set(names)):
        raise ConfigError(f"unknown entry {prefix}{unknown[0]}; known are {', '.join(names)}")


def _require(name: str, value: object, condition: bool, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{name} must be {expected}, got {value!r}")
