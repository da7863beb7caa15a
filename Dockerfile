# biomeroworker in a container. Two targets:
#   node      Processor-0 in OMERO's grid, on the omero-server image (default)
#   attached  a Processor for an OMERO whose grid cannot be changed: no Java, no IceGrid
#
#   docker build -t biomeroworker .
#   docker build -t biomeroworker:attached --target attached .
#
# docs/container.md has the arguments. `make image` gives the labels the version and the commit of this checkout.
#
# There is no /etc/slurm-config.ini in the image. The defaults of the package name no cluster, and a sample that names one
# would be used unnoticed where the mount of the real file was forgotten.

# A digest makes the base the same for everybody: openmicroscopy/omero-server@sha256:…
ARG NODE_BASE=openmicroscopy/omero-server:5.6.16
ARG ATTACHED_BASE=python:3.11-slim-bookworm

# --- node -------------------------------------------------------------------------------------------------------------
FROM ${NODE_BASE} AS node-build
# hadolint ignore=DL3002  # a stage that only builds
USER 0
# The interpreter of the base: Python 3.11, by name or path.
ARG PYTHON=python3.11
# The time of the files that are made here.
ARG SOURCE_DATE_EPOCH=1577836800
ARG ICE_WHEEL_URL=
ARG ICE_WHEEL_SHA256=
COPY container/image/common.sh container/image/fetch.py container/image/ice-wheel.sh /build/container/image/
COPY container/image/wheels/ /build/container/image/wheels/
COPY tools/build_ice_wheel.py /build/tools/
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf \
    --mount=type=cache,target=/root/.cache/pip \
    sh /build/container/image/ice-wheel.sh /build/ice
COPY container/image/dependencies.sh container/image/finish.py container/image/requirements.lock /build/container/image/
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf \
    --mount=type=cache,target=/root/.cache/pip \
    sh /build/container/image/dependencies.sh /opt/biomeroworker /build/ice /layers/dependencies
COPY container/image/build-environment.lock container/image/product.sh /build/container/image/
COPY LICENSE README.md pyproject.toml /build/
COPY packages/biomero/ /build/packages/biomero/
COPY startup/ /build/startup/
COPY biomeroworker/ /build/biomeroworker/
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf \
    --mount=type=cache,target=/root/.cache/pip \
    sh /build/container/image/product.sh /opt/biomeroworker /layers/product

# bioformats2raw is left out unless a version and the checksum of its zip are given.
FROM ${NODE_BASE} AS bioformats2raw
# hadolint ignore=DL3002  # a stage that only builds
USER 0
ARG PYTHON=python3.11
ARG SOURCE_DATE_EPOCH=1577836800
ARG BIOFORMATS2RAW_VERSION=
ARG BIOFORMATS2RAW_SHA256=
ARG BIOFORMATS2RAW_URL=
COPY container/image/bioformats2raw.sh container/image/common.sh container/image/fetch.py container/image/finish.py /build/container/image/
RUN --mount=type=secret,id=ca_bundle \
    sh /build/container/image/bioformats2raw.sh /layers/bioformats2raw

# --- attached ---------------------------------------------------------------------------------------------------------
FROM ${ATTACHED_BASE} AS attached-build
# hadolint ignore=DL3002  # a stage that only builds
USER 0
ARG PYTHON=python3.11
ARG SOURCE_DATE_EPOCH=1577836800
ARG ICE_WHEEL_URL=
ARG ICE_WHEEL_SHA256=
COPY container/image/common.sh container/image/fetch.py container/image/ice-wheel.sh /build/container/image/
COPY container/image/wheels/ /build/container/image/wheels/
COPY tools/build_ice_wheel.py /build/tools/
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf \
    --mount=type=cache,target=/root/.cache/pip \
    sh /build/container/image/ice-wheel.sh /build/ice
COPY container/image/dependencies.sh container/image/finish.py container/image/requirements.lock /build/container/image/
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf \
    --mount=type=cache,target=/root/.cache/pip \
    sh /build/container/image/dependencies.sh /opt/biomeroworker /build/ice /layers/dependencies
COPY container/image/build-environment.lock container/image/product.sh /build/container/image/
COPY LICENSE README.md pyproject.toml /build/
COPY packages/biomero/ /build/packages/biomero/
COPY startup/ /build/startup/
COPY biomeroworker/ /build/biomeroworker/
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf \
    --mount=type=cache,target=/root/.cache/pip \
    sh /build/container/image/product.sh /opt/biomeroworker /layers/product

FROM ${ATTACHED_BASE} AS attached
USER 0
RUN --mount=type=secret,id=ca_bundle \
    --mount=type=bind,source=container/image/common.sh,target=/tmp/common.sh \
    --mount=type=bind,source=container/image/runtime.sh,target=/tmp/runtime.sh \
    sh /tmp/runtime.sh biomeroworker
COPY --from=attached-build /layers/dependencies/ /
COPY --from=attached-build /layers/product/ /
ENV BIOMEROWORKER_MODE=attached \
    BIOMEROWORKER_ACCOUNT=biomeroworker \
    PATH=/opt/biomeroworker/bin:$PATH
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG ATTACHED_BASE
ARG LICENSES=GPL-2.0-or-later
LABEL org.opencontainers.image.title="biomeroworker, attached" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${ATTACHED_BASE}" \
      org.opencontainers.image.licenses="${LICENSES}"
USER 1000
WORKDIR /home/biomeroworker
HEALTHCHECK --interval=30s --timeout=20s --start-period=90s --retries=3 CMD ["/startup/healthcheck.sh"]
ENTRYPOINT ["/usr/local/bin/biomeroworker-entrypoint"]
CMD []

# --- the default: the node --------------------------------------------------------------------------------------------
FROM ${NODE_BASE} AS node
USER 0
ARG BIOFORMATS2RAW_VERSION=
RUN --mount=type=secret,id=ca_bundle \
    --mount=type=bind,source=container/image/common.sh,target=/tmp/common.sh \
    --mount=type=bind,source=container/image/runtime.sh,target=/tmp/runtime.sh \
    sh /tmp/runtime.sh omero-server
COPY --from=bioformats2raw /layers/bioformats2raw/ /
COPY --from=node-build /layers/dependencies/ /
COPY --from=node-build /layers/product/ /
ENV BIOMEROWORKER_MODE=node \
    BIOMEROWORKER_ACCOUNT=omero-server \
    PATH=/opt/biomeroworker/bin:/opt/bioformats2raw/bin:$PATH
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG NODE_BASE
ARG LICENSES=GPL-2.0-or-later
LABEL org.opencontainers.image.title="biomeroworker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${NODE_BASE}" \
      org.opencontainers.image.licenses="${LICENSES}"
USER 1000
WORKDIR /opt/omero/server/OMERO.server
HEALTHCHECK --interval=30s --timeout=20s --start-period=90s --retries=3 CMD ["/startup/healthcheck.sh"]
ENTRYPOINT ["/usr/local/bin/biomeroworker-entrypoint"]
CMD []
