#!/usr/bin/env bash
# Every check and every test, in one run; the last line is 'N passed, M failed, K skipped'.
# Needs WHARF_BIN and WHARF_SHIM (make test sets them).
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp); trap 'rm -f "$log"' EXIT
failed_checks=0

run_check() { # NAME COMMAND...
  local name=$1; shift
  printf '== %s\n' "$name"
  if "$@"; then printf 'check %s ... ok\n' "$name" >>"$log"
  else printf 'check %s ... FAILED\n' "$name" | tee -a "$log"; failed_checks=$((failed_checks + 1)); fi
}

run_check fmt cargo fmt --all --check
run_check deps cargo run --locked -q -p xtask -- deps
run_check tidy cargo run --locked -q -p xtask -- tidy
run_check clippy make --no-print-directory clippy

printf '== tests\n'
cargo test --locked --workspace --all-features --no-fail-fast 2>&1 | tee -a "$log"
status=${PIPESTATUS[0]}

sum() { grep -E '^test result:' "$log" | grep -oE "[0-9]+ $1" | awk '{s += $1} END {print s + 0}'; }
checks_ok=$(grep -c '^check .* ok$' "$log" || true)
passed=$(( $(sum passed) + checks_ok ))
failed=$(( $(sum failed) + failed_checks ))
skipped=$(sum ignored)
# A run that broke before its tests (a build error, a crash of a test binary) counts as failed too.
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
if [ "$failed" -gt 0 ]; then printf '\nfailed:\n'; grep -E '^test .* FAILED|^check .* FAILED' "$log" | sort -u; fi
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
