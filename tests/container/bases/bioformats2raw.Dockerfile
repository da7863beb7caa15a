# The node's base with a program `java` and an archive that is laid out like a release of bioformats2raw.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}
# hadolint ignore=DL3002  # as the build stages that are made of it
USER 0
WORKDIR /
RUN printf '#!/bin/sh\n' > /usr/bin/java && chmod 755 /usr/bin/java \
    && mkdir -p bioformats2raw-1.0/bin \
    && printf '#!/bin/sh\necho 1.0\n' > bioformats2raw-1.0/bin/bioformats2raw \
    && python3.11 -m zipfile -c bioformats2raw-1.0.zip bioformats2raw-1.0
