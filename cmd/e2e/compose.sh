#!/bin/bash
# Tests docker-compose.yml on a machine without an image registry: builds
# stand-ins for the base images from Debian packages, brings everything up in a
# clean clone, and lets a buyer pay. MongoDB's stand-in is FerretDB, with the same
# accounts and passwords, but without roles: it does not test that the plugin's account
# suffices. Needs docker, docker-compose and debootstrap.
set -euo pipefail

root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
work=$(mktemp -d)
export COMPOSE_PROJECT_NAME=iotoll-test COMPOSE_PROFILES=sim IOTOLL_TAG=test
export IOTOLL_PORT=$((20000 + RANDOM % 20000))
export DEBIAN_IMAGE=iotoll-test-debian GO_IMAGE=iotoll-test-golang MONGO_IMAGE=iotoll-test-mongo

cleanup() {
  code=$?
  cd "$work/src" 2>/dev/null && {
    [ $code = 0 ] || docker-compose logs --tail 40 || true
    docker-compose down -v >/dev/null 2>&1 || true
  }
  rm -rf "$work"
  exit $code
}
trap cleanup EXIT

git clone -q "$root" "$work/src"

echo "base images from Debian packages …"
if ! docker image inspect "$DEBIAN_IMAGE" >/dev/null 2>&1; then
  debootstrap --variant=minbase --include=ca-certificates bookworm "$work/debian" http://deb.debian.org/debian >/dev/null
  tar -C "$work/debian" -c . | docker import - "$DEBIAN_IMAGE" >/dev/null
fi
if ! docker image inspect "$GO_IMAGE" >/dev/null 2>&1; then
  mkdir "$work/golang"
  cp -a "$(go env GOROOT)" "$work/golang/go"
  cp /etc/ssl/certs/ca-certificates.crt "$work/golang"
  cat > "$work/golang/Dockerfile" <<EOF
FROM $DEBIAN_IMAGE
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev git >/dev/null
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY go /usr/local/go
ENV PATH=/usr/local/go/bin:\$PATH
EOF
  docker build -q -t "$GO_IMAGE" "$work/golang" >/dev/null
fi
if ! docker image inspect "$MONGO_IMAGE" >/dev/null 2>&1; then
  mkdir "$work/mongo"
  cp -r "$(cd "$root" && go list -m -f '{{.Dir}}' github.com/FerretDB/FerretDB)" "$work/ferretdb"
  chmod -R u+w "$work/ferretdb"
  echo v1.24.2 > "$work/ferretdb/build/version/version.txt" # it refuses to start without
  (cd "$work/ferretdb" && CGO_ENABLED=0 go build -o "$work/mongo/ferretdb" ./cmd/ferretdb)
  (cd "$work/src" && CGO_ENABLED=0 go build -o "$work/mongo/accounts" ./cmd/e2e/testdata/accounts)
  cat > "$work/mongo/start" <<'EOF'
#!/bin/sh
set -eu
mkdir -p /data/db
accounts & # waits until it can connect
exec ferretdb --handler=sqlite --sqlite-url=file:/data/db/ --state-dir=/data/db --telemetry=disable \
  --listen-addr=0.0.0.0:27017 --debug-addr=- --log-level=warn --test-enable-new-auth --setup-database=admin \
  --setup-username="$MONGO_INITDB_ROOT_USERNAME" --setup-password="$(cat "$MONGO_INITDB_ROOT_PASSWORD_FILE")"
EOF
  printf '#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/27017\n' > "$work/mongo/mongosh" # for the health check
  chmod +x "$work/mongo/start" "$work/mongo/mongosh"
  printf 'FROM %s\nCOPY ferretdb accounts start mongosh /usr/bin/\nCMD ["start"]\n' "$DEBIAN_IMAGE" > "$work/mongo/Dockerfile"
  docker build -q -t "$MONGO_IMAGE" "$work/mongo" >/dev/null
fi

cd "$work/src"
docker-compose build -q >/dev/null 2>&1 || docker-compose build

echo "without an address …"
if COMPOSE_PROFILES= docker-compose run --rm setup > "$work/refused" 2>&1; then
  echo "setup took no address for one" >&2
  exit 1
fi
grep -q 'IOTOLL_ADDRESS: required' "$work/refused" || { cat "$work/refused" >&2; exit 1; }

echo "docker-compose up …"
docker-compose up -d
inside() { docker-compose exec -T "$@"; }

echo "a buyer pays …"
password=$(od -An -tx1 -N16 /dev/urandom | tr -d ' ')
echo "$password" | inside iotoll iotoll user add john
mosquitto_sub -p "$IOTOLL_PORT" -t sensor/1m -E -W 5
early=$(timeout 5 mosquitto_sub -p "$IOTOLL_PORT" -u john -P "$password" -t sensor/live -C 1 2>/dev/null || true)
if [ -n "$early" ]; then
  echo "john read sensor/live before he paid: $early" >&2
  exit 1
fi
timeout 60 mosquitto_sub -p "$IOTOLL_PORT" -u john -P "$password" -t 'sensor/#' -v > "$work/john" &
address=$(inside iotoll iotoll offer list | sed 's/.*"address":"\([^"]*\)".*/\1/')
inside ledger iotoll pay --ledger iota --node http://127.0.0.1:9125 --key-file /ledger/buyer.key \
  --amount 0.5 --address "$address" --username john --wait
for _ in $(seq 20); do
  ! grep -q 'sensor/live' "$work/john" || break
  sleep 0.5
done
head -3 "$work/john"
grep -q 'sensor/live' "$work/john"
inside iotoll iotoll payment list | tee "$work/book"
grep -q credited "$work/book"
echo "docker-compose: ok"
