"""The loop's promises: seeded, resumable to the bit, honest about failure."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.training.datasets.digits import digits
from attar.training.loop import CollapseWarning, History, Training, fit
from attar.training.method import Method, Metrics
from attar.training.objectives.barlow_twins import barlow_twins
from attar.training.optimisers import parameter_groups
from attar.training.recipes.image.simclr import recipe as simclr
from attar.training.sampler import Sampler
from attar.training.schedules import constant, cosine_ramp, warmup_cosine
from attar.training.targets import Ema

STEPS = 8
DATA = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


class Toy(Method[Tensor]):
    """Dropout, batch norm and an EMA: everything a checkpoint could forget."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.target = Ema(self.encoder, cosine_ramp(0.5, 1.0, STEPS))

    def loss(self, batch: Tensor, step: int) -> tuple[Tensor, Metrics]:
        z = self.encoder(batch)
        noisy = self.encoder(batch + torch.randn_like(batch))
        loss = barlow_twins(z, noisy) + (z - self.target(batch)).square().mean()
        return loss, {"spread": z.detach().std(), "doubled": 2.0 * step}

    def after_step(self, step: int) -> None:
        self.target.update(self.encoder, step)


def training(
    *, seed: int = 1, steps: int = STEPS, batches: Callable[[int], Tensor] | None = None
) -> Training[Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        method = Toy()
    sampler = Sampler(items=len(DATA), batch_size=12, seed=seed)
    return Training(
        method=method,
        batches=batches or (lambda step: DATA[sampler(step)]),
        optimiser=torch.optim.AdamW(parameter_groups(method, weight_decay=0.1)),
        rate=warmup_cosine(1e-2, 2, STEPS),
        steps=steps,
        seed=seed,
        probe=lambda _: {"mean": float(method.encoder(DATA).mean())},
    )


def run(what: Training[Tensor], out: Path | None = None, *, restart: bool = False) -> History:
    return fit(
        what,
        out=out,
        log_every=1,
        probe_every=3,
        save_every=2,
        restart=restart,
        accelerator="cpu",
        progress=False,
    )


def state(what: Training[Any]) -> dict[str, Tensor]:
    """Every tensor that the run left behind, the optimiser's included."""
    tensors = {f"method.{name}": t for name, t in what.method.state_dict().items()}
    for parameter, values in what.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{parameter}.{name}": t for name, t in values.items()}
    return tensors


def assert_same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def figures(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


def die_at(step: int, what: Training[Tensor]) -> Callable[[int], Tensor]:
    def batches(at: int) -> Tensor:
        if at == step:
            raise KeyboardInterrupt
        batch: Tensor = what.batches(at)
        return batch

    return batches


def test_two_runs_with_one_seed_agree_to_the_bit() -> None:
    first, second = training(), training()
    assert figures(run(first)) == figures(run(second))
    assert_same_bits(state(first), state(second))


def test_another_seed_gives_another_run() -> None:
    assert figures(run(training(seed=1))) != figures(run(training(seed=2)))


@pytest.mark.parametrize("death", [1, 2, 5, 7])
def test_a_run_that_died_is_taken_up_with_identical_results(tmp_path: Path, death: int) -> None:
    whole = training()
    expected = run(whole)

    with pytest.raises(KeyboardInterrupt):
        run(training(batches=die_at(death, training())), tmp_path)
    resumed = training()
    assert figures(run(resumed, tmp_path)) == figures(expected)
    assert_same_bits(state(resumed), state(whole))


def test_what_the_caller_draws_does_not_change_the_run_nor_the_run_what_the_caller_draws() -> None:
    torch.manual_seed(3)
    undisturbed = torch.rand(4)
    torch.manual_seed(3)
    first = figures(run(training()))
    assert torch.equal(torch.rand(4), undisturbed)
    assert figures(run(training())) == first


def test_a_finished_run_is_loaded_and_not_repeated(tmp_path: Path) -> None:
    first = training()
    expected = run(first, tmp_path)
    again = training(batches=die_at(0, training()))
    assert figures(run(again, tmp_path)) == figures(expected)
    assert_same_bits(state(again), state(first))


def test_a_run_can_be_prolonged(tmp_path: Path) -> None:
    run(training(steps=4), tmp_path)
    longer = run(training(steps=6), tmp_path)
    assert [step for step, _ in longer.series("loss")] == [1, 2, 3, 4, 5, 6]


def test_restart_starts_anew(tmp_path: Path) -> None:
    first = run(training(seed=1), tmp_path)
    second = run(training(seed=2), tmp_path, restart=True)
    assert figures(second) == figures(run(training(seed=2)))
    assert figures(first) != figures(second)


def test_the_log_on_disk_is_the_history(tmp_path: Path) -> None:
    history = run(training(), tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(history.rows)
    assert history.series("doubled") == [(made, 2.0 * (made - 1)) for made in range(1, STEPS + 1)]
    assert [made for made, _ in history.series("mean")] == [0, 3, 6, 8]
    assert history.series("rate")[0] == (1, warmup_cosine(1e-2, 2, STEPS)(0))
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_a_log_line_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(training(batches=die_at(5, training())), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')
    assert figures(run(training(), tmp_path)) == figures(run(training()))


def test_the_probe_sees_evaluation_mode_and_no_gradients() -> None:
    seen: list[tuple[bool, bool]] = []
    method = Toy()

    def probe(_step: int) -> dict[str, float]:
        seen.append((method.training, torch.is_grad_enabled()))
        return {}

    what = Training(
        method=method,
        batches=lambda _: DATA,
        optimiser=torch.optim.SGD(method.encoder.parameters()),
        rate=constant(0.1),
        steps=1,
        seed=0,
        probe=probe,
    )
    run(what)
    assert seen == [(False, False)] * 2


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step() -> None:
    broken = training(batches=lambda step: DATA * (torch.nan if step == 3 else 1.0))
    with pytest.raises(FloatingPointError, match=r"nan at step 3, rate .*lower the rate"):
        run(broken)


def test_a_checkpoint_of_another_seed_is_refused(tmp_path: Path) -> None:
    run(training(seed=1), tmp_path)
    with pytest.raises(InvalidInput, match=r"seed was 1 and is 2.*restart=True"):
        run(training(seed=2), tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run(training(), tmp_path)
    other = training()
    other.method.add_module("extra", nn.Linear(2, 2))
    with pytest.raises(InvalidInput, match=r"(?s)other parameters.*extra\.weight.*restart=True"):
        run(other, tmp_path)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", bytes(64)])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(damage)
    with pytest.raises(InvalidInput, match=r"not a checkpoint of attar.*restart=True"):
        run(training(), tmp_path)


def test_progress_shows_the_steps_and_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    fit(training(), accelerator="cpu", progress=True)
    assert re.search(r"training .* 8/8 .*loss \d", capsys.readouterr().out)


class Normless(Method[Tensor]):
    """A contrast through an encoder whose rows do not depend on one another."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.1), nn.Linear(8, 4))

    def loss(self, batch: Tensor, step: int) -> tuple[Tensor, Metrics]:
        z = self.encoder(batch)
        return barlow_twins(z, self.encoder(batch + 0.1)), {"spread": z.detach().std()}


def normless(*, dropout: float) -> Training[Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = Normless()
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    sampler = Sampler(items=len(DATA), batch_size=12, seed=0)
    return Training(
        method=method,
        batches=lambda step: DATA[sampler(step)],
        optimiser=torch.optim.SGD(method.parameters(), lr=0.1),
        rate=constant(0.1),
        steps=3,
        seed=0,
    )


def test_a_micro_batch_gives_the_large_batchs_run() -> None:
    whole, split = normless(dropout=0.0), normless(dropout=0.0)
    expected = fit(whole, accelerator="cpu", log_every=1, progress=False)
    given = fit(split, accelerator="cpu", log_every=1, progress=False, micro_batch=5)
    losses = [loss for _, loss in expected.series("loss")]
    assert [loss for _, loss in given.series("loss")] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(state(split), state(whole), rtol=1e-5, atol=1e-6)


def test_a_micro_batch_computes_a_part_at_a_time_and_each_part_again() -> None:
    def widths(micro_batch: int | None) -> list[int]:
        what, seen = normless(dropout=0.1), []
        first = next(m for m in what.method.modules() if isinstance(m, nn.Linear))
        first.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
        fit(what, accelerator="cpu", progress=False, micro_batch=micro_batch)
        return seen

    assert widths(None) == [12] * 2 * 3  # two passes in each of three steps
    assert sorted(widths(5)) == sorted([5, 5, 2] * 2 * 3 * 2)


def test_a_micro_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="micro_batch must be at least 1; got 0"):
        fit(normless(dropout=0.0), accelerator="cpu", progress=False, micro_batch=0)


def test_batches_made_ahead_change_nothing() -> None:
    here, ahead = training(), training()
    fit(here, accelerator="cpu", progress=False)
    fit(ahead, accelerator="cpu", progress=False, workers=3)
    assert all(
        torch.equal(a, b) for a, b in zip(*(state(w).values() for w in (here, ahead)), strict=True)
    )


def test_a_run_of_workers_is_taken_up_by_more_of_them_with_identical_results(
    tmp_path: Path,
) -> None:
    whole, kept = training(), training().batches

    def batches(step: int) -> Tensor:
        if step == 5:
            raise InvalidInput("a damaged image")
        batch: Tensor = kept(step)
        return batch

    run(whole)
    ahead = partial(fit, out=tmp_path, save_every=2, accelerator="cpu", progress=False)
    with pytest.raises(InvalidInput, match="a damaged image"):
        ahead(training(batches=batches), workers=1)
    resumed = training()
    ahead(resumed, workers=2)

    assert_same_bits(state(resumed), state(whole))


def test_a_batch_that_fails_ahead_stops_the_run_at_its_step() -> None:
    made = []

    def batches(step: int) -> Tensor:
        if step == 5:
            raise InvalidInput("item 7 of the folder is no image")
        return DATA[:12]

    def probe(steps: int) -> dict[str, float]:
        made.append(steps)
        return {"made": float(steps)}

    what = replace(training(batches=batches), probe=probe)
    with pytest.raises(InvalidInput, match=r"^item 7 of the folder is no image$"):
        fit(what, accelerator="cpu", progress=False, workers=2, probe_every=1)
    assert made == [0, 1, 2, 3, 4, 5]


def test_views_are_made_of_a_steps_items_where_the_method_is() -> None:
    what, seen = training(), []

    def views(items: Tensor, step: int) -> Tensor:
        seen.append((step, items.shape))
        return items * 2

    doubled = training(batches=lambda step: what.batches(step) * 2)
    fit(replace(what, views=views), accelerator="cpu", progress=False)
    fit(doubled, accelerator="cpu", progress=False)
    assert seen == [(step, (12, 6)) for step in range(STEPS)]
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(state(w).values() for w in (what, doubled)), strict=True)
    )


def test_a_collapse_is_reported_early_with_its_likely_causes() -> None:
    ranks = iter([20.0, 12.0, 1.5, 1.2])
    falling = replace(training(), probe=lambda _: {"rankme": next(ranks)})
    with pytest.warns(
        CollapseWarning, match=r"after 6 steps RankMe is 1\.5, of 20\.0 at the start"
    ):
        run(falling)


def test_bfloat16_keeps_parameters_and_loss_in_float32() -> None:
    what = training()
    history = fit(what, accelerator="cpu", precision="bf16-mixed", progress=False)
    assert {t.dtype for t in what.method.parameters()} == {torch.float32}
    exact = run(training())
    assert history.series("loss")[-1][1] == pytest.approx(exact.series("loss")[-1][1], rel=0.05)


def test_bfloat16_is_what_the_encoder_computes_in() -> None:
    what = training()
    computed = set()
    what.method.encoder.register_forward_hook(lambda _m, _i, out: computed.add(out.dtype))
    fit(replace(what, probe=None), accelerator="cpu", precision="bf16-mixed", progress=False)
    assert computed == {torch.bfloat16}


def test_bfloat16_lays_images_out_channels_last_and_is_taken_up_to_the_bit(tmp_path: Path) -> None:
    def images(steps: int, out: Path | None) -> dict[str, Tensor]:
        settings = replace(simclr.settings, steps=steps, warmup=1, batch_size=16)
        what = replace(simclr.build(digits(), settings), probe=None, rate=lambda _: 1e-3)
        fit(what, out=out, accelerator="cpu", precision="bf16-mixed", progress=False)
        kernels = [weight for weight in what.method.parameters() if weight.ndim == 4]
        assert kernels
        assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
        return state(what)

    images(2, tmp_path)
    assert_same_bits(images(4, tmp_path), images(4, None))


def test_an_epoch_meets_every_row_once_and_the_next_in_another_order() -> None:
    sampler = Sampler(items=12, batch_size=4, seed=0)
    first, second = (
        torch.cat([sampler(step) for step in steps]) for steps in (range(3), range(3, 6))
    )
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(12))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("batch_size", [0, 13])
def test_a_batch_larger_than_the_data_is_refused(batch_size: int) -> None:
    with pytest.raises(InvalidInput, match=f"got {batch_size} of 12 items"):
        Sampler(items=12, batch_size=batch_size, seed=0)


def test_a_gradient_longer_than_the_clip_is_scaled_to_it() -> None:
    moves = []
    for clip in (None, 1e-3, 1e6):
        what = training(steps=1)
        learned = [p for p in what.method.parameters() if p.requires_grad]
        before = nn.utils.parameters_to_vector(learned).detach().clone()
        run(replace(what, optimiser=torch.optim.SGD(learned), rate=constant(1.0), clip=clip))
        moves.append(nn.utils.parameters_to_vector(learned).detach() - before)
    free, clipped, below = moves
    assert torch.equal(free, below)
    torch.testing.assert_close(clipped, free / free.norm() * 1e-3, rtol=1e-3, atol=1e-6)


class Still(Method[Tensor]):
    """A loss without slope, so that only weight decay moves the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 3)

    def loss(self, batch: Tensor, step: int) -> tuple[Tensor, Metrics]:
        return self.encoder(batch).sum() * 0, {}


def test_weight_decay_follows_its_schedule_where_weights_decay(tmp_path: Path) -> None:
    def still(steps: int) -> Training[Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            method = Still()
        groups = parameter_groups(method, weight_decay=0.1)
        schedule = cosine_ramp(0.1, 0.5, 4)
        made = replace(training(steps=steps), method=method, optimiser=torch.optim.AdamW(groups))
        return replace(made, rate=constant(0.2), weight_decay=schedule, probe=None)

    start, whole = still(4).method.state_dict(), still(4)
    run(whole)
    left = math.prod(1 - 0.2 * cosine_ramp(0.1, 0.5, 4)(step) for step in range(4))
    weights = whole.method.state_dict()
    torch.testing.assert_close(weights["encoder.weight"], start["encoder.weight"] * left)
    assert torch.equal(weights["encoder.bias"], start["encoder.bias"])
    run(still(2), tmp_path)  # a checkpoint has the decay that the groups were made with
    resumed = still(4)
    run(resumed, tmp_path)
    assert_same_bits(state(resumed), state(whole))


def test_biases_and_gains_do_not_decay_and_targets_are_left_out() -> None:
    decayed, kept = parameter_groups(Toy(), weight_decay=0.1)
    assert [(*p.shape,) for p in decayed["params"]] == [(8, 6)]
    assert [(*p.shape,) for p in kept["params"]] == [(8,), (8,), (8,)]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
