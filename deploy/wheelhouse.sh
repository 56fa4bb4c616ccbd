#!/bin/sh
# An installation without a network. On a machine with one, of the same system and Python:
#   deploy/wheelhouse.sh make FOLDER [--extra-index-url URL]     downloads and builds all wheels, with their hashes
# Carry FOLDER over, then on the machine without:
#   FOLDER/wheelhouse.sh install FOLDER /opt/fedmama             makes a virtual environment there
set -eu

what=${1:?make or install} folder=${2:?a folder}
python=${PYTHON:-python3}

case $what in
make)
    shift 2
    here=$(cd "$(dirname "$0")/.." && pwd)
    mkdir -p "$folder"
    "$python" -m pip wheel -c "$here/constraints.txt" -w "$folder" "$@" "$here"
    cp "$here/constraints.txt" "$0" "$folder/"
    (cd "$folder" && sha256sum ./*.whl constraints.txt >SHA256SUMS)
    echo "carry $folder over; note the hash of its list elsewhere:"
    sha256sum "$folder/SHA256SUMS"
    ;;
install)
    target=${3:?where to install}
    (cd "$folder" && sha256sum --quiet -c SHA256SUMS)
    # Of two versions the newer is installed: a wheel that somebody added must not be there.
    for wheel in "$folder"/*.whl; do
        grep -qF "./$(basename "$wheel")" "$folder/SHA256SUMS" || {
            echo "$wheel is not in the list; remove it or make the folder anew" >&2
            exit 1
        }
    done
    "$python" -m venv "$target"
    "$target/bin/pip" install --no-index --find-links "$folder" -c "$folder/constraints.txt" fedmama
    "$target/bin/mama-site" --help >/dev/null
    echo "installed in $target"
    ;;
*)
    echo "make or install, not $what" >&2
    exit 2
    ;;
esac
