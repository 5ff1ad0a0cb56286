#!/bin/bash
# Installs the packages that cmd/dist/build.sh made in bare Debian 12 and 13
# chroots: the broker loads the plugin, an upgrade keeps the store, and removal
# leaves a broker that starts. Needs root and debootstrap.
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "test-deb: $*" >&2; exit 1; }
for suite in bookworm trixie; do
  root=$work/$suite
  echo "Debian $suite …"
  debootstrap --variant=minbase "$suite" "$root" http://deb.debian.org/debian >/dev/null
  cp build/dist/*_amd64.deb "$root/root/"
  inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }
  # No service is started in a chroot.
  printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d" && chmod +x "$root/usr/sbin/policy-rc.d"
  inside apt-get update -qq
  inside sh -c 'apt-get install -y -qq --no-install-recommends mosquitto /root/*.deb' >"$work/log" 2>&1 || { cat "$work/log"; fail "install on $suite"; }
  grep -q 'iotoll init' "$work/log" || fail "postinst names no next step"
  inside id -nG mosquitto | grep -qw iotoll || fail "mosquitto is not in the group iotoll"
  inside iotoll version
  # The broker starts with the plugin, as Debian's unit starts it.
  inside cp /usr/share/doc/iotoll-mosquitto/examples/iotoll.conf /etc/mosquitto/conf.d/iotoll.conf
  starts() { # for two seconds: with a broken configuration it ends at once
    inside timeout -s TERM 2 mosquitto -c /etc/mosquitto/mosquitto.conf >"$work/broker" 2>&1 || [ $? = 124 ]
  }
  inside install -d -o mosquitto /run/mosquitto
  starts || { cat "$work/broker" "$root/var/log/mosquitto/mosquitto.log"; fail "the broker does not start with the plugin"; }
  grep -q 'iotoll' "$root/var/log/mosquitto/mosquitto.log" || { cat "$root/var/log/mosquitto/mosquitto.log"; fail "the broker's log does not name the plugin"; }
  # init writes the configuration there, for the user that serve runs as.
  key=$(inside iotoll address --ledger iota --new --key-file /root/seller.key)
  inside iotoll init /etc/iotoll --ledger iota --network local --address "$key" >"$work/log" 2>&1 || { cat "$work/log"; fail "init on $suite"; }
  inside runuser -u iotoll -- iotoll config check || fail "serve's user cannot read the configuration"
  inside cp /etc/iotoll/mosquitto.conf /etc/mosquitto/conf.d/iotoll.conf
  starts || { cat "$work/broker" "$root/var/log/mosquitto/mosquitto.log"; fail "the broker does not start with the configuration of init"; }
  # An upgrade keeps the store, and so does purging.
  inside install -d -o iotoll /var/lib/iotoll/store && touch "$root/var/lib/iotoll/store/kept"
  inside sh -c 'apt-get install -y -qq --reinstall /root/*.deb' >/dev/null 2>&1 || fail "upgrade"
  inside apt-get purge -y -qq iotoll iotoll-mosquitto >"$work/log" 2>&1 || { cat "$work/log"; fail "purge"; }
  [ -e "$root/var/lib/iotoll/store/kept" ] || fail "the store is gone"
  [ -e "$root/etc/mosquitto/conf.d/iotoll.conf.disabled" ] || fail "the broker's configuration was not moved aside"
  starts || fail "the broker does not start after the removal"
done
echo "packages: ok"
