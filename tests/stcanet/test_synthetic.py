"""The synthetic dataset: its layout, its determinism, and that pictures and masks show the same person."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from renames import interrupt_the_second_rename

from stcanet.config import PARTS
from stcanet.data.synthetic import (
    MARKER,
    Shot,
    Split,
    SynthConfig,
    count,
    generate,
    list_shots,
    render,
    writer,
)
from stcanet.data.synthetic.camera import camera
from stcanet.data.synthetic.person import identity
from stcanet_runtime.errors import DataError, OptionError

SMALL = SynthConfig(
    identities=5, test_identities=2, cameras=3, images_per_camera=2, height=64, width=32, seed=7, distractors=4, junk=3
)
NAME = re.compile(r"(-1|\d{4,})_c(\d+)s1_\d{6}_00\.jpg")
GOLDEN_BLOCKS = [[132, 128], [162, 142], [107, 99], [128, 124]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "people"
    generate(root, replace(SMALL, masks=True))
    return root


def _names(folder: Path) -> list[tuple[int, int]]:
    matches = [NAME.fullmatch(path.name) for path in sorted(folder.iterdir())]
    assert all(matches)
    return [(int(match[1]), int(match[2])) for match in matches if match]


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _pixels(config: SynthConfig, shot: Shot) -> NDArray[np.float32]:
    return np.asarray(render(config, shot).image, np.float32)


def test_layout_and_counts(dataset: Path) -> None:
    counts = count(SMALL)
    assert len(_names(dataset / "bounding_box_train")) == counts.train_images == 3 * 3 * 2
    assert len(_names(dataset / "query")) == counts.query_images == 2 * 3
    gallery = Counter(pid for pid, _ in _names(dataset / "bounding_box_test"))
    assert gallery == {4: 3, 5: 3, 0: 4, -1: 3}
    assert sum(gallery.values()) == counts.gallery_images
    written = json.loads((dataset / MARKER).read_text())
    assert written["config"]["seed"] == 7
    assert written["counts"]["masks"] == sum(1 for _ in (dataset / "masks").iterdir())


def test_images_have_the_asked_size(dataset: Path) -> None:
    for path in dataset.glob("*/*.jpg"):
        with Image.open(path) as image:
            assert (image.size, image.mode, image.format) == ((32, 64), "RGB", "JPEG")


def test_identities_of_training_and_test_are_disjoint(dataset: Path) -> None:
    train = {pid for pid, _ in _names(dataset / "bounding_box_train")}
    test = {pid for folder in ("query", "bounding_box_test") for pid, _ in _names(dataset / folder)}
    assert train == {1, 2, 3}
    assert test - {0, -1} == {4, 5}


def test_every_query_has_a_match_in_another_camera(dataset: Path) -> None:
    gallery = _names(dataset / "bounding_box_test")
    for pid, here in _names(dataset / "query"):
        assert any(pid == other and here != elsewhere for other, elsewhere in gallery)


@given(
    identities=st.integers(2, 40),
    cameras=st.integers(2, 12),
    images=st.integers(2, 6),
    extras=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    data=st.data(),
)
@settings(max_examples=50)
def test_shots_are_distinct_and_counted(
    identities: int, cameras: int, images: int, extras: tuple[int, int], data: st.DataObject
) -> None:
    config = SynthConfig(
        identities=identities,
        test_identities=data.draw(st.integers(1, identities - 1)),
        cameras=cameras,
        images_per_camera=images,
        distractors=extras[0],
        junk=extras[1],
    )
    shots = list_shots(config)
    counts = count(config)
    assert len({shot.stem for shot in shots}) == len(shots)  # also across folders: masks share one
    by_split = Counter(shot.split for shot in shots)
    expected = (counts.train_images, counts.query_images, counts.gallery_images)
    assert tuple(by_split[split] for split in (Split.TRAIN, Split.QUERY, Split.GALLERY)) == expected
    assert all(shot.subject > config.train_identities for shot in shots if shot.pid == -1)


def test_the_same_seed_gives_the_same_files_whatever_the_processes(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_PIECE", 7)
    generate(tmp_path / "again", replace(SMALL, masks=True), workers=2)
    assert _files(tmp_path / "again") == _files(dataset)


def test_an_image_does_not_depend_on_what_was_drawn_before() -> None:
    shots = list_shots(SMALL)
    forwards = [render(SMALL, shot).jpeg for shot in shots[:6]]
    np.random.default_rng(0).random()
    backwards = [render(SMALL, shot).jpeg for shot in reversed(shots[:6])]
    assert forwards == backwards[::-1]


def test_another_seed_gives_other_people_and_more_identities_the_same_ones() -> None:
    shot = list_shots(SMALL)[0]
    assert np.abs(_pixels(SMALL, shot) - _pixels(replace(SMALL, seed=8), shot)).mean() > 10
    assert render(SMALL, shot).jpeg == render(replace(SMALL, identities=50), shot).jpeg


def test_golden_picture() -> None:
    """Known block means, with room for another Pillow: a change of the drawing has to be on purpose."""
    picture = render(SynthConfig(seed=3), Shot(Split.TRAIN, 2, 0, 1, 2)).image
    blocks = np.asarray(picture.resize((2, 4), Image.Resampling.BOX), np.float32).mean(axis=2)
    np.testing.assert_allclose(blocks, GOLDEN_BLOCKS, atol=3)


def test_images_of_a_person_and_a_camera_differ() -> None:
    first, second = (_pixels(SMALL, Shot(Split.TRAIN, 1, 0, index, 1)) for index in (0, 1))
    assert np.abs(first - second).mean() > 5


def test_cameras_make_different_pictures_of_the_same_grey() -> None:
    grey = Image.new("RGB", (16, 32), (128, 128, 128))
    sources = [camera(0, number, 32) for number in range(6)]
    means = [
        np.mean([np.asarray(source.expose(grey, np.random.default_rng(draw))) for draw in range(20)], axis=(0, 1, 2))
        for source in sources
    ]
    assert min(np.abs(a - b).max() for number, a in enumerate(means) for b in means[:number]) > 10


def test_some_people_wear_the_colours_of_another_one_and_yet_differ() -> None:
    people = [identity(0, pid) for pid in range(1, 101)]
    outfits = Counter((person.clothes.upper_colour, person.clothes.lower_colour) for person in people)
    assert 20 < sum(number for number in outfits.values() if number > 1) < 90
    assert len(set(people)) == len(people)


@pytest.mark.parametrize("size", [(128, 64), (256, 128), (61, 47)])
def test_masks_lie_on_the_person(size: tuple[int, int]) -> None:
    config = SynthConfig(height=size[0], width=size[1])
    rows = []
    for pid in range(1, 13):
        parts = render(config, Shot(Split.TRAIN, pid, 0, 0, pid), with_parts=True).parts
        assert parts is not None
        assert parts.shape == size
        assert set(np.unique(parts)) <= set(range(len(PARTS) + 1))
        assert 0.08 < (parts > 0).mean() < 0.6
        rows.append(
            [np.nonzero(parts == part)[0].mean() / size[0] if (parts == part).any() else np.nan for part in range(1, 5)]
        )
    heights = np.nanmean(rows, axis=0)
    assert (np.diff(heights) > 0.1).all()  # head above upper clothes above lower clothes above shoes
    assert heights[0] < 0.25
    assert heights[3] > 0.8


def test_masks_show_where_the_colours_of_the_person_are() -> None:
    """Recolouring the upper clothes changes the picture inside the mask of the upper clothes, and hardly outside."""
    config, shot = SynthConfig(seed=5), Shot(Split.TRAIN, 4, 1, 0, 4)
    before = render(config, shot, with_parts=True)
    person = identity(5, 4)
    dressed = replace(person, clothes=replace(person.clothes, upper_colour=(250, 20, 250), accent=(250, 20, 250)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stcanet.data.synthetic.scene.identity", lambda *_: dressed)
        after = render(config, shot)
    changed = np.abs(np.asarray(before.image, np.float32) - np.asarray(after.image, np.float32)).max(axis=2) > 25
    assert before.parts is not None
    upper = before.parts == 1 + PARTS.index("upper_clothes")
    assert changed.sum() > 200
    assert upper[changed].mean() > 0.85
    assert changed[upper].mean() > 0.6  # the rest is skin


def test_indexed_masks_are_palette_images_of_part_numbers(dataset: Path) -> None:
    images = {path.stem for path in dataset.glob("*/*.jpg")}
    masks = sorted((dataset / "masks").iterdir())
    assert {path.stem for path in masks} == images
    with Image.open(masks[-1]) as mask:
        assert (mask.mode, mask.size) == ("P", (32, 64))
        assert set(np.unique(np.asarray(mask))) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("identities", 1),
        ("test_identities", 0),
        ("test_identities", 300),
        ("cameras", 1),
        ("images_per_camera", 1),
        ("height", 8),
        ("width", 5000),
        ("seed", -1),
        ("distractors", -2),
        ("junk", True),
        ("cameras", 2.0),
        ("masks", "five"),
    ],
)
def test_a_bad_option_is_named(option: str, value: object) -> None:
    with pytest.raises(OptionError, match=option) as caught:
        SynthConfig(**{option: value})  # type: ignore[arg-type]
    assert (caught.value.option, caught.value.value) == (option, value)


def test_no_processes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="workers"):
        generate(tmp_path / "people", SMALL, workers=0)


def test_a_folder_of_others_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        generate(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_dataset_of_real_people_is_not_replaced(tmp_path: Path) -> None:
    for split in Split:
        (tmp_path / split).mkdir()
    with pytest.raises(DataError, match="was not made by this generator"):
        generate(tmp_path, SMALL)


def test_an_own_folder_with_something_added_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "people"
    generate(root, SMALL)
    (root / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        generate(root, SMALL, force=True)
    assert (root / "notes.txt").exists()


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "people").write_text("")
    with pytest.raises(DataError, match="a file of that name"):
        generate(tmp_path / "people", SMALL)


def test_an_empty_folder_is_filled_and_an_own_one_replaced_by_force(tmp_path: Path) -> None:
    root = tmp_path / "people"
    root.mkdir()
    generate(root, replace(SMALL, masks=True))
    before = _files(root)
    for same in (SMALL, replace(SMALL, masks=True)):
        with pytest.raises(DataError, match="holds a synthetic dataset already; replace it with --force"):
            generate(root, same)
    assert _files(root) == before
    generate(root, replace(SMALL, cameras=2), force=True)
    assert not (root / "masks").exists()
    assert {camera for _, camera in _names(root / "query")} == {1, 2}
    assert [path.name for path in tmp_path.iterdir()] == ["people"]


def test_an_interrupted_run_leaves_what_was_there(tmp_path: Path) -> None:
    root = tmp_path / "people"
    generate(root, SMALL)
    before = _files(root)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for target in (root, tmp_path / "other"):
        with pytest.raises(KeyboardInterrupt):
            generate(target, replace(SMALL, seed=1), progress=interrupt, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["people"]
    assert _files(root) == before


def test_an_interrupt_between_the_two_renames_keeps_the_old_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "people"
    generate(root, SMALL)
    before = _files(root)
    interrupt_the_second_rename(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        generate(root, replace(SMALL, seed=1), force=True)
    assert _files(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["people"]


def test_what_came_while_it_was_drawn_stays(tmp_path: Path) -> None:
    root = tmp_path / "people"

    def meanwhile(done: int, total: int) -> None:
        root.mkdir(exist_ok=True)
        (root / "notes.txt").write_text("years of work")

    with pytest.raises(DataError, match=r"notes\.txt"):
        generate(root, SMALL, progress=meanwhile)
    assert _files(tmp_path) == {"people/notes.txt": b"years of work"}


def test_progress_ends_at_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_PIECE", 10)
    seen: list[tuple[int, int]] = []
    generate(tmp_path / "people", SMALL, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 37), (20, 37), (30, 37), (37, 37)]


def test_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import stcanet.data.synthetic, stcanet.commands.synth"
    subprocess.run([sys.executable, "-c", code], check=True)
