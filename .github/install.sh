#!/usr/bin/env bash
# Install what the builder depends on from the package index, every file by its locked hash, into a
# virtual environment; and what its tests need. The builder itself runs from the checkout.
#
# Usage: install.sh [test [DIRECTORY]]
set -euo pipefail

lock=$(dirname "$0")/requirements${1:+-$1}.txt
place=${2:-.venv}
python3 -m venv "$place"
"$place/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps \
  --only-binary :all: --requirement "$lock"
