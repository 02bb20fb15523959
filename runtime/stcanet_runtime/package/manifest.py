"""What a model package says about itself: the model carries its contract, callers give no sizes and no means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from stcanet_runtime.errors import ManifestError
from stcanet_runtime.files import parse_json
from stcanet_runtime.package.archive import LIMITS, MANIFEST_NAME, MODEL_NAME, SIGNATURE_NAME
from stcanet_runtime.retrieval.distance import METRICS

SCHEMA_VERSION = 1
"""Version of the manifest's fields. This version reads only this one."""
CHECKED = tuple(name for name in LIMITS if name not in (MODEL_NAME, MANIFEST_NAME, SIGNATURE_NAME))
"""Files of a package whose hashes are in `Manifest.checksums`."""
_MAX_LEVELS = 32  # ours have five
METADATA_KEY = "stcanet.manifest"
"""Key in the `metadata_props` of the ONNX file: a manifest that cannot be lost."""
IMAGES, CLIPS = "images", "clips"
UINT8, FLOAT = "uint8", "float32"
PRECISIONS = ("fp32", "fp16", "int8")
"""Of packages. bfloat16 is none: it is how a provider may run one."""
_LAYOUTS = {UINT8: "NHWC", FLOAT: "NCHW"}
NORMS = "norms"
"""Second output of clip packages that normalise, ``[batch]``: length of each clip's feature before."""


@dataclass(frozen=True)
class InputSpec:
    """The input tensor, "images" or "clips", in one of two contracts.

    "uint8" takes crops as they are, ``[N, H, W, 3]`` or ``[N, T, H, W, 3]``, and normalises in the graph. "float32" takes
    them normalised, channels first, ``[N, 3, H, W]`` or ``[N, T, 3, H, W]``, as most trackers feed their models.
    """

    name: str
    height: int
    width: int
    clip_length: int | None = None
    """Frames T of a clip; None for images."""
    dynamic_time: bool = False
    """Whether the graph takes any T; `clip_length` is then the recommended one."""
    batch: int | None = None
    """Rows N of the tensor where the graph takes that many only; None where it takes any number."""
    resample: str = "bicubic"
    color: str = "rgb"
    layout: str = "NHWC"
    dtype: str = "uint8"
    mean: tuple[float, ...] | None = None
    """Of RGB in 0..1, for "float32": the tensor is ``(crop / 255 − mean) / std``. None where the graph normalises."""
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _choice("input.name", self.name, (IMAGES, CLIPS))
        _choice("input.resample", self.resample, ("bicubic",))
        _choice("input.color", self.color, ("rgb",))
        _choice("input.dtype", self.dtype, tuple(_LAYOUTS))
        _choice("input.layout", self.layout, (_LAYOUTS[self.dtype],))
        for name in ("mean", "std"):
            _channels(f"input.{name}", getattr(self, name), self.dtype == FLOAT)
        _positive("input.height", self.height)
        _positive("input.width", self.width)
        _typed("input.dynamic_time", self.dynamic_time, bool)
        if self.batch is not None:
            _positive("input.batch", self.batch)
        if self.takes_clips:
            _positive("input.clip_length", self.clip_length)
        elif self.clip_length is not None:
            raise ManifestError(f"manifest: input.clip_length must be null for images, got {self.clip_length!r}")
        for name in ("mean", "std"):  # JSON has lists
            object.__setattr__(self, name, None if self.mean is None else tuple(getattr(self, name)))

    @property
    def takes_clips(self) -> bool:
        """Whether the tensor is of clips, not of images."""
        return self.name == CLIPS

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the tensor; None where any length goes."""
        size = (self.height, self.width, 3) if self.dtype == UINT8 else (3, self.height, self.width)
        return (self.batch, *self._time, *size)

    @property
    def crops_shape(self) -> tuple[int | None, ...]:
        """Shape of the uint8 crops that the tensor is made of: channels last, any number of rows."""
        return (None, *self._time, self.height, self.width, 3)

    @property
    def _time(self) -> tuple[int | None, ...]:
        return () if self.name == IMAGES else (None if self.dynamic_time else self.clip_length,)


@dataclass(frozen=True)
class OutputSpec:
    """The first output, ``[N, D]`` float32, and the names of the part maps behind it."""

    dim: int
    name: str = "embeddings"
    """Of the tensor: "embeddings", or "output" as other tools call it."""
    normalized: bool = True
    """Whether the graph gives unit length; else the features as they are, and the runtime normalises them."""
    metric: str = "cosine"
    """Distance that the embeddings are made for."""
    part_maps: tuple[str, ...] = ()
    """Outputs with the part maps of each attention block, ``[N, (T,) parts, h, w]`` in 0..1."""

    def __post_init__(self) -> None:
        _positive("output.dim", self.dim)
        _choice("output.name", self.name, ("embeddings", "output"))
        _choice("output.metric", self.metric, METRICS)
        _typed("output.normalized", self.normalized, bool)
        if not isinstance(self.part_maps, (list, tuple)) or not all(isinstance(name, str) for name in self.part_maps):
            raise ManifestError(f"manifest: output.part_maps must be a list of names, got {self.part_maps!r}")
        object.__setattr__(self, "part_maps", tuple(self.part_maps))  # JSON has lists


@dataclass(frozen=True)
class Manifest:
    """The contract of one exported model."""

    preset: str
    input: InputSpec
    output: OutputSpec
    opset: int
    created: str
    """UTC, ISO 8601."""
    generator: str
    """Program and version that wrote the package."""
    precision: str = "fp32"
    model_sha256: str | None = None
    """Of `model.onnx`; None in the copy inside that file, which cannot know its own hash."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights come from: checkpoint hash, training data, evaluation results. JSON values."""
    conversion: Mapping[str, Any] = field(default_factory=dict)
    """What was made of the float32 graph: what a search kept, calibration, target, retrieval figures. JSON values."""
    licence: str | None = None
    """Of the weights, as their owner stated it; None where nobody did."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the other files of the package by name; empty in the copy inside `model.onnx`."""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        _typed("schema_version", self.schema_version, int)
        for name in ("preset", "created", "generator"):
            _typed(name, getattr(self, name), str)
        _choice("precision", self.precision, PRECISIONS)
        _positive("opset", self.opset)
        if self.model_sha256 is not None:
            _sha256("model_sha256", self.model_sha256)
        if self.licence is not None:
            _typed("licence", self.licence, str)
        for name in ("source", "conversion", "checksums"):
            if not isinstance(getattr(self, name), Mapping):
                raise ManifestError(f"manifest: {name} must be an object, got {getattr(self, name)!r}")
        _refuse_nested("source or conversion", [self.source, self.conversion])
        for name, digest in self.checksums.items():
            _choice("checksums", name, CHECKED)
            _sha256(f"checksums.{name}", digest)

    def to_json(self) -> str:
        """Indented JSON; :meth:`from_json` gives an equal manifest back.

        Raises:
            ManifestError: It is longer than that of a package may be.
        """
        text = json.dumps(asdict(self), indent=2, allow_nan=False, ensure_ascii=False)
        if (size := len(text.encode())) > (most := LIMITS[MANIFEST_NAME]):
            raise ManifestError(f"manifest: source and conversion make it {size:,} bytes long; at most {most:,} are allowed")
        return text

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read and check a manifest.

        Raises:
            ManifestError: Not JSON, or a field is missing, unknown or of a wrong value; the message names it.
        """
        try:
            value = parse_json(text)
        except ValueError as error:
            raise ManifestError(f"manifest is not JSON: {error}") from None
        _refuse_nested("it", value)
        _refuse_other_version(value)
        top = _fields("", value, cls)
        top["input"] = InputSpec(**_fields("input.", top["input"], InputSpec))
        top["output"] = OutputSpec(**_fields("output.", top["output"], OutputSpec))
        return cls(**top)


def _refuse_nested(name: str, value: Any) -> None:
    level = [value]
    for _ in range(_MAX_LEVELS):
        level = [child for item in level for child in _children(item)]
    if level:  # Python's own recursion would end in the middle of something
        raise ManifestError(f"manifest: {name} is nested in more than {_MAX_LEVELS} levels")


def _children(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()


def _refuse_other_version(value: Any) -> None:
    """Another schema has other fields; that it is another is the message that helps, not their names."""
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is int and version != SCHEMA_VERSION:
        raise ManifestError(
            f"manifest: schema_version {version} is not known here (this version reads {SCHEMA_VERSION}); "
            "update stcanet or export the model again"
        )


def _fields(prefix: str, value: Any, kind: type) -> dict[str, Any]:
    """The object `value`, which must have exactly the fields of the dataclass `kind`.

    All of them are required, also those with a default: a manifest that leaves the resampling open is no contract.
    """
    if not isinstance(value, dict):
        raise ManifestError(f"manifest: {prefix.rstrip('.') or 'it'} must be an object, got {type(value).__name__}")
    names = [item.name for item in fields(kind)]
    if missing := [name for name in names if name not in value]:
        raise ManifestError(f"manifest: field {prefix}{missing[0]} is missing")
    if unknown := [name for name in value if name not in names]:
        raise ManifestError(f"manifest: field {prefix}{unknown[0]} is not known")
    return dict(value)


def _typed(name: str, value: Any, kind: type) -> None:
    if type(value) is not kind:  # exactly: True is an int to isinstance
        raise ManifestError(f"manifest: {name} must be of type {kind.__name__}, got {value!r}")


def _positive(name: str, value: Any) -> None:
    _typed(name, value, int)
    if value < 1:
        raise ManifestError(f"manifest: {name} must be at least 1, got {value}")


def _sha256(name: str, value: Any) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", str(value)):
        raise ManifestError(f"manifest: {name} must be 64 hexadecimal digits, got {value!r}")


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ManifestError(f"manifest: {name} must be {' or '.join(map(repr, choices))}, got {value!r}")


def _channels(name: str, value: Any, wanted: bool) -> None:
    """Three numbers, or None where they are not `wanted`."""
    if not wanted:
        if value is not None:
            raise ManifestError(f"manifest: {name} must be null where the graph normalises, got {value!r}")
        return
    numbers = isinstance(value, (list, tuple)) and all(type(item) is float and 0 < item < 1 for item in value)
    if not numbers or len(value) != 3:
        raise ManifestError(f"manifest: {name} must be three numbers between 0 and 1, got {value!r}")
