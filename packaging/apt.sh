#!/usr/bin/env bash
# apt.sh PACKAGE...: installs the Debian packages that are missing; silent when all are there.
# COMMAND:PACKAGE installs PACKAGE only when COMMAND `docker` (for docker-cli) is not in PATH.
set -euo pipefail
missing=()
for want in "$@"; do
  case $want in
    docker-cli:*) command -v docker >/dev/null || missing+=("${want#*:}") ;;
    *) dpkg-query -W -f='${Status}' "$want" 2>/dev/null | grep -q 'ok installed' || missing+=("$want") ;;
  esac
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then echo "these Debian packages are needed: ${missing[*]} (run as root, or install them)" >&2; exit 1; fi
echo "installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Services of the installed packages must not start: the tests start what they need themselves.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy; chmod 755 $policy; trap 'rm -f $policy' EXIT; fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
