"""Label maps and parsing models to part masks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from stcanet.data.masks import MaskFolder
from stcanet.data.masks.grouping import ParserSpec, load_grouping
from stcanet.data.masks.labels import read_label_map, read_names
from stcanet.data.masks.layout import COLORS
from stcanet.data.masks.making import draw_masks, make_masks
from stcanet.data.masks.parser import HumanParser
from stcanet.data.matlab import load_mat
from stcanet_runtime.errors import ConfigError, DataError, MissingDependencyError, PackageError

RECIPES = Path(__file__).parents[2] / "recipes"


def _grouping(folder: Path, text: str) -> Path:
    path = folder / "grouping.toml"
    path.write_text(text)
    return path


def test_the_labels_of_lip_are_grouped_as_specified() -> None:
    parts = load_grouping()(np.arange(20, dtype=np.uint8)[None])[0]
    expected = {1: {1, 2, 4, 13}, 2: {3, 5, 6, 7, 10, 11, 14, 15}, 3: {9, 12, 16, 17}, 4: {8, 18, 19}, 0: {0}}
    assert {part: set(np.flatnonzero(parts == part).tolist()) for part in range(5)} == expected
    assert load_grouping().parser == ParserSpec()


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_grouping_of_names_and_numbers(tmp_path: Path, end: str) -> None:
    (tmp_path / "names.txt").write_text(f"nothing\ncap\ncoat\nboot{end}")
    table = load_grouping(_grouping(tmp_path, 'label_file = "names.txt"\n[parts]\nhead = ["cap", 7]\nshoes = ["boot"]')).table
    assert (table[1], table[7], table[3], table[2]) == (1, 1, 4, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[parts", "cannot read"),
        ('[parts]\nhead = ["hut"]', "no label 'hut'; known are none: give labels"),
        ('labels = ["a"]\n[parts]\nhead = ["b"]', "no label 'b'; known are a"),
        ("[parts]\nhead = [1]\nshoes = [1]", "in two parts: head and shoes"),
        ("[parts]\nhead = [256]", "from 0 to 255"),
        ("[parts]\nhead = [true]", "no label True"),
        ("[parts]\nhands = [1]", "parts.hands; known are head"),
        ("other = 1\n[parts]\nhead = [1]", "unknown setting other; known are 'labels'"),
        ("labels = []", "a table with labels for head"),
        ("parts = 3", "parts must be a table"),
        ("[parts]\nhead = 5", "parts.head must be a list of labels, got 5"),
        ('[parts]\nhead = "hat"', "parts.head must be a list of labels, got 'hat'"),
        ("labels = 5\n[parts]\nhead = [1]", "labels must be a list of any number of values, got 5"),
        ('labels = [1]\n[parts]\nhead = ["a"]', "labels must be a text, got 1"),
        ("label_file = 5\n[parts]\nhead = [1]", "label_file must be a text, got 5"),
        ("[parts]\nhead = [1]\n[parser]\nheight = 0", "parser.height must be at least 1 pixel, got 0"),
        ("[parts]\nhead = [1]\n[parser]\nstd = [0, 1, 1]", "parser.std must be three numbers above 0"),
        ('[parts]\nhead = [1]\n[parser]\noutput = "x"', "parser.output must be 'nchw', 'nhwc' or 'labels', got 'x'"),
        ("[parts]\nhead = [1]\n[parser]\nsize = 1", "parser.size"),
        ("parser = 3\n[parts]\nhead = [1]", "parser must be a table of settings, got 3"),
        ("[parts]\nhead = [1]\n[parser]\nmean = [0, 1]", "parser.mean must be a list of 3 values"),
        ('label_file = "absent.txt"\n[parts]\nhead = [1]', "absent.txt"),
    ],
)
def test_a_bad_grouping_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load_grouping(_grouping(tmp_path, text))


def test_masks_of_label_maps_are_made_once_and_gone_on_with(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for stem, value in (("0001", 13), ("0002", 18)):
        Image.fromarray(np.full((6, 3), value, np.uint8)).save(labels / f"{stem}.png")
    sources, seen = sorted(labels.iterdir()), []
    out = tmp_path / "masks"
    assert make_masks(sources[:1], read_label_map, load_grouping(), out) == 1
    before = (out / "0001.png").stat().st_mtime_ns
    assert make_masks(sources, read_label_map, load_grouping(), out, lambda done, total: seen.append((done, total))) == 1
    assert seen == [(1, 2), (2, 2)]
    assert (out / "0001.png").stat().st_mtime_ns == before
    masks = MaskFolder(out)
    assert (masks.read("0001.jpg", 6, 3) == 1).all()
    assert (masks.read("0002.jpg", 6, 3) == 4).all()
    (tmp_path / "0001.mat").touch()
    with pytest.raises(DataError, match="same mask"):
        make_masks([*sources, tmp_path / "0001.mat"], read_label_map, load_grouping(), out)


def test_labels_of_another_kind_are_refused(tmp_path: Path) -> None:
    """Those of CCP are 59: by the 20 of LIP a vest would be a face, and skin nothing."""
    labels, out = np.array([[0, 13, 19, 255]], np.uint8), tmp_path / "masks"
    for label in (255, 20):
        labels[0, 0] = label
        Image.fromarray(labels).save(tmp_path / f"{label}.png")
    assert make_masks([tmp_path / "255.png"], read_label_map, load_grouping(), out) == 1  # what nobody labelled
    with pytest.raises(DataError, match=r"20\.png: its label 20 is none of the 20 of the grouping"):
        make_masks([tmp_path / "20.png"], read_label_map, load_grouping(), out)
    numbers = load_grouping(_grouping(tmp_path, "[parts]\nhead = [13]"))
    assert numbers(labels).tolist() == [[0, 1, 0, 0]]
    named = load_grouping(_grouping(tmp_path, 'labels = ["nothing"]\n[parts]\nhead = [13, 19, 20]'))
    assert named(labels).tolist() == [[1, 1, 1, 0]]


def test_label_maps_and_names_in_matlab_files(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    labels = np.random.default_rng(0).integers(0, 59, (7, 5), dtype=np.uint8)
    beside = {"scale": 2.0, "row": np.arange(4), "column": np.arange(4)[:, None], "cells": np.full((2, 2), "a", object)}
    scipy_io.savemat(tmp_path / "0001.mat", {"groundtruth": labels, **beside})
    assert_array_equal(read_label_map(tmp_path / "0001.mat"), labels)
    names = np.array([["null", "hair"]], dtype=object)
    scipy_io.savemat(tmp_path / "names.mat", {"label_list": names})
    assert read_names(tmp_path / "names.mat") == ["null", "hair"]
    scipy_io.savemat(tmp_path / "two.mat", {"a": labels, "b": labels})
    with pytest.raises(DataError, match=r"one label map \[H, W\], it holds a, b"):
        read_label_map(tmp_path / "two.mat")
    scipy_io.savemat(tmp_path / "scores.mat", {"a": np.zeros((7, 5, 20))})
    with pytest.raises(DataError, match=r"one label map \[H, W\], it holds a$"):
        read_label_map(tmp_path / "scores.mat")
    scipy_io.savemat(tmp_path / "half.mat", {"a": labels + 0.5})
    with pytest.raises(DataError, match="no labels from 0 to 255"):
        read_label_map(tmp_path / "half.mat")
    (tmp_path / "no.mat").write_bytes(b"x" * 200)
    with pytest.raises(DataError, match="MATLAB"):
        read_label_map(tmp_path / "no.mat")
    with pytest.raises(DataError, match=r"none\.mat: no such file"):
        read_label_map(tmp_path / "none.mat")


def test_few_bytes_of_a_matlab_file_do_not_get_much_memory(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(tmp_path / "0001.mat", {"map": np.zeros((5_000, 4_001), np.uint8)}, do_compression=True)
    with pytest.raises(DataError, match="'map' claims 20,005,000 values"):
        read_label_map(tmp_path / "0001.mat")
    scipy_io.savemat(tmp_path / "names.mat", {"names": np.zeros((5_000, 4_001), np.uint8)}, do_compression=True)
    with pytest.raises(ConfigError, match="'names' claims"):
        read_names(tmp_path / "names.mat")


def test_matlab_files_without_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    for read in (read_label_map, read_names, load_mat):
        with pytest.raises(MissingDependencyError, match=r"needs scipy.*\[mat\]"):
            read(tmp_path / "0001.mat")


def _save_parser(path: Path, nodes: list[onnx.NodeProto], shape: list[object], kind: int = TensorProto.FLOAT) -> Path:
    """A model that calls a pixel label 2 where its blue is above its red in the input of the model, else label 1."""
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, :, 0, 0] = -100
    kernel[1, 0, 0, 0], kernel[2, 2, 0, 0] = 1, 1
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["scores"]), *nodes],
        "parser",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 4])],
        [helper.make_tensor_value_info(nodes[-1].output[0] if nodes else "scores", kind, shape)],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.array([2], np.int64), "two")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Red above, blue below; 32×16."""
    pixels = np.full((32, 16, 3), 200, np.uint8)
    pixels[:16, :, 2], pixels[16:, :, 0] = 30, 30
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "0001.png")
    return folder / "0001.png"


@pytest.mark.parametrize("output", ["nchw", "nhwc", "labels"])
def test_a_parser_of_every_output(tmp_path: Path, picture: Path, output: str) -> None:
    nodes = {
        "nchw": [],
        "nhwc": [helper.make_node("Transpose", ["scores"], ["out"], perm=[0, 2, 3, 1])],
        "labels": [helper.make_node("ArgMax", ["scores"], ["out"], axis=1, keepdims=0)],
    }[output]
    shape = {"nchw": [1, 3, 8, 4], "nhwc": [1, 8, 4, 3], "labels": [1, 8, 4]}[output]
    model = _save_parser(tmp_path / "parser.onnx", nodes, shape, TensorProto.INT64 if output == "labels" else TensorProto.FLOAT)
    zero_one = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    labels = HumanParser(model, ParserSpec(8, 4, output=output, **zero_one), "cpu")(picture)  # type: ignore[arg-type]
    assert labels.shape == (32, 16)
    assert (labels[:12] == 1).all()
    assert (labels[20:] == 2).all()
    swapped = HumanParser(model, ParserSpec(8, 4, channels="bgr", output=output, **zero_one), "cpu")(picture)  # type: ignore[arg-type]
    assert (swapped[:12] == 2).all()
    # Mean and standard deviation are applied: with a mean near 1, or a large deviation, blue never wins.
    for numbers in ({**zero_one, "mean": (0.0, 0.0, 0.9)}, {**zero_one, "std": (1.0, 1.0, 10.0)}):
        spec = ParserSpec(8, 4, output=output, **numbers)  # type: ignore[arg-type]
        assert (HumanParser(model, spec, "cpu")(picture)[20:] == 1).all()


def test_between_two_labels_there_is_none(tmp_path: Path, picture: Path) -> None:
    nodes = [
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        helper.make_node("Mul", ["label", "two"], ["out"]),
    ]
    model = _save_parser(tmp_path / "parser.onnx", nodes, [1, 8, 4], TensorProto.INT64)
    spec = ParserSpec(8, 4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), output="labels")
    assert np.unique(HumanParser(model, spec, "cpu")(picture)).tolist() == [2, 4]


def test_a_parser_of_another_size_or_output_is_refused(tmp_path: Path, picture: Path) -> None:
    model = _save_parser(tmp_path / "parser.onnx", [], [1, 3, 8, 4])
    with pytest.raises(PackageError, match=r"\[1, 3, 8, 4\], and the settings say \[1, 3, 256, 256\]"):
        HumanParser(model, ParserSpec(), "cpu")
    with pytest.raises(DataError, match="not 'labels'"):
        HumanParser(model, ParserSpec(8, 4, output="labels"), "cpu")(picture)


@pytest.mark.parametrize(
    ("output", "value", "message"),
    [
        ("nchw", np.nan, "no numbers"),
        ("labels", np.nan, "no numbers"),
        ("labels", 2.7, "no whole numbers from 0 to 255"),
        ("labels", 256, "no whole numbers from 0 to 255"),
        ("labels", np.inf, "no whole numbers from 0 to 255"),
    ],
)
def test_a_parser_of_no_labels_is_refused(tmp_path: Path, picture: Path, output: str, value: float, message: str) -> None:
    """NaN would be background, and 2.7 would be 2."""
    shape = [1, 8, 4] if output == "labels" else [1, 3, 8, 4]
    constant = numpy_helper.from_array(np.full(shape, value, np.float32))
    model = _save_parser(tmp_path / "parser.onnx", [helper.make_node("Constant", [], ["out"], value=constant)], shape)
    with pytest.raises(DataError, match=f"parser.onnx gives .*{message}"):
        HumanParser(model, ParserSpec(8, 4, output=output), "cpu")(picture)  # type: ignore[arg-type]


def test_the_sheet_shows_images_with_masks(tmp_path: Path, picture: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        draw_masks(picture.parent, tmp_path, tmp_path / "sheet.png")
    Image.fromarray(np.full((8, 4), 13, np.uint8)).save(tmp_path / "0001.png")
    make_masks([tmp_path / "0001.png"], read_label_map, load_grouping(), tmp_path / "masks")
    draw_masks(picture.parent, tmp_path / "masks", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        x, y = 130, sheet.height - 16 - 28 - 192  # in the upper half of the lower picture, which is above the legend
        assert sheet.getpixel((x, y - 256 - 6)) == pytest.approx((200, 200, 30), abs=5)
        assert sheet.getpixel((x, y)) == pytest.approx((220, 122, 56), abs=5)  # 0.65 of the colour of heads
        row = [sheet.getpixel((x, sheet.height - 16 - 7)) for x in range(sheet.width)]
        assert [color for color in dict.fromkeys(row) if color in COLORS] == list(COLORS[1:])  # the legend, whole
    with pytest.raises(DataError, match="holds the value 13; a part map has"):
        draw_masks(picture.parent, tmp_path, tmp_path / "sheet.png")


def test_the_recipe_for_ccp_is_a_grouping() -> None:
    table = load_grouping(RECIPES / "masks/ccp.toml").table
    assert (table[19], table[38], table[25], table[39], table[41]) == (1, 2, 3, 4, 0)  # hair, shirt, jeans, shoes, skin
