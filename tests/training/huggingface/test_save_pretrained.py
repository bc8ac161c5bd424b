"""What attar writes in transformers' layouts that library reads, and the other way round."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from attar.errors import InvalidInput
from attar.training.checkpoints.encoder_folder import TextModel, token_transformer
from attar.training.data.text import pad
from attar.training.encoders.attention import LinearAttention
from attar.training.encoders.pooling import Dense, HeadConfig
from attar.training.encoders.text import TextConfig
from attar.training.encoders.transformer import TransformerConfig
from attar.training.encoders.vit import VitConfig, VitEncoder
from attar.training.huggingface import bert, loading, vit_names
from attar.training.huggingface.config import Declared
from benchmarks.support.bundles import tokenizer_json
from benchmarks.support.encoders import ATTENTIONS, random_rows, tiny_encoder, tiny_shape
from benchmarks.support.families import libraries
from benchmarks.support.teachers import tokenizer_with_specials

TRANSFORMER = TransformerConfig(width=16, depth=2, heads=2, hidden=24, norm="pre", norm_eps=1e-6)
SHAPE = VitConfig(side=8, patch=4, transformer=TRANSFORMER, pooling="cls", normalized=False)


def vit(shape: VitConfig = SHAPE) -> VitEncoder:
    torch.manual_seed(0)
    encoder = VitEncoder(shape)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.3)
    return encoder.eval()


def their_vit(root: Path, **changes: Any) -> Any:
    """Save a ViTModel with random weights, biases too, and give it."""
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "image_size": 8,
        "patch_size": 4,
    }
    with libraries() as (transformers, _):
        torch.manual_seed(0)
        model = transformers.ViTModel(transformers.ViTConfig(**(sizes | changes)))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.3)
        model.save_pretrained(root)
    return model.eval()


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_their_vit_gives_its_class_state_here(tmp_path: Path, *, bias: bool) -> None:
    images = torch.randn(3, 3, 8, 8)
    theirs = their_vit(tmp_path, qkv_bias=bias)(pixel_values=images).last_hidden_state
    encoder = vit_names.read(tmp_path, normalized=False)
    torch.testing.assert_close(encoder.states(encoder.tokens(images)), theirs)
    torch.testing.assert_close(encoder(images), theirs[:, 0])
    assert not encoder.training
    assert vit_names.read(tmp_path)(images).norm(dim=1).tolist() == pytest.approx([1] * 3)


@torch.no_grad()
def test_our_vit_is_read_by_transformers_with_nothing_missing(tmp_path: Path) -> None:
    encoder, images = vit(), torch.randn(3, 3, 8, 8)
    vit_names.write(encoder, tmp_path)
    with libraries() as (transformers, _):
        theirs, report = transformers.ViTModel.from_pretrained(
            tmp_path, add_pooling_layer=False, output_loading_info=True
        )
    assert not any(report.values())
    torch.testing.assert_close(theirs(pixel_values=images).last_hidden_state[:, 0], encoder(images))
    torch.testing.assert_close(vit_names.read(tmp_path, normalized=False)(images), encoder(images))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (VitEncoder(replace(SHAPE, pooling="mean")), "pooling 'mean', dim None, norm 'pre'"),
        (VitEncoder(replace(SHAPE, dim=4)), "pooling 'cls', dim 4"),
        (
            VitEncoder(replace(SHAPE, transformer=replace(TRANSFORMER, norm="post"))),
            "norm 'post'",
        ),
        (VitEncoder(SHAPE, attention=LinearAttention), "layer 0 has LinearAttention"),
    ],
)
def test_a_vit_of_another_form_is_not_written(
    tmp_path: Path, wrong: VitEncoder, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        vit_names.write(wrong, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def config(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        held = load_file(path)
        change(held)
        save_file(held, path)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (config(model_type="bert"), "model_type 'bert'; attar reads 'vit' only"),
        (config(hidden_act="relu"), "hidden_act 'relu'"),
        (config(image_size=[8, 8]), r"image_size \[8, 8\]; expected a whole number"),
        (config(layer_norm_eps="small"), "layer_norm_eps 'small'"),
        (config(num_hidden_layers=3), r"lacks 'encoder.layer.2.*', which config.json asks for"),
        (config(num_hidden_layers=1), "no place for 16 weights of model.safetensors: 'encoder.la"),
        (config(image_size=12), r"position has shape \(4, 16\) and should have \(9, 16\)"),
        (weights(lambda held: held.pop("layernorm.bias")), "lacks 'layernorm.bias'"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is missing or damaged"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"{}"), "is missing or damaged"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    vit_names.write(vit(), tmp_path)
    spoil(tmp_path)
    with pytest.raises(InvalidInput, match=message):
        vit_names.read(tmp_path)


def text(shape: TextConfig | None = None, attention: str = "softmax") -> TextModel[Any]:
    encoder = tiny_encoder(shape, attention=ATTENTIONS[attention])
    return TextModel(encoder=encoder, tokenizer=tokenizer_json())


@pytest.mark.parametrize("rank", [None, 3])
@torch.no_grad()
def test_our_bert_is_read_by_transformers_with_its_states(tmp_path: Path, rank: int | None) -> None:
    model, (ids, mask) = text(tiny_shape(rank=rank)), pad(random_rows(4))
    bert.write(model, tmp_path)
    with libraries() as (transformers, _):
        theirs, report = transformers.BertModel.from_pretrained(
            tmp_path, add_pooling_layer=False, output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert not any(report.values())
    states = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    ours = model.encoder.transformer(model.encoder.tokens(ids), mask.bool())
    real = mask.bool()
    torch.testing.assert_close(states[real], ours[real])
    assert tokenizer("the cat sat").input_ids == [2, 4, 5, 6, 3]
    assert (tokenizer.model_max_length, tokenizer.pad_token_id) == (16, 0)


@torch.no_grad()
def test_a_bert_that_was_written_comes_back(tmp_path: Path) -> None:
    tokens = pad(random_rows(4))
    model = replace(text(), tokenizer=tokenizer_with_specials())  # as transformers has them
    bert.write(model, tmp_path)
    again = token_transformer(loading.read(tmp_path, Declared(pooling="mean", normalize=True)))
    assert again.encoder.shape == model.encoder.shape
    assert again.tokenizer == model.tokenizer
    assert torch.equal(again.encoder(*tokens), model.encoder(*tokens))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (text(tiny_shape(norm="pre")), "got norm 'pre'"),
        (text(tiny_shape(dim=4)), "dim 4, wide None and 0 dense layers"),
        (text(replace(tiny_shape(), wide=3)), "wide 3 and 0 dense layers"),
        (text(replace(tiny_shape(), head=HeadConfig(dense=(Dense(width=4),)))), "1 dense layers"),
        (text(attention="rotary"), "layer 0 has SoftmaxAttention"),
        (text(attention="binarized"), "layer 0 has BinarizedAttention"),
    ],
)
def test_a_text_encoder_of_another_form_is_not_written(
    tmp_path: Path, wrong: TextModel[Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        bert.write(wrong, tmp_path / "x")
    assert not (tmp_path / "x").exists()
