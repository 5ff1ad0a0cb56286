# Two images from one build: the broker with the plugin, and iotoll itself.
# The bases are arguments, so that a mirror or a local image can take their place.
ARG GO_IMAGE=golang:1.26-bookworm
ARG DEBIAN_IMAGE=debian:12.11-slim

FROM ${GO_IMAGE} AS build
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends mosquitto-dev libmosquitto-dev gcc libc6-dev >/dev/null
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY acl acl
COPY cmd cmd
COPY plugin plugin
COPY tangle tangle
COPY wemo wemo
RUN go build -o /out/iotoll ./cmd/iotoll \
 && go build -buildmode=c-shared -o /out/iotoll.so ./plugin

FROM ${DEBIAN_IMAGE} AS mosquitto
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends mosquitto mosquitto-clients >/dev/null \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/iotoll.so /usr/lib/iotoll/iotoll.so
EXPOSE 1883
CMD ["mosquitto", "-c", "/etc/iotoll/mosquitto.conf"]

FROM ${DEBIAN_IMAGE} AS iotoll
RUN useradd --system --uid 1883 --no-create-home iotoll && install -d -o iotoll /ledger
COPY --from=build /out/iotoll /usr/bin/iotoll
USER iotoll
ENTRYPOINT ["iotoll"]
CMD ["serve"]
