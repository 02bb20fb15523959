"""The network: counts, shapes, and the algebra that the specification promises."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

import stcanet
from stcanet.config import PRESETS, ModelConfig
from stcanet.engine.checkpoint import Checkpoint
from stcanet.model import Embedder, STCABlock
from stcanet.model.attention import neighbour_mask
from stcanet.model.head import Head
from stcanet.model.mixing import channel_mix
from stcanet_runtime.errors import BackendError, CheckpointError, OptionError, ShapeError

IMAGE = PRESETS["stcanet-image"]
TINY = {"backbone": "resnet18", "height": 64, "width": 32}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Make every norm matter: at initialisation the blocks are the identity and would hide any fault."""
    generator = torch.Generator().manual_seed(seed)
    for child in module.modules():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            with torch.no_grad():
                child.weight.copy_(torch.rand(child.weight.shape, generator=generator) + 0.5)
                child.bias.copy_(torch.randn(child.bias.shape, generator=generator) * 0.3)
                child.running_mean.copy_(torch.randn(child.running_mean.shape, generator=generator) * 0.3)
                child.running_var.copy_(torch.rand(child.running_var.shape, generator=generator) + 0.5)


@pytest.fixture
def block() -> STCABlock:
    torch.manual_seed(0)
    block = STCABlock(16, IMAGE)
    randomise(block)
    return block.eval()


@pytest.fixture
def clip() -> torch.Tensor:
    """Two clips of three frames, folded, non-negative as after a ReLU."""
    return torch.rand(2 * 3, 16, 8, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("preset", "total"), [("stcanet-image", 27_464_286), ("stcanet-video", 24_305_231)])
def test_preset_parameter_totals(preset: str, total: int) -> None:
    assert parameters(stcanet.build_model(preset)) == total


def test_classifier_adds_published_totals() -> None:
    assert parameters(stcanet.build_model("stcanet-image", num_classes=751)) == 29_003_085
    assert parameters(stcanet.build_model("stcanet-video", num_classes=625)) == 25_585_856


@pytest.mark.parametrize(("channels", "total"), [(512, 793_103), (1024, 3_159_055)])
def test_block_parameter_totals(channels: int, total: int) -> None:
    assert parameters(STCABlock(channels, IMAGE)) == total


def test_presets_are_the_published_networks() -> None:
    size = {"height": 256, "width": 128, "num_parts": 4}
    image = {"backbone": "resnet50", "blocks": (2, 3), "pool": "avg", "clip_length": None, "head_init": "default"}
    video = {"backbone": "resnet50", "blocks": (2,), "pool": "max", "clip_length": 4, "head_init": "small"}
    assert PRESETS["stcanet-image"] == ModelConfig("stcanet-image", **image, **size)
    assert PRESETS["stcanet-video"] == ModelConfig("stcanet-video", **video, **size)


def test_image_shapes_at_full_size() -> None:
    output = stcanet.build_model("stcanet-image", num_classes=5).eval()(torch.rand(1, 3, 256, 128))
    assert output.features.shape == (1, 2048)
    assert output.logits is not None
    assert output.logits.shape == (1, 5)
    assert [tuple(parts.shape) for parts in output.part_logits] == [(1, 1, 4, 32, 16), (1, 1, 4, 16, 8)]


def test_part_maps_are_told_apart_by_their_stage_whatever_the_order_of_the_blocks() -> None:
    model = stcanet.build_model("stcanet-tiny", blocks=(3, 2)).eval()
    maps = model(torch.zeros(1, 3, 128, 64)).part_logits
    assert {stage: logits.shape[-2] for stage, logits in zip(model.config.blocks, maps, strict=True)} == {2: 16, 3: 8}


def test_last_stage_keeps_resolution_for_every_backbone() -> None:
    for name in ("resnet18", "resnet34", "resnet50", "resnet101"):
        backbone = stcanet.build_model("stcanet-image", backbone=name, blocks=()).backbone.eval()
        x = backbone.stem(torch.rand(1, 3, 64, 32))
        for stage in backbone.stages:
            x = stage(x)
        assert x.shape == (1, backbone.stage_channels[-1], 4, 2), name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frames", [1, 3])
def test_block_is_the_identity_at_initialisation(training: bool, frames: int, clip: torch.Tensor) -> None:
    torch.manual_seed(0)
    block = STCABlock(16, IMAGE).train(training)
    out, parts = block(clip, frames)
    assert torch.equal(out, clip)
    assert parts.shape == (6, 4, 8, 4)


def test_block_starts_as_published() -> None:
    torch.manual_seed(0)
    for name, module in STCABlock(512, IMAGE).named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            outputs, inputs = module.weight.shape[:2]
            assert module.weight.std().item() == pytest.approx((2.0 / outputs) ** 0.5, rel=0.1), name
            assert abs(module.weight.mean().item()) < 0.1 * (2.0 / outputs) ** 0.5, name
            assert module.bias.abs().max() <= inputs**-0.5, name  # those of torch
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert (module.weight == (0.0 if name.endswith("out_norm") else 1.0)).all(), name
            assert not module.bias.any(), name


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_head_pools_normalises_and_classifies_what_it_normalised(pool: str) -> None:
    torch.manual_seed(0)
    head = Head(8, 3, pool, "default").eval()  # type: ignore[arg-type]
    randomise(head)
    x = torch.rand(2 * 3, 8, 4, 2)
    values = x.unflatten(0, (2, 3)).transpose(1, 2).flatten(2)  # [B, C, T·H·W]
    pooled = values.mean(dim=2) if pool == "avg" else values.max(dim=2).values
    expected = head.neck(pooled)
    features, logits = head(x, 3)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(logits, expected @ head.classifier.weight.T + head.classifier.bias)


def test_heads_start_as_published() -> None:
    torch.manual_seed(0)
    image, video = Head(2048, 100, "avg", "default"), Head(2048, 100, "max", "small")
    assert (image.neck.weight == 1.0).all()
    assert image.classifier.weight.abs().max().item() == pytest.approx(2048**-0.5, rel=0.01)  # torch's
    assert image.classifier.bias.any()
    assert (video.neck.weight - 1.0).std().item() == pytest.approx(0.02, rel=0.1)
    assert video.classifier.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not video.classifier.bias.any()


def test_block_with_one_frame_does_not_mix_clips(block: STCABlock, clip: torch.Tensor) -> None:
    together, _ = block(clip, 1)
    alone = torch.cat([block(image[None], 1)[0] for image in clip])
    # The softmax of unscaled logits passes the rounding of another batch size on, enlarged; mixing changes whole values.
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)


def test_network_on_images_equals_network_on_clips_of_one_frame() -> None:
    torch.manual_seed(0)
    model = stcanet.build_model("stcanet-image", **TINY).eval()
    randomise(model)
    images = torch.rand(3, 3, 64, 32)
    torch.testing.assert_close(model(images).features, model(images.unsqueeze(1)).features)


def test_without_blocks_frames_are_independent_until_the_pool() -> None:
    torch.manual_seed(0)
    model = stcanet.build_model("stcanet-video", blocks=(), **TINY).eval()
    clip = torch.rand(1, 3, 3, 64, 32)
    pooled = torch.stack([model.head.neck.running_mean * 0 + model(frame).features for frame in clip[0].split(1)])
    torch.testing.assert_close(model(clip).features, pooled.amax(dim=0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("frames", "parts"), list(itertools.product([1, 2, 4, 7], [1, 2, 4])))
def test_neighbour_mask(frames: int, parts: int) -> None:
    mask = neighbour_mask(frames, parts)
    assert torch.equal(mask, mask.T)
    assert (mask.sum(dim=1) == parts - 1 + frames - 1).all()
    for i, j in itertools.product(range(frames * parts), repeat=2):
        (t, k), (s, m) = divmod(i, parts), divmod(j, parts)
        assert bool(mask[i, j]) == ((t == s and k != m) or (t != s and k == m))


def test_a_node_without_neighbours_attends_to_itself() -> None:
    block = STCABlock(8, replace(IMAGE, num_parts=1)).eval()
    weights = block.part.relation_weights(torch.rand(2, 1, 4), torch.rand(2, 4), frames=1)
    assert torch.equal(weights, torch.ones(2, 1, 1))


def test_relation_weights_do_not_depend_on_the_global_node(block: STCABlock) -> None:
    nodes = torch.rand(2, 12, 8)
    one, other = (block.part.relation_weights(nodes, torch.randn(2, 8) * scale, frames=3) for scale in (1, 50))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert one.std() > 1e-3  # not uniform: the test could not tell otherwise


def test_relation_without_the_clip_is_the_same_but_for_the_statistics(block: STCABlock) -> None:
    other = STCABlock(16, replace(IMAGE, relation_clip=False)).eval()
    state = block.state_dict()
    other.load_state_dict({**state, "part.relation.weight": state["part.relation.weight"][:, :8]})
    given = torch.rand(2, 12, 8), torch.rand(2, 8), 3
    torch.testing.assert_close(other.part.relation_weights(*given), block.part.relation_weights(*given), atol=1e-5, rtol=1e-4)
    block.train()
    other.train()
    normalised = [module.part.relation_weights(*given) for module in (block, other)]
    assert not torch.allclose(*normalised, atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_relation_weights_equal_the_published_form(block: STCABlock, training: bool) -> None:
    """One linear map over the concatenation [|x_i − x_j| ; u], and −1e8 on masked logits; u counts in training."""
    nodes, whole, frames = torch.rand(2, 12, 8), torch.rand(2, 8), 3
    block.part.relation_norm.train(training)
    difference = (nodes[:, :, None] - nodes[:, None, :]).abs()
    pairs = torch.cat([difference, whole[:, None, None].expand_as(difference)], dim=-1)
    logits = block.part.relation(pairs).squeeze(-1)
    logits = block.part.relation_norm(logits.reshape(2, 1, -1)).reshape(2, 12, 12)
    expected = (logits - 1e8 * (~neighbour_mask(frames, 4)).float()).softmax(dim=-1)
    torch.testing.assert_close(block.part.relation_weights(nodes, whole, frames), expected, atol=1e-6, rtol=1e-5)


def test_channel_attention_is_attention_with_scale_one() -> None:
    rows = torch.rand(2, 24, 32)
    expected = nn.functional.scaled_dot_product_attention(rows, rows, rows, scale=1.0)
    torch.testing.assert_close(channel_mix(rows), expected, atol=1e-4, rtol=1e-4)


def test_channel_attention_equals_the_published_row_order(block: STCABlock, clip: torch.Tensor) -> None:
    volume = clip.unflatten(0, (2, 3)).transpose(1, 2)  # [B, C, T, H, W]
    rows = volume.reshape(2, 16 * 3, 32)  # row c·T + t
    mixed = (torch.softmax(rows @ rows.mT, -1) @ rows).reshape(volume.shape).transpose(1, 2).flatten(0, 1)
    expected = clip + block.channel.out_norm(block.channel.out(mixed))
    torch.testing.assert_close(block.channel(clip, 3), expected)


@pytest.mark.parametrize("part_pool", ["sum", "mean"])
def test_part_attention_equals_the_formulas_written_out(block: STCABlock, clip: torch.Tensor, part_pool: str) -> None:
    """Section 2.2 of the specification, loop by loop, for one clip."""
    module, x = block.part, clip[:3]
    maps = torch.sigmoid(module.part_norm(module.part_conv(x)))
    if part_pool == "mean":
        module.part_pool, maps = part_pool, maps / maps.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
    nodes = torch.stack([module.reduce((maps[t, k] * x[t]).sum(dim=(1, 2))) for t in range(3) for k in range(4)])
    whole = module.reduce(x.mean(dim=(0, 2, 3)))
    weights = module.relation_weights(nodes[None], whole[None], 3)[0]
    gathered = weights @ nodes
    states = torch.relu(module.update_norm(module.update(torch.cat([nodes, gathered], dim=1))))
    expected = []
    for t in range(3):
        context = torch.cat([states[4 * t : 4 * t + 4].mean(dim=0), whole])
        expected.append(x[t] + module.out_norm(module.out(context[None, :, None, None]))[0])
    torch.testing.assert_close(module(x, 3)[0], torch.stack(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [2, 4, 7])
def test_clip_feature_does_not_depend_on_frame_order(frames: int) -> None:
    torch.manual_seed(0)
    model = stcanet.build_model("stcanet-video", **TINY).eval()  # built for 4 frames, takes any number
    randomise(model)
    clips = torch.rand(2, frames, 3, 64, 32)
    order = torch.randperm(frames, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(model(clips).features, model(clips[:, order]).features, atol=1e-4, rtol=1e-4)


def test_frames_do_influence_each_other(block: STCABlock, clip: torch.Tensor) -> None:
    changed = clip.clone()
    changed[2] += 1.0
    assert not torch.allclose(block(clip, 3)[0][0], block(changed, 3)[0][0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_large_activations_stay_finite_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    block = STCABlock(16, IMAGE)
    randomise(block)
    x = torch.rand(4, 16, 8, 4, requires_grad=True) * 300  # logits of 32 · 9e4, far above what float16 holds
    with torch.autocast("cpu", dtype):
        out, _ = block(x, 2)
    out.float().square().mean().backward()
    assert torch.isfinite(out).all()
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in block.parameters())


def test_channel_mix_is_float32_under_autocast() -> None:
    rows = torch.rand(1, 8, 16) * 40
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(channel_mix(rows), channel_mix(rows.clone()))
        inside = channel_mix(rows)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, channel_mix(rows))


def test_attention_that_was_named_cannot_become_another() -> None:
    model = stcanet.build_model("stcanet-tiny", attention="fused", **TINY).eval()
    if torch.cuda.is_available():
        pytest.skip("it may run here")
    with pytest.raises(BackendError, match="the tensors are on the CPU"):
        model(torch.rand(1, 3, 64, 32))
    model.use_attention("sdpa")
    twin = stcanet.build_model("stcanet-tiny", **TINY).eval()
    twin.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(model(images).features, twin(images).features, atol=1e-4, rtol=1e-4)


def test_a_checkpoint_runs_where_its_attention_does_not() -> None:
    model = stcanet.build_model("stcanet-tiny", attention="fused", **TINY)
    assert Checkpoint.of(model).build().config.attention == "auto"


def test_embedder_gives_unit_vectors_and_the_norms_of_clips() -> None:
    torch.manual_seed(0)
    model = stcanet.build_model("stcanet-video", **TINY).eval()
    clips = torch.randint(0, 256, (2, 4, 64, 32, 3), dtype=torch.uint8)
    embeddings, norms = Embedder(model)(clips)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    pixels = (clips / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    features = model(pixels.permute(0, 1, 4, 2, 3)).features
    torch.testing.assert_close(embeddings * norms[:, None], features, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("crops", [torch.rand(2, 64, 32, 3), torch.zeros(2, 3, 64, 32, dtype=torch.uint8)])
def test_the_embedder_refuses_what_it_would_normalise_wrongly(crops: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"expected uint8 RGB \[…, H, W, 3\]"):
        Embedder(stcanet.build_model("stcanet-tiny", **TINY).eval())(crops)


def test_the_first_weights_of_a_seed_never_depend_on_the_classes() -> None:
    torch.manual_seed(7)
    one = stcanet.build_model("stcanet-tiny", num_classes=3)
    torch.manual_seed(7)
    other = stcanet.build_model("stcanet-tiny", num_classes=9)
    assert torch.equal(one.backbone.stem[0].weight, other.backbone.stem[0].weight)


def test_backbone_weights_from_a_file(tmp_path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(1)
    source = resnet18()
    torch.save({"state_dict": {f"module.{key}": value for key, value in source.state_dict().items()}}, tmp_path / "r18.pth")
    model = stcanet.build_model("stcanet-tiny", backbone_weights=tmp_path / "r18.pth")
    assert torch.equal(model.backbone.stages[3][1].conv2.weight, source.layer4[1].conv2.weight)
    assert torch.equal(model.backbone.stem[1].running_var, source.bn1.running_var)


@pytest.mark.parametrize("content", [b"not a checkpoint", b""])
def test_backbone_weights_that_are_no_weights(tmp_path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        stcanet.build_model("stcanet-tiny", backbone_weights=tmp_path / "x.pth")


def test_backbone_weights_of_another_network(tmp_path) -> None:
    from torchvision.models import resnet18, resnet34

    torch.save({**resnet18().state_dict(), "conv1.weight": torch.ones(64, 3, 7, 7, dtype=torch.int8)}, tmp_path / "int8.pth")
    with pytest.raises(CheckpointError, match=r"does not hold torchvision .*'stem\.0\.weight' is int8 for float32"):
        stcanet.build_model("stcanet-tiny", backbone_weights=tmp_path / "int8.pth")
    uncounted = {name: value for name, value in resnet18().state_dict().items() if "num_batches" not in name}
    torch.save({**uncounted, "conv1.weight": torch.ones(64, 3, 3, 3)}, tmp_path / "r18.pth")
    with pytest.raises(
        CheckpointError, match=r"resnet18: 1 of another shape \(the first is 'stem\.0\.weight', \[64, 3, 3, 3\]"
    ):
        stcanet.build_model("stcanet-tiny", backbone_weights=tmp_path / "r18.pth")
    torch.save({**resnet34().state_dict(), "layer_scale": torch.ones(1)}, tmp_path / "r34.pth")
    places = r"\d+ without a place here \(the first is 'stages\.0\.2\.conv1\.weight'\); give those of resnet18"
    with pytest.raises(CheckpointError, match=f"does not hold torchvision weights of resnet18: {places}"):
        stcanet.build_model("stcanet-tiny", backbone_weights=tmp_path / "r34.pth")
    torch.save(resnet18().state_dict(), tmp_path / "r18.pth")
    missing = r"\d+ missing \(the first is '.+'\); \d+ of another shape \(the first is '.+', \[.*\] for \[.*\]\); give"
    with pytest.raises(CheckpointError, match=missing):
        stcanet.build_model("stcanet-image", backbone_weights=tmp_path / "r18.pth")


def test_offline_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent-cache")
    monkeypatch.setattr("os.makedirs", lambda *_a, **_k: None)
    with pytest.raises(CheckpointError, match="--backbone-weights PATH"):
        stcanet.build_model("stcanet-tiny", backbone_weights="imagenet")


@pytest.mark.parametrize(
    "overrides",
    [
        {"blocks": (5,)},
        {"blocks": (2, 2)},
        {"pool": "sum"},
        {"backbone": "vgg"},
        {"height": 8},
        {"clip_length": 0},
        {"num_parts": 0},
        {"attention": "flash"},
    ],
)
def test_settings_out_of_range(overrides: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(overrides))):
        stcanet.build_model("stcanet-tiny", **overrides)


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match="stcanet-video"):
        stcanet.build_model("stcanet-huge")


def test_config_survives_a_round_trip() -> None:
    from dataclasses import asdict

    config = ModelConfig("mine", backbone="resnet34", blocks=(3,), pool="max", clip_length=2)
    assert ModelConfig.from_dict(asdict(config)) == config


def test_wrong_input_shape_is_named() -> None:
    with pytest.raises(ShapeError, match=r"\[2, 1, 64, 32\]"):
        stcanet.build_model("stcanet-tiny")(torch.rand(2, 1, 64, 32))
