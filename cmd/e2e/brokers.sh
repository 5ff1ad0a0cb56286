#!/bin/bash
# Runs the tests that start a broker against other versions of Mosquitto than
# the machine's own: those of Debian 13 (2.0.21) and of Debian sid (2.1), each
# in a chroot. Needs root and debootstrap; the chroots stay in build/.brokers.
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"

brokers=$PWD/build/.brokers # with a dot, so that ./... does not look below it
mkdir -p "$brokers"
for suite in trixie sid; do
  root=$brokers/$suite
  if [ ! -x "$root/usr/sbin/mosquitto" ]; then
    echo "Debian $suite …"
    debootstrap --variant=minbase --include=mosquitto "$suite" "$root" http://deb.debian.org/debian >/dev/null
  fi
  # The tests' files are below /tmp.
  mountpoint -q "$root/tmp" || mount --bind /tmp "$root/tmp"
  trap 'umount "$brokers"/*/tmp 2>/dev/null || true' EXIT
  mkdir -p "$brokers/bin-$suite"
  printf '#!/bin/sh\nexec chroot %s /usr/sbin/mosquitto "$@"\n' "$root" > "$brokers/bin-$suite/mosquitto"
  chmod +x "$brokers/bin-$suite/mosquitto"
done

for suite in trixie sid; do
  { chroot "$brokers/$suite" mosquitto -h || true; } | sed -n 1p # 2.0 exits with 3 after its help
  PATH=$brokers/bin-$suite:$PATH go test -count 1 -timeout 15m ./plugin ./cmd/e2e
done
