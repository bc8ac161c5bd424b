# syntax=docker/dockerfile:1
# Triton with attar beside it: what the models of `attar export-triton` need to run.
#
#   attar export-triton student.attar models
#   docker build --file deploy/triton.Dockerfile --tag attar-triton .
#   docker run --publish 127.0.0.1:8001:8001 --volume "$PWD/models:/models:ro" --shm-size 1g attar-triton
#
# Not built here: this project's tests have no Docker. They lint this file and check every path in it
# (tests/project/test_dockerfile.py); that such a repository runs is shown by benchmarks/prove_triton.py.
#
# Triton's Python backend takes numpy 2, which attar needs, from 24.12 on.

ARG TRITON=25.10
FROM nvcr.io/nvidia/tritonserver:${TRITON}-py3
# Triton runs a graph by an ONNX Runtime of its own, which attar cannot tell to send no reports.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONPATH=/opt/attar \
    ORT_DISABLE_TELEMETRY=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY cli cli
COPY client client
COPY device device
COPY export export
COPY protos protos
COPY server server
COPY src src
COPY training training
# A folder of its own, in front of the image's packages and without touching them. Without extras,
# attar is numpy, onnxruntime and tokenizers.
RUN python3 -m pip install --target /opt/attar --constraint constraints.txt .
WORKDIR /models
EXPOSE 8000 8001 8002
ENTRYPOINT ["tritonserver", "--model-repository", "/models"]
