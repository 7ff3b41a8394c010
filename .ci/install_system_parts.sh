#!/bin/sh
# Installs what the embedded chain needs from the system and Python can't bring: libaio.so.1, for
# MySQL. Does nothing when it is there. Without the right to install it names the one command.
set -eu

found() {
    for folder in /lib /lib64 /usr/lib /usr/lib64 /lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu; do
        # .1t64 is its name since Debian 13 and Ubuntu 24.04; the chain finds both.
        for file in "$folder/libaio.so.1" "$folder/libaio.so.1t64"; do
            [ -e "$file" ] && return 0
        done
    done
    return 1
}

found && exit 0

if command -v apt-get >/dev/null 2>&1; then
    install="apt-get update -q && { apt-get install -qy --no-install-recommends libaio1 || apt-get install -qy --no-install-recommends libaio1t64; }"
elif command -v dnf >/dev/null 2>&1; then
    install="dnf install -qy libaio"
elif command -v apk >/dev/null 2>&1; then
    echo "MySQL of the embedded chain is a program for glibc and does not run on this system." >&2
    exit 1
else
    echo "MySQL of the embedded chain needs libaio.so.1: install the package libaio." >&2
    exit 1
fi

if [ "$(id -u)" = 0 ]; then
    echo "installing libaio for MySQL" >&2
    DEBIAN_FRONTEND=noninteractive sh -c "$install" >&2
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    echo "installing libaio for MySQL, with sudo" >&2
    sudo DEBIAN_FRONTEND=noninteractive sh -c "$install" >&2
else
    echo "MySQL of the embedded chain needs libaio.so.1. Run this once and start again:" >&2
    echo "    sudo sh -c '$install'" >&2
    exit 1
fi

found || { echo "libaio.so.1 is still missing after the installation." >&2; exit 1; }
