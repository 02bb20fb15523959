"""What makes an identity: a body, a head and clothes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

from stcanet.data.synthetic.canvas import Colour
from stcanet.data.synthetic.seeding import Stream, generator

Hair = Literal["short", "long", "ponytail", "bun", "bald"]
Hat = Literal["none", "cap", "beanie"]
Upper = Literal["tshirt", "longsleeve", "jacket", "coat"]
Pattern = Literal["plain", "hoops", "pinstripes", "logo", "block", "yoke", "sleeves"]
Lower = Literal["trousers", "shorts", "skirt", "long_skirt"]
Bag = Literal["none", "backpack", "shoulder", "hand"]

# Weights follow the street: dark and grey clothes are common, bright ones are not, so many people look alike.
_FABRICS: tuple[tuple[Colour, float], ...] = (
    ((30, 30, 34), 5), ((68, 70, 76), 3), ((128, 130, 134), 3), ((188, 188, 190), 2), ((234, 234, 230), 4),
    ((34, 44, 88), 3), ((70, 98, 146), 3), ((140, 178, 216), 2), ((204, 184, 150), 2), ((108, 76, 52), 2),
    ((94, 100, 58), 1.5), ((46, 122, 70), 1.5), ((184, 40, 44), 2.5), ((108, 28, 50), 1.5), ((224, 150, 172), 1.5),
    ((220, 118, 44), 1.5), ((224, 192, 66), 1.5), ((106, 66, 140), 1.5), ((38, 130, 138), 1.5),
)  # fmt: skip
_LEGWEAR: tuple[tuple[Colour, float], ...] = (
    ((28, 28, 32), 5), ((66, 68, 74), 3), ((36, 44, 78), 4), ((74, 98, 140), 4), ((126, 128, 132), 1.5),
    ((198, 178, 144), 2), ((104, 78, 56), 1.5), ((92, 96, 62), 1.5), ((226, 226, 222), 1.5), ((150, 44, 50), 1),
)  # fmt: skip
_SKINS: tuple[tuple[Colour, float], ...] = (
    ((244, 210, 184), 3), ((226, 184, 150), 4), ((198, 150, 112), 3), ((150, 104, 74), 2), ((96, 66, 50), 2),
)  # fmt: skip
_HAIRS: tuple[tuple[Colour, float], ...] = (
    ((24, 20, 20), 5), ((62, 42, 30), 4), ((112, 76, 44), 2), ((198, 160, 96), 2),
    ((150, 150, 150), 1), ((140, 62, 34), 1),
)  # fmt: skip
_SHOES: tuple[tuple[Colour, float], ...] = (
    ((26, 24, 24), 4), ((236, 236, 234), 4), ((104, 70, 46), 2),
    ((180, 44, 48), 1), ((44, 70, 140), 1), ((120, 120, 124), 1),
)  # fmt: skip

_LOOKALIKE_SHARE = 0.4


@dataclass(frozen=True)
class Build:
    """Proportions of a body, in units of its height."""

    shoulder_height: float
    shoulder_width: float
    hip_height: float
    hip_width: float
    waist_width: float
    girth: float
    """Factor on the thickness of trunk and limbs."""
    head: float
    """Factor on the size of the head."""


@dataclass(frozen=True)
class Clothes:
    """What a person wears."""

    upper: Upper
    upper_colour: Colour
    accent: Colour
    pattern: Pattern
    lower: Lower
    lower_colour: Colour
    shoe_colour: Colour
    boots: bool
    bag: Bag
    bag_colour: Colour
    bag_side: int


@dataclass(frozen=True)
class Person:
    """One identity."""

    build: Build
    skin: Colour
    hair: Hair
    hair_colour: Colour
    hat: Hat
    hat_colour: Colour
    clothes: Clothes


def identity(seed: int, pid: int) -> Person:
    """The person with an identity number.

    Some people wear the colours of the person before them: a picture of colours alone cannot tell them apart.

    Args:
        seed: Seed of the dataset.
        pid: Identity, 1 or more.

    Returns:
        The person, whatever else was asked before.
    """
    rng = generator(seed, Stream.PERSON, pid)
    lookalike = pid > 1 and rng.random() < _LOOKALIKE_SHARE
    person = sample_person(rng)
    if not lookalike:
        return person
    worn = identity(seed, pid - 1).clothes
    dress = replace(person.clothes, upper_colour=worn.upper_colour, accent=worn.accent, lower_colour=worn.lower_colour)
    return replace(person, clothes=dress)


def sample_person(rng: np.random.Generator) -> Person:
    """A random person."""
    return Person(
        build=_build(rng),
        skin=_colour(rng, _SKINS, 6),
        hair=cast("Hair", _pick(rng, {"short": 5, "long": 3, "ponytail": 1.5, "bun": 1, "bald": 1})),
        hair_colour=_colour(rng, _HAIRS, 6),
        hat=cast("Hat", _pick(rng, {"none": 7, "cap": 1.5, "beanie": 1.5})),
        hat_colour=_colour(rng, _FABRICS, 10),
        clothes=_clothes(rng),
    )


def _build(rng: np.random.Generator) -> Build:
    girth = float(np.clip(rng.normal(1.0, 0.14), 0.78, 1.4))
    shoulders = rng.uniform(0.094, 0.122) * (0.8 + 0.2 * girth)
    return Build(
        shoulder_height=rng.uniform(0.805, 0.83),
        shoulder_width=shoulders,
        hip_height=rng.uniform(0.47, 0.53),
        hip_width=rng.uniform(0.076, 0.1) * (0.7 + 0.3 * girth),
        waist_width=shoulders * rng.uniform(0.68, 0.86) * (0.55 + 0.45 * girth),
        girth=girth,
        head=rng.uniform(0.92, 1.1),
    )


def _clothes(rng: np.random.Generator) -> Clothes:
    upper_colour = _colour(rng, _FABRICS, 8)
    patterns = {"plain": 4, "hoops": 2, "pinstripes": 1, "logo": 2, "block": 1.5, "yoke": 1.5, "sleeves": 1.5}
    return Clothes(
        upper=cast("Upper", _pick(rng, {"tshirt": 4, "longsleeve": 3, "jacket": 3, "coat": 1.5})),
        upper_colour=upper_colour,
        accent=_contrasting(rng, upper_colour),
        pattern=cast("Pattern", _pick(rng, patterns)),
        lower=cast("Lower", _pick(rng, {"trousers": 6, "shorts": 2, "skirt": 1.5, "long_skirt": 1})),
        lower_colour=_colour(rng, _LEGWEAR, 8),
        shoe_colour=_colour(rng, _SHOES, 6),
        boots=rng.random() < 0.2,
        bag=cast("Bag", _pick(rng, {"none": 4, "backpack": 3, "shoulder": 2, "hand": 1.5})),
        bag_colour=_colour(rng, _FABRICS, 10),
        bag_side=1 if rng.random() < 0.5 else -1,
    )


def _pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    values = np.fromiter(weights.values(), np.float64)
    return list(weights)[int(rng.choice(len(values), p=values / values.sum()))]


def _colour(rng: np.random.Generator, table: tuple[tuple[Colour, float], ...], jitter: float) -> Colour:
    weights = np.array([weight for _, weight in table])
    base = table[int(rng.choice(len(table), p=weights / weights.sum()))][0]
    red, green, blue = np.clip(np.add(base, rng.normal(0, jitter, 3)), 8, 248).astype(int).tolist()
    return red, green, blue


def _contrasting(rng: np.random.Generator, colour: Colour) -> Colour:
    while True:
        accent = _colour(rng, _FABRICS, 8)
        if sum(abs(a - b) for a, b in zip(accent, colour, strict=True)) > 150:
            return accent
