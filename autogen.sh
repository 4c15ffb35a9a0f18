#!/bin/sh
# Makes ./configure and the Makefile.in from a checkout. A release tarball has them already.
set -eu
cd "$(dirname "$0")"

missing=
need() { # program, Debian package
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need autoconf autoconf
need automake automake
need pkg-config pkg-config
if [ -n "$missing" ]; then
	echo "autogen.sh: missing; install these packages:$missing" >&2
	exit 1
fi
exec autoreconf --force --install --warnings=all,no-obsolete
