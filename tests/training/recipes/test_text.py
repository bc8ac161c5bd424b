"""The text recipes log their probes, and distilling and binarizing run from end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attar.errors import InvalidInput
from attar.training.binarizing import Conversion, convert, recover, sample
from attar.training.checkpoints.encoder_folder import attention_kinds
from attar.training.data.pairs import Pair, split
from attar.training.encoders.attention import BinarizedAttention, SoftmaxAttention
from attar.training.encoders.text import TextEncoder
from attar.training.hashed_layers import MIN_COSINE
from attar.training.loop import fit
from attar.training.probes.text_retrieval import embed
from attar.training.recipe import Recipe
from attar.training.recipes.text import barlow_twins, distil, ecoformer, mcl, mlm, simclr, simcse
from attar.training.recipes.text.common import PretrainingSettings
from attar.training.student_init import student_from_teacher
from attar.training.text_data import TextData, text_data
from benchmarks.support.bundles import tokenizer_json
from benchmarks.support.encoders import random_texts, tiny_encoder, tiny_shape

every_recipe = pytest.mark.parametrize(
    "recipe",
    [module.recipe for module in (barlow_twins, simclr, simcse, mlm, mcl)],
    ids=["barlow_twins", "simclr", "simcse", "mlm", "mcl"],
)
AnyRecipe = Recipe[TextData, PretrainingSettings]
RECOVERY = distil.Settings(steps=6, warmup=1, batch_size=16)


@pytest.fixture(scope="module")
def data() -> TextData:
    """Pairs whose summary is the beginning of their body."""
    bodies = random_texts(120, length=(6, 14))
    pairs = [Pair(str(i), "", " ".join(body.split()[:5]), body) for i, body in enumerate(bodies)]
    return text_data(split(pairs, held_out=20), tokenizer_json(), max_length=16)


def small(recipe: AnyRecipe, *, seed: int = 0) -> PretrainingSettings:
    return replace(recipe.settings, steps=4, seed=seed, warmup=1, batch_size=16, shape=tiny_shape())


def pretrained(recipe: AnyRecipe, data: TextData, *, seed: int = 0) -> TextEncoder:
    run = recipe.build(data, small(recipe, seed=seed))
    fit(run, accelerator="cpu", progress=False)
    assert isinstance(run.method.encoder, TextEncoder)
    return run.method.encoder


@every_recipe
def test_a_short_run_logs_its_probes(recipe: AnyRecipe, data: TextData) -> None:
    history = fit(recipe.build(data, small(recipe)), accelerator="cpu", progress=False)
    assert [made for made, _ in history.series("recall_at_10")] == [0, 4]
    assert set(history.rows[-1]) == {"step", "recall_at_1", "recall_at_10", "mrr", "rankme"}


@every_recipe
def test_a_run_is_decided_by_its_seed_and_leaves_the_global_one_alone(
    recipe: AnyRecipe, data: TextData
) -> None:
    rows = data.probe.queries
    one = embed(pretrained(recipe, data), rows)
    torch.rand(3)
    state = torch.get_rng_state()
    other = embed(pretrained(recipe, data), rows)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(one, other)
    assert not np.array_equal(one, embed(pretrained(recipe, data, seed=1), rows))


@pytest.mark.parametrize("recipe", [mlm.recipe, mcl.recipe], ids=["mlm", "mcl"])
def test_a_map_that_a_loss_on_tokens_does_not_train_is_refused(
    recipe: AnyRecipe, data: TextData
) -> None:
    settings = replace(small(recipe), shape=tiny_shape(dim=8))
    with pytest.raises(InvalidInput, match=r"shape\.dim=8 is a map that a loss on tokens does not"):
        recipe.build(data, settings)


def test_a_student_is_distilled_and_binarized_from_end_to_end(data: TextData) -> None:
    teacher = tiny_encoder(tiny_shape(depth=3))
    student = student_from_teacher(
        teacher, tiny_shape(depth=1, rank=8, hidden=24), layers=(2,), sample=data.pairs.second[:16]
    )
    goals = distil.targets(teacher, data)
    fit(distil.build(data, goals, student, RECOVERY), accelerator="cpu", progress=False)
    student.eval()

    settings = Conversion(layers=(0,), recovery=RECOVERY)
    converted = convert(student, sample(data, Conversion()), settings)
    recovery = recover(data, student, converted.encoder, settings)
    history = fit(recovery, log_every=1, accelerator="cpu", progress=False)
    assert len(history.series("loss")) == 6
    vectors = embed(converted.encoder, data.probe.queries)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_the_recipe_of_ecoformer_trains_softmax_and_recovers_codes_from_it(data: TextData) -> None:
    conversion = Conversion(layers=(0, 1), recovery=RECOVERY)
    settings = replace(
        ecoformer.SMALL, steps=4, warmup=1, batch_size=16, shape=tiny_shape(), conversion=conversion
    )
    names, attention = [], []
    for stage in ecoformer.recipe.runs(data, settings):
        names.append(stage.name)
        fit(stage.training, accelerator="cpu", progress=False)
        attention.append(attention_kinds(stage.training.method.encoder))
    assert names == ["softmax", "recover"]
    assert attention == ["softmax", "binarized"]


def test_texts_of_fewer_tokens_than_anchors_are_refused_before_the_first_run() -> None:
    pairs = split([Pair(str(i), "", "a", "a") for i in range(6)], held_out=1)
    texts = text_data(pairs, tokenizer_json(), max_length=16)
    with pytest.raises(InvalidInput, match="25 anchors need as many real tokens and the batch has"):
        next(ecoformer.stages(texts, ecoformer.SMALL))


def kinds(encoder: TextEncoder) -> list[type]:
    return [type(block.attention) for block in encoder.transformer.blocks]


def test_converting_leaves_the_encoder_as_it_was_and_is_decided_by_the_seed(
    data: TextData,
) -> None:
    encoder = tiny_encoder(tiny_shape(depth=1))
    before = embed(encoder, data.probe.queries)
    one, other = (
        convert(encoder, sample(data, Conversion()), Conversion(layers=(0,))) for _ in range(2)
    )
    assert kinds(encoder) == [SoftmaxAttention]
    assert kinds(one.encoder) == [BinarizedAttention]
    assert set(one.hashes) == {0}
    assert one.damage == {}  # no other layer is tried when some are named
    np.testing.assert_array_equal(embed(encoder, data.probe.queries), before)
    ours, theirs = one.encoder.state_dict(), other.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def opposed(*layers: int, depth: int = 3) -> TextEncoder:
    """Give an encoder in which those layers attend to what is unlike, which codes cannot follow."""
    encoder = tiny_encoder(tiny_shape(depth=depth))
    for place, block in enumerate(encoder.transformer.blocks):
        attention = block.attention
        assert isinstance(attention, SoftmaxAttention)
        if place in layers:
            attention.key.weight.data.copy_(-attention.query.weight.data)
            attention.query.weight.data *= 30
            attention.value.weight.data *= 30
        else:
            attention.value.weight.data *= 0.01
    return encoder


def test_layers_are_chosen_by_the_damage_that_each_does_alone(data: TextData) -> None:
    converted = convert(opposed(1), sample(data, Conversion()), Conversion())
    assert converted.damage[1] < MIN_COSINE
    assert min(converted.damage[0], converted.damage[2]) >= MIN_COSINE
    assert converted.layers == (0, 2)
    assert kinds(converted.encoder) == [BinarizedAttention, SoftmaxAttention, BinarizedAttention]


def test_an_encoder_whose_every_layer_is_beyond_the_bound_is_refused(data: TextData) -> None:
    with pytest.raises(InvalidInput, match=r"mean cosine of at most 0\.\d+, below 0\.9; name"):
        convert(opposed(0, depth=1), sample(data, Conversion()), Conversion())


def test_a_layer_that_does_not_exist_is_refused(data: TextData) -> None:
    with pytest.raises(InvalidInput, match="no layer 1; the encoder has 0 to 0"):
        convert(
            tiny_encoder(tiny_shape(depth=1)),
            sample(data, Conversion()),
            Conversion(layers=(1,)),
        )


def test_recovery_brings_a_binarized_encoder_nearer_to_what_it_was(data: TextData) -> None:
    encoder = opposed(0, depth=1)
    settings = Conversion(layers=(0,), recovery=replace(RECOVERY, steps=40, warmup=3, rate=2e-3))
    converted = convert(encoder, sample(data, Conversion()), settings)
    goals = distil.targets(encoder, data)

    def nearness() -> float:
        return float((embed(converted.encoder, data.pairs.second) * goals.second).sum(1).mean())

    before = nearness()
    assert before < MIN_COSINE  # a layer that is named is hashed anyway
    fit(
        recover(data, encoder, converted.encoder, settings),
        accelerator="cpu",
        progress=False,
    )
    assert nearness() > before + 0.05
