"""Methods keep what their papers say of targets, queues, predictors and who gets a gradient."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.training.encoders.prototype_head import PrototypeHead
from attar.training.encoders.transformer import TransformerConfig
from attar.training.encoders.vit import VitConfig, VitEncoder
from attar.training.method import Method
from attar.training.methods.asymmetric import Asymmetric, Chain
from attar.training.methods.group_masked import GroupMasked, GroupMaskedBatch
from attar.training.methods.label_augmentation import LabelAugmentation, LabelAugmentationBatch
from attar.training.methods.label_distillation import LabelDistillation
from attar.training.methods.mixing import MixedBarlowTwins
from attar.training.methods.momentum import Mixing, MomentumContrast
from attar.training.methods.pretext_task import PretextTask, PretextTaskBatch
from attar.training.methods.random_teacher import RandomTeacher
from attar.training.methods.reconstruction import Reconstruction
from attar.training.methods.self_distilled import SelfDistilled
from attar.training.methods.siamese import Inputs, Siamese
from attar.training.methods.swav import Swav
from attar.training.objectives.barlow_twins import barlow_twins
from attar.training.objectives.nt_xent import nt_xent
from attar.training.objectives.soft_labels import jensen_shannon, soft_labels
from attar.training.predictors import DirectPred
from attar.training.schedules import constant
from attar.training.targets import Ema, Queue
from attar.training.views.puzzle import quarter_turns

DIM = 5


def rows(seed: int = 0, n: int = 16, width: int = 6) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def pair() -> tuple[Inputs, Inputs]:
    return (rows(0),), (rows(0) + rows(1) / 4,)


def encoder() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, DIM))


def step(method: Method[tuple[Inputs, Inputs]], number: int = 0) -> None:
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    loss, _ = method.loss(pair(), number)
    torch.autograd.backward(loss)
    optimiser.step()
    method.after_step(number)


def test_simsiam_pulls_no_gradient_through_the_other_view() -> None:
    method = Asymmetric(encoder(), nn.Identity(), nn.Identity())
    first, second = pair()
    loss, _ = method.loss((first, second), 0)
    torch.autograd.backward(loss)
    (weight, *_) = method.encoder.parameters()
    assert weight.grad is not None
    given = weight.grad.clone()

    # With both views' targets computed apart from the graph, the gradient is the same.
    method.zero_grad()
    a, b = method.encoder(*first), method.encoder(*second)
    fixed = a.detach().clone(), b.detach().clone()
    torch.autograd.backward((method.objective(a, fixed[1]) + method.objective(b, fixed[0])) / 2)
    torch.testing.assert_close(given, weight.grad)


def test_a_teacher_method_exports_what_learns_or_its_average() -> None:
    sides = nn.Linear(DIM, 4), nn.Linear(4, 4)
    contrast = partial(
        MomentumContrast, encoder(), sides[0], queue=Queue(8, 4), momentum=constant(0.5)
    )
    for make in (
        partial(Asymmetric, encoder(), *sides, momentum=constant(0.5)),
        partial(contrast, temperature=0.2),
    ):
        plain, averaged = make(), make(export_target=True)
        assert plain.exported is plain.encoder
        assert isinstance(averaged.target, Ema)
        assert isinstance(averaged.target.copy, Chain)
        assert averaged.exported is averaged.target.copy.encoder
    with pytest.raises(InvalidInput, match="export_target needs an EMA"):
        Asymmetric(encoder(), *sides, export_target=True)


def test_byols_target_follows_encoder_and_projector_and_gets_no_gradient() -> None:
    method = Asymmetric(encoder(), nn.Linear(DIM, 4), nn.Linear(4, 4), momentum=constant(0.75))
    assert method.target is not None
    before = [p.clone() for p in method.target.parameters()]
    step(method)
    student = [*method.encoder.parameters(), *method.projector.parameters()]
    after = list(method.target.parameters())
    assert all(p.grad is None for p in after)
    for old, its, new in zip(before, student, after, strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * its)


def test_direct_pred_shares_its_eigenvectors_with_the_projections_correlation() -> None:
    predictor = DirectPred(4, momentum=constant(0.3))
    for seed in range(3):
        predictor.update(rows(seed, width=4) * torch.tensor([4.0, 2.0, 1.0, 0.5]), seed)
    f, w = predictor.correlation, predictor.weight
    assert (f @ w - w @ f).norm() < 1e-6
    spectrum = torch.linalg.eigvalsh(f)
    expected = (spectrum / spectrum.max()).sqrt() + predictor.epsilon
    torch.testing.assert_close(torch.linalg.eigvalsh(w), expected.sort().values)
    torch.testing.assert_close(f.trace(), torch.tensor(1.0))  # of unit projections


def test_direct_pred_is_set_by_a_step_and_never_by_a_gradient() -> None:
    predictor = DirectPred(4, momentum=constant(0.3))
    assert not list(predictor.parameters())
    method = Asymmetric(encoder(), nn.Linear(DIM, 4), predictor, momentum=constant(0.9))
    step(method)
    assert not torch.equal(predictor.weight, torch.eye(4))


def test_a_queue_keeps_the_last_keys_as_directions_and_drops_the_oldest() -> None:
    queue = Queue(6, 3)
    first, second = rows(0, 4, 3), rows(1, 4, 3)
    queue.push(first)
    queue.push(second)
    expected = nn.functional.normalize(torch.cat([first[2:], second]), dim=1)
    torch.testing.assert_close(queue.keys, expected)


def test_a_batch_larger_than_the_queue_leaves_its_last_keys() -> None:
    queue = Queue(2, 3)
    queue.push(rows(0, 5, 3))
    torch.testing.assert_close(queue.keys, nn.functional.normalize(rows(0, 5, 3)[-2:], dim=1))


def momentum(mixing: Mixing | None = None) -> MomentumContrast:
    return MomentumContrast(
        encoder(),
        nn.Linear(DIM, 4),
        queue=Queue(64, 4),
        momentum=constant(0.9),
        temperature=0.2,
        mixing=mixing,
    )


def test_moco_asks_the_queue_of_before_and_then_adds_both_views_keys() -> None:
    method = momentum()
    before = method.queue.keys.clone()
    with torch.no_grad():
        keys = torch.cat([method.target(*view) for view in pair()])
    step(method)
    expected = torch.cat([before, nn.functional.normalize(keys, dim=1)])[-64:]
    torch.testing.assert_close(method.queue.keys, expected)


def test_mochi_is_moco_until_its_negatives_are_mixed_and_harder_from_then_on() -> None:
    mixing = Mixing(hardest=8, mixed=16, harder=4, warmup=3)
    plain, mixed = momentum(), momentum(mixing)
    early = [method.loss(pair(), 2)[0].item() for method in (plain, mixed)]
    late = [method.loss(pair(), 3)[0].item() for method in (plain, mixed)]
    assert early[0] == early[1]
    assert late[1] > late[0]


def test_swav_keeps_prototypes_of_unit_length_and_still_while_they_are_frozen() -> None:
    torch.manual_seed(0)
    method = Swav(encoder(), nn.Linear(DIM, 4), dim=4, prototypes=7, frozen=2)
    start = method.prototypes.weight.detach().clone()
    step(method, 1)
    torch.testing.assert_close(method.prototypes.weight, start)
    step(method, 2)
    assert not torch.allclose(method.prototypes.weight, start)
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(7))


def test_mixed_barlow_twins_without_strength_is_barlow_twins() -> None:
    projector = nn.Linear(DIM, 4)
    mixed = MixedBarlowTwins(encoder(), projector, redundancy=0.1, strength=0.0)
    twins = Siamese(encoder(), projector, partial(barlow_twins, redundancy=0.1))
    torch.testing.assert_close(mixed.loss(pair(), 0)[0], twins.loss(pair(), 0)[0])


def test_a_random_teacher_never_moves_and_its_student_begins_as_it_or_elsewhere() -> None:
    def teacher_of(distance: float) -> RandomTeacher:
        torch.manual_seed(2)
        net = encoder()
        head = PrototypeHead(DIM, hidden=8, bottleneck=4, outputs=10)
        return RandomTeacher(net, head, distance=distance, seed=3)

    near, far = teacher_of(0.0), teacher_of(1.0)
    (items,) = pair()[0]
    torch.testing.assert_close(near.head(near.encoder(items)), near.teacher(items))
    assert not torch.allclose(far.head(far.encoder(items)), far.teacher(items))
    loss, _ = far.loss(((items,),), 0)
    torch.autograd.backward(loss)
    assert all(p.grad is None for p in far.teacher.parameters())
    assert any(p.grad is not None for p in far.encoder.parameters())


def test_reconstruction_is_the_mean_squared_error_of_what_was() -> None:
    method = Reconstruction(encoder(), nn.Linear(DIM, 6))
    clean, seen = rows(0), rows(1)
    expected = (method.decoder(method.encoder(seen)) - clean).square().mean()
    torch.testing.assert_close(method.loss((seen, clean), 0)[0], expected)


def test_self_distillation_adds_the_distance_to_a_teacher_that_never_moves() -> None:
    student, teacher = (Reconstruction(encoder(), nn.Linear(DIM, 6)) for _ in range(2))
    torch.nn.init.normal_(next(teacher.encoder.parameters()))
    method = SelfDistilled(student, teacher, weight=2.0)
    corrupted, clean = batch = rows(1), rows(0)
    loss, metrics = method.loss(batch, 0)
    distance = (student.encoder(clean) - teacher.encoder(clean)).square().sum(1).mean()
    torch.testing.assert_close(metrics["apart"], distance.detach())
    rebuilt = (student.decoder(student.encoder(corrupted)) - clean).square().mean()
    torch.testing.assert_close(loss, rebuilt + 2.0 * distance)
    torch.autograd.backward(loss)
    assert all(p.grad is None for p in method.teacher.parameters())


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_a_taught_student_equals_its_teacher_at_the_loss_of_zero(*, batch_statistics: bool) -> None:
    torch.manual_seed(0)
    student, teacher = (
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)) for _ in range(2)
    )
    teacher.load_state_dict(student.state_dict())
    method = LabelDistillation(student, teacher, jensen_shannon, batch_statistics=batch_statistics)
    method.train()
    loss, metrics = method.loss(rows(0), 0)
    # A student in training uses the batch's statistics; only a teacher that does too is the same.
    assert (loss.item() < 1e-6) == batch_statistics
    assert all(p.grad is None for p in method.teacher.parameters())
    assert 0 <= float(metrics["agreed"]) <= 1


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_teaching_changes_neither_the_teacher_nor_the_copy_that_teaches(
    *, batch_statistics: bool
) -> None:
    torch.manual_seed(0)
    student, teacher = (
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        for _ in range(2)
    )
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    method = LabelDistillation(student, teacher, jensen_shannon, batch_statistics=batch_statistics)
    method.train()
    logits = method.teacher(rows(0))
    method.loss(3 * rows(1), 0)
    assert torch.equal(method.teacher(rows(0)), logits)
    for copied in (teacher, method.teacher.module):
        assert all(torch.equal(before[name], now) for name, now in copied.state_dict().items())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert teacher.training


def test_the_pretext_task_is_to_number_every_transformation() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, DIM))
    projector = nn.Linear(DIM, 4)
    method = PretextTask(net, projector, dim=DIM, classes=4, temperature=0.5, weight=2.0).eval()
    images, others = torch.rand(2, 3, 1, 4, 4)
    turned = quarter_turns.all_classes(images)
    batch = PretextTaskBatch(images, others, turned.data, turned.params["label"])
    contrast = nt_xent(projector(net(images)), projector(net(others)), temperature=0.5)
    logits = [method.classifier(net(images.rot90(turn, (2, 3)))) for turn in range(4)]
    pretext = -torch.stack([rows.log_softmax(1)[:, turn] for turn, rows in enumerate(logits)])
    torch.testing.assert_close(method.loss(batch, 0)[0], contrast + 2.0 * pretext.mean())
    linear = [part for part in method.classifier if isinstance(part, nn.Linear)]
    assert [part.out_features for part in linear] == [512, 128, 4]


def test_label_augmentation_aggregates_what_each_form_says_of_the_classes() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, DIM))
    method = LabelAugmentation(net, dim=DIM, classes=3, forms=4)
    images = torch.rand(2, 1, 4, 4)
    copies = quarter_turns.all_classes(images).data
    logits = method.joint(method.encoder(copies)).view(2, 4, 3, 4)  # image, form, class, as form
    expected = torch.stack(
        [torch.stack([logits[i, :, c].diagonal().mean() for c in range(3)]) for i in range(2)]
    )
    torch.testing.assert_close(method.aggregated(copies), expected)


def test_label_augmentation_learns_joint_labels_and_teaches_one_pass() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, DIM))
    method = LabelAugmentation(net, dim=DIM, classes=3, forms=4, temperature=2.0)
    images, labels = torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 1, 0])
    batch = LabelAugmentationBatch(quarter_turns.all_classes(images).data, labels)
    joint = [
        nn.functional.cross_entropy(
            method.joint(method.encoder(images.rot90(turn, (2, 3)))), labels * 4 + turn
        )
        for turn in range(4)
    ]
    single = method.single(images)
    expected = (
        torch.stack(joint).mean()
        + nn.functional.cross_entropy(single, labels)
        + soft_labels(single, method.aggregated(batch.copies), temperature=2.0)
    )
    torch.testing.assert_close(method.loss(batch, 0)[0], expected)


def group_masked(*, rebuild: float, contrast: float) -> GroupMasked:
    torch.manual_seed(0)
    transformer = TransformerConfig(width=8, depth=1, heads=2, hidden=8)
    vit = VitEncoder(VitConfig(channels=2, side=4, patch=2, transformer=transformer, dim=4))
    return GroupMasked(
        vit, nn.Linear(4, 4), momentum=constant(0.9), rebuild=rebuild, contrast=contrast
    )


def test_sit_lays_patches_out_where_they_were() -> None:
    method = group_masked(rebuild=1.0, contrast=0.0)
    images = torch.rand(3, 2, 4, 4)
    patches = images.unfold(2, 2, 2).unfold(3, 2, 2)  # n, channels, down, across, 2, 2
    flat = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    torch.testing.assert_close(method._image(flat), images)


def test_sit_rebuilds_the_hidden_pixels_alone() -> None:
    method = group_masked(rebuild=1.0, contrast=0.0)
    clean, seen = torch.rand(2, 3, 2, 4, 4)
    hidden = torch.zeros(3, 4, 4, dtype=torch.bool)
    hidden[:, 0, 0] = True
    view = GroupMaskedBatch(clean, seen, hidden)
    given, _ = method.loss((view, view), 0)
    shown = clean.clone()
    shown[:, :, 1:, 1:] += 1  # where nothing is hidden, what is there does not matter
    same, _ = method.loss((view._replace(clean=shown),) * 2, 0)
    torch.testing.assert_close(given, same)
    shown[:, :, 0, 0] += 1
    other, _ = method.loss((view._replace(clean=shown),) * 2, 0)
    assert not torch.allclose(given, other)


def test_sit_adds_both_directions_of_the_contrast_to_the_weighted_error() -> None:
    method = group_masked(rebuild=5.0, contrast=1.0)
    clean, seen = torch.rand(2, 2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(4))
    hidden = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(5)) < 0.5
    views = [GroupMaskedBatch(*view) for view in zip(clean, seen, hidden, strict=True)]
    errors, directions = [], []
    for view, other in (views, views[::-1]):
        states = method.encoder.states(method.encoder.tokens(view.corrupted))
        image = method._image(method.pixels(method.encoder.own(states)))
        apart = (image - view.clean).abs() * view.hidden[:, None]
        errors.append(apart.sum() / (2 * view.hidden.sum()))
        query = nn.functional.normalize(method.projector(method.encoder.embed(states)))
        key = nn.functional.normalize(method.target(other.clean))
        logits = query @ key.T / method.temperature
        directions.append(2 * method.temperature * -logits.log_softmax(1).diagonal().mean())
    given, _ = method.loss((views[0], views[1]), 0)
    torch.testing.assert_close(given, 5 * (errors[0] + errors[1]) / 2 + sum(directions))


def test_sit_without_a_part_is_the_other_part() -> None:
    clean, seen = torch.rand(2, 3, 2, 4, 4)
    view = GroupMaskedBatch(clean, seen, torch.ones(3, 4, 4, dtype=torch.bool))
    both, rebuild, contrast = (
        group_masked(rebuild=a, contrast=b).loss((view, view), 0)[0]
        for a, b in ((5.0, 1.0), (5.0, 0.0), (0.0, 1.0))
    )
    torch.testing.assert_close(both, rebuild + contrast)
