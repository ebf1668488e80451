# syntax=docker/dockerfile:1
# A platform's node and worker. Build at the project's root: docker build -f deploy/docker/client.Dockerfile -t fedcart-client .
# No key, secret or data is in it: they are on the volume at /var/lib/fedcart, which is all that is written to.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY . .
ARG EXTRAS=""
RUN python -m venv /opt/fedcart \
 && /opt/fedcart/bin/pip install --no-cache-dir --constraint constraints.txt ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 fedcart \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/fedcart fedcart \
 && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/fedcart
COPY --from=build /opt/fedcart /opt/fedcart
ENV PATH=/opt/fedcart/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    FEDCART_CLIENT=/var/lib/fedcart/platform \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1
USER 10001:10001
WORKDIR /var/lib/fedcart
VOLUME /var/lib/fedcart
HEALTHCHECK --interval=60s --timeout=30s --start-period=120s --retries=3 CMD ["fedcart", "client", "status"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["fedcart"]
CMD ["client", "start"]
