# syntax=docker/dockerfile:1
# One service: docker build --build-arg SERVICE=downloader -t pixcrawler-downloader .
# What it needs of requirements.lock and nothing else, as a user without a name, on a read-only root:
# what a service writes goes to /tmp, which is the container's to provide.

ARG PYTHON=python:3.11-slim-bookworm

FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

FROM ${PYTHON} AS build
ARG SERVICE
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /src
COPY requirements.lock ./
COPY libs/common/pyproject.toml libs/common/
COPY services/${SERVICE}/pyproject.toml services/${SERVICE}/
# Which packages the service needs is computed, which version of each and its hash is locked: what
# the lock does not know, or knows otherwise, ends the build.
RUN --mount=type=cache,target=/root/.cache/uv \
    printf '[tool.uv.workspace]\nmembers = ["libs/*", "services/*"]\n' > pyproject.toml \
    && uv venv --quiet /app \
    && uv pip compile --quiet --python /app/bin/python --constraints requirements.lock \
        --no-emit-package pixcrawler-common --output-file needed.txt \
        libs/common/pyproject.toml "services/${SERVICE}/pyproject.toml" \
    && uv pip install --quiet --python /app/bin/python --require-hashes \
        --constraints requirements.lock --requirements needed.txt
COPY libs/common libs/common
COPY services/${SERVICE} services/${SERVICE}
# uv builds our own packages by itself: nothing is fetched for it.
RUN uv pip install --quiet --offline --python /app/bin/python --no-deps \
        ./libs/common "./services/${SERVICE}" \
    && ln -s "pixcrawler-${SERVICE}" /app/bin/service

FROM ${PYTHON}
ARG SERVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pixcrawler-${SERVICE}" \
      org.opencontainers.image.description="A service of PixCrawler, which builds image datasets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    PIXCRAWLER_HTTP_HOST=0.0.0.0 \
    PIXCRAWLER_HTTP_PORT=8000 \
    PIXCRAWLER_LOG_FORMAT=json
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "pixcrawler.common.probe"]
# The program itself is process 1, so SIGTERM reaches it: it drains and exits 0.
ENTRYPOINT ["service"]
