#!/usr/bin/env bash
# runc.sh RUNTIME SUITE SCRATCH: the integration tests of opencontainers/runc.
# SUITE holds tests/integration with its images in testdata, and the programs in tests/cmd/_bin; bats is in
# SUITE/bats/bin or PATH, go (asked for the architecture), jq and gawk in PATH. One case per test, as FILE/TEST.
set -uo pipefail
suite=$(cd "$2" && pwd) scratch=$3
export RUNC=$1 TMPDIR=$scratch/tmp PATH=$suite/bats/bin:$PATH
mkdir -p "$TMPDIR"
# Some containers run as users who must reach their root; some tests ask how / is propagated.
chmod a+x "$(dirname "$scratch")" "$scratch" "$TMPDIR"
mount --make-shared /
cd "$suite/tests/integration" || exit 1
# The tests of terminals need one, which says nothing.
with_terminal() {
  python3 -c 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])) & 255)' "$@"
}
judge() {
  awk -v file="$2" '
    { sub(/\r$/, "") }
    /^1\.\.[0-9]+$/ { planned = substr($0, 4) }
    /^(not )?ok [0-9]+ / {
      verdict = /^not/ ? "fail" : / # skip/ ? "skip" : "pass"
      name = $0; why = ""
      if (verdict == "skip") { why = name; sub(/^.* # skip */, "", why); sub(/ # skip.*$/, "", name) }
      sub(/^(not )?ok [0-9]+ /, "", name); gsub(/[^A-Za-z0-9._+=]+/, "-", name); gsub(/^-|-$/, "", name)
      print verdict, file "/" name, why; seen++
    }
    END { if (seen + 0 != planned + 0 || !seen) print "fail", file "/did-not-end" }' "$1"
}
for program in *.bats; do
  file=${program%.bats}
  # shellcheck disable=SC2310
  timeout -k 5 500 bash -c "$(declare -f with_terminal); with_terminal bats -t $program" \
    >"$scratch/$file.tap" 2>"$scratch/$file.err" </dev/null
  judge "$scratch/$file.tap" "$file"
done
# Its parent group stays, with all the machine's real time in it.
find /sys/fs/cgroup -depth -type d -path '*/runc-cgroups-integration-test*' -exec rmdir {} + 2>/dev/null
exit 0
