"""Classifiers over gRPC."""

import math
from typing import Any, Final

from attar import wire
from attar.v1 import classification_pb2, classification_pb2_grpc
from attar.values import Classifier

from ..cooperative import off_the_loop, request_bytes
from ..usecases.classification import Classification, Predicted
from ..usecases.embed import Items
from . import incremental_protobuf, messages
from .interceptor import Context

_ITEM_BYTES: Final = 32  # with its status
_LABEL_BYTES: Final = 256  # as long as most labels may be


class ClassificationService(classification_pb2_grpc.ClassificationServicer):
    """attar.v1.Classification."""

    def __init__(
        self,
        classification: Classification,
        *,
        max_items: int,
        max_labels: int,
        max_name_characters: int,
    ) -> None:
        """Serve these classifiers."""
        self._classification = classification
        self._max_items = max_items
        self._max_labels = max_labels
        self._max_name = max_name_characters

    async def Fit(
        self, request: classification_pb2.FitClassifierRequest, context: Context
    ) -> classification_pb2.ClassifierInfo:
        return _describe(
            await self._classification.fit(
                request.name,
                model=request.model,
                items=await self._items(request),
                labels=await off_the_loop(
                    request_bytes(),
                    lambda: messages.labels(request.labels, limit=self._max_items),
                ),
                max_labels=self._max_labels,
                max_name_characters=self._max_name,
                truncation=messages.truncation(request.truncation),
                deadline=messages.deadline(context),
            )
        )

    async def Predict(
        self, request: classification_pb2.PredictRequest, context: Context
    ) -> classification_pb2.PredictResponse:
        predicted = await self._classification.predict(
            request.name,
            items=await self._items(request),
            truncation=messages.truncation(request.truncation),
            deadline=messages.deadline(context),
        )
        return await incremental_protobuf.serialize(
            classification_pb2.PredictResponse,
            predicted.probabilities.nbytes
            + _ITEM_BYTES * len(predicted.items)
            + _LABEL_BYTES * len(predicted.classes),
            lambda: [_predictions(predicted)],
        )

    async def Get(
        self,
        request: classification_pb2.GetClassifierRequest,
        context: Context,
    ) -> classification_pb2.ClassifierInfo:
        classifier = await self._classification.get(request.name)
        return await incremental_protobuf.serialize(
            classification_pb2.ClassifierInfo,
            _LABEL_BYTES * len(classifier.labels),
            lambda: [_describe(classifier)],
        )

    async def List(
        self,
        request: classification_pb2.ListClassifiersRequest,
        context: Context,
    ) -> classification_pb2.ListClassifiersResponse:
        classifiers = await self._classification.list()
        response = classification_pb2.ListClassifiersResponse
        damaged = response(damaged=self._classification.damaged)
        return await incremental_protobuf.serialize(
            response,
            damaged.ByteSize() + _LABEL_BYTES * sum(len(one.labels) for one in classifiers),
            lambda: (damaged, *(response(classifiers=[_describe(one)]) for one in classifiers)),
        )

    async def Delete(
        self,
        request: classification_pb2.DeleteClassifierRequest,
        context: Context,
    ) -> classification_pb2.DeleteClassifierResponse:
        await self._classification.delete(request.name)
        return classification_pb2.DeleteClassifierResponse()

    async def _items(self, request: Any) -> Items:
        kind = request.WhichOneof("input")
        return await off_the_loop(
            request_bytes(), lambda: messages.items(request, kind, limit=self._max_items)
        )


def _predictions(predicted: Predicted) -> classification_pb2.PredictResponse:
    return classification_pb2.PredictResponse(
        fingerprint=predicted.fingerprint,
        labels=[label or "" for label in predicted.labels],
        classes=predicted.classes,
        probabilities=wire.to_tensor(predicted.probabilities),
        items=messages.statuses(predicted.items),
    )


def _describe(classifier: Classifier) -> classification_pb2.ClassifierInfo:
    return classification_pb2.ClassifierInfo(
        name=classifier.name,
        model=classifier.model,
        fingerprint=classifier.fingerprint,
        labels=classifier.labels,
        examples=classifier.examples,
        counts=classifier.counts,
        recalls=[math.nan if recall is None else recall for recall in classifier.recalls],
        contradictory=classifier.contradictory,
    )
