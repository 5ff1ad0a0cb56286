#!/bin/bash
# Builds the Debian packages for amd64 and arm64 into build/dist. Run it on Debian
# 12: a newer one would raise the glibc that the plugin needs (2.34). The version
# is that of the git tag, or 0~DATE.COMMIT without one.
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"

sudo=$([ "$(id -u)" = 0 ] || echo sudo)
missing=()
for package in gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross mosquitto-dev libmosquitto-dev; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  $sudo apt-get update -qq
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

VERSION=$(git describe --tags --exact-match 2>/dev/null | sed 's/^v//') || true
export VERSION=${VERSION:-0~$(git log -1 --format=%cd --date=format:%Y%m%d).$(git rev-parse --short HEAD)}
dist=build/dist
rm -rf "$dist" && mkdir -p "$dist"
for ARCH in ${ARCHS:-amd64 arm64}; do
  export ARCH OUT=$dist/$ARCH
  case $ARCH in
  amd64) export TRIPLET=x86_64-linux-gnu CC=x86_64-linux-gnu-gcc ;;
  arm64) export TRIPLET=aarch64-linux-gnu CC=aarch64-linux-gnu-gcc ;;
  *) echo "architecture $ARCH: want amd64 or arm64" >&2 && exit 2 ;;
  esac
  mkdir -p "$OUT"
  echo "$VERSION for $ARCH …"
  CGO_ENABLED=0 GOARCH=$ARCH go build -trimpath -ldflags '-s -w' -o "$OUT/iotoll" ./cmd/iotoll
  CGO_ENABLED=1 GOARCH=$ARCH go build -trimpath -ldflags '-s -w' -buildmode=c-shared -o "$OUT/iotoll.so" ./plugin
  CGO_ENABLED=0 go run ./cmd/iotoll completion bash > "$OUT/iotoll.bash"
  for package in iotoll iotoll-mosquitto; do
    CGO_ENABLED=0 go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.48.0 package -f "cmd/dist/$package.yaml" -p deb -t "$dist" >/dev/null
  done
done
ls -l "$dist"/*.deb
