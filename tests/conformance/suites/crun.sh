#!/usr/bin/env bash
# crun.sh RUNTIME SUITE SCRATCH: the tests of containers/crun.
# SUITE holds tests/*.py and tests/init (static). One case per test, as FILE/TEST.
set -uo pipefail
suite=$(cd "$2" && pwd) scratch=$3
cd "$scratch" || exit 1
export OCI_RUNTIME=$1 INIT=$suite/tests/init PYTHONPATH=$suite/tests PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
judge() {
  awk -v file="$2" -v code="$3" '
    /^(not )?ok [0-9]+ - / {
      verdict = /^not/ ? "fail" : /#SKIP/ ? "skip" : "pass"
      name = $0; why = ""
      if (verdict == "skip") { why = name; sub(/^.*#SKIP */, "", why); sub(/ *# [0-9.]+s$/, "", why) }
      sub(/^(not )?ok [0-9]+ - /, "", name); sub(/ *#.*$/, "", name); gsub(/[[:space:]]+/, "-", name)
      print verdict, file "/" name, why
    }
    # A test that hangs takes the rest of its file with it.
    END { if (code != 0) print "fail", file "/did-not-end" }' "$1"
}
# The tests of a file that come after those already told of and the one that hangs.
rest_of() {
  python3 -c 'import importlib, sys; print("\n".join(importlib.import_module(sys.argv[1]).all_tests))' "test_$1" |
    tail -n "+$(($(grep -cE '^(not )?ok ' "$scratch/$1.tap") + 2))"
}
for program in "$suite"/tests/test_*.py; do
  file=$(basename "$program" .py) file=${file#test_}
  timeout -k 5 150 python3 "$program" >"$scratch/$file.tap" 2>"$scratch/$file.err" </dev/null
  code=$?
  judge "$scratch/$file.tap" "$file" $code
  [ $code = 124 ] || continue
  RUN_TESTS=$(rest_of "$file" | tr '\n' ' ') timeout -k 5 150 python3 "$program" \
    >"$scratch/$file-rest.tap" 2>>"$scratch/$file.err" </dev/null
  judge "$scratch/$file-rest.tap" "$file" $?
done
