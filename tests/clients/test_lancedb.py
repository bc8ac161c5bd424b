"""LanceDB, by its function for OpenAI's API, which knows the widths of OpenAI's models alone."""

from pathlib import Path

import lancedb
import pytest
from lancedb.embeddings import register
from lancedb.embeddings.openai import OpenAIEmbeddings
from lancedb.pydantic import LanceModel, Vector

from .calls import Client

PACKAGE = "lancedb"


@register("attar")
class Attar(OpenAIEmbeddings):  # type: ignore[misc]
    """OpenAI's function with the width of any model, `dim`."""

    def ndims(self) -> int:
        return int(self.dim)


def test_openais_own_function_refuses_a_name_that_is_not_openais(client: Client) -> None:
    function = OpenAIEmbeddings.create(name="tiny", base_url=f"{client.url}/v1")
    with pytest.raises(ValueError, match="Unknown model name tiny"):
        function.ndims()


def test_a_table_embeds_and_finds_texts(client: Client, texts: list[str], tmp_path: Path) -> None:
    function = Attar.create(
        name="minilm", base_url=f"{client.url}/v1", api_key="$var:key:none", dim=384
    )

    class Row(LanceModel):  # type: ignore[misc]
        text: str = function.SourceField()
        vector: Vector(384) = function.VectorField()  # type: ignore[valid-type]

    table = lancedb.connect(tmp_path).create_table("texts", schema=Row)
    table.add([{"text": text} for text in texts])
    client.same(table.to_arrow()["vector"].to_pylist(), texts, model="minilm")
    (found,) = client.call(table.search("a puppy was running").limit(1).to_list())
    assert found["text"] == "a dog ran"
