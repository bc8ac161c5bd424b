"""The models over gRPC: loaded, unloaded, swapped and chosen among while clients go on."""

from pathlib import Path

import numpy as np
import pytest

import attar
from attar import Client
from benchmarks.support.repositories import write
from benchmarks.support.servers import serving, settings


def test_a_repository_is_listed_loaded_and_unloaded_by_a_client(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    write(folder / "tiny.attar")
    write(folder / "bad.attar", name="bad", half=True)
    chosen = settings(model_repository=folder, data_dir=tmp_path / "data", watch_s=0)
    with serving(chosen) as address, Client(address) as client:
        states = {one.name: (one.version, one.state) for one in client.models()}
        assert states == {"tiny": ("1", "READY"), "bad": ("1", "UNAVAILABLE")}
        (bad,) = (one for one in client.models() if one.name == "bad")
        assert "has 100 bytes and the manifest says" in bad.reason
        client.unload_model("tiny")
        with pytest.raises(attar.NotFound, match="no model 'tiny'"):
            client.embed(["the cat"], model="tiny")
        write(folder / "tiny.attar", version="2")
        client.load_model("tiny")
        assert client.info().models[0].version == "2"
        with pytest.raises(attar.BundleRefused, match="has 100 bytes"):
            client.load_model("bad")


def test_a_variant_and_a_version_are_chosen_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for version in ("1", "2"):
        write(folder / "tiny" / version, version=version, seed=int(version))
    chosen = settings(model_repository=folder, data_dir=tmp_path / "data", watch_s=0)
    with serving(chosen) as address, Client(address) as client:
        newest = client.embed(["the cat"])
        assert newest.fingerprint == client.embed(["the cat"], version="2").fingerprint
        old = client.embed(["the cat"], version="1")
        assert old.fingerprint != newest.fingerprint
        client.set_variant("tiny", "int8", version="1")
        variants = [client.embed(["the cat"], version=one).variant for one in ("1", "2")]
        assert variants == ["int8", "fp32"]
        with pytest.raises(attar.NotFound, match="this server has 1, 2"):
            client.embed(["the cat"], version="3")


async def test_token_ids_and_priority_cross_the_wire(bundle_path: Path, tmp_path: Path) -> None:
    encoder = attar.load(bundle_path, threads=1)
    texts = ["the cat sat", "sun"]
    ids = [row.arrays[0].tolist() for row in encoder.prepare(texts)]
    with serving(settings(bundle_path, data_dir=tmp_path)) as address:
        with Client(address) as client:
            found = client.embed(ids, priority="bulk")
            (streamed,) = client.embed_stream([ids], priority="bulk")
        async with attar.AsyncClient(address) as client:
            again = await client.embed(texts)
    np.testing.assert_allclose(found.vectors, encoder.embed(texts).vectors, atol=1e-6)
    assert (found.vectors == streamed.vectors).all()
    assert found.tokens.tolist() == again.tokens.tolist() == [5, 3]
