"""Networks of other libraries are made by name, from their own weights, a file's or none."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from attar.errors import InvalidInput, MissingExtra
from attar.training.backbones.data_config import DataConfig, read_data_config
from attar.training.backbones.network import RANDOM, load_network
from attar.training.checkpoints.encoder_folder import TensorModel
from attar.training.encoders.backbone import Backbone, BackboneConfig
from attar.training.encoders.image import image_encoder
from attar.training.pretrained import load_checkpoint
from attar.training.pretraining import pretrain

HERE = "torch:benchmarks.support.networks"
CONFIG: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
}

TIMM = '''
"""A stand-in with the interface of timm, of which this knows two networks."""

from benchmarks.support.networks import tiny


def list_models():
    return ["resnet18", "resnet50"]


def is_model(name):
    return name.partition(".")[0] in list_models()


def create_model(name, *, pretrained, num_classes, pretrained_cfg_overlay=None):
    assert num_classes == 0
    network = tiny()
    if pretrained and not pretrained_cfg_overlay:
        raise OSError("the hub cannot be reached")
    network.made_with = (name, pretrained, pretrained_cfg_overlay)
    return network
'''


class Declaring:
    """A network of which only what it declares is read."""

    def __init__(self, **changes: Any) -> None:
        self.pretrained_cfg = {**CONFIG, **changes}


@pytest.fixture
def timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a stand-in importable: timm needs a torchvision, of which there is no CPU build here."""
    (tmp_path / "timm.py").write_text(TIMM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)


def test_a_data_config_has_timms_defaults() -> None:
    config = read_data_config(Declaring(), "it")
    assert config == DataConfig(
        side=224,
        resize=256,  # the floor of 224 / 0.875
        interpolation="bicubic",
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        licence=None,
    )
    squashed = read_data_config(Declaring(crop_mode="squash", crop_pct=1.0, license="mit"), "it")
    assert (squashed.resize, squashed.licence) == ((224, 224), "mit")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_size": (3, 224, 192)}, "takes images of (3, 224, 192)"),
        ({"input_size": (1, 28, 28)}, "takes images of (1, 28, 28)"),
        ({"input_size": (3, 10**9, 10**9)}, "up to 4096"),
        ({"input_size": None}, "has input_size None in pretrained_cfg; expected three numbers"),
        ({"mean": (0.5,)}, "has mean (0.5,)"),
        ({"std": "words"}, "has std 'words'"),
        ({"crop_pct": 1.5}, "has crop_pct 1.5; expected a share"),
        ({"crop_mode": "border"}, "has crop_mode 'border'; attar prepares images by center or sq"),
        ({"interpolation": "lanczos"}, "has interpolation 'lanczos'"),
    ],
)
def test_what_cannot_be_prepared_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_data_config(Declaring(**changes), "it")
    assert words in str(refused.value)


def test_a_factorys_network_keeps_its_weights_or_has_those_of_a_file(tmp_path: Path) -> None:
    first = load_network(f"{HERE}:tiny").module
    again = load_network(f"{HERE}:tiny").module
    assert torch.equal(first[0].weight, again[0].weight)  # type: ignore[index]
    untrained = load_network(f"{HERE}:tiny", RANDOM).module
    assert not torch.equal(first[0].weight, untrained[0].weight)  # type: ignore[index]
    state = untrained.state_dict()
    torch.save(state, tmp_path / "weights.pth")
    save_file(state, tmp_path / "weights.safetensors")
    for file in tmp_path.iterdir():
        loaded = load_network(f"{HERE}:tiny", str(file)).module.state_dict()
        assert all(torch.equal(loaded[name], weight) for name, weight in state.items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torch:benchmarks.support.networks", "names no factory; expected torch:MODULE:FACTORY"),
        ("torch:a b:c", "names no factory"),
        ("torch:nowhere.at.all:tiny", "No module named 'nowhere'"),
        (f"{HERE}:none", "cannot be imported"),
        ("torch:os:abort", "is no factory of networks"),
        ("torch:os:getcwd", "is no factory of networks"),
        (f"{HERE}:unannotated", "annotated to return one"),
        (f"{HERE}:undeclared", "does not say how its images are prepared: set its attribute"),
    ],
)
def test_what_is_no_factory_of_networks_is_not_called(name: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_network(name)
    assert words in str(refused.value)


def test_weights_of_another_network_and_no_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file .*expected pretrained, random"):
        load_network(f"{HERE}:tiny", str(tmp_path / "none.pth"))
    for name, content in (("w.pth", b"junk"), ("w.safetensors", b"junk")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match=f"{name} holds no weights of torch:"):
            load_network(f"{HERE}:tiny", str(tmp_path / name))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InvalidInput, match=r"other\.pth holds no weights"):
        load_network(f"{HERE}:tiny", str(tmp_path / "other.pth"))


@pytest.mark.usefixtures("timm")
def test_timms_networks_are_made_without_a_classifier(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.touch()
    loaded = load_network("timm:resnet18", str(file))
    assert loaded.module.made_with == ("resnet18", True, {"file": str(file)})
    assert loaded.config.licence == "CC0-1.0"
    assert load_network("timm:resnet50.a1_in1k", RANDOM).module.made_with == (
        *("resnet50.a1_in1k", False, None),
    )


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:resnet19", "timm has no network 'resnet19'; did you mean resnet18"),
        ("timm:hf-hub:someone/something", "timm has no network 'hf-hub:someone/something'"),
        ("timm:resnet18", "the hub cannot be reached; where there is no network to download from"),
    ],
)
def test_what_timm_cannot_make_is_named(name: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_network(name)
    assert words in str(refused.value)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"attar\[timm\]"):
        load_network("timm:resnet18")


def test_a_backbone_embeds_grey_images_as_three_equal_channels() -> None:
    sizes = {"name": f"{HERE}:tiny", "side": 8, "normalized": False}
    grey = Backbone(BackboneConfig(**sizes, channels=1), weights="pretrained").eval()  # type: ignore[arg-type]
    colour = Backbone(BackboneConfig(**sizes), weights="pretrained").eval()  # type: ignore[arg-type]
    images = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(grey(images), colour(images.repeat(1, 3, 1, 1)))
    assert grey.licence == "CC0-1.0"
    with pytest.raises(InvalidInput, match="channels are 1, grey, or 3, colour"):
        BackboneConfig(**sizes, channels=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "side", "words"),
    [
        ("tiny", 2, "takes no images of 2 x 2 pixels"),
        ("of_tokens", 8, r"gives \(1, 4, 49\); expected"),
    ],
)
def test_a_network_without_features_of_these_images_is_named(
    name: str, side: int, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        Backbone(BackboneConfig(name=f"{HERE}:{name}", side=side))


def test_a_recipe_goes_on_from_pretrained_weights_and_records_their_licence(tmp_path: Path) -> None:
    name = f"{HERE}:tiny"
    changes = [f"encoder={name}", "hidden=8", "projection=4", "rate=0", "batch_size=8"]
    out = pretrain("image/simclr", tmp_path / "run", changes=changes, steps=1)
    model = load_checkpoint(out)
    assert isinstance(model, TensorModel)
    assert model.licence == "CC0-1.0"
    assert isinstance(model.encoder, Backbone)
    start = load_network(name).module.state_dict()
    now = model.encoder.network.state_dict()
    assert torch.equal(now["0.weight"], start["0.weight"])  # at a rate of 0 they stay


def test_weights_are_refused_for_an_encoder_that_has_none() -> None:
    with pytest.raises(InvalidInput, match="small has none, so leave out weights=random"):
        image_encoder("small", channels=1, side=8, weights=RANDOM)
    with pytest.raises(InvalidInput, match=r"encoder is one of tiny, small, .*; got 'resnet19'"):
        image_encoder("resnet19", channels=1, side=8)
