# A slim Python 3.11 on Debian: what python:3.11-slim-bookworm is to the target `attached`.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}
ENV DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008  # what the suite has
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3.11 python3.11-venv \
    && rm -rf /var/lib/apt/lists/*
