#!/usr/bin/env bash
# contest.sh RUNTIME SUITE SCRATCH: the contest of youki-dev/youki.
# SUITE holds contest, runtimetest (static) and bundle.tar.gz. One case per test, as GROUP/TEST.
set -uo pipefail
runtime=$1 suite=$(cd "$2" && pwd) scratch=$3
mkdir -p "$scratch/tmp"
# It resolves links, and ours is known by the name of one.
printf '#!/bin/sh\nexec "%s" "$@"\n' "$runtime" >"$scratch/runtime"
chmod +x "$scratch/runtime"
cd "$suite" || exit 1
# It counts descriptors inside; those that the caller of this script had open are none of its business.
for fd in /proc/$$/fd/*; do
  number=${fd##*/}
  if [ "$number" -gt 2 ] && [ "$number" -ne 255 ]; then eval "exec $number>&-"; fi
done
# It makes allowances for the runtimes that it knows by this name.
export TMPDIR=$scratch/tmp RUNTIME_KIND=$(basename "$runtime")
judge() {
  awk -v group="$2" -v code="$3" '
    /^[0-9]+ \/ [0-9]+ : .* : / {
      name = $0; sub(/^[0-9]+ \/ [0-9]+ : /, "", name)
      verdict = name; sub(/^.* : /, "", verdict); sub(/ : [a-z ]+$/, "", name)
      gsub(/[[:space:]]+/, "-", name)
      print (verdict == "ok" ? "pass" : verdict == "not ok" ? "fail" : "skip"), group "/" name
    }
    END { if (code != 0) print "fail", group "/did-not-end" }' "$1"
}
# Group by group: a test that panics ends the whole program, and with it only its own group.
for group in $(./contest list); do
  timeout -k 5 120 ./contest run --runtime "$scratch/runtime" --runtimetest "$suite/runtimetest" -t "$group" \
    >"$scratch/$group.out" 2>"$scratch/$group.err" </dev/null
  judge "$scratch/$group.out" "$group" $?
done
