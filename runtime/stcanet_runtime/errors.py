"""Every error this project raises on purpose.

A message says what was expected, what came, and what to do about it. The values are also attributes,
so that a program can react without parsing text. The command line prints the message as one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_MOST_SIGNS = 500


class StcanetError(Exception):
    """Base of all errors raised on purpose; catch this to catch them all."""


class ShapeError(StcanetError, ValueError):
    """An array has the wrong shape, dtype or values (NaN, negative distance, …)."""


class OptionError(StcanetError, ValueError):
    """An option has a value outside its range or is not one of its choices."""

    def __init__(self, option: str, value: object, expected: str) -> None:
        self.option, self.value, self.expected = option, value, expected
        super().__init__(f"{option} must be {expected}, got {value!r}")


class ImageError(StcanetError):
    """An image cannot be read or is not an image."""

    def __init__(self, source: object, reason: str) -> None:
        self.source, self.reason = source, reason
        super().__init__(f"cannot read image {source}: {reason}")


class DataError(StcanetError):
    """What was given to work on (data set, images, embeddings, video, gallery) cannot be used."""


class LayoutError(DataError):
    """A folder is in none of the layouts of data sets that are known."""


class ConfigError(StcanetError, ValueError):
    """A configuration file or value is not valid."""


class CheckpointError(StcanetError):
    """A checkpoint cannot be read, or does not fit the model."""


class PackageError(StcanetError):
    """A model package is incomplete, altered, or not one."""


class ManifestError(PackageError):
    """The manifest of a model package is missing, malformed or contradicts the model."""

    def __init__(self, message: str) -> None:
        # It repeats values and names from a file of anybody, which have any length.
        super().__init__(message if len(message) <= _MOST_SIGNS else f"{message[:_MOST_SIGNS]}…")


class SignatureError(PackageError):
    """A signature was demanded of a model package, and it has none or a wrong one."""


class ParityError(StcanetError):
    """The exported model does not agree with the model it came from."""


class ProviderError(StcanetError):
    """An execution provider was asked for by name and cannot run here."""

    def __init__(self, provider: str, reason: str, hint: str = "") -> None:
        self.provider, self.reason, self.hint = provider, reason, hint
        super().__init__(f"provider '{provider}' cannot run: {reason}" + (f"; {hint}" if hint else ""))


class BackendError(StcanetError):
    """A compute backend was asked for by name and cannot run here."""

    def __init__(self, backend: str, reason: str, hint: str = "") -> None:
        self.backend, self.reason, self.hint = backend, reason, hint
        super().__init__(f"backend '{backend}' cannot run: {reason}" + (f"; {hint}" if hint else ""))


class GalleryError(StcanetError):
    """A gallery file cannot be read or written, is not one, or holds embeddings of another model."""

    def __init__(self, path: object, reason: str, hint: str = "") -> None:
        self.path, self.reason, self.hint = path, reason, hint
        super().__init__(f"gallery {path}: {reason}" + (f"; {hint}" if hint else ""))


class MemoryLimitError(StcanetError):
    """The work needs more memory than it was allowed."""

    def __init__(self, needed: int, limit: int, hint: str) -> None:
        self.needed, self.limit = needed, limit
        # The need is rounded up and the limit down, so that giving the stated need is enough, and the stated need always
        # exceeds the stated limit.
        least, most = -(-10 * needed // 2**20) / 10, 10 * limit // 2**20 / 10
        super().__init__(f"needs {least:,.1f} MiB besides the inputs, max_memory allows {most:,.1f} MiB; {hint}")


class ProcessError(StcanetError):
    """A process that works together with this one is gone."""


class DroppedError(StcanetError):
    """A frame was dropped to make room for newer ones, or was still waiting when its encoder was closed."""


class MissingDependencyError(StcanetError, ImportError):
    """An optional dependency is not installed, or does not load."""

    def __init__(self, package: str, purpose: str, extra: str, fault: ImportError | None = None) -> None:
        self.package, self.purpose, self.extra = package, purpose, extra
        self.problem = f"is installed and does not load: {fault}" if fault else "is not installed"
        super().__init__(f"{purpose} needs {package}, which {self.problem}" + ("" if fault else f"; {install_hint(extra)}"))


def install_hint(extra: str) -> str:
    """How to get an extra of the flavour that is installed: there must be one only."""
    from importlib.metadata import PackageNotFoundError, version

    name = "stcanet"  # first: building the wheel for the box leaves metadata of stcanet-runtime in the checkout
    try:
        version(name)
    except PackageNotFoundError:
        name = "stcanet-runtime"
    return f"install the extra: pip install '{name}[{extra}]'"


def quote_choices(choices: Sequence[str] | Sequence[Path]) -> str:
    """``'a', 'b' or 'c'``, for messages that name the legal values."""
    names = [f"'{choice}'" for choice in choices]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
