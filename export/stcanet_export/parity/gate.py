"""The parity gate: does a package compute what it was made from?

One crop at a time in the reference is the specification. The candidate has to give the same at batch 1, 2, 3, N and the largest
that the runtime makes, from tensors and from the image files, and rank the crops in the same order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stcanet.model import STCANet
from stcanet_export.parity.agreement import gallery_checks, read_gallery
from stcanet_export.parity.comparison import Comparison, parts_at
from stcanet_export.parity.probes import pick, read_distinct, write_procedural
from stcanet_export.parity.report import ParityReport
from stcanet_export.parity.sides import PackageSide, Side, TorchSide, as_images
from stcanet_export.parity.tolerance import Tolerance, tolerance_between
from stcanet_runtime.errors import ParityError
from stcanet_runtime.machine import versions
from stcanet_runtime.wording import counted

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-ep-openvino", "numpy", "pillow")


def check_parity(
    reference: STCANet | str | Path,
    package: str | Path,
    images: Sequence[str | Path] = (),
    provider: str = "cpu",
    reference_provider: str = "cpu",
    tolerance: Tolerance | None = None,
    gallery: str | None = None,
) -> ParityReport:
    """Compare a package with the network it came from, with another package, or with itself under another provider.

    Args:
        reference: The network, which runs in PyTorch on the CPU, or a package.
        package: The package under test: a folder or a single ONNX file.
        images: Image files to use besides the procedural crops, of which :data:`~stcanet_export.parity.probes.MAX_IMAGES` are
            picked.
        provider: Where the package runs.
        reference_provider: Where a reference package runs.
        tolerance: What may differ; None takes the bounds of the lower precision of the two.
        gallery: A data set or a folder of crops on which to compare rankings, too; at most
            :data:`~stcanet_export.parity.agreement.MAX_GALLERY` of its crops or tracklets are taken.

    Where one takes images and the other clips of any length, the clips have one frame: an image model and a clip model of
    the same weights compute the same.

    Returns:
        The report. That it `passed` is for the caller to look at, or to demand by `raise_if_failed()`.

    Raises:
        ParityError: The two cannot be compared: they take different inputs or give different dimensions.
        PackageError: A package is damaged.
        ProviderError: A provider cannot run here.
        ImageError: One of `images` is no image.
    """
    if tolerance is None:
        others = () if isinstance(reference, STCANet) else ((reference, reference_provider),)
        tolerance = tolerance_between((package, provider), *others)
    first: Side = TorchSide(reference) if isinstance(reference, STCANet) else PackageSide(reference, reference_provider)
    second: Side = PackageSide(package, provider)
    if first.spec.name != second.spec.name:
        first, second = as_images(first), as_images(second)
    _check_comparable(first, second)
    searched = None if gallery is None else read_gallery(gallery)
    with tempfile.TemporaryDirectory() as folder:
        files = write_procedural(Path(folder), second.spec.height, second.spec.width)
        files, crops = read_distinct([*files, *pick(images)], second.spec.height, second.spec.width)
        found = Comparison(first, second, files, crops, tolerance).run()
        if searched is not None and len(found.checks) > 1:  # the first check alone: the reference is broken
            ranking, more = gallery_checks(first, second, searched, tolerance)
            found.checks += more
            found.rankings.append(ranking)
    passed = all(check.passed for check in found.checks)
    where = None if passed else parts_at(found.layers, tolerance)
    if not (passed or where) and found.layers:
        found.notes.append("every layer agrees: the fault is before the network, or shows at other batches or lengths")
    return ParityReport(
        first.describe(),
        second.describe(),
        [path.name for path in files],
        tolerance,
        found.checks,
        found.layers,
        found.rankings,
        where,
        [*_notes(first), *found.notes],
        {name: version for name, version in versions(_PACKAGES).items() if version is not None},
    )


def _check_comparable(first: Side, second: Side) -> None:
    def text(side: Side) -> str:
        spec = side.spec
        clip = f" of {counted(spec.clip_length or 0, 'frame', 'frames')}" if spec.takes_clips else ""
        return f"{spec.name}{clip} {spec.height}×{spec.width} to {side.dim} dimensions"

    if text(first) != text(second):
        raise ParityError(f"nothing to compare: the reference takes {text(first)}, the package {text(second)}")


def _notes(reference: Side) -> list[str]:
    idle = reference.idle_blocks() if isinstance(reference, TorchSide) else []
    if not idle:
        return []
    return [f"attention is not exercised {', '.join(idle)}: the gains of these blocks are zero, as before training"]
