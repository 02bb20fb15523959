"""Model packages as they lie on a disk: their manifest, and whether they are what it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from stcanet_runtime.errors import ManifestError, PackageError
from stcanet_runtime.files import sha256_file
from stcanet_runtime.package.archive import LIMITS, MANIFEST_NAME, MODEL_NAME, opened
from stcanet_runtime.package.manifest import CHECKED, METADATA_KEY, Manifest
from stcanet_runtime.package.onnxfile import inspect_onnx


def load_manifest(package: str | Path) -> Manifest:
    """Manifest of a package: a folder (its `manifest.json`), an archive, or a single ONNX file (its metadata).

    Raises:
        ManifestError: The manifest is missing or malformed.
        PackageError: There is no such package, or the file is not an ONNX model.
    """
    with opened(package) as path:
        if path.is_dir():
            return _read_manifest(path)
        text = inspect_onnx(path, "make a package of it with 'stcanet export'").metadata.get(METADATA_KEY)
        if text is None:
            raise ManifestError(f"{path}: no '{METADATA_KEY}' in the ONNX metadata; was it exported by stcanet?")
        return _within(path, text)


def load_verified(package: str | Path) -> Manifest:
    """Manifest as of :func:`load_manifest`, with which the files of a package folder and the model's own copy agree.

    Raises:
        ManifestError: It is missing or malformed, or contradicts the copy inside the model.
        PackageError: There is no such package, or it is altered or incomplete.
    """
    manifest = load_manifest(package)
    if Path(package).is_dir():
        verify_checksum(package, manifest)
        verify_embedded(package, manifest)
    return manifest


@contextmanager
def unchanged(package: Path) -> Iterator[None]:
    """See that the model that is checked in the block is the one that is opened in it.

    Raises:
        PackageError: Another took its place meanwhile.
    """
    before = _state(package)
    yield
    if _state(package) != before:
        raise PackageError(f"{package} was replaced while it was opened; open it again")


def _state(package: Path) -> tuple[int, ...] | None:
    """What tells a file from another of its name, and from itself when it was written or renamed; None where there is none."""
    path = package / MODEL_NAME if package.is_dir() else package
    if not path.exists():
        return None
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def verify_checksum(package: str | Path, manifest: Manifest) -> None:
    """Compare the files of a package folder with the hashes in its manifest.

    Raises:
        PackageError: A file was altered or added, or the model is missing.
        ManifestError: The manifest has no hash.
    """
    package = Path(package)
    if manifest.model_sha256 is None:
        raise ManifestError(f"{package / MANIFEST_NAME}: field model_sha256 is missing")
    _verify_file(model_path(package), manifest.model_sha256)
    for name in CHECKED:  # but what is not needed to run may be left out
        if (path := package / name).exists():
            if name not in manifest.checksums:
                raise PackageError(f"{path} is not in the manifest: it was added later; export the package again")
            _verify_file(path, manifest.checksums[name])


def verify_whole(package: Path, manifest: Manifest) -> None:
    """See that a package folder has every file of its manifest. One that only runs may lack report, golden vectors and card.

    Raises:
        PackageError: A file is missing.
    """
    if missing := [name for name in manifest.checksums if not (package / name).is_file()]:
        raise PackageError(f"{package / missing[0]} is missing, and the manifest lists it; copy the whole package")


def _verify_file(path: Path, expected: str) -> None:
    if not path.is_file():  # a device might be read without end
        raise PackageError(f"{path} is not a file; copy the whole package")
    if (actual := sha256_file(path)) != expected:
        raise PackageError(
            f"{path} was altered: its SHA-256 is {actual[:12]}…, the manifest says {expected[:12]}…; "
            "export the package again or restore the file"
        )


def verify_embedded(package: str | Path, manifest: Manifest) -> None:
    """Compare the manifest with the copy inside `model.onnx` of a package folder.

    Raises:
        ManifestError: They differ, or there is no copy.
    """
    model = model_path(Path(package))
    embedded = load_manifest(model)
    mine, other = (asdict(replace(item, model_sha256=None, checksums={})) for item in (manifest, embedded))
    if mine != other:
        names = ", ".join(name for name in mine if mine[name] != other[name])
        raise ManifestError(f"{package}: {MANIFEST_NAME} contradicts the metadata inside {MODEL_NAME} in: {names}")


def package_sha256(package: str | Path) -> str:
    """SHA-256 of the model in a package or of a single ONNX file; which model embeddings are of."""
    return load_manifest(package).model_sha256 or sha256_file(model_path(Path(package)))


def model_path(package: Path) -> Path:
    """The ONNX file of a package folder, or the file itself.

    Raises:
        PackageError: There is none.
    """
    path = package / MODEL_NAME if package.is_dir() else package
    if not path.is_file():
        raise PackageError(f"{package} is not a model package: expected a folder with {MODEL_NAME} and {MANIFEST_NAME}")
    return path


def _read_manifest(package: Path) -> Manifest:
    path = package / MANIFEST_NAME
    if not path.is_file():
        raise ManifestError(f"{package} is not a model package: it has no {MANIFEST_NAME}")
    if (size := path.stat().st_size) > LIMITS[MANIFEST_NAME]:
        raise ManifestError(f"{path} has {size:,} bytes; at most {LIMITS[MANIFEST_NAME]:,} are allowed")
    try:
        return _within(path, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ManifestError(f"{path} is not UTF-8 text") from None


def _within(path: Path, text: str) -> Manifest:
    try:
        return Manifest.from_json(text)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None
