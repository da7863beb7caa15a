# A container registry of the compose network, with skopeo to fill it.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}
ENV DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008  # what the suite has
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends docker-registry skopeo tini \
    && rm -rf /var/lib/apt/lists/* \
    && printf '%s\n' 'version: 0.1' 'log: {level: warn}' 'storage: {filesystem: {rootdirectory: /var/lib/registry}}' \
        'http: {addr: ":5000"}' > /etc/registry.yml
ENTRYPOINT ["tini", "--", "docker-registry", "serve", "/etc/registry.yml"]
