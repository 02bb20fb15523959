"""Evaluation of real tracklets in the MARS layout. The images are research-only and never part of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from stcanet.config import make_config
from stcanet.data.datasets import ReIDDataset, load_dataset
from stcanet.engine.checkpoint import load_checkpoint
from stcanet.engine.embedding import embed, evaluate_model
from stcanet.engine.trainer import train
from stcanet.model import STCANet, build_model
from stcanet_export.package import export_package
from stcanet_runtime import Encoder, Gallery
from stcanet_runtime.inference.tracklets import ALL_FRAMES, Sampling, cut_clips

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("STCANET_REAL_DATA" not in os.environ, reason="STCANET_REAL_DATA names no folder with real images"),
]


@pytest.fixture(scope="module")
def caviar() -> ReIDDataset:
    return load_dataset(Path(os.environ["STCANET_REAL_DATA"]) / "caviar")


def make_towncentre(source: Path, root: Path, count: int | None = None, pieces: int = 3) -> Path:
    """The first tracklets of a street camera in the MARS layout, as links.

    One camera gives no person twice, so every tracklet is cut into pieces that stand for cameras: easier than MARS, since a
    person has the same clothes, light and often pose in all of them. Every second person is trained on; the first piece of
    each of the others is a query.
    """
    scipy_io = pytest.importorskip("scipy.io")
    (root / "info").mkdir(parents=True)
    people = [sorted(folder.glob("*.jpg")) for folder in sorted(source.iterdir()) if folder.is_dir()][:count]
    for side, first in (("train", 0), ("test", 1)):
        names: list[str] = []
        tracks = []
        for pid in range(first, len(people), 2):
            (root / f"bbox_{side}" / f"{pid + 1:04d}").mkdir(parents=True)
            for camera, piece in enumerate(np.array_split(np.array(people[pid]), pieces), 1):
                tracks.append((len(names) + 1, len(names) + len(piece), pid + 1, camera))
                for frame, image in enumerate(piece, 1):
                    names.append(f"{pid + 1:04d}C{camera}T0001F{frame:03d}.jpg")
                    (root / f"bbox_{side}" / f"{pid + 1:04d}" / names[-1]).symlink_to(image)
        (root / "info" / f"{side}_name.txt").write_text("\n".join(names))
        scipy_io.savemat(root / "info" / f"tracks_{side}_info.mat", {f"track_{side}_info": np.array(tracks)})
    queries = np.arange(1, len(tracks) + 1, pieces)[None]
    scipy_io.savemat(root / "info" / "query_IDX.mat", {"query_IDX": queries})
    return root


@pytest.fixture(scope="module")
def model() -> STCANet:
    """A small network of clips, untrained, whose batch normalisations do something."""
    torch.manual_seed(0)
    network = build_model("stcanet-video", backbone="resnet18", height=64, width=32)
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def queries(caviar: ReIDDataset) -> list[int]:
    """How many clips of four each query tracklet has."""
    return [len(cut_clips(len(sample.frames), 4)) for sample in caviar.query]


def test_the_queries_stand_in_the_gallery(caviar: ReIDDataset, queries: list[int]) -> None:
    assert caviar.tracklets
    assert (len(caviar.query), len(caviar.gallery)) == (25, 72)
    assert set(caviar.query) <= set(caviar.gallery)
    assert max(queries) > 1  # or the average over clips would not be tested here


def test_every_batch_size_gives_the_same_figures(caviar: ReIDDataset, model: STCANet) -> None:
    results = [evaluate_model(model, caviar.query, caviar.gallery, size, None, ALL_FRAMES).to_dict() for size in (4, 24, 300)]
    assert results[0] == results[1] == results[2]
    assert 0.02 < results[0]["mAP"] < 1.0
    assert results[0] != evaluate_model(model, caviar.query, caviar.gallery, sampling=Sampling("quick")).to_dict()


def test_the_exported_package_embeds_the_same(caviar: ReIDDataset, model: STCANet, tmp_path: Path) -> None:
    export_package(model, tmp_path / "package")
    encoder = Encoder.load(tmp_path / "package", "cpu")
    for sampling in (ALL_FRAMES, Sampling("all", 6, flip=True), Sampling("quick")):
        ours = embed(model, caviar.query, sampling=sampling)
        theirs = encoder.encode_tracklets([sample.frames for sample in caviar.query], sampling=sampling)
        assert_allclose(ours, theirs, atol=1e-5)
        assert_allclose(np.linalg.norm(theirs, axis=1), 1, atol=1e-5)


def test_a_gallery_file_ranks_as_the_evaluation(caviar: ReIDDataset, model: STCANet, tmp_path: Path) -> None:
    """The way of a camera box: package, runtime, gallery; against PyTorch and the protocol of the data set."""
    export_package(model, tmp_path / "package")
    encoder = Encoder.load(tmp_path / "package", "cpu")
    with Gallery.create(tmp_path / "site.gallery", encoder.dim, "caviar") as gallery:
        gallery.enrol(
            encoder.encode_tracklets([sample.frames for sample in caviar.gallery]),
            [str(sample.pid) for sample in caviar.gallery],
            [str(sample.camid) for sample in caviar.gallery],
        )
        found = gallery.search(encoder.encode_tracklets([sample.frames for sample in caviar.query]), len(caviar.gallery))
    right = []
    for sample, hits in zip(caviar.query, found, strict=True):
        own = str(sample.pid), str(sample.camid)
        right.append(next(hit.identity for hit in hits if (hit.identity, hit.entry.camera) != own) == own[0])
    expected = evaluate_model(model, caviar.query, caviar.gallery, sampling=ALL_FRAMES)
    assert len(right) == expected.num_valid_queries
    assert 0 < sum(right) / len(right) == pytest.approx(expected.rank(1))


def test_tracklets_of_a_street_camera_train_and_evaluate(tmp_path: Path) -> None:
    source = Path(os.environ["STCANET_REAL_DATA"]) / "towncentre"
    data = make_towncentre(source, tmp_path / "towncentre", count=8)
    small = {"backbone": "resnet18", "height": 32, "width": 32}
    settings = {"data": str(data), "preset": "stcanet-video", "model": small, "backbone_weights": "none", "device": "cpu"}
    config = make_config(settings, {"epochs": 2, "identities": 4, "val_fraction": 0.0, "optim": {"lr": 1e-3}})
    trained = load_checkpoint(train(config, tmp_path / "run").checkpoint).build()
    dataset = load_dataset(data)
    assert (len(dataset.query), len(dataset.gallery)) == (4, 12)
    results = [evaluate_model(trained, dataset.query, dataset.gallery, size, None, ALL_FRAMES).to_dict() for size in (1, 7, 64)]
    assert results[0] == results[1] == results[2]
    assert 0.0 < results[0]["mAP"] < 1.0

    export_package(trained, tmp_path / "package")
    theirs = Encoder.load(tmp_path / "package", "cpu").encode_tracklets([sample.frames for sample in dataset.gallery])
    assert_allclose(embed(trained, dataset.gallery, sampling=ALL_FRAMES), theirs, atol=1e-5)
