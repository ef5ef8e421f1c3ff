#!/usr/bin/env bash
# index_tree.sh PROGRAM DIR: runs the example both ways, and compares its JSON with what `find` counts.
set -euo pipefail
program=$1 dir=$2

"$program" "$dir" | head -n 2
json=$("$program" --json "$dir")
files=$(find "$dir" -type f | wc -l)
bytes=$(find "$dir" -type f -exec cat {} + | wc -c)
files=$((files)) bytes=$((bytes)) # without the blanks that some `wc` print

expect() {
    case $json in
        *"$1"*) echo "found $1" ;;
        *)
            printf 'missing %s in:\n%s\n' "$1" "$json" >&2
            exit 1
            ;;
    esac
}
expect '"interrupted":false'
expect "\"files\":$files,\"failed\":0,\"unlisted\":0,"
expect "\"bytes\":$bytes},\"types\":["
expect "\"by_type\":{\"FileFound\":$files,\"FileRead\":$files}"

# Whether it is JSON at all, if there is something that knows.
if command -v python3 >/dev/null; then
    python3 -c 'import json, sys; json.loads(sys.argv[1])' "$json" && echo "valid JSON"
elif command -v jq >/dev/null; then
    jq -e . <<<"$json" >/dev/null && echo "valid JSON"
fi
