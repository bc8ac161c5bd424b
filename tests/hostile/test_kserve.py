"""Every KServe request that lies has its one answer, over REST and gRPC, and says what is wrong."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from tritonclient.grpc import service_pb2_grpc

from attar.server.rest.kserve_schemas import InferRequest
from benchmarks.hostile.http import send, world
from benchmarks.hostile.kserve import GRPC, REST, Grpc, Rest, infer, message

Address = tuple[str, int]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Address, str]]:
    with world(tmp_path_factory.mktemp("kserve")) as (address, target):
        yield address, target


@pytest.fixture(scope="module")
def stub(served: tuple[Address, str]) -> Iterator[Any]:
    with grpc.insecure_channel(served[1]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.mark.parametrize("case", REST, ids=str)
def test_a_rest_request_has_its_one_answer(case: Rest, served: tuple[Address, str]) -> None:
    answer = send(served[0], case.request)

    assert answer.status == case.status, answer
    assert not case.message or case.message in answer.message, answer
    if case.outputs:
        shapes = {one["name"]: one["shape"] for one in json.loads(answer.body)["outputs"]}
        assert shapes == {**shapes, **case.outputs}


@pytest.mark.parametrize(
    "case", [case for case in REST if case.status == 200 and b"/infer " in case.request], ids=str
)
def test_the_schema_of_the_page_has_every_request_that_is_accepted(case: Rest) -> None:
    body = case.request.partition(b"\r\n\r\n")[2].decode("latin-1")
    reader = json.JSONDecoder(object_pairs_hook=present)
    document, _ = reader.raw_decode(body)

    InferRequest.model_validate(document)


def present(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of an object that are not null."""
    return {name: value for name, value in pairs if value is not None}


@pytest.mark.parametrize("case", GRPC, ids=str)
def test_a_grpc_request_has_its_one_answer(case: Grpc, stub: Any) -> None:
    code, field, message = outcome(stub, case)

    assert (code, field) == (case.code, case.field), message
    assert case.message in message


def outcome(stub: Any, case: Grpc) -> tuple[str, str, str]:
    """Give the code, the violated field and the message."""
    try:
        answer = stub.ModelInfer(case.request, timeout=20)
    except grpc.RpcError as refused:
        error: Any = refused
    else:
        return ("OK" if answer.id == case.request.id else "another id"), "", ""
    trailers = dict(error.trailing_metadata())
    status, bad = Status.FromString(trailers["grpc-status-details-bin"]), BadRequest()
    fields = [
        violation.field
        for detail in status.details
        if detail.Unpack(bad)
        for violation in bad.field_violations
    ]
    return error.code().name, "".join(fields), error.details()


def test_both_protocols_give_the_same_numbers(served: tuple[Address, str], stub: Any) -> None:
    by_rest = json.loads(send(served[0], infer("cat", id="mine")).body)
    by_grpc = stub.ModelInfer(message(), timeout=20)

    assert by_rest["id"] == by_grpc.id == "mine"
    names = [one["name"] for one in by_rest["outputs"]]
    assert names == [one.name for one in by_grpc.outputs]
    assert [one["datatype"] for one in by_rest["outputs"]] == [
        one.datatype for one in by_grpc.outputs
    ]
