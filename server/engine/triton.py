"""A Triton server as the engine: the host's step is taken here, its graph runs there.

The server has what `attar export-triton` wrote: NAME_graph for a model of texts, which
takes token ids and mask, or NAME for any other. Nothing there says which weights it runs, so one
item is embedded on both sides before the first is served: numbers that differ are refused.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from attar.bundle import Bundle
from attar.encodings import Vectors
from attar.errors import BackendError, NotFound, SpaceMismatch, Unavailable
from attar.runtime import Encoder, Graph
from attar.target import Target
from attar.trial_inputs import first_that_runs

_ALIKE: Final = 0.99  # the cosine of one item's embeddings by float32 here and by half there
_CHANNEL: Final = [  # tritonclient's own, but for how soon one that went away is tried again
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
_GONE: Final = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED")


def remote(bundle: Bundle, url: str, *, timeout_s: float, allow_token_ids: bool = False) -> Encoder:
    """Give an encoder whose graph runs at `url`, host:port, each run within `timeout_s`.

    The least item is embedded here, by the bundle's reference, and there: raises SpaceMismatch when
    the answers are not alike, NotFound when the server has no such model, Unavailable when it does
    not answer.
    """
    reference = bundle.variant(bundle.manifest.reference)
    encoder = Encoder(
        bundle,
        reference,
        graph=partial(_open, bundle, url, timeout_s),
        allow_token_ids=allow_token_ids,
    )
    local = Encoder(bundle, reference, threads=1)
    row = first_that_runs(local)
    there, here = encoder.infer([row]), local.infer([row])
    alike = float((there * here).sum())
    if not alike >= _ALIKE * float(np.square(here).sum()):
        raise SpaceMismatch(
            f"Triton at {url} embeds into another space than {bundle.manifest.name}, version"
            f" {bundle.manifest.version}: the cosine of one item's embeddings is {alike:.3f};"
            " export this bundle there, or serve the one that was"
        )
    return encoder


def _open(bundle: Bundle, url: str, timeout_s: float) -> Graph:
    """Connect, and hold the server's model to the manifest."""
    manifest = bundle.manifest
    name = manifest.name if manifest.preprocessing.tokenizer is None else f"{manifest.name}_graph"
    client = InferenceServerClient(url, channel_args=[*_CHANNEL, *Target(url).options])
    ask = partial(_ask, url, name)
    metadata = ask(partial(client.get_model_metadata, name, client_timeout=timeout_s))
    inputs = {tensor.name for tensor in metadata.inputs}
    if inputs != {spec.name for spec in manifest.inputs}:
        raise NotFound(
            f"model {name} at {url} takes {', '.join(sorted(inputs))}; the bundle's graph takes"
            f" {', '.join(spec.name for spec in manifest.inputs)}"
        )
    config = ask(partial(client.get_model_config, name, client_timeout=timeout_s)).config
    most = config.max_batch_size or 1

    def run(feed: Mapping[str, NDArray[Any]], output: str) -> Vectors:
        rows = len(next(iter(feed.values())))
        parts = [slice(i, i + most) for i in range(0, rows, most)]
        batches = [{n: a[part] for n, a in feed.items()} for part in parts]
        return np.concatenate([infer(batch, output) for batch in batches])

    def infer(feed: Mapping[str, NDArray[Any]], output: str) -> Vectors:
        wanted = [triton.InferRequestedOutput(output)]
        result = ask(
            partial(client.infer, name, _tensors(feed), outputs=wanted, client_timeout=timeout_s)
        )
        vectors: Vectors = result.as_numpy(output)
        return vectors

    return run


def _tensors(feed: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
    tensors = []
    for name, array in feed.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors


def _ask(url: str, name: str, call: Callable[[], Any]) -> Any:
    """Call the server; what it refuses, or that it is not there, in our own words."""
    try:
        return call()
    except InferenceServerException as error:
        why = f"model {name} at {url}: {error.message()}"
        if error.status() in _GONE:
            raise Unavailable(why) from error
        if error.status() == "StatusCode.NOT_FOUND":
            raise NotFound(why) from error
        raise BackendError(why) from error
