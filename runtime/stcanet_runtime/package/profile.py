"""For which batches a package was made, where engines are built for shapes: `conversion.target` of its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stcanet_runtime.batching import DEFAULT_SIZES
from stcanet_runtime.errors import ManifestError
from stcanet_runtime.package.manifest import InputSpec, Manifest

_MOST = DEFAULT_SIZES[-1]  # the largest batch that the parity gate compares


class Batches(NamedTuple):
    """Rows of an input."""

    smallest: int
    usual: int
    """What an engine is made fastest for."""
    largest: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of runs within, ascending: these three, and those that the runtime takes by itself."""
        return tuple(sorted({*self, *(size for size in DEFAULT_SIZES if self.smallest <= size <= self.largest)}))


def read_profile(manifest: Manifest) -> Batches | None:
    """The batches that a package was made for; None where any will do, or where the graph takes one only.

    Raises:
        ManifestError: There is a profile that is none, or not of this input.
    """
    target = manifest.conversion.get("target")
    profile = target.get("profile") if isinstance(target, Mapping) else None
    if profile is None or manifest.input.batch is not None:
        return None
    tail = usual_shape(manifest.input)
    shapes: list[Any] = [profile.get(name) for name in ("min", "opt", "max")] if isinstance(profile, Mapping) else []
    if not shapes or not all(_is_shape(shape, tail) for shape in shapes):
        _refuse(profile, f"shapes min, opt and max of the input, each [batch, {', '.join(map(str, tail))}]")
    batches = Batches(*(shape[0] for shape in shapes))
    if not 1 <= batches.smallest <= batches.usual <= batches.largest <= _MOST:
        _refuse(profile, f"batches that ascend from min to max, from 1 to {_MOST}")
    return batches


def usual_shape(spec: InputSpec) -> tuple[int, ...]:
    """Shape of a row of the input; of clips of any length, one of the recommended length."""
    return tuple(spec.clip_length or 1 if length is None else length for length in spec.shape[1:])


def _is_shape(value: Any, tail: tuple[int, ...]) -> bool:
    numbers = isinstance(value, list) and all(type(item) is int for item in value)
    return numbers and tuple(value[1:]) == tail


def _refuse(profile: Any, expected: str) -> None:
    raise ManifestError(f"manifest: conversion.target.profile must be {expected}; got {str(profile)[:200]}")
