"""Single checks of the comparison, on made-up embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stcanet_export.parity.comparison import Comparison
from stcanet_export.parity.layers import Layer
from stcanet_export.parity.tolerance import Tolerance
from stcanet_runtime.package.manifest import InputSpec

Float32Array = NDArray[np.float32]
CROPS = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)


class Table:
    """A side whose network is a table: row i of it for the crop whose pixels are i."""

    spec = InputSpec("images", 4, 4)

    def __init__(self, rows: NDArray[np.floating]) -> None:
        self.rows, self.dim = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), rows.shape[1]

    def embed(self, batch: NDArray[np.uint8]) -> tuple[Float32Array, None]:
        return self.rows[batch[:, 0, 0, 0]], None

    def embed_files(self, groups: Sequence[Sequence[Path]]) -> Float32Array:
        return self.rows[[int(group[0].stem) for group in groups]]

    def layers(self, _batch: NDArray[np.uint8]) -> list[Layer]:
        return []

    def part_maps(self, _batch: NDArray[np.uint8]) -> tuple[Float32Array, ...]:
        return ()

    def describe(self) -> dict[str, Any]:
        return {}


def circle(*degrees: float) -> NDArray[np.float64]:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def failures(reference: Table, candidate: Table, tolerance: Tolerance) -> list[str]:
    files = [Path(f"{index}.png") for index in range(len(CROPS))]
    return [check.name for check in Comparison(reference, candidate, files, CROPS, tolerance).run().checks if not check.passed]


LOOSE = Tolerance(min_cosine=0.9, max_abs=1, max_relative=10, tie=1e-3)
ANGLES = (0, 20, 45, 75, 110, 150, 195, 250)


def test_equal_tables_pass() -> None:
    assert failures(Table(circle(*ANGLES)), Table(circle(*ANGLES)), Tolerance()) == []


def test_crops_all_within_the_tie_leave_no_ranking_to_compare() -> None:
    reference, candidate = Table(circle(*ANGLES)), Table(circle(*ANGLES[::-1]))
    files = [Path(f"{index}.png") for index in range(len(CROPS))]
    compared = Comparison(reference, candidate, files, CROPS, replace(LOOSE, tie=3)).run()
    found = {check.name: check for check in compared.checks}
    for name in ("swapped pairs", "Kendall's tau", "top-1"):
        assert found[f"ranking: {name}"].verdict == "n/a"
    (ranking,) = compared.rankings
    assert ranking.pairs_judged == 0
    assert ranking.same_first < ranking.queries


def test_a_swapped_ranking_fails() -> None:
    """From 0°, the crops at 20° and 19° change places: nothing but the order shows it under loose bounds."""
    reference, swapped = circle(*ANGLES[:6], 19, 250), circle(*ANGLES[:6], 21, 250)
    assert failures(Table(reference), Table(swapped), LOOSE) == [
        "ranking: swapped pairs",
        "ranking: Kendall's tau",
        "ranking: top-1",
        "ranking: top-6",
    ]


def test_ties_may_rank_either_way() -> None:
    reference, swapped = circle(*ANGLES[:6], 19.99, 250), circle(*ANGLES[:6], 20.01, 250)
    assert failures(Table(reference), Table(swapped), LOOSE) == []


def test_a_turned_space_ranks_alike_and_fails() -> None:
    names = failures(Table(circle(*ANGLES)), Table(circle(*(angle + 5 for angle in ANGLES))), Tolerance())
    assert "batch 1: min cosine" in names
    assert "ranking: swapped pairs" not in names


def test_one_vector_for_everything_fails() -> None:
    same = Table(circle(*[30] * 8))
    assert failures(same, same, Tolerance()) == ["reference tells crops apart"]


def test_a_reference_that_is_not_finite_fails() -> None:
    table = Table(circle(*ANGLES))
    table.rows[3, 0] = np.nan
    assert failures(table, table, Tolerance()) == ["reference is finite"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_broken_row_fails(value: float) -> None:
    table = Table(circle(*ANGLES))
    table.rows[3] = value
    assert {"batch 1: min cosine", "from files: min cosine"} <= set(failures(Table(circle(*ANGLES)), table, Tolerance()))


def test_a_package_that_does_not_run_fails_and_says_why() -> None:
    class Broken(Table):
        def embed(self, batch: NDArray[np.uint8]) -> tuple[Float32Array, None]:
            if len(batch) == 2:
                raise RuntimeError("a line\nand another")
            return super().embed(batch)

    files = [Path(f"{index}.png") for index in range(len(CROPS))]
    checks = Comparison(Table(circle(*ANGLES)), Broken(circle(*ANGLES)), files, CROPS, Tolerance()).run().checks
    failed = [check for check in checks if not check.passed]
    # Eight crops in threes end with a batch of two.
    assert [check.name for check in failed] == ["batch 2: min cosine", "batch 3: min cosine"]
    assert (failed[0].value, failed[0].detail) == (None, "a line and another")


def test_a_package_that_is_wrong_in_large_batches_fails() -> None:
    """As the runtime runs it, 32 rows at once, which are more than the crops of the gate."""

    class Clamped(Table):
        def embed(self, batch: NDArray[np.uint8]) -> tuple[Float32Array, None]:
            return super().embed(batch[np.minimum(np.arange(len(batch)), 16)])

    names = failures(Table(circle(*ANGLES)), Clamped(circle(*ANGLES)), Tolerance())
    assert names == ["batch 32: min cosine", "batch 32: max |Δ|"]


def test_a_package_that_reads_frames_in_order_fails() -> None:
    class FirstFrame(Table):
        spec = InputSpec("clips", 4, 4, clip_length=2)

        def embed(self, batch: NDArray[np.uint8]) -> tuple[Float32Array, None]:
            return super().embed(batch[:, 0])

    table = FirstFrame(circle(*ANGLES))
    assert failures(table, table, Tolerance()) == ["time order: max |Δ|"]


def test_part_maps_of_more_blocks_fail() -> None:
    class Mapped(Table):
        blocks = 1

        def part_maps(self, batch: NDArray[np.uint8]) -> tuple[Float32Array, ...]:
            return (np.ones((len(batch), 4, 2, 2), np.float32),) * self.blocks

    reference, candidate = Mapped(circle(*ANGLES)), Mapped(circle(*ANGLES))
    candidate.blocks = 2
    assert failures(reference, candidate, Tolerance()) == ["part maps: relative error"]
