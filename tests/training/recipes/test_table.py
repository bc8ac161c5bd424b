"""The table recipe: what its encoder sees and predicts, and that it scales features itself."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import safetensors.numpy
import torch

import attar
from attar.errors import InvalidInput
from attar.export import export
from attar.training import pretrain
from attar.training.checkpoints.encoder_folder import TensorModel, load, save
from attar.training.data.source import Source, embed
from attar.training.datasets.tables import wine
from attar.training.encoders.table import TableConfig, TableEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.loop import fit
from attar.training.methods.latent_features import LatentFeatures
from attar.training.predictors import TransformerPredictor
from attar.training.recipes.table import t_jepa

BLOCKS = TransformerConfig(width=8, depth=1, heads=2, hidden=8, norm="pre", norm_eps=1e-5)
SETTINGS = t_jepa.Settings(
    steps=3, warmup=1, batch_size=16, transformer=BLOCKS, predictor=BLOCKS, sets=2
)


@pytest.fixture(scope="module")
def data() -> Source:
    return wine()


def test_a_batch_depends_on_the_step_and_nothing_else(data: Source) -> None:
    one, other = (t_jepa.build(data, SETTINGS) for _ in range(2))
    other.views(other.batches(0), 0)
    torch.rand(3)
    given, again, later = (
        run.views(run.batches(step), step) for run, step in ((one, 5), (other, 5), (one, 6))
    )
    assert all(torch.equal(a, b) for a, b in zip(given, again, strict=True))
    assert not torch.equal(given.rows, later.rows)
    assert given.targets.shape[:2] == (16, 2)
    for seen, wanted in zip(given.context.tolist(), given.targets.flatten(1).tolist(), strict=True):
        assert not {*seen} & {*wanted}


def test_a_short_run_logs_its_probes_and_its_encoder_is_saved(data: Source, tmp_path: Path) -> None:
    training = t_jepa.build(data, SETTINGS)
    history = fit(training, log_every=1, accelerator="cpu", progress=False)
    assert [made for made, _ in history.series("linear")] == [0, 3]
    assert set(history.rows[-1]) == {"step", "rankme", "knn", "linear", "scarce"}
    assert len(history.series("spread_features")) == 3
    encoder = cast("TableEncoder", training.method.exported.eval())
    save(TensorModel(encoder=encoder), tmp_path)
    again = load(tmp_path)
    assert isinstance(again, TensorModel)
    np.testing.assert_array_equal(embed(again.encoder, data.train), embed(encoder, data.train))


def test_the_unit_of_a_feature_changes_nothing(data: Source) -> None:
    rows = data.train[torch.arange(100)]
    factors = torch.logspace(-3, 3, rows.shape[1])
    encoders = []
    for scaled in (rows, rows * factors + 7):
        torch.manual_seed(0)
        encoder = TableEncoder(TableConfig(numeric=rows.shape[1], transformer=BLOCKS)).eval()
        encoder.standardise(scaled)
        encoders.append(encoder(scaled))
    torch.testing.assert_close(encoders[0], encoders[1], atol=1e-3, rtol=1e-3)


def test_a_constant_feature_is_only_centred_and_codes_are_left_alone() -> None:
    shape = TableConfig(numeric=2, categories=(3,), transformer=BLOCKS)
    encoder = TableEncoder(shape)
    rows = torch.tensor([[5.0, 1.0, 0.0], [5.0, 3.0, 2.0]])
    before = encoder.content(rows)
    encoder.standardise(rows)
    after = encoder.content(rows)
    torch.testing.assert_close(after[:, 0], torch.zeros(2, 8))
    torch.testing.assert_close(
        after[:, 1], torch.tensor([[-1.0], [1.0]]) * encoder.features.weight[1]
    )
    assert torch.equal(before[:, 2], after[:, 2])


def test_what_is_not_in_the_context_is_not_seen() -> None:
    method = cast("LatentFeatures", t_jepa.build(wine(), SETTINGS).method).eval()
    rows = wine().train[torch.arange(4)]
    context = torch.tensor([[0, 2, 5]] * 4)
    wanted = torch.tensor([[1, 3]] * 4)

    def predicted(rows: torch.Tensor) -> torch.Tensor:
        tokens = method.encoder.tokens(rows).gather(1, context[..., None].expand(-1, -1, 8))
        out: torch.Tensor = method.predictor(method.encoder.states(tokens), context, wanted)
        return out

    hidden, seen = rows.clone(), rows.clone()
    hidden[:, 1] += 1
    seen[:, 2] += 1
    assert torch.equal(predicted(rows), predicted(hidden))
    assert not torch.equal(predicted(rows), predicted(seen))
    assert not torch.equal(method.goals(rows), method.goals(hidden))


def test_a_predictor_knows_which_positions_are_requested_in_any_order() -> None:
    torch.manual_seed(0)
    predictor = TransformerPredictor(8, 6, BLOCKS).eval()
    states, context = torch.randn(2, 3, 8), torch.tensor([[0, 1, 2], [3, 4, 5]])
    asked = torch.tensor([[3, 4, 5], [0, 1, 2]])
    predicted = predictor(states, context, asked)
    assert predicted.shape == (2, 3, 8)
    torch.testing.assert_close(predictor(states, context, asked.flip(1)), predicted.flip(1))
    assert not torch.allclose(predicted[:, 0], predicted[:, 1])


def test_without_the_token_neither_encoder_has_it(data: Source) -> None:
    method = cast("LatentFeatures", t_jepa.build(data, replace(SETTINGS, regularise=False)).method)
    assert method.encoder.first is None
    assert method.exported.first is None
    training = t_jepa.build(data, replace(SETTINGS, regularise=False))
    loss, _ = method.loss(training.views(training.batches(0), 0), 0)
    assert loss.isfinite()


def written(path: Path, rows: int) -> Path:
    """Write rows of two measurements of large units and two categories."""
    draw = np.random.default_rng(0)
    numbers = draw.normal((5e4, 1e-3), (1e3, 1e-4), (rows, 2))
    codes = draw.integers(0, (3, 5), (rows, 2))
    lines = [f"{a:.4f},{b:.7f},{c},{d}" for (a, b), (c, d) in zip(numbers, codes, strict=True)]
    path.write_text("\n".join(["mass,charge,kind,colour", *lines]) + "\n")
    return path


def test_a_bundle_takes_raw_rows_with_categories_and_gives_the_targets_states_of_all_features(
    tmp_path: Path,
) -> None:
    table, run, bundle = written(tmp_path / "t.csv", 40), tmp_path / "run", tmp_path / "t.attar"
    width = SETTINGS.transformer.width
    sizes = ("width=8", "heads=2", "hidden=8", "depth=1")
    small = [f"{part}.{size}" for part in ("transformer", "predictor") for size in sizes]
    pretrain(
        "table/t_jepa",
        run,
        data=str(table),
        reading=("columns=mass,charge,kind,colour",),
        changes=(*small, "categories=2", "rate=0.05", "warmup=1", "batch_size=16"),
        steps=3,
    )
    export(run, bundle)
    encoder = attar.load(bundle, variant="fp32", threads=1)
    assert encoder.dim == 4 * width
    row = np.array([[5e4, 1e-3, 2, 4]], np.float32)
    other, unknown = row.copy(), row.copy()
    other[0, 2], unknown[0, 2] = 1, 77
    vectors = encoder.embed(np.concatenate([row, other, unknown])).vectors
    assert np.linalg.norm(vectors[0] - vectors[1]) > 1e-3
    assert np.isfinite(vectors).all()
    checkpoint = safetensors.numpy.load_file(run / "checkpoint.safetensors")
    exported = safetensors.numpy.load_file(run / "encoder.safetensors")
    name = "features.weight"
    (trained,) = (w for k, w in checkpoint.items() if k.endswith(f"encoder.{name}"))
    (target,) = (w for k, w in checkpoint.items() if k.endswith(f"target.copy.{name}"))
    np.testing.assert_array_equal(exported[name], target)
    assert not np.array_equal(exported[name], trained)


def test_a_code_that_is_none_is_refused_with_the_number_of_categories(tmp_path: Path) -> None:
    table = written(tmp_path / "t.csv", 8)
    for categories, message in (
        ("3", "the last 3 columns are categories: whole numbers from 0, below 65,536; got"),
        ("5", r"categories must be in \[0, 4\], the columns of a row; got 5"),
    ):
        with pytest.raises(InvalidInput, match=message):
            pretrain(
                "table/t_jepa",
                tmp_path / "run",
                data=str(table),
                reading=("columns=mass,charge,kind,colour",),
                changes=(f"categories={categories}",),
                steps=1,
            )
