"""SlotCon matches the scores of what two crops share, and tells slots apart."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.heads import LinearClassifier
from attar.training.data.source import Source
from attar.training.encoders.conv import SmallConv, SmallConvConfig
from attar.training.methods.slotcon import Grouping, SlotCon, SlotConBatch, nearest_somewhere
from attar.training.schedules import constant
from attar.training.views.image import natural
from attar.training.views.view import View

IMAGES, SIDE, WIDTH, PROTOTYPES = 5, 8, 6, 4
STUDENT, TEACHER = 0.1, 0.07


def images() -> Tensor:
    return torch.rand(IMAGES, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def batch() -> SlotConBatch:
    crop = natural(SIDE, area=(0.5, 1.0), jitter=0, grey=0, blur=0)
    return SlotConBatch.two(crop, crop)(images(), torch.Generator().manual_seed(1))


def method(**options: Any) -> SlotCon:
    torch.manual_seed(1)
    encoder = SmallConv(SmallConvConfig(side=SIDE, width=3, normalized=False))
    own = SlotCon(
        encoder.eval(),  # its statistics do not depend on the batch
        nn.Linear(6, WIDTH),
        nn.Linear(WIDTH, WIDTH),
        dim=WIDTH,
        prototypes=PROTOTYPES,
        momentum=constant(0.75),
        student_temperature=STUDENT,
        teacher_temperature=TEACHER,
        **options,
    )
    with torch.no_grad():  # a student that is not its teacher, and a centre that is not zero
        for part in (own.projector, own.prototypes):
            for parameter in part.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        own.centre.copy_(torch.linspace(-0.2, 0.2, PROTOTYPES))
    return own


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_boxes_of_two_crops_show_the_same_part_of_an_image(flip: float) -> None:
    """A picture whose values are its places has equal values in both boxes."""
    line = torch.arange(64.0)
    places = torch.stack([line.expand(64, -1), line[:, None].expand(-1, 64)])
    whole = places.expand(20, -1, -1, -1)
    plain: Any = {"jitter": 0.0, "grey": 0.0, "blur": 0.0}
    first = natural(64, area=(0.3, 0.9), flip=0, **plain)
    second = natural(64, area=(0.3, 0.9), flip=flip, **plain)
    drawn = SlotConBatch.two(first, second)(whole, torch.Generator().manual_seed(0))
    assert bool(drawn.flipped[1].all()) == (flip == 1)
    for image in range(20):
        corners = []
        for view, boxes in zip(drawn.views, drawn.boxes, strict=True):
            left, top, right, bottom = (boxes[image] * 64 - 0.5).clamp(0, 63).tolist()
            rows, columns = np.arange(64), view[image].numpy()
            across = [np.interp(at, rows, columns[0, 32]) for at in (left, right)]
            down = [np.interp(at, rows, columns[1, :, 32]) for at in (top, bottom)]
            corners.append([*sorted(across), *down])
        np.testing.assert_allclose(corners[0], corners[1], atol=0.6)  # half a pixel at the edge


def test_crops_that_share_nothing_have_boxes_without_area_and_no_loss_of_groups() -> None:
    data, still = images(), torch.zeros(IMAGES, dtype=torch.bool)
    apart = [
        View(data, {"crop": torch.tensor([corner] * IMAGES), "flipped": still})
        for corner in ([0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 7.0, 7.0])
    ]
    drawn = SlotConBatch.of(apart[0], apart[1])
    for boxes in drawn.boxes:
        assert ((boxes[:, 2:] - boxes[:, :2]) == 0).all()
    loss, metrics = method().loss(drawn, 0)
    assert metrics["group"] == 0
    assert loss.isfinite()


def test_slots_are_the_means_of_places_by_their_share_of_a_prototype() -> None:
    grouping = method().target.copy
    assert isinstance(grouping, Grouping)
    slots, scores = grouping(images())
    tokens = grouping.encoder.with_tokens(images())[1]
    vectors = grouping.projector(tokens).detach().double().numpy()  # (n, places, width)
    prototypes = grouping.prototypes.weight.detach().double().numpy()
    for image in range(IMAGES):
        cosines = np.array(
            [[p @ v / np.linalg.norm(p) / np.linalg.norm(v) for v in vectors[image]]
             for p in prototypes]
        )  # fmt: skip
        np.testing.assert_allclose(scores[image].flatten(1).numpy(), cosines, rtol=1e-4, atol=1e-5)
        shares = np.exp(cosines / TEACHER) / np.exp(cosines / TEACHER).sum(0) + 1e-6
        means = (shares / shares.sum(1, keepdims=True)) @ vectors[image]
        np.testing.assert_allclose(slots[image].numpy(), means, rtol=1e-3, atol=1e-4)


def test_the_loss_of_groups_is_the_cross_entropy_of_the_aligned_places() -> None:
    """With crops that are the whole image, one of them mirrored, place by place."""
    data = images()
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * IMAGES)
    flips = torch.zeros(IMAGES, dtype=torch.bool), torch.ones(IMAGES, dtype=torch.bool)
    slotcon, drawn = method(), SlotConBatch((data, data.flip(3)), (box, box), flips)
    grouping = Grouping(slotcon.encoder, slotcon.projector, slotcon.prototypes, TEACHER)
    own = [grouping(view)[1].detach() for view in drawn.views]
    its = [slotcon.target(view)[1] for view in drawn.views]
    own, its = ([first, second.flip(3)] for first, second in (own, its))
    total = 0.0
    for student, teacher in ((own[0], its[1]), (own[1], its[0])):
        costs = []
        for image, row, column in np.ndindex(IMAGES, *student.shape[2:]):
            p = ((teacher[image, :, row, column] - slotcon.centre) / TEACHER).softmax(0)
            log_q = (student[image, :, row, column] / STUDENT).log_softmax(0)
            costs.append(-(p * log_q).sum().item())
        total += sum(costs) / len(costs)
    loss, metrics = slotcon.loss(drawn, 0)
    assert float(metrics["group"]) == pytest.approx(total, rel=1e-5)
    assert loss.item() == pytest.approx(
        0.5 * float(metrics["group"]) + 0.5 * float(metrics["slot"]), rel=1e-5
    )


def test_a_prototype_is_in_a_view_where_it_wins_a_place() -> None:
    scores = torch.zeros(1, 3, 1, 2)
    scores[0, 0] = torch.tensor([1.0, 2.0])
    scores[0, 2] = torch.tensor([3.0, 0.0])
    assert nearest_somewhere(scores).tolist() == [[True, False, True]]


def test_the_teacher_and_the_centre_move_without_a_gradient() -> None:
    slotcon, drawn = method(), batch()
    before, centre = [p.clone() for p in slotcon.target.parameters()], slotcon.centre.clone()
    scores = torch.cat([slotcon.target(view)[1] for view in drawn.views])
    torch.autograd.backward(slotcon.loss(drawn, 0)[0])
    slotcon.after_step(0)
    student = [
        *slotcon.encoder.parameters(),
        *slotcon.projector.parameters(),
        *slotcon.prototypes.parameters(),
    ]
    for old, own, its in zip(before, slotcon.target.parameters(), student, strict=True):
        assert own.grad is None
        assert its.grad is not None
        torch.testing.assert_close(own, 0.75 * old + 0.25 * its)
    torch.testing.assert_close(slotcon.centre, 0.9 * centre + 0.1 * scores.mean((0, 2, 3)))


def test_the_exported_slots_are_a_classifier_of_token_vectors() -> None:
    slotcon = method()
    source = Source(train=images(), test=images())
    exported = slotcon.exported
    assert isinstance(exported, SmallConv)
    head = slotcon.heads(source, exported)["slots"]
    assert isinstance(head, LinearClassifier)
    slots = slotcon.target(images())[1].argmax(1).flatten()
    assert set(head.labels) == {f"slot {number}" for number in slots.tolist()}
    tokens = exported.with_tokens(images())[1].flatten(0, 1)
    given = head.probabilities(tokens.detach().numpy(), fingerprint="").argmax(1)
    names = np.array(head.labels)[given]
    for label in head.labels:  # each slot's places mostly get it, the rare one's too
        places = slots.numpy() == int(label.removeprefix("slot "))
        assert np.mean(names[places] == label) > 0.7


def test_an_encoder_without_a_map_that_is_averaged_is_refused() -> None:
    flat = SmallConv(SmallConvConfig(side=SIDE, pooling="flat", dim=4))
    with pytest.raises(InvalidInput, match=r"places of a map .*; got SmallConvConfig"):
        SlotCon(flat, nn.Identity(), nn.Identity(), dim=4, prototypes=2, momentum=constant(0.9))
