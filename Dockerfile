# syntax=docker/dockerfile:1
# The server's image: attar[server,sign] on slim Python. There is no torch in it.
#
#   docker build --tag attar .
#   docker run --publish 127.0.0.1:8001:8001 --volume "$PWD/student.attar:/student.attar:ro" \
#     --volume attar-data:/data --stop-timeout 35 --env ATTAR_ALLOW_ANONYMOUS=true attar /student.attar
#
# `--build-arg RUNTIME=gpu` takes ONNX Runtime with CUDA 13 in place of the CPU's; then give
# ATTAR_PROVIDER=cuda, and the container a GPU.
#
# Not built here: this project's tests have no Docker. They lint this file, run its health check
# against a server, and check every path, command, flag, extra and version in it
# (tests/project/test_dockerfile.py).

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG RUNTIME=cpu
ENV PATH=/opt/attar/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
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
# Both distributions of ONNX Runtime own the module onnxruntime: one leaves before the other comes.
RUN python -m venv /opt/attar \
    && pip install --constraint constraints.txt ".[server,sign]" \
    && case "${RUNTIME}" in \
      cpu) ;; \
      gpu) pip uninstall --yes onnxruntime \
           && pip install --constraint constraints.txt "onnxruntime-gpu[cuda,cudnn]" ;; \
      *) echo "RUNTIME must be cpu or gpu; got ${RUNTIME}" >&2; exit 1 ;; \
    esac \
    && python -c "import importlib.util, onnxruntime; assert not importlib.util.find_spec('torch')"

# A virtual environment moves whole to an image with the same Python; pip's build stays behind.
FROM python:${PYTHON}-slim AS server
COPY --from=build /opt/attar /opt/attar
# CUDA's libraries come as wheels, where the loader does not look; RUNTIME=cpu has none to find.
RUN useradd --system --uid 1001 --home-dir /data --create-home attar \
    && find /opt/attar -type d -path "*/nvidia/*/lib" > /etc/ld.so.conf.d/attar.conf \
    && ldconfig
# A container's loopback cannot be reached from outside, hence 0.0.0.0: give keys and TLS
# (ATTAR_KEYS_FILE, ATTAR_TLS_CERT and ATTAR_TLS_KEY), or publish to 127.0.0.1 and say with
# ATTAR_ALLOW_ANONYMOUS=true that everybody there may do everything. Metrics and probes have neither
# keys nor TLS: publish 8002 to nobody else. ONNX Runtime's reports to its vendor are off in every
# program.
ENV PATH=/opt/attar/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    ATTAR_HOST=0.0.0.0 \
    ATTAR_PORT=8001 \
    ATTAR_HTTP_PORT=8000 \
    ATTAR_METRICS_PORT=8002 \
    ATTAR_METRICS_HOST=0.0.0.0 \
    ATTAR_DATA_DIR=/data
USER 1001
# It works in a folder in which nothing lies, not in its data: a path in a bundle leads nowhere.
WORKDIR /empty
VOLUME /data
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['ATTAR_METRICS_PORT'] + '/readyz', timeout=3)"]
ENTRYPOINT ["attar", "serve"]
