"""``stcanet synth``: options in, folder and counts out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from stcanet.commands.synth import synth
from stcanet_runtime.errors import DataError, OptionError

SMALL = ("--identities", "4", "--cameras", "2", "--images-per-camera", "2", "--size", "64x32", "--workers", "1")


def _run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(synth)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def test_json_counts_are_what_was_written(tmp_path: Path) -> None:
    root = tmp_path / "people"
    result = _run(root, *SMALL, "--distractors", "3", "--junk", "2", "--json")
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    assert counts["out"] == str(root)
    assert result.stdout == json.dumps(counts, indent=2) + "\n"
    assert (counts["train_identities"], counts["test_identities"]) == (3, 1)
    for key, folder in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test")):
        assert counts[f"{key}_images"] == len(list((root / folder).iterdir())) > 0
    assert len(list((root / "bounding_box_test").glob("0000_*"))) == counts["distractors"] == 3
    assert len(list((root / "bounding_box_test").glob("-1_*"))) == counts["junk"] == 2


def test_size_and_masks(tmp_path: Path) -> None:
    result = _run(tmp_path / "people", *SMALL, "--masks", "--distractors", "1")
    assert result.exit_code == 0, result.output
    assert "images of 1 identity\n" in result.stdout
    assert "1 distractor, 0 junk" in result.stdout
    assert re.search(r"masks +17\b", result.stdout)
    for pattern in ("query/*.jpg", "masks/*.png"):
        with Image.open(next((tmp_path / "people").glob(pattern))) as image:
            assert image.size == (32, 64)


def test_the_seed_decides_the_pictures(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert _run(tmp_path / name, *SMALL, "--seed", seed).exit_code == 0
    first, same, other = (next(iter(sorted((tmp_path / name / "query").iterdir()))).read_bytes() for name in "abc")
    assert first == same != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "8x8"), "height must be an integer between"),
        (("--cameras", "1"), "cameras must be an integer of at least 2, got 1"),
        (("--identities", "-3"), "identities"),
        (("--test-identities", "4"), "test_identities"),
        (("--seed", "-1"), "seed"),
        (("--workers", "0"), "workers"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = _run(tmp_path / "people", *SMALL, *arguments)
    assert isinstance(result.exception, OptionError)
    assert message in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["big", "128", "0x64", "64x32x3", "-64x32"])
def test_a_size_that_is_none_has_status_two(tmp_path: Path, size: str) -> None:
    result = _run(tmp_path / "people", *SMALL, "--size", size)
    assert result.exit_code == 2
    assert "HEIGHTxWIDTH" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    result = _run(tmp_path, *SMALL)
    assert isinstance(result.exception, DataError)
    assert "holiday.jpg" in str(result.exception)
