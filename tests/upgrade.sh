#!/bin/sh
# Builds engine and shim of an older commit into a folder of their own: upgrade.sh COMMIT TARGET
set -eu
commit=$(git rev-parse --verify "$1^{commit}")
target=$2
mkdir -p "$target"
tree=$(mktemp -d)
trap 'git worktree remove --force "$tree" 2>/dev/null || rm -rf "$tree"' EXIT
git worktree add --force --detach "$tree" "$commit"
cd "$tree"
CARGO_TARGET_DIR=$target cargo build --locked -p wharf-cli --bin wharf
CARGO_TARGET_DIR=$target cargo build --locked -p wharf-shim --features server --bin wharf-shim
"$target/debug/wharf" --version
