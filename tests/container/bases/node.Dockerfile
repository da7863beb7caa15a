# An image laid out like openmicroscopy/omero-server, on Debian, without OMERO.server itself: the account, the folders,
# startup scripts and an entry point that must not survive in the node, IceGrid from packages.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}
ENV DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008  # what the suite has
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3.11 python3.11-venv zeroc-ice-utils zeroc-icegrid \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/omero/server
RUN useradd --uid 1000 --home-dir /opt/omero/server --shell /bin/bash omero-server \
    && install -d -o omero-server -g omero-server . /OMERO OMERO.server-5.6 OMERO.server-5.6/etc OMERO.server-5.6/var \
    && ln -s OMERO.server-5.6 OMERO.server
RUN mkdir /startup \
    && for file in /startup/50-config.sh /startup/99-run.sh /usr/local/bin/entrypoint.sh; do \
        printf '#!/bin/bash\nexit 1\n' > "$file" && chmod 755 "$file"; \
    done
ENV OMERODIR=/opt/omero/server/OMERO.server/
USER 1000
EXPOSE 4063 4064
VOLUME ["/OMERO", "/opt/omero/server/OMERO.server/var"]
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
CMD ["echo", "the command of the base"]
