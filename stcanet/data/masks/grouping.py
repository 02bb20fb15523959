"""Which labels of a human parser belong to which part, and what the parser takes: a TOML file (``lip.toml`` is one)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stcanet.config import PARTS
from stcanet.config.values import check_choices, typed
from stcanet.data.masks.labels import read_names
from stcanet_runtime.errors import ConfigError, DataError, OptionError
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
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Of values in 0..1, in the order of the channels."""
    std: tuple[float, float, float] = IMAGENET_STD
    channels: Literal["rgb", "bgr"] = "rgb"
    output: Literal["nchw", "nhwc", "labels"] = "nchw"
    """Scores ``[1, labels, h, w]``, scores ``[1, h, w, labels]``, or label values ``[1, h, w]``."""

    def __post_init__(self) -> None:
        check_choices(self, "parser.")
        for name in ("height", "width"):
            _require(f"parser.{name}", getattr(self, name), getattr(self, name) >= 1, "at least 1 pixel")
        _require("parser.std", self.std, min(self.std) > 0, "three numbers above 0")


@dataclass(frozen=True)
class _File:
    """What is in the file."""

    labels: tuple[str, ...] = ()
    label_file: str = ""
    parts: Mapping[str, Any] = field(default_factory=dict)
    parser: ParserSpec = field(default_factory=ParserSpec)


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
        file = _File(**typed(_File, content))
        names = read_names(path.parent / file.label_file) if file.label_file else file.labels
        return Grouping(_table(file.parts, names), len(names), file.parser)
    except (ConfigError, OptionError) as error:
        raise ConfigError(f"grouping {path}: {error}") from None


def _table(parts: Mapping[str, Any], names: Sequence[str]) -> NDArray[np.uint8]:
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ConfigError(f"unknown part parts.{unknown[0]}; known are {', '.join(PARTS)}")
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
    return names.index(str(label))


def _require(name: str, value: object, condition: bool, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{name} must be {expected}, got {value!r}")
