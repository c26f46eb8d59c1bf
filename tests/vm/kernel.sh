#!/usr/bin/env bash
# kernel.sh VERSION CACHE: brings a Debian cloud kernel into CACHE and prints the folder it lies in unpacked.
#   VERSION  6.1: the kernel of the Debian release that this machine runs
#            5.10: the kernel of Debian 11, from the same mirrors
# The package is downloaded and unpacked, never installed.
set -euo pipefail
version=$1; mkdir -p "$2"; cache=$(cd "$2" && pwd)
dir=$cache/kernel-$version
if [ -e "$dir/ready" ]; then echo "$dir"; exit 0; fi
rm -rf "$dir"; mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
options=()
case $version in
  6.1) apt-get update -qq >&2 ;;
  5.10)
    # The same mirrors, an older release, lists of our own: the machine's are left alone.
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | sort -u |
      sed -n 's/^\([^ ]*debian\/\) bookworm$/deb [signed-by=KEY] \1 bullseye main/p;
              s/^\([^ ]*\) bookworm-security$/deb [signed-by=KEY] \1 bullseye-security main/p' |
      sed 's,KEY,/usr/share/keyrings/debian-archive-keyring.gpg,' >"$dir/apt/sources.list"
    options=(-o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=-
      -o "Dir::State::lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt/cache")
    apt-get "${options[@]}" update -qq >&2 ;;
  *) echo "unknown kernel $version: 6.1 or 5.10" >&2; exit 2 ;;
esac
# The newest signed image of the version; the meta package names one that the mirror may no longer have.
name=$(apt-cache "${options[@]}" search --names-only "^linux-image-$version\.[0-9]+-[0-9]+-cloud-amd64$" |
  cut -d' ' -f1 | sort -V | tail -1)
[ -n "$name" ] || { echo "no Debian package of a $version cloud kernel is to be had" >&2; exit 2; }
(cd "$dir/apt" && apt-get "${options[@]}" download -qq "$name" >&2 && dpkg-deb -x ./*.deb "$dir")
release=$(basename "$dir"/lib/modules/*)
depmod -b "$dir" "$release"
rm -rf "$dir/apt"
touch "$dir/ready"
echo "$dir"
