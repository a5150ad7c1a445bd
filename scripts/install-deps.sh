#!/usr/bin/env bash
# Installs the Debian packages that building and testing need, and only those that are missing.
# Needs nothing but apt; asks for root (or sudo) only when there is something to install.
set -euo pipefail

build_packages=(protobuf-compiler build-essential pkg-config)
# containerd and runc run the containers; docker-registry serves the images; umoci and skopeo are the independent
# unpackers; debootstrap and busybox-static make the images; iproute2, jq and util-linux are for scripts and cleaning.
test_packages=(containerd runc docker-registry skopeo umoci erofs-utils debootstrap busybox-static fuse3
    iproute2 jq util-linux ca-certificates debian-archive-keyring)

case "${1:-all}" in
build) wanted=("${build_packages[@]}") ;;
all) wanted=("${build_packages[@]}" "${test_packages[@]}") ;;
*)
    echo "usage: $0 [build|all]" >&2
    exit 2
    ;;
esac

missing=()
for package in "${wanted[@]}"; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "error: missing: ${missing[*]}" >&2
    echo "hint: this script knows apt only; install these by your system's own means" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi

# The packages bring service units and init scripts: a machine that only tests must not start them, so for the time of
# the installation a policy answers "not allowed" (101) to each attempt, unless the administrator has a policy already.
policy=/usr/sbin/policy-rc.d
own_policy=no
remove_policy() {
    if [ "$own_policy" = yes ]; then
        "${as_root[@]}" rm -f "$policy"
    fi
}
trap remove_policy EXIT
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    own_policy=yes
    "${as_root[@]}" chmod 755 "$policy"
fi

echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq || echo "warning: apt-get update had errors; going on with the lists there are" >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
