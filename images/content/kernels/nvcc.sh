#!/bin/sh
# nvcc with the same process id each time: it is part of the names of what has internal linkage, and
# so of a library's bytes, and depends on what else runs. Temporary files, which it keeps apart
# otherwise, get a directory for each output.
set -eu
previous='' output=''
for argument; do
	[ "$previous" != -o ] || output=$argument
	previous=$argument
done
TMPDIR=/build/temporary/$(printf %s "$output" | cksum | tr ' ' -)
mkdir -p "$TMPDIR"
export TMPDIR
LD_PRELOAD=/build/getpid.so exec "$0.real" "$@"
