#!/bin/sh
# Makes a Debian package: the program, its service, manual pages, completions and guides. Prints the package's path.
#
#     deploy/debian/build.sh
#
# Needs cargo-deb (cargo install --locked cargo-deb). Two builds of one source with one toolchain give the same bytes if
# SOURCE_DATE_EPOCH is set, for example to the commit's time, which is what this script does where nothing is set.
set -eu
cd "$(dirname "$0")/../.."
cargo deb --version >/dev/null 2>&1 || { echo "cargo-deb is not installed; expected it: cargo install --locked cargo-deb" >&2; exit 1; }
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

cargo build --release --locked --package kith-node --bin kith
release=${CARGO_TARGET_DIR:-target}/release
kith=$release/kith
# Where the package's description (node/Cargo.toml) looks for what is made here.
made=$release/package
rm -rf "$made"
"$kith" man "$made/man"
gzip -9n "$made"/man/*.1
mkdir -p "$made/completions"
"$kith" completions bash >"$made/completions/kith"
"$kith" completions zsh >"$made/completions/_kith"
"$kith" completions fish >"$made/completions/kith.fish"
exec cargo deb --no-build --locked --package kith-node
