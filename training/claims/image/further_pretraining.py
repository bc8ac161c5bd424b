"""Long further pretraining gains from self-distillation, on digits on their side."""

from dataclasses import replace
from typing import Final, cast

from ...claim import Claim, difference
from ...data.square import side_of
from ...datasets.digits import digits, turned_digits
from ...groups import Groups
from ...loop import Training, fit
from ...methods.reconstruction import Reconstruction, ReconstructionBatch
from ...probes.few_shot import few_rows
from ...probes.finetune import fine_tune
from ...recipes.image.further_pretraining import SMALL, build, further
from ...views.image import named_view

SHORT, LONG = 100, 800  # steps of further pretraining in the trial
FEW = 200  # images of the target that train


def digits_and_few_turned() -> Groups:
    """Give the digits, and few of them on their side."""
    return Groups(related=digits(), target=turned_digits(FEW))


def trial(data: Groups, seed: int) -> dict[str, float]:
    """Fine-tune on ten labels a class after few and many further steps, distilled and not."""
    settings = replace(SMALL, seed=seed)
    first = replace(build(data, settings), probe=None)
    fit(first, accelerator="cpu", progress=False)
    base, target = cast("Reconstruction", first.method), data.target
    assert target.train_labels is not None
    rows = few_rows(target.train_labels, 10, seed=seed)
    view = named_view(settings.views, side_of(target))

    def tuned(method: Reconstruction) -> float:
        return fine_tune(method.encoder, target, rows, seed=seed, view=view).accuracy

    def ran(training: Training[ReconstructionBatch]) -> Reconstruction:
        fit(replace(training, probe=None), accelerator="cpu", progress=False)
        return cast("Reconstruction", training.method)

    figures = {"base": tuned(base)}
    for name, steps in (("short", SHORT), ("long", LONG)):
        longer = replace(settings, steps=steps)
        plain = ran(further(target, base, longer))
        distilled = ran(further(target, base, longer, plain))
        figures |= {f"plain/{name}": tuned(plain), f"distilled/{name}": tuned(distilled)}
    return figures


claim: Final = Claim(
    f"after {LONG} further steps on {FEW} unlabelled digits on their side, fine-tuning on ten "
    "labels a class is on average more accurate with self-distillation than without",
    digits_and_few_turned,
    trial,
    effects=(difference("distilled/long", "plain/long"),),
)
