"""Settings: merging, typing, and the words of the errors."""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from pathlib import Path

import pytest
import tomli_w
import torch

from stcanet.config import (
    AugmentConfig,
    ClipConfig,
    LossConfig,
    OptimConfig,
    TrainConfig,
    load_toml,
    make_config,
    parse_override,
)
from stcanet.engine.batches import epoch_seed
from stcanet.engine.places import located
from stcanet.engine.schedule import lr_factor
from stcanet_runtime.errors import ConfigError, OptionError

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def test_defaults_are_the_published_image_recipe() -> None:
    config = make_config({"data": "x"})
    assert (config.preset, config.epochs, config.identities, config.instances) == ("stcanet-image", 60, 16, 4)
    assert (config.optim.lr, config.optim.weight_decay, config.optim.milestones) == (3.5e-4, 5e-4, (20, 40))
    assert (config.loss.label_smoothing, config.loss.margin, config.loss.distance) == (0.1, 0.3, "cosine")


def test_later_layers_win_key_by_key() -> None:
    config = make_config({"data": "a", "optim": {"lr": 1.0, "gamma": 0.5}}, {"data": "b"}, parse_override("optim.lr=2"))
    assert (config.data, config.optim.lr, config.optim.gamma) == ("b", 2.0, 0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs=3", {"epochs": 3}),
        ("loss.distance=euclidean", {"loss": {"distance": "euclidean"}}),
        ("model.blocks=[]", {"model": {"blocks": []}}),
    ],
)
def test_overrides(text: str, expected: dict[str, object]) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "9" * 5000])
def test_an_override_that_no_toml_holds_is_a_text(value: str) -> None:
    assert parse_override(f"data={value}") == {"data": value}


def test_resolved_configuration_can_be_read_back() -> None:
    config = make_config({"data": "x", "preset": "stcanet-tiny", "model": {"blocks": [3]}, "optim": {"milestones": [5]}})
    assert make_config(config.to_dict()) == config
    assert config.model_config.blocks == (3,)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({}, "no training data"),
        ({"data": "x", "epoch": 3}, r"unknown setting epoch; did you mean epochs\?"),
        ({"data": "x", "warmup_epochs": 0}, r"unknown setting warmup_epochs; did you mean optim\.warmup_epochs\?"),
        ({"data": "x", "optim": {"epochs": 3}}, r"unknown setting optim\.epochs; did you mean epochs\?"),
        ({"data": "x", "heigth": 3}, r"unknown setting heigth; did you mean model\.height\?"),
        ({"data": "x", "nonsense": 3}, "unknown setting nonsense; known are 'data'"),
        ({"data": "x", "optim": {"rate": 3}}, r"unknown setting optim\.rate"),
        ({"data": "x", "optim": 3}, "optim must be a table"),
        ({"data": "x", "epochs": "many"}, "epochs must be a whole number, got 'many'"),
        ({"data": "x", "epochs": True}, "epochs must be a whole number, got True"),
        ({"data": "x", "optim": {"milestones": 3}}, "milestones must be a list"),
        ({"data": "x", "augment": {"erase_area": [0.1]}}, "erase_area must be a list of 2"),
        ({"data": "x", "model": {"depth": 3}}, r"unknown setting model\.depth"),
        ({"data": "x", "model": 5}, "model must be a table of settings, got 5"),
        ({"data": "x", "model": {"blocks": 5}}, r"model\.blocks must be a list of any number of values, got 5"),
        ({"data": "x", "model": {"blocks": ["a"]}}, r"model\.blocks must be a whole number, got 'a'"),
        ({"data": "x", "model": {"height": "abc"}}, r"model\.height must be a whole number, got 'abc'"),
        ({"data": "x", "model": {"clip_length": "all"}}, r"model\.clip_length must be a whole number or none, got 'all'"),
        ({"data": "x", "model": {"num_parts": 2.5}}, r"model\.num_parts must be a whole number, got 2\.5"),
    ],
)
def test_malformed(layer: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(layer)


@pytest.mark.parametrize(
    "text",
    [
        "epochs=0",
        "identities=1",
        "seed=-1",
        "seed=4294967296",
        "model.num_parts=1000000000",
        "model.height=5000",
        "model.width=5000",
        "model.clip_length=5000",
        "model.blocks=[9]",
        "model.backbone=vgg",
        "model.pool=[1]",
        "model.preset=stcanet-video",
        "val_fraction=1.0",
        "optim.lr=0",
        "data=",
        "optim.schedule=step",
        "loss.margin=-1",
        "preset=big",
        "amp=maybe",
    ],
)
def test_out_of_range(text: str) -> None:
    with pytest.raises(OptionError, match=f"^{re.escape(text.partition('=')[0])} must be "):
        make_config({"data": "x"}, parse_override(text))


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, False),
        ({"center_weight": 5e-4}, True),
        ({"mask_weight": 1.0}, False),  # without masks
        ({"masks": "masks"}, True),
        ({"masks": "masks", "mask_weight": 0.0}, False),
        ({"masks": "masks", "mask_start_epoch": 2}, False),
    ],
)
def test_something_must_be_minimised(changes: dict[str, object], valid: bool) -> None:
    loss = {"identity_weight": 0.0, "triplet_weight": 0.0, **changes}
    layer = {"data": "x", "masks": loss.pop("masks", ""), "loss": loss}
    with contextlib.nullcontext() if valid else pytest.raises(ConfigError, match="nothing is minimised"):
        make_config(layer)


def test_a_video_preset_can_be_one_of_images() -> None:
    config = make_config({"data": "x", "preset": "stcanet-video"}, parse_override("model.clip_length=none"))
    assert config.model_config.clip_length is None
    assert make_config(tomllib.loads(tomli_w.dumps(config.to_dict()))) == config  # TOML has no null
    from_python = TrainConfig("x", preset="stcanet-video", model={"clip_length": None})
    assert make_config(tomllib.loads(tomli_w.dumps(from_python.to_dict()))) == config


def test_the_largest_seed_makes_batches_of_every_epoch() -> None:
    seed = make_config({"data": "x"}, parse_override("seed=4294967295")).seed
    torch.Generator().manual_seed(epoch_seed(seed, 10_000))


def test_paths_are_taken_as_texts() -> None:
    paths = {name: Path(name) for name in ("data", "masks", "init", "backbone_weights", "cache_dir")}
    config = TrainConfig(**paths)  # type: ignore[arg-type]
    assert config == TrainConfig(**{name: name for name in paths})  # type: ignore[arg-type]
    assert located(config) == located(make_config(config.to_dict()))


@pytest.mark.parametrize("word", ["imagenet", "none"])
def test_a_folder_of_that_name_is_not_what_the_word_means(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / word).mkdir()
    monkeypatch.chdir(tmp_path)
    assert located(make_config({"data": word, "backbone_weights": word})).backbone_weights == word
    assert located(make_config({"data": word, "backbone_weights": f"./{word}"})).backbone_weights == str(tmp_path / word)


def test_a_path_that_settings_cannot_hold_is_refused_and_a_link_to_it_is_taken(tmp_path: Path) -> None:
    odd, link = tmp_path / os.fsdecode(b"caf\xe9"), tmp_path / "link"
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("names are UTF-8 here")
    link.symlink_to(odd)
    with pytest.raises(ConfigError, match=r"caf\\udce9' is not UTF-8.*a link to it") as caught:
        located(make_config({"data": str(odd)}))
    str(caught.value).encode()
    assert located(make_config({"data": str(link)})).data == str(link)


def test_override_without_value() -> None:
    with pytest.raises(ConfigError, match="key=value"):
        parse_override("epochs")


def test_unreadable_file(tmp_path: Path) -> None:
    texts = {"x.toml": "a = = b", "deep.toml": f"a = {'[' * 3000}{']' * 3000}", "long.toml": f"a = {'9' * 5000}"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    reasons = {"x.toml": "Invalid value", "deep.toml": "brackets are nested too deeply$", "long.toml": "Exceeds the limit"}
    for name, reason in {**reasons, "none.toml": "No such file or directory$"}.items():
        with pytest.raises(ConfigError, match=f"cannot read the configuration .*{name}: {reason}"):
            load_toml(tmp_path / name)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid(path: Path) -> None:
    make_config(load_toml(path), {"data": "x"})


@pytest.mark.parametrize(
    ("name", "epochs", "identities", "smoothing", "milestones"),
    [("image", 60, 16, 0.1, (20, 40)), ("video", 150, 8, 0.0, (40, 80, 120))],
)
def test_the_published_recipes(name: str, epochs: int, identities: int, smoothing: float, milestones: tuple[int, ...]) -> None:
    config = make_config({"data": "x"}, load_toml(next(path for path in RECIPES if path.stem == name)))
    assert (config.preset, config.backbone_weights, config.val_fraction) == (f"stcanet-{name}", "imagenet", 0.0)
    assert (config.epochs, config.identities, config.instances, config.half_size_epochs) == (epochs, identities, 4, 0)
    assert config.augment == AugmentConfig(flip=0.5, pad=0, erase=0.5, erase_area=(0.02, 0.4), erase_aspect=0.3)
    assert config.clips == ClipConfig(sampling="stride", stride=8)
    assert config.loss == LossConfig(
        label_smoothing=smoothing, triplet_weight=1.0, margin=0.3, distance="cosine", mask_weight=0.5, mask_loss="bce"
    )
    assert config.optim == OptimConfig(
        optimizer="adam", lr=3.5e-4, weight_decay=5e-4, schedule="multistep", milestones=milestones, gamma=0.1, warmup_epochs=0
    )


def test_there_are_recipes() -> None:
    assert RECIPES


def config_of(**optim: object) -> TrainConfig:
    return make_config({"data": "x", "epochs": 60, "optim": optim})


def test_multistep_schedule() -> None:
    optim = config_of().optim
    factors = [lr_factor(epoch, 60, optim) for epoch in (0, 19.99, 20, 39.99, 40, 59)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_schedule_with_warmup() -> None:
    optim = config_of(schedule="cosine", warmup_epochs=10, final=0.01).optim
    factors = [lr_factor(epoch, 60, optim) for epoch in (0, 5, 10, 35, 60)]
    assert factors == pytest.approx([0.01, 0.505, 1.0, 0.505, 0.01])
