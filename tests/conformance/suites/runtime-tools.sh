#!/usr/bin/env bash
# runtime-tools.sh RUNTIME SUITE SCRATCH: the validation programs of opencontainers/runtime-tools.
# SUITE holds runtimetest, rootfs-<arch>.tar.gz and validation/*/*.t. One case per program, and
# how many of its assertions held; the notes at the end count them all.
set -uo pipefail
runtime=$1 suite=$(cd "$2" && pwd) scratch=$3
mkdir -p "$scratch/tmp" "$scratch/out"
# The programs know no options of a runtime: its state goes where nobody else looks.
printf '#!/bin/sh\nexec "%s" --root "%s/state" "$@"\n' "$runtime" "$scratch" >"$scratch/runtime"
chmod +x "$scratch/runtime"

# Prints "VERDICT ok notok skipped" of a TAP file. A program that gave up says so on stderr and
# with its exit code; one that asserts nothing at all tells a failure only by a diagnostic.
judge() {
  awk -v code="$2" '
    /^not ok/ && !/# *TODO/ { bad++; next }
    /^ok .*# *SKIP/         { skipped++; next }
    /^ok/                   { good++; next }
    /^1\.\.[0-9]+/          { planned = 1; if ($0 ~ /# *SKIP/) whole = 1 }
    /^ *"error": /          { said = 1 }
    END {
      verdict = "pass"
      if (code != 0 || bad > 0 || !planned) verdict = "fail"
      else if (good + 0 == 0 && said) verdict = "fail"
      else if (good + 0 == 0 && (skipped > 0 || whole)) verdict = "skip"
      printf "%s %d %d %d\n", verdict, good, bad, skipped
    }' "$1"
}

cd "$suite" || exit 1
assertions=0 refused=0
for program in validation/*/*.t; do
  name=$(basename "${program%.t}")
  # Output that is kept tells which assertion it was.
  TMPDIR="$scratch/tmp" RUNTIME="$scratch/runtime" timeout -k 5 120 "$program" >"$scratch/out/$name" 2>"$scratch/out/$name.err" </dev/null
  read -r verdict good bad _ <<<"$(judge "$scratch/out/$name" $?)"
  assertions=$((assertions + good))
  refused=$((refused + bad))
  echo "$verdict $name $good assertions held, $bad did not"
done
echo "note $assertions assertions held, $refused did not"
