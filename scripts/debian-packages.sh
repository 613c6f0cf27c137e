#!/bin/sh
# Debian packages the virtual arm and the measurements need: software EGL for MuJoCo, cyclictest as the reference,
# stress-ng for load, systemd to have units checked.
set -eu
missing=""
for package in libegl1 libegl-mesa0 libgl1-mesa-dri rt-tests stress-ng systemd; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "These Debian packages are needed: sudo apt-get install$missing" >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
