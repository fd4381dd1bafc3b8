#!/bin/sh
# Builds the program twice, in two folders, and compares the bytes. Prints the hash, and with cargo-cyclonedx the path of a
# list of everything that it is built from (SBOM, CycloneDX).
#
#     deploy/reproducible.sh
#
# One toolchain and one commit give one hash: paths are mapped to fixed names, times come from the commit, and each build
# has a target folder of its own. Two builds on one machine (x86-64 Linux, Rust 1.95) did; no test runs it, since it
# takes two release builds.
set -eu
cd "$(dirname "$0")/.."
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

source_in() {
    mkdir -p "$work/$1/source"
    git archive HEAD | tar -x -C "$work/$1/source"
}

build() {
    (
        cd "$work/$1/source"
        CARGO_TARGET_DIR="$work/$1/target" \
            RUSTFLAGS="--remap-path-prefix=$work/$1=/build --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
            cargo build --release --locked --package kith-node --bin kith >&2
    )
    sha256sum <"$work/$1/target/release/kith" | cut -d ' ' -f 1
}

source_in one
source_in another-folder
# The list first: it takes a second. It is made in a copy, since it is written beside the manifests.
if cargo cyclonedx --version >/dev/null 2>&1; then
    (cd "$work/one/source" && cargo cyclonedx --manifest-path node/Cargo.toml --format json >&2)
    list=${CARGO_TARGET_DIR:-target}/kith.cdx.json
    mkdir -p "$(dirname "$list")"
    sed "s|$work/one/source|/build|g" "$work/one/source/node/kith-node.cdx.json" >"$list"
    find "$work/one/source" -name '*.cdx.json' -exec rm {} +
    echo "$list"
else
    echo "no list of what it is built from: cargo install --locked cargo-cyclonedx" >&2
fi
one=$(build one)
other=$(build another-folder)
if [ "$one" != "$other" ]; then
    echo "two builds of one source differ: $one and $other; compare them with diffoscope" >&2
    exit 1
fi
echo "$one  kith"
