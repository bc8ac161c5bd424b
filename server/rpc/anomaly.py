"""Anomaly detectors over gRPC."""

from typing import Any, Final

from attar import wire
from attar.v1 import anomaly_pb2, anomaly_pb2_grpc
from attar.values import DEFAULT_NEIGHBOURS, DEFAULT_TARGET_FPR, Detector

from ..cooperative import off_the_loop, request_bytes
from ..usecases.anomaly import Anomaly, Scored
from ..usecases.embed import Items
from . import incremental_protobuf, messages
from .interceptor import Context

_SCORE_BYTES: Final = 32  # of one item, with its status


class AnomalyService(anomaly_pb2_grpc.AnomalyServicer):
    """attar.v1.Anomaly."""

    def __init__(self, anomaly: Anomaly, *, max_items: int) -> None:
        """Serve these detectors."""
        self._anomaly = anomaly
        self._max_items = max_items

    async def Fit(
        self, request: anomaly_pb2.FitDetectorRequest, context: Context
    ) -> anomaly_pb2.DetectorInfo:
        stored = request.WhichOneof("input") == "collection"
        fpr = request.target_fpr if request.HasField("target_fpr") else DEFAULT_TARGET_FPR
        neighbours = request.neighbours if request.HasField("neighbours") else DEFAULT_NEIGHBOURS
        return _describe(
            await self._anomaly.fit(
                request.name,
                model=request.model,
                items=None if stored else await self._items(request),
                collection=request.collection if stored else None,
                target_fpr=fpr,
                neighbours=neighbours,
                metric=messages.metric(request.metric),
                truncation=messages.truncation(request.truncation),
                deadline=messages.deadline(context),
            )
        )

    async def Score(
        self, request: anomaly_pb2.ScoreRequest, context: Context
    ) -> anomaly_pb2.ScoreResponse:
        scored = await self._anomaly.score(
            request.name,
            items=await self._items(request),
            truncation=messages.truncation(request.truncation),
            deadline=messages.deadline(context),
        )
        return await incremental_protobuf.serialize(
            anomaly_pb2.ScoreResponse, _SCORE_BYTES * len(scored.items), lambda: [_scores(scored)]
        )

    async def Get(
        self,
        request: anomaly_pb2.GetDetectorRequest,
        context: Context,
    ) -> anomaly_pb2.DetectorInfo:
        return _describe(await self._anomaly.get(request.name))

    async def List(
        self,
        request: anomaly_pb2.ListDetectorsRequest,
        context: Context,
    ) -> anomaly_pb2.ListDetectorsResponse:
        detectors = await self._anomaly.list()
        return anomaly_pb2.ListDetectorsResponse(
            detectors=map(_describe, detectors), damaged=self._anomaly.damaged
        )

    async def Delete(
        self,
        request: anomaly_pb2.DeleteDetectorRequest,
        context: Context,
    ) -> anomaly_pb2.DeleteDetectorResponse:
        await self._anomaly.delete(request.name)
        return anomaly_pb2.DeleteDetectorResponse()

    async def _items(self, request: Any) -> Items:
        kind = request.WhichOneof("input")
        return await off_the_loop(
            request_bytes(), lambda: messages.items(request, kind, limit=self._max_items)
        )


def _scores(scored: Scored) -> anomaly_pb2.ScoreResponse:
    return anomaly_pb2.ScoreResponse(
        fingerprint=scored.fingerprint,
        scores=scored.scores.tolist(),
        p_values=scored.p_values.tolist(),
        anomalies=scored.anomalies.tolist(),
        items=messages.statuses(scored.items),
        threshold=scored.threshold,
    )


def _describe(detector: Detector) -> anomaly_pb2.DetectorInfo:
    return anomaly_pb2.DetectorInfo(
        name=detector.name,
        model=detector.model,
        fingerprint=detector.fingerprint,
        neighbours=detector.neighbours,
        references=detector.references,
        calibration=detector.calibration,
        target_fpr=detector.target_fpr,
        threshold=detector.threshold,
        metric=wire.METRICS[detector.metric],
    )
