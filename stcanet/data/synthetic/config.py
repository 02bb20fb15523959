"""What to generate, and what was generated."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from stcanet_runtime.errors import OptionError

MIN_SIZE, MAX_SIZE = 32, 1024


@dataclass(frozen=True)
class SynthConfig:
    """A synthetic dataset in full: two equal configurations give the same pictures."""

    identities: int = 300
    """Number of people, training and test together."""
    test_identities: int = 100
    """How many of them are seen in query and gallery only; the others are the training set."""
    cameras: int = 4
    """Number of cameras; everybody walks past each of them."""
    images_per_camera: int = 4
    """Images of one person by one camera; of a test identity the first is the query, the others are gallery."""
    height: int = 128
    """Image height in pixels."""
    width: int = 64
    """Image width in pixels."""
    seed: int = 0
    """Seed of everything."""
    distractors: int = 0
    """Gallery images with the identity 0000: people nobody asks for, and false detections."""
    junk: int = 0
    """Gallery images with the identity -1: bad boxes around test identities, which evaluation drops."""
    masks: bool = False
    """Whether part masks are written, one palette PNG per image: ``masks/<stem>.png``."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            OptionError: A value is outside its range.
        """
        _check_range("identities", self.identities, 2)
        _check_range("test_identities", self.test_identities, 1, self.identities - 1)
        _check_range("cameras", self.cameras, 2)
        _check_range("images_per_camera", self.images_per_camera, 2)
        _check_range("height", self.height, MIN_SIZE, MAX_SIZE)
        _check_range("width", self.width, MIN_SIZE, MAX_SIZE)
        _check_range("seed", self.seed, 0)
        _check_range("distractors", self.distractors, 0)
        _check_range("junk", self.junk, 0)
        if not isinstance(self.masks, bool):
            raise OptionError("masks", self.masks, "true or false")

    @property
    def train_identities(self) -> int:
        """Number of identities in the training set; they are 1 … this."""
        return self.identities - self.test_identities

    def to_dict(self) -> dict[str, int]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class SynthCounts:
    """What a generated folder holds."""

    train_identities: int
    train_images: int
    test_identities: int
    query_images: int
    gallery_images: int
    """All of ``bounding_box_test/``, distractors and junk included."""
    distractors: int
    junk: int
    cameras: int
    masks: int
    """Images that have part masks."""

    def to_dict(self) -> dict[str, int]:
        """Plain values, for JSON."""
        return asdict(self)


def _check_range(option: str, value: int, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        expected = f"an integer of at least {low}" if high is None else f"an integer between {low} and {high}"
        raise OptionError(option, value, expected)
