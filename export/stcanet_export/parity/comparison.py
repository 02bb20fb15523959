"""The comparison itself: one method is one group of checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet_export.parity.agreement import agreement, cosines
from stcanet_export.parity.layers import compare_layers, first_to_part, relative_error
from stcanet_export.parity.probes import make_clips
from stcanet_export.parity.report import Check, LayerError, Ranking
from stcanet_export.parity.sides import Side
from stcanet_export.parity.tolerance import Tolerance
from stcanet_runtime.arrays import Float32Array, Float64Array, UInt8Array
from stcanet_runtime.batching import DEFAULT_SIZES
from stcanet_runtime.wording import counted, one_line

_OTHER_TIMES = (1, 2, 7, 16)
_TIME_CLIPS = 2
_LONG = 8
"""From so many frames on, one clip is compared: channel attention takes memory with the square of the frames."""
_LAYER_INPUTS = 3
"""How many crops or clips are followed through the layers."""
_MAX_LAYER_INPUTS = 8
"""How many at most, where the graph takes no other batch."""
_ROUNDING = 1e-4
"""Relative error of a layer that need not be a fault: a third of it at most was seen between right float32 runs."""

Outputs = tuple[Float32Array, Float32Array | None]


@dataclass
class Findings:
    """What a comparison found."""

    checks: list[Check] = field(default_factory=list)
    """Only the first where the reference is not finite."""
    layers: list[LayerError] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def parts_at(layers: Sequence[LayerError], tolerance: Tolerance) -> str | None:
    """The layer at which the two sides part, if they do."""
    return first_to_part(layers, max(_ROUNDING, tolerance.max_layer / 100))


class Comparison:
    """Two sides and the crops.

    Args:
        reference: What is right.
        candidate: What is checked.
        files: The image files of the crops.
        crops: The same, read and resized, ``[N, H, W, 3]``.
        tolerance: What may differ.
    """

    def __init__(
        self, reference: Side, candidate: Side, files: Sequence[Path], crops: UInt8Array, tolerance: Tolerance
    ) -> None:
        self.reference, self.candidate, self.tolerance = reference, candidate, tolerance
        self.files, self.names, self.crops = files, [path.stem for path in files], crops
        self.inputs = self._inputs(candidate.spec.clip_length)

    def run(self) -> Findings:
        """Compare everything."""
        found = Findings()
        with np.errstate(invalid="ignore", divide="ignore"):  # broken rows become NaN, and NaN never passes
            found.checks += self._checks(found)
        return found

    def _checks(self, found: Findings) -> Iterator[Check]:
        expected = _in_batches(self.reference, self.inputs, 1)
        finite = bool(np.isfinite(expected[0]).all())
        yield Check.at_least("reference is finite", float(finite), 1)
        if not finite:
            return
        spread = _spread(expected[0])
        yield Check.at_least("reference tells crops apart", spread, self.tolerance.min_spread, "spread of its embeddings")
        yield from self._tensors(expected, spread, found)
        yield from self._files()
        yield from self._times()
        yield from self._order()
        yield from self._part_maps()
        yield from self._by_layer(found)

    def _inputs(self, frames: int | None) -> UInt8Array:
        return self.crops if not self.candidate.spec.takes_clips or frames is None else make_clips(self.crops, frames)

    def _tensors(self, expected: Outputs, spread: float, found: Findings) -> Iterator[Check]:
        """Batches 1, 2, 3, N and the largest that the runtime makes; one row against itself in another, spread and ranking."""
        results = {}
        sizes = sorted({1, 2, 3, len(self.inputs), DEFAULT_SIZES[-1]})
        for size in sizes:
            name = f"batch {size}"
            again = np.arange(max(size, len(self.inputs))) % len(self.inputs)
            try:
                results[size] = _in_batches(self.candidate, self.inputs[again], size)
            except Exception as error:
                yield _did_not_run(name, error)
                continue
            lengths = None if expected[1] is None else expected[1][again]
            yield from self._compare(name, results[size], (expected[0][again], lengths))
        if len(results) < len(sizes):
            return
        alone, together = results[1][0], results[len(self.inputs)][0]
        yield self._largest("rows independent of their batch: max |Δ|", np.abs(alone - together), self.tolerance.max_abs)
        errors = np.linalg.norm(_f64(alone) - expected[0], axis=1)
        yield self._largest("error against spread", errors[:, None] / max(spread, 1e-30), self.tolerance.max_relative)
        yield self._ranking(together, expected[0])
        yield from self._agreement(together, expected[0], found)

    def _files(self) -> Iterator[Check]:
        """The way from the image file, which tensors say nothing about: decoding, channel order, resize."""
        groups: list[list[Path]] = [[path] for path in self.files]
        if (frames := self.candidate.spec.clip_length) is not None:
            # One frame more than a clip: each tracklet has a second clip, which has to be filled up.
            groups = [list(self.files[start : start + frames + 1]) for start in range(0, len(self.files), frames + 1)]
        try:
            actual = self.candidate.embed_files(groups)
        except Exception as error:
            yield _did_not_run("from files", error)
            return
        yield from self._compare(
            "from files", (actual, None), (self.reference.embed_files(groups), None), len(groups) == len(self.files)
        )

    def _times(self) -> Iterator[Check]:
        """Clips of other lengths, where the package takes them."""
        if not (self.candidate.spec.dynamic_time and self.reference.spec.dynamic_time):
            return
        for frames in _OTHER_TIMES:
            name = counted(frames, "frame", "frames")
            clips = self._inputs(frames)[-_TIME_CLIPS if frames < _LONG else -1 :]
            try:
                actual = self.candidate.embed(clips)
            except Exception as error:
                yield _did_not_run(name, error)
                continue
            yield from self._compare(name, actual, _in_batches(self.reference, clips, 1), named=False)

    def _compare(self, name: str, actual: Outputs, expected: Outputs, named: bool = True) -> Iterator[Check]:
        """Embeddings ``[N, D]`` and norms ``[N]`` of the candidate with those of the reference."""
        ours, theirs = _f64(actual[0]), _f64(expected[0])
        cosine = cosines(ours, theirs)
        worst = int(np.argmin(cosine))
        where = self._name(worst) if named else ""
        yield Check.at_least(f"{name}: min cosine", float(cosine.min()), self.tolerance.min_cosine, where)
        yield self._largest(f"{name}: max |Δ|", np.abs(ours - theirs), self.tolerance.max_abs, named)
        length = np.abs(np.linalg.norm(ours, axis=1) - 1)
        yield self._largest(f"{name}: length − 1", length[:, None], self.tolerance.max_length, named)
        if actual[1] is not None and expected[1] is not None:
            relative = np.abs(_f64(actual[1]) / _f64(expected[1]) - 1)
            yield self._largest(f"{name}: norms", relative[:, None], self.tolerance.max_norm, named)

    def _ranking(self, actual: Float32Array, expected: Float32Array) -> Check:
        """Pairs of crops that the candidate ranks the other way round, as seen from a third, ties apart."""
        # [N, N, N]: from crop i, how much farther is crop k than crop j?
        gaps = [(d[:, None, :] - d[:, :, None]) for d in (_distances(expected), _distances(actual))]
        apart = gaps[0] > self.tolerance.tie
        index = np.arange(len(actual))
        apart[index, index, :] = apart[index, :, index] = False  # the crop itself is in no ranking of its own
        name, within = "ranking: swapped pairs", f"{self.tolerance.tie:g}"
        if not apart.any():
            return Check.untried(name, 0, "<=", f"all within {within}")
        swapped = apart & (gaps[1] <= 0)
        return Check.at_most(name, float(swapped.sum()), 0, f"of {apart.sum()} farther apart than {within}")

    def _agreement(self, actual: Float32Array, expected: Float32Array, found: Findings) -> list[Check]:
        """Each crop as the query, the others as the gallery."""
        itself = np.eye(len(actual), dtype=bool)
        ours, theirs = (np.where(itself, np.inf, _distances(values)) for values in (actual, expected))
        ranking, checks = agreement("ranking", ours, theirs, self.tolerance)
        found.rankings.append(ranking)
        return checks

    def _order(self) -> Iterator[Check]:
        """A clip read backwards: the network pools over time and its attention has no order."""
        if not self.candidate.spec.takes_clips:
            return
        clips = self.inputs[-_TIME_CLIPS:]
        try:
            forth, back = (self.candidate.embed(np.ascontiguousarray(values))[0] for values in (clips, clips[:, ::-1]))
        except Exception as error:
            yield _did_not_run("time order", error)
            return
        yield self._largest("time order: max |Δ|", np.abs(forth - back), self.tolerance.max_abs, named=False)

    def _part_maps(self) -> Iterator[Check]:
        """The part maps, where both sides give them."""
        batch = self.inputs[-_LAYER_INPUTS:]
        try:
            actual, expected = self.candidate.part_maps(batch), self.reference.part_maps(batch)
        except Exception as error:
            yield _did_not_run("part maps", error)
            return
        name = "part maps: relative error"
        if actual and expected and len(actual) != len(expected):
            detail = f"of {counted(len(actual), 'block', 'blocks')}, the reference has {len(expected)}"
            yield Check(name, False, None, self.tolerance.max_layer, "<=", detail)
        elif actual and expected:
            errors = [relative_error(*pair) for pair in zip(actual, expected, strict=True)]
            worst = f"block {int(np.argmax(errors)) + 1} of {len(errors)}"
            yield Check.at_most(name, max(errors), self.tolerance.max_layer, worst)

    def _by_layer(self, found: Findings) -> Iterator[Check]:
        """Where the error is made; sees faults, too, that cancel before the embedding."""
        size = self.candidate.spec.batch or self.reference.spec.batch or _LAYER_INPUTS
        if size > _MAX_LAYER_INPUTS:
            found.notes.append(f"the layers were not compared: those of a batch of {size} take too much memory")
            return
        batch = self.inputs[-1 - np.arange(size) % len(self.inputs)]
        try:
            expected, actual = self.reference.layers(batch), self.candidate.layers(batch)
        except Exception as error:
            found.notes.append(f"the layers could not be compared: {' '.join(str(error).split())[:200]}")
            return
        found.layers = compare_layers(expected, actual)
        if not found.layers:
            found.notes.append("the layers could not be compared: the two sides have none of the same name and shape")
            return
        worst = max(found.layers, key=lambda layer: layer.output)
        yield Check.at_most("layers: relative error", worst.output, self.tolerance.max_layer, worst.name)

    def _largest(self, name: str, values: NDArray[np.floating], bound: float, named: bool = True) -> Check:
        """The largest of `values` ``[N, any]`` against a bound, with the name of its crop."""
        worst = values.max(axis=1)
        return Check.at_most(name, float(worst.max()), bound, self._name(int(np.argmax(worst))) if named else "")

    def _name(self, row: int) -> str:
        return self.names[row % len(self.names)]


def _in_batches(side: Side, inputs: UInt8Array, size: int) -> Outputs:
    parts = [side.embed(inputs[start : start + size]) for start in range(0, len(inputs), size)]
    norms = [norm for _, norm in parts if norm is not None]
    return np.concatenate([embeddings for embeddings, _ in parts]), np.concatenate(norms) if norms else None


def _did_not_run(name: str, error: Exception) -> Check:
    return Check(f"{name}: min cosine", False, None, 1.0, ">=", one_line(error)[:300])


def _spread(embeddings: Float32Array) -> float:
    """Root mean square distance ``[N, D]`` from the mean row."""
    centred = _f64(embeddings) - _f64(embeddings).mean(axis=0)
    return float(np.sqrt((centred**2).sum(axis=1).mean()))


def _distances(embeddings: Float32Array) -> Float64Array:
    return 1.0 - _f64(embeddings) @ _f64(embeddings).T


def _f64(values: NDArray[np.floating]) -> Float64Array:
    return values.astype(np.float64)
