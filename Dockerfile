# The image of the server: Debian's Python, what the server imports, and the server. It has no
# shell, no package manager and no pip. scripts/image builds it, and says how.
#
# Secrets of the build, each of which may be absent: pip (pip.conf), apt (apt.conf), sources (a
# sources.list instead of the base's) and ca (a bundle of CAs to trust). No layer keeps them.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS debian
ENV DEBIAN_FRONTEND=noninteractive
COPY scripts/image-root /usr/local/bin/
RUN --mount=type=secret,id=apt,mode=0444 --mount=type=secret,id=sources,mode=0444 \
    --mount=type=secret,id=ca,mode=0444 \
    image-root apt update \
 && image-root apt install --yes --no-install-recommends python3.11-venv

# The root of the last stage, without the server.
FROM debian AS packages
RUN --mount=type=secret,id=apt,mode=0444 --mount=type=secret,id=sources,mode=0444 \
    --mount=type=secret,id=ca,mode=0444 \
    image-root make /root-fs

# The server and the libraries that it imports, as a virtual environment without pip.
FROM debian AS build
WORKDIR /build
COPY requirements/image.txt requirements/wheel.txt requirements/
RUN --mount=type=secret,id=pip,mode=0444 --mount=type=secret,id=ca,mode=0444 \
    image-root venv /opt/kotaemon-grpc requirements/wheel.txt requirements/image.txt
COPY LICENSE README.md pyproject.toml ./
COPY server server
RUN image-root server /opt/kotaemon-grpc
# It has to work with what the last stage has, and nothing else.
COPY --from=packages /root-fs /root-fs
COPY scripts/image.toml /root-fs/etc/kotaemon-grpc/config.toml
RUN image-root check /root-fs /opt/kotaemon-grpc

FROM scratch
COPY --from=packages /root-fs /
COPY --from=build /opt/kotaemon-grpc /opt/kotaemon-grpc
COPY scripts/image.toml /etc/kotaemon-grpc/config.toml
COPY --from=packages --chown=10001:10001 /root-fs/var/lib/kotaemon-grpc /var/lib/kotaemon-grpc
# Bytecode is in the image. Few arenas keep memory from growing with the threads.
ENV PATH=/opt/kotaemon-grpc/bin \
    LANG=C.UTF-8 \
    MALLOC_ARENA_MAX=2 \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 10001:10001
WORKDIR /var/lib/kotaemon-grpc
EXPOSE 50051 50052 9464
STOPSIGNAL SIGTERM
# Docker alone looks at it: the format of other builders and Kubernetes' probes know of none.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
  CMD ["kotaemon-grpc", "health", "--config", "/etc/kotaemon-grpc/config.toml"]
ENTRYPOINT ["kotaemon-grpc"]
CMD ["serve", "--config", "/etc/kotaemon-grpc/config.toml"]
# Last, so that the layers stay the same from one revision to the next.
ARG VERSION=
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="kotaemon-grpc" \
      org.opencontainers.image.description="A production server that puts RAG agents on gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
