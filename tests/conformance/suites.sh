#!/usr/bin/env bash
# suites.sh RUNTIME SUITES [NAME..]: runs the built suites found below SUITES against RUNTIME and
# compares with known/NAME.txt: "CASE  reason", CASE may be a pattern of the shell, # is a comment. What
# passes although listed is told, unless its reason begins with "at times": the suite's own race.
# Fails on a failure that is not listed. The layout of SUITES is in docs/conformance.md.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
runtime=$(readlink -e "$(dirname "$1")")/$(basename "$1") suites=$(cd "$2" && pwd) || exit 2
shift 2
dir=$(mktemp -d /tmp/wharf-suites-XXXXXX)
trap 'rm -rf --one-file-system "$dir"' EXIT

# Reads known/NAME.txt into patterns[] and reasons[].
read_known() {
  patterns=() reasons=()
  [ -f "$1" ] || return 0
  while read -r pattern reason; do
    case $pattern in '' | '#'*) continue ;; esac
    patterns+=("$pattern") reasons+=("$reason")
  done <"$1"
}

# The reason why CASE is known to fail; fails if it is not known to.
reason_of() {
  local index
  for index in "${!patterns[@]}"; do
    # The pattern is meant as one.
    # shellcheck disable=SC2254
    case $1 in ${patterns[index]}) echo "${reasons[index]}"; return 0 ;; esac
  done
  return 1
}

judge() {
  local name=$1 verdict case_name words reason passed=0 failed=0 skipped=0 unexpected=0
  read_known "$here/known/$name.txt"
  while read -r verdict case_name words; do
    case $verdict in
      pass)
        passed=$((passed + 1))
        if reason=$(reason_of "$case_name") && [[ $reason != "at times"* ]]; then
          echo "   $case_name passes, though known/$name.txt lists it"
        fi ;;
      skip) skipped=$((skipped + 1)); echo "   skipped $case_name $words" ;;
      note) echo "   $case_name $words" ;;
      fail)
        failed=$((failed + 1))
        if reason=$(reason_of "$case_name"); then
          echo "   known failure $case_name: $reason"
        else
          unexpected=$((unexpected + 1)); echo "   FAILED $case_name $words"
        fi ;;
    esac
  done <"$dir/$name.results"
  echo "   $name: $passed passed, $failed failed ($unexpected of them unexpected), $skipped skipped"
  [ $unexpected = 0 ] && [ $((passed + failed)) -gt 0 ]
}

# A run that was cut short leaves a group of runc's suite, which holds all the machine's real time.
find /sys/fs/cgroup -depth -type d -path '*/runc-cgroups-integration-test*' -exec rmdir {} + 2>/dev/null

status=0
for adapter in "$here"/suites/*.sh; do
  name=$(basename "$adapter" .sh)
  [ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
  if [ ! -d "$suites/$name" ]; then
    echo "== $name: not run ($suites/$name is not there)"
    continue
  fi
  echo "== $name"
  mkdir -p "$dir/$name"
  # Whatever a suite leaves behind, be it processes or mounts, ends with it.
  unshare --mount --propagation slave --pid --fork --mount-proc --kill-child \
    "$here/controllers.sh" "$adapter" "$runtime" "$suites/$name" "$dir/$name" >"$dir/$name.results" 2>"$dir/$name.log" </dev/null
  judge "$name" || { status=1; tail -n 20 "$dir/$name.log"; }
  if [ -n "${KEEP_RESULTS:-}" ]; then
    mkdir -p "$KEEP_RESULTS" && cp -r "$dir/$name" "$dir/$name.results" "$KEEP_RESULTS/"
  fi
done
exit $status
