"""What each process of test_distributed.py does, to be compared with one process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from attar.training.choices import Strategy
from attar.training.distributed import gather, shard, world_size
from attar.training.encoders.joint_space import JointSpace
from attar.training.encoders.mlp import MlpConfig, MlpEncoder
from attar.training.encoders.prototype_head import PrototypeHead
from attar.training.encoders.series import SeriesConfig, SeriesEncoder
from attar.training.encoders.spectrogram import SpectrogramConfig, SpectrogramEncoder
from attar.training.encoders.table import TableConfig, TableEncoder
from attar.training.encoders.text import TextConfig, TextEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.encoders.vit import VitConfig, VitEncoder
from attar.training.loop import Training, fit
from attar.training.method import Method
from attar.training.methods import latent_features
from attar.training.methods.asymmetric import Asymmetric
from attar.training.methods.course_learning import CourseLearning, CourseLearningBatch
from attar.training.methods.cross_modal import CrossModal
from attar.training.methods.dense_retrieval import DenseRetrieval, DenseRetrievalBatch
from attar.training.methods.dino import Dino
from attar.training.methods.distillation import Distillation
from attar.training.methods.group_masked import GroupMasked, GroupMaskedBatch
from attar.training.methods.ibot import Ibot, IbotBatch
from attar.training.methods.image_distillation import ImageDistillation
from attar.training.methods.label_augmentation import LabelAugmentation, LabelAugmentationBatch
from attar.training.methods.label_distillation import LabelDistillation
from attar.training.methods.latent_features import LatentFeatures
from attar.training.methods.masked_autoencoder import MaskedAutoencoder, MaskedPatches
from attar.training.methods.masked_frames import MaskedFrames, MaskedFramesBatch
from attar.training.methods.masked_language import MaskedLanguage, MaskedLanguageBatch
from attar.training.methods.momentum import MomentumContrast
from attar.training.methods.pretext_task import PretextTask, PretextTaskBatch
from attar.training.methods.random_teacher import RandomTeacher
from attar.training.methods.reconstruction import Reconstruction
from attar.training.methods.self_distilled import SelfDistilled
from attar.training.methods.siamese import Siamese
from attar.training.methods.sie import Sie, SieBatch
from attar.training.methods.simcse import SimCse
from attar.training.methods.slotcon import SlotCon, SlotConBatch
from attar.training.methods.swav import Swav
from attar.training.methods.vector_quantised import VectorQuantised
from attar.training.objectives.alignment import cosine_alignment, squared_alignment
from attar.training.objectives.barlow_twins import barlow_twins
from attar.training.objectives.clip import clip
from attar.training.objectives.dino import dino
from attar.training.objectives.distillation import embedding_match, similarity_match
from attar.training.objectives.info_nce import info_nce
from attar.training.objectives.masked import masked_tokens, masked_values
from attar.training.objectives.matryoshka import matryoshka
from attar.training.objectives.mixed_barlow_twins import mixed_redundancy
from attar.training.objectives.nt_xent import nt_xent
from attar.training.objectives.soft_labels import jensen_shannon, soft_labels
from attar.training.objectives.swav import swav
from attar.training.objectives.token_detection import token_detection
from attar.training.objectives.vicreg import vicreg
from attar.training.predictors import DirectPred, HyperPredictor, TransformerPredictor
from attar.training.sampler import Sampler
from attar.training.schedules import constant
from attar.training.targets import Codebook, Queue
from attar.training.views.text import Tokens

Objective = Callable[[Tensor, Tensor], Tensor]

ITEMS = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
BATCH, STEPS = 12, 4
BLOCKS = TransformerConfig(width=8, depth=1, heads=2, hidden=12, norm="pre", norm_eps=1e-5)
HIDDEN = ITEMS[:BATCH, :4] > 0.2
OBJECTIVES: dict[str, Objective] = {
    "barlow_twins": barlow_twins,
    "clip": lambda a, b: clip([a, b], torch.zeros(1, dtype=a.dtype)),
    "cosine_alignment": cosine_alignment,
    "dino": lambda a, b: dino(a, b, centre=torch.zeros(b.shape[1], dtype=b.dtype)),
    "embedding_match": embedding_match,
    "info_nce": info_nce,
    "masked_tokens": lambda a, b: masked_tokens(torch.stack([a, b], -1), (b > 0).long(), HIDDEN),
    "masked_values": lambda a, b: masked_values(a, b, HIDDEN),
    "matryoshka": partial(matryoshka, widths=(2, 4)),
    "mixed_redundancy": lambda a, b: mixed_redundancy(
        (a + b) / 2, a, b, torch.arange(BATCH).flip(0), 0.5
    ),
    "jensen_shannon": jensen_shannon,
    "nt_xent": nt_xent,
    "similarity_match": similarity_match,
    "soft_labels": soft_labels,
    "squared_alignment": squared_alignment,
    "swav": swav,
    "token_detection": lambda a, b: token_detection(a, b > 0, HIDDEN),
    "vicreg": vicreg,
}


def value_and_gradient(objective: Objective) -> tuple[float, Tensor]:
    """Compare two noisy views of this process's items under one linear map."""
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight.requires_grad_()
    items = ITEMS[shard(torch.arange(BATCH))].double()
    first, second = items @ weight, (items + items.roll(1, dims=1) / 4) @ weight
    loss = objective(gather(first), gather(second))
    torch.autograd.backward(loss)
    assert weight.grad is not None
    if world_size() > 1:  # what DDP does
        dist.all_reduce(weight.grad)
    return loss.item(), weight.grad / world_size()


def methods() -> dict[str, Callable[[], Method[Any]]]:
    """Give the methods without batch statistics; not MixedBarlowTwins, which mixes by process."""
    return {
        "twins": lambda: Siamese(encoder(), nn.Linear(4, 4), partial(barlow_twins, redundancy=0.1)),
        "byol": lambda: Asymmetric(
            encoder(), nn.Linear(4, 4), nn.Linear(4, 4), momentum=constant(0.9)
        ),
        "direct_pred": lambda: Asymmetric(
            encoder(), nn.Linear(4, 4), DirectPred(4, momentum=constant(0.3))
        ),
        "moco": lambda: MomentumContrast(
            encoder(),
            nn.Linear(4, 4),
            queue=Queue(24, 4),
            momentum=constant(0.9),
            temperature=0.2,
        ),
        "swav": lambda: Swav(encoder(), nn.Linear(4, 4), dim=4, prototypes=5),
        "random_teacher": lambda: RandomTeacher(encoder(), nn.Linear(4, 4), distance=0.5, seed=0),
        "distillation": lambda: Distillation(encoder(), temperature=0.1),
        "image_distillation": lambda: ImageDistillation(encoder(), temperature=0.1),
        "puzzled": lambda: PretextTask(
            encoder(), nn.Linear(4, 4), dim=4, classes=2, temperature=0.5, weight=1.0, dropout=0.0
        ),
        "label_distillation": lambda: LabelDistillation(encoder(), encoder(), soft_labels),
        "label_augmentation": lambda: LabelAugmentation(encoder(), dim=4, classes=2, forms=2),
        "reconstruction": lambda: Reconstruction(encoder(), nn.Linear(4, 6)),
        "self_distilled": lambda: SelfDistilled(
            Reconstruction(encoder(), nn.Linear(4, 6)),
            Reconstruction(encoder(), nn.Linear(4, 6)),
            weight=1.0,
        ),
        "cross_modal": lambda: CrossModal(
            JointSpace({name: MlpEncoder(MlpConfig(features=3, dim=4)) for name in "ab"}), scale=5
        ),
        "group_masked": lambda: GroupMasked(
            VitEncoder(VitConfig(channels=1, side=4, patch=2, transformer=BLOCKS)),
            nn.Linear(8, 4),
            momentum=constant(0.9),
        ),
        "dino": lambda: Dino(
            encoder(),
            PrototypeHead(4, hidden=6, bottleneck=4, outputs=5),
            momentum=constant(0.9),
            teacher_temperature=constant(0.05),
        ),
        "ibot": lambda: Ibot(
            VitEncoder(VitConfig(channels=1, side=4, patch=2, transformer=BLOCKS)),
            PrototypeHead(8, hidden=6, bottleneck=4, outputs=5),
            momentum=constant(0.9),
            teacher_temperature=constant(0.05),
        ),
        "slotcon": lambda: SlotCon(
            VitEncoder(VitConfig(channels=1, side=4, patch=2, transformer=BLOCKS)),
            nn.Linear(8, 6),
            nn.Linear(6, 6),
            dim=6,
            prototypes=3,
            momentum=constant(0.9),
        ),
        "sie": lambda: Sie(
            MlpEncoder(MlpConfig(features=6, hidden=(8,), dim=4, normalized=False)),
            lambda dims: nn.Linear(dims, 3),
            HyperPredictor(3, 2),
        ),
        "masked_autoencoder": lambda: MaskedAutoencoder(
            VitEncoder(VitConfig(channels=1, side=4, patch=2, transformer=BLOCKS)), BLOCKS
        ),
        "masked_frames": lambda: MaskedFrames(
            SpectrogramEncoder(SpectrogramConfig(mels=4, transformer=BLOCKS))
        ),
        "masked_language": lambda: MaskedLanguage(
            TextEncoder(TextConfig(vocabulary=5, max_length=6, transformer=BLOCKS))
        ),
        "dense_retrieval": lambda: DenseRetrieval(
            TextEncoder(TextConfig(vocabulary=5, max_length=6, transformer=BLOCKS)),
            widths=(4, 8),
            temperature=0.5,
        ),
        "simcse": lambda: SimCse(text_encoder(), nn.Linear(8, 8), temperature=0.5, dropout=0.0),
        "course_learning": lambda: CourseLearning(
            text_encoder(), text_encoder(), blank=5, weight=1.0
        ),
        "latent_features": lambda: LatentFeatures(
            table(), TransformerPredictor(8, 6, BLOCKS), momentum=constant(0.9)
        ),
        "quantised": quantised,
    }


def encoder() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))


def text_encoder() -> TextEncoder:
    return TextEncoder(TextConfig(vocabulary=6, max_length=8, transformer=BLOCKS))


def table() -> TableEncoder:
    shape = TableConfig(numeric=6, transformer=BLOCKS, pooling="mean", normalized=False)
    return TableEncoder(shape)


def quantised() -> VectorQuantised:
    shape = SeriesConfig(channels=1, window=2, hop=2, transformer=BLOCKS)
    method = VectorQuantised(SeriesEncoder(shape), Codebook(8, 8), hidden=4)
    method.decoder = nn.Sequential(nn.Linear(8, 2))  # the one it has uses batch statistics
    return method


def views(items: Tensor, step: int) -> tuple[tuple[Tensor], tuple[Tensor]]:
    return (items,), (items + items.roll(1, dims=1) / (2 + step),)


def images(items: Tensor) -> Tensor:
    return items[:, None, :4, None] * items[:, None, None, :4]  # (n, 1, 4, 4)


def classes(items: Tensor) -> Tensor:
    return (items[:, 0] > 0).long()


def puzzles(items: Tensor, step: int) -> PretextTaskBatch:
    ((first,), (second,)) = views(items, step)
    return PretextTaskBatch(first, second, first + 1, classes(items))


def turned(items: Tensor, step: int) -> LabelAugmentationBatch:
    copies = torch.stack([part for (part,) in views(items, step)], 1)
    return LabelAugmentationBatch(copies.flatten(0, 1), classes(items))


def corrupted(items: Tensor, step: int) -> tuple[GroupMaskedBatch, ...]:
    made = []
    for view in (images(items), images(items).flip(2)):
        hidden = view[:, 0] > 0.3
        made.append(GroupMaskedBatch(view, view.masked_fill(hidden[:, None], 0.0), hidden))
    return tuple(made)


def patches(items: Tensor, step: int) -> MaskedPatches:
    some = torch.tensor([0, 3]).expand(len(items), 2)
    return MaskedPatches(images(items), some, some.new_tensor([1, 2]).expand(len(items), 2))


def hidden_patches(items: Tensor, step: int) -> IbotBatch:
    whole = images(items)
    views = whole, whole.flip(2), whole[..., :2, :2]
    return IbotBatch(views, (items[:, :4] > 0.3, items[:, 2:] > 0.5))


def overlapping(items: Tensor, step: int) -> SlotConBatch:
    whole, flipped = images(items), items[:, 0] > 0
    box = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(items), -1)
    empty = box.where(items[:, :1] < 0.8, 0.0)  # some share nothing
    return SlotConBatch((whole, whole.flip(3)), (empty, empty), (flipped, ~flipped))


def altered(items: Tensor, step: int) -> MaskedFramesBatch:
    clean = images(items)[:, 0]
    return MaskedFramesBatch(clean.masked_fill(clean > 0.3, 0.0), clean, clean > 0.3)


def blanked(items: Tensor, step: int) -> MaskedLanguageBatch:
    ids, hidden = (items.abs() * 2).long().clamp(max=3), items > 0.5
    return MaskedLanguageBatch(
        Tokens(ids.masked_fill(hidden, 4), torch.ones_like(ids)), ids, hidden
    )


def queries_and_passages(items: Tensor, step: int) -> DenseRetrievalBatch:
    ids = (items.abs() * 2).long().clamp(max=4)
    mask = torch.ones_like(ids)
    return DenseRetrievalBatch(Tokens(ids, mask), Tokens(ids.roll(1, dims=1), mask))


def single_texts(items: Tensor, step: int) -> Tokens:
    ids = (items.abs() * 2).long().clamp(max=4)
    return Tokens(ids, torch.ones_like(ids))


def changed(items: Tensor, step: int) -> CourseLearningBatch:
    tokens, hidden = single_texts(items, step), items > items.median(1, keepdim=True).values
    inserted = Tokens(
        torch.cat([tokens.ids.masked_fill(hidden, 5), tokens.ids[:, :2]], 1),
        torch.ones(len(items), 8, dtype=torch.int64),
    )
    swapped = tokens.ids.flip(1)
    return CourseLearningBatch(
        MaskedLanguageBatch(
            Tokens(tokens.ids.masked_fill(hidden, 5), tokens.mask), tokens.ids, hidden
        ),
        Tokens(swapped, tokens.mask),
        swapped != tokens.ids,
        inserted,
        torch.nn.functional.pad(hidden, (0, 2)),
        torch.cat([items, items[:, :2]], 1).abs().frac()[:, None].expand(-1, 3, -1),
    )


def requested(items: Tensor, step: int) -> latent_features.LatentFeaturesBatch:
    context = torch.tensor([0, 3]).expand(len(items), 2)
    targets = torch.tensor([[1, 2], [4, 5]]).expand(len(items), 2, 2)
    return latent_features.LatentFeaturesBatch(items, context, targets)


BATCHES: dict[str, Callable[[Tensor, int], Any]] = {
    "random_teacher": lambda items, _: ((items,),),
    "distillation": lambda items, step: (
        *views(items, step),
        *(part[:, :4] for (part,) in views(items, step)),
    ),
    "puzzled": puzzles,
    "label_distillation": lambda items, _: items,
    "label_augmentation": turned,
    "reconstruction": lambda items, _: (items / 2, items),
    "self_distilled": lambda items, _: (items / 2, items),
    "cross_modal": lambda items, _: (items[:, :3], items[:, 3:]),
    "dino": lambda items, step: (*(part for (part,) in views(items, step)), items / 2),
    "group_masked": corrupted,
    "image_distillation": lambda items, _: (items, items[:, :4]),
    "ibot": hidden_patches,
    "slotcon": overlapping,
    "sie": lambda items, _: SieBatch(items, items.roll(1, dims=1), items[:, :2]),
    "masked_autoencoder": patches,
    "masked_frames": altered,
    "masked_language": blanked,
    "dense_retrieval": queries_and_passages,
    "simcse": single_texts,
    "course_learning": changed,
    "latent_features": requested,
    "quantised": lambda items, _: items[:, None],
}
"""How rows become a method's batch, each by itself; by `views` where nothing is said."""


def trained(
    name: str,
    out: Path | None = None,
    *,
    steps: int = STEPS,
    micro_batch: int | None = None,
    strategy: Strategy = "ddp",
    compiled: bool = False,
) -> Any:
    """Train a method and give the losses of its log and its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        made = methods()[name]()
    sampler = Sampler(items=len(ITEMS), batch_size=BATCH, seed=0)

    training = Training(
        method=made,
        batches=lambda step: ITEMS[shard(sampler(step))],
        views=BATCHES.get(name, views),
        optimiser=torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1),
        rate=constant(0.1),
        steps=steps,
        seed=0,
    )
    history = fit(
        training,
        accelerator="cpu",
        log_every=1,
        progress=False,
        out=out,
        micro_batch=micro_batch,
        strategy=strategy,
        compiled=compiled,
    )
    return [row["loss"] for row in history.rows], made.state_dict()


def batches() -> list[Tensor]:
    """Give what this process has of the batches of some steps."""
    sampler = Sampler(items=len(ITEMS), batch_size=BATCH, seed=5)
    return [ITEMS[shard(sampler(step))] for step in range(1, STEPS)]


def run(out: Path) -> None:
    """Write what came of the methods and the objectives, and the batches of each process."""
    found = {
        "ddp": {name: trained(name) for name in methods()},
        "fsdp": {name: trained(name, strategy="fsdp") for name in methods()},
        "objectives": {name: value_and_gradient(it) for name, it in OBJECTIVES.items()},
    }
    trained("twins", out / "half", steps=2)
    torch.save(batches(), out / f"batches{dist.get_rank()}.pt")
    if dist.get_rank() == 0:
        torch.save(found, out / "world.pt")
