# The operator's server: SuperLink, what executes its apps, the front, the registry of models.
# Build at the project's root: docker build -f deploy/docker/server.Dockerfile --build-arg BASE=python:3.11-slim-bookworm@sha256:… -t fedcart-server .
# BASE has no default: whoever builds looks the digest up and names it (docs/deploy.md, Containers).
# No key, secret or data is in it: they are on the volume at /var/lib/fedcart, which is all that is written to.
ARG BASE
FROM ${BASE} AS build
ARG BASE
RUN case "${BASE}" in *@sha256:*) ;; *) echo "BASE=${BASE} is no digest: name it as IMAGE@sha256:…" >&2; exit 1 ;; esac
WORKDIR /src
COPY . .
ARG EXTRAS=""
RUN PIP_NO_CACHE_DIR=1 requirements/install /opt/fedcart core ${EXTRAS} \
 && /opt/fedcart/bin/pip install --no-deps --no-build-isolation .

FROM ${BASE}
RUN groupadd --gid 10001 fedcart \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/fedcart fedcart \
 && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/fedcart
COPY --from=build /opt/fedcart /opt/fedcart
ENV PATH=/opt/fedcart/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    FEDCART_SERVER=/var/lib/fedcart/federation \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1
USER 10001:10001
WORKDIR /var/lib/fedcart
VOLUME /var/lib/fedcart
EXPOSE 9443 9444
HEALTHCHECK --interval=60s --timeout=30s --start-period=120s --retries=3 CMD ["fedcart", "server", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["fedcart"]
CMD ["server", "start"]
