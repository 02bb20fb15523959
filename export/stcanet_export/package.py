"""The model package: a folder or one file, complete and verified, or not there at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stcanet.engine.checkpoint import Checkpoint, load_checkpoint
from stcanet.model import STCANet
from stcanet_export.card import model_card
from stcanet_export.golden import write_golden
from stcanet_export.onnx import DEFAULT_OPSET, OWN, Contract, export_onnx
from stcanet_export.parity.gate import check_parity
from stcanet_export.parity.report import ParityReport
from stcanet_export.parity.sides import TorchSide
from stcanet_export.parity.tolerance import TOLERANCES, Tolerance
from stcanet_export.variants.precision import Tell
from stcanet_export.variants.variant import AS_EXPORTED, Variant, convert
from stcanet_runtime.errors import OptionError, PackageError
from stcanet_runtime.files import read_json, replacing_folder, sha256_file, temporary_folder, write_json, write_text
from stcanet_runtime.package.archive import (
    CARD_NAME,
    GOLDEN_NAME,
    LIMITS,
    MANIFEST_NAME,
    MODEL_NAME,
    PARITY_NAME,
    is_archive_name,
    pack,
)
from stcanet_runtime.package.manifest import Manifest

FILES = frozenset(LIMITS)
"""Everything that a package holds. A folder or zip with anything else in it is never replaced."""
_FAILED = "failed_export"
"""Key that marks the report of a failed gate: what else has its name is somebody's own."""

Signer = Callable[[Path], None]
"""Signs a package folder; see :func:`stcanet_runtime.package.signature.sign`."""


@dataclass(frozen=True)
class ExportResult:
    """A finished package."""

    path: Path
    manifest: Manifest
    report: ParityReport

    @property
    def files(self) -> dict[str, int]:
        """Bytes of each file, by name: of those in the folder, or of the archive."""
        paths = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        return {path.name: path.stat().st_size for path in paths}


def export_package(
    source: STCANet | str | Path,
    out: str | Path,
    *,
    images: Sequence[str | Path] = (),
    opset: int = DEFAULT_OPSET,
    contract: Contract = OWN,
    clip_length: int | None = None,
    size: tuple[int, int] | None = None,
    force: bool = False,
    origin: dict[str, Any] | None = None,
    tolerance: Tolerance | None = None,
    progress: Tell | None = None,
    variant: Variant = AS_EXPORTED,
    licence: str | None = None,
    signer: Signer | None = None,
) -> ExportResult:
    """Export a network, verify the result, and put the package in place.

    There is no way around the parity gate: where it fails, under `out` is what was there before, an older package or
    nothing, and the report is beside it as ``<out>.failed.json``.

    Args:
        source: A checkpoint file of ``stcanet train``, or a network.
        out: Folder to make, or one file: a name that ends with .zip or .stcanet.
        images: Image files for the gate to use besides its own crops.
        opset: ONNX operator set.
        contract: What the graph takes and gives.
        clip_length: Frames of a clip instead of the configured ones; only for presets of clips.
        size: Rows and columns of a crop instead of the configured ones.
        force: Replace a package that is already there.
        origin: What is known of the weights of a network, for the manifest; a checkpoint tells that itself. JSON values.
        tolerance: What the gate lets pass; None takes the bounds of the precision.
        progress: Told about each step.
        variant: Precision and target, and whether to evaluate.
        licence: Of the weights, for the manifest.
        signer: Called with the finished folder to sign it.

    Returns:
        Where the package is, its manifest and its report.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        ParityError: The exported model does not agree with the network.
        PackageError: There is something at `out` already, or where the report would go, or the export went wrong.
        OptionError: An option is out of range.
        DataError: Crops to calibrate with or data to evaluate on are missing.
        ImageError: One of `images` is no image.
    """
    tell = progress or (lambda _: None)
    out = named(out)
    check_replaceable(out, force)
    failed = _failure_place(out)
    if licence is not None and not licence.isprintable():
        raise OptionError("licence", licence, "one line of text")
    variant.check_data()
    model, known = (source, {}) if isinstance(source, STCANet) else _read(source)
    model = with_input(model, clip_length, size)
    with (_archiving if is_archive_name(out) else replacing)(out, force) as folder:
        tell("exporting to ONNX")
        manifest = export_onnx(model, folder / MODEL_NAME, opset, contract, {**known, **(origin or {})}, licence)
        manifest = convert(folder / MODEL_NAME, manifest, variant, images, tell)
        manifest = replace(manifest, model_sha256=sha256_file(folder / MODEL_NAME))
        write_text(folder / MANIFEST_NAME, manifest.to_json() + "\n")
        tell("comparing with PyTorch")
        report = check_parity(model, folder, images, tolerance=tolerance or TOLERANCES[manifest.precision])
        if not report.passed:
            write_json(failed, {_FAILED: out.name, **report.to_dict()})
            report.raise_if_failed()
        write_json(folder / PARITY_NAME, report.to_dict())
        write_golden(folder / GOLDEN_NAME, TorchSide(model))
        manifest = _close(folder, manifest, report)
        if signer is not None:
            tell("signing")
            signer(folder)
    if _is_failure(failed):  # of an earlier attempt
        failed.unlink()
    return ExportResult(out, manifest, report)


def _failure_place(out: Path) -> Path:
    """Where the report goes if the gate fails.

    Raises:
        PackageError: There is something else.
    """
    place = out.with_name(f"{out.name}.failed.json")
    if os.path.lexists(place) and not _is_failure(place):
        raise PackageError(f"{place} is there, which a failed export would write over; move it, or name another package")
    return place


def _is_failure(path: Path) -> bool:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and _FAILED in content


def _close(folder: Path, manifest: Manifest, report: ParityReport) -> Manifest:
    """Write the card, and the manifest with the hashes of all that there is."""
    write_text(folder / CARD_NAME, model_card(manifest, report))
    checksums = {name: sha256_file(folder / name) for name in (PARITY_NAME, GOLDEN_NAME, CARD_NAME)}
    manifest = replace(manifest, checksums=checksums)
    write_text(folder / MANIFEST_NAME, manifest.to_json() + "\n")
    return manifest


def _read(path: str | Path) -> tuple[STCANet, dict[str, Any]]:
    """The network of a checkpoint, and where its weights come from."""
    checkpoint = load_checkpoint(path)
    return checkpoint.build(), {"checkpoint_sha256": sha256_file(path), **_describe(checkpoint)}


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    # The configuration stays out: it holds paths of the machine that trained.
    training = {name: value for name, value in checkpoint.training.items() if name != "config"}
    return {
        "trained": True,  # by another program, where the epoch is 0
        "epoch": checkpoint.epoch,
        "metrics": dict(checkpoint.metrics),
        "training": training,
    }


def with_input(model: STCANet, clip_length: int | None = None, size: tuple[int, int] | None = None) -> STCANet:
    """The same network for clips of another length, or crops of another size ``(height, width)``.

    Raises:
        OptionError: It takes single images, or the size is out of range.
    """
    if clip_length is not None and model.config.clip_length is None:
        raise OptionError("clip_length", clip_length, f"left out: preset '{model.config.preset}' takes single images")
    height, width = size or (model.config.height, model.config.width)
    config = replace(model.config, clip_length=clip_length or model.config.clip_length, height=height, width=width)
    if config == model.config:
        return model
    changed = STCANet(config, model.num_classes)
    changed.load_state_dict(model.state_dict())
    return changed


def named(out: str | Path) -> Path:
    """The path, in a form that has a last name: "." has none."""
    out = Path(out).expanduser()
    return out if out.name else out.resolve()


def check_replaceable(out: Path, force: bool) -> None:
    """See that a package may be put at `out`.

    Raises:
        PackageError: There is something else, or a package and not `force`.
    """
    archive = is_archive_name(out)
    kind = "file" if archive else "folder"
    if out.is_symlink() or (out.exists() and out.is_dir() == archive):
        raise PackageError(f"{out} is not a {kind}; name a new one")
    if not out.exists():
        return
    names = _names_in_archive(out) if archive else {item.name for item in out.iterdir()}
    if foreign := sorted(names - FILES):
        raise PackageError(f"{out} holds '{foreign[0]}', which is not part of a model package; name a new {kind}")
    if (names or archive) and not force:
        raise PackageError(f"{out} is there already; replace it with --force or name a new {kind}")


def _names_in_archive(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return set(file.namelist())
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, EOFError):
        raise PackageError(f"{path} is there already, and is no model package; name a new file") from None


@contextmanager
def _archiving(out: Path, force: bool) -> Iterator[Path]:
    """A temporary folder that is packed into `out` when the block ends without an exception."""
    with temporary_folder(out) as folder:
        yield folder
        check_replaceable(out, force)
        pack(folder, out)


@contextmanager
def replacing(out: Path, force: bool) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends without an exception, and else vanishes.

    Raises:
        PackageError: Meanwhile something came to `out` that may not be replaced; see :func:`check_replaceable`.
    """
    with replacing_folder(out) as folder:
        yield folder
        check_replaceable(out, force)
