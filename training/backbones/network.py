"""Networks of other libraries by name: `timm:NAME`, and `torch:MODULE:FACTORY` for any other.

A factory is a class of torch's modules, or a function that is annotated to return one. So a name in
a file can start nothing else.
"""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors.torch import load_file
from torch import nn

from attar.errors import InvalidInput, MissingExtra

from .data_config import DataConfig, read_data_config

TIMM, TORCH = "timm:", "torch:"
PRETRAINED, RANDOM = "pretrained", "random"
"""Weights by name: those that come with the network, and none; else they are a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network, in evaluation mode: (b, 3, side, side) images to (b, d) or (b, d, h, w)."""

    name: str
    module: nn.Module
    config: DataConfig


def is_backbone(name: str) -> bool:
    """Say whether a name is one of a network of another library."""
    return name.startswith((TIMM, TORCH))


def load_network(name: str, weights: str = PRETRAINED) -> Network:
    """Make the network `timm:NAME` or `torch:MODULE:FACTORY`, without its classifier.

    `weights` are "pretrained", those that come with it, which timm downloads or has in its cache;
    "random"; or the path of a .safetensors file or of one that torch.save wrote of a state dict. A
    factory returns a network without a classifier, which carries a `pretrained_cfg`.

    Raises InvalidInput that names what cannot be found, made, read or followed, and MissingExtra
    without timm.
    """
    file = None if weights in (PRETRAINED, RANDOM) else Path(weights)
    if file is not None and not file.is_file():
        raise InvalidInput(
            f"there is no file {file} of weights; expected {PRETRAINED}, {RANDOM} or a file"
        )
    make = _of_timm if name.startswith(TIMM) else _of_factory
    module = make(name, weights, file)
    return Network(name=name, module=module.eval(), config=read_data_config(module, name))


def _of_timm(name: str, weights: str, file: Path | None) -> nn.Module:
    library, model = _timm(name), name.removeprefix(TIMM)
    # A name with a prefix of its own, such as hf-hub:, would fetch a description of a network.
    if not library.is_model(model):
        near = get_close_matches(model, library.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise InvalidInput(f"timm has no network {model!r}; {hint}")
    overlay = {} if file is None else {"pretrained_cfg_overlay": {"file": str(file)}}
    try:
        network = library.create_model(
            model, pretrained=weights != RANDOM, num_classes=0, **overlay
        )
    except Exception as error:  # whatever timm raises, the name and the weights are what it met
        fix = (
            f"check that {file} is of this network"
            if file
            else "where there is no network to download from, pass a file of weights"
        )
        raise InvalidInput(f"timm cannot make {model}: {error}; {fix}") from error
    return _module(network, name)


def _timm(name: str) -> Any:
    """Give the library; what it or a dependency of it warns of is not about the images."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module("timm")
    except ModuleNotFoundError as error:
        raise MissingExtra(name, "timm") from error
    except RuntimeError as error:
        raise InvalidInput(
            f"timm cannot be imported: {error}; install the torchvision of this torch, which is "
            f"{torch.__version__}"
        ) from error


def _of_factory(name: str, weights: str, file: Path | None) -> nn.Module:
    module = _module(_factory(name)(), name)
    if weights == RANDOM:
        for part in module.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
    if file is not None:
        try:
            state = (
                load_file(file)
                if file.suffix == ".safetensors"
                else torch.load(file, map_location="cpu", weights_only=True)
            )
            module.load_state_dict(state)
        except Exception as error:  # of a reader of bytes that may be anything
            raise InvalidInput(f"{file} holds no weights of {name}: {error}") from error
    return module


def _factory(name: str) -> Callable[[], object]:
    path, colon, attribute = name.removeprefix(TORCH).partition(":")
    if not colon or not attribute.isidentifier() or not all(map(str.isidentifier, path.split("."))):
        raise InvalidInput(
            f"{name!r} names no factory; expected torch:MODULE:FACTORY, such as "
            "torch:mypackage.networks:resnet50"
        )
    try:
        factory = getattr(import_module(path), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            f"{name} cannot be imported: {error}; install its package, or put its folder on "
            "PYTHONPATH"
        ) from error
    if not _gives_a_module(factory):
        raise InvalidInput(
            f"{name} is no factory of networks; expected a torch.nn.Module class, or a function "
            "annotated to return one (-> nn.Module)"
        )
    return factory  # type: ignore[no-any-return]  # checked


def _gives_a_module(factory: object) -> bool:
    if inspect.isfunction(factory):
        try:
            factory = get_type_hints(factory).get("return")
        except NameError:  # of a name that is imported for a type checker only
            return False
    return inspect.isclass(factory) and issubclass(factory, nn.Module)


def _module(network: object, name: str) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise InvalidInput(f"{name} gives a {type(network).__name__}; expected a torch.nn.Module")
    return network
