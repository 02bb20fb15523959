"""Embedding in PyTorch: crops and tracklets, with models of images and of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image

from stcanet.data.datasets import Sample
from stcanet.engine.embedding import embed, evaluate_model
from stcanet.model import STCANet, build_model
from stcanet_runtime.errors import ImageError, OptionError
from stcanet_runtime.inference.tracklets import ALL_FRAMES, Sampling
from stcanet_runtime.preprocess import IMAGENET_MEAN, IMAGENET_STD

SIZE = {"backbone": "resnet18", "height": 32, "width": 32}


def lively(preset: str) -> STCANet:
    """A small network whose attention blocks and neck do something: as made they are the identity."""
    torch.manual_seed(3)
    model = build_model(preset, **SIZE)
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def video() -> STCANet:
    return lively("stcanet-video")


@pytest.fixture(scope="module")
def image() -> STCANet:
    return lively("stcanet-tiny")


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Tracklets of several lengths, of three people in two cameras; frames are a person and noise."""
    folder, rng, samples = tmp_path_factory.mktemp("tracklets"), np.random.default_rng(0), []
    for pid in (1, 2, 3):
        person = rng.integers(0, 256, (40, 20, 3))
        for camid, length in ((0, 1 + pid), (1, 5 + 4 * pid)):
            frames = []
            for number in range(length):
                frames.append(folder / f"{pid}_{camid}_{number}.png")
                noisy = 0.6 * person + 0.4 * rng.integers(0, 256, person.shape)
                Image.fromarray(noisy.astype(np.uint8)).save(frames[-1])
            samples.append(Sample(tuple(frames), pid, camid))
    return samples


def frames_of(sample: Sample) -> torch.Tensor:
    """Normalised frames ``[L, 3, H, W]``, by hand."""
    loaded = [np.asarray(Image.open(path).resize((32, 32), Image.Resampling.BICUBIC)) for path in sample.frames]
    scaled = (np.stack(loaded) / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    return torch.from_numpy(scaled).movedim(-1, 1).float()


@torch.inference_mode()
def published(model: STCANet, sample: Sample, length: int) -> NDArray[np.float64]:
    """The published test: the mean of the clips' features before the neck, then the neck, then unit length."""
    before: list[torch.Tensor] = []
    hook = model.head.neck.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0]))
    frames = frames_of(sample)
    padded = torch.cat([frames] * length)[: -(-len(frames) // length) * length]
    model(padded.unflatten(0, (-1, length)))
    hook.remove()
    feature = model.head.neck(torch.cat(before).mean(dim=0, keepdim=True))[0].double().numpy()
    return feature / np.linalg.norm(feature)


@pytest.mark.parametrize("length", [4, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 9, 16, 500])
def test_all_frames_are_evaluated_as_published(video: STCANet, tracklets: list[Sample], batch_size: int, length: int) -> None:
    rows = embed(video, tracklets, batch_size, sampling=Sampling("all", length))
    assert_allclose(rows, [published(video, sample, length) for sample in tracklets], atol=1e-5)


def test_nothing_gives_nothing(image: STCANet) -> None:
    assert embed(image, []).shape == (0, 512)


def test_quick_sees_the_first_frames(video: STCANet, tracklets: list[Sample]) -> None:
    short, long = tracklets[2], tracklets[5]  # of 3 and 17 frames
    cycled = Sample(short.frames + short.frames[:1], 0, 0)
    begun = Sample(long.frames[:13:4], 0, 0)
    rows = embed(video, [short, long])
    assert_allclose(rows, embed(video, [cycled, begun], sampling=ALL_FRAMES), atol=1e-6)
    assert np.abs(rows - embed(video, [short, long], sampling=ALL_FRAMES))[1].max() > 1e-4


def test_a_model_of_clips_sees_a_crop_as_the_same_frame_again_and_again(video: STCANet, tracklets: list[Sample]) -> None:
    crop = Sample(tracklets[0].frames[:1], 0, 0)
    expected = embed(video, [Sample(crop.frames * 4, 0, 0)])
    for frames in ("all", "quick"):
        assert_allclose(embed(video, [crop], sampling=Sampling(frames)), expected, atol=1e-6)  # type: ignore[arg-type]


def test_a_model_of_images_averages_embeddings_over_frames(image: STCANet, tracklets: list[Sample]) -> None:
    with torch.inference_mode():
        mean = F.normalize(image(frames_of(tracklets[1])).features, dim=-1).mean(dim=0).numpy()
    row = embed(image, tracklets[1:2], sampling=ALL_FRAMES)[0]
    assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)
    with pytest.raises(OptionError, match="single images"):
        embed(image, tracklets, sampling=Sampling(clip_length=4))


def test_flip(video: STCANet, tracklets: list[Sample], tmp_path: Path) -> None:
    mirrored = []
    for number, path in enumerate(tracklets[1].frames):
        mirrored.append(tmp_path / f"{number}.png")
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored[-1])
    plain, mirror = embed(video, [tracklets[1], Sample(tuple(mirrored), 0, 0)], sampling=ALL_FRAMES)
    row = embed(video, tracklets[1:2], sampling=Sampling("all", flip=True))[0]
    assert_allclose(row, (plain + mirror) / np.linalg.norm(plain + mirror), atol=1e-5)
    assert np.abs(plain - mirror).max() > 1e-3


def test_slices_put_together_are_the_whole(video: STCANet, tracklets: list[Sample]) -> None:
    """What several processes do that embed a part each."""
    whole = embed(video, tracklets)
    parts = np.empty_like(whole)
    for rank in range(2):
        parts[rank::2] = embed(video, tracklets[rank::2])
    assert_allclose(parts, whole, atol=1e-6)


def test_the_model_is_left_as_it_was_also_after_an_error(video: STCANet, tracklets: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    state = {name: value.clone() for name, value in video.state_dict().items()}
    video.train()
    embed(video, tracklets)
    with pytest.raises(ImageError, match=r"bad\.png"):
        embed(video, [*tracklets, Sample((tmp_path / "bad.png",), 0, 0)])
    assert video.training
    assert all(torch.equal(value, state[name]) for name, value in video.state_dict().items())
    video.eval()


def test_evaluation_of_tracklets_is_quick_unless_told_otherwise(video: STCANet, tracklets: list[Sample]) -> None:
    query, gallery = tracklets[::2], tracklets[1::2]
    quick = evaluate_model(video, query, gallery)
    assert quick.to_dict() == evaluate_model(video, query, gallery, sampling=Sampling("quick")).to_dict()
    assert quick.num_valid_queries == 3
    assert 0 < quick.mAP <= 1
    every = [evaluate_model(video, query, gallery, size, sampling=ALL_FRAMES).to_dict() for size in (4, 20, 100)]
    assert every[0] == every[1] == every[2]
