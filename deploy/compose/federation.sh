#!/bin/sh
# Makes the folders of three hospitals that train one model on the UCI heart-disease data, for compose.yaml. Each folder is one
# organisation's: in earnest each makes its own, and only the lines that `kith init` prints are passed on.
#
#     deploy/compose/federation.sh FOLDER [ROUNDS]
#
# Needs `kith` on this machine, and is run in the repository's root.
set -eu
folder=${1:?"usage: federation.sh FOLDER [ROUNDS]"}
rounds=${2:-1000}
table=models/data/heart_disease_uci.csv
[ -r "$table" ] || { echo "there is no $table here; expected to be run in the repository's root" >&2; exit 1; }

mkdir -p "$folder"
member() { # name, hospital, options of `kith init`
    name=$1 hospital=$2
    shift 2
    kith init --dir "$folder/$name" --name "$name" --listen /ip4/0.0.0.0/tcp/4001 "$@" >"$folder/$name.member"
    awk -F, -v hospital="$hospital" 'NR == 1 || $4 == hospital' "$table" >"$folder/$name/data.csv"
}
# One known address is enough: members tell each other the rest.
member ada Cleveland
member bob Hungary --bootstrap /dns4/ada/tcp/4001
member cyd "VA Long Beach" --bootstrap /dns4/ada/tcp/4001
kith charter new --name heart --dataset heart --rounds "$rounds" --rule trimmed-mean --byzantine 1 \
    --member-file "$folder/ada.member" --member-file "$folder/bob.member" --member-file "$folder/cyd.member" \
    --out "$folder/charter.toml"
for name in ada bob cyd; do
    cp "$folder/charter.toml" "$folder/$name/"
    # The image's user, if this one may give files away; else run the containers as this one (KITH_USER).
    if [ "$(id -u)" = 0 ]; then chown -R 65532:65532 "$folder/$name"; fi
done
