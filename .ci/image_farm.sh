#!/usr/bin/env bash
# image_farm.sh PROGRAM: draws a picture in worker processes of which one is killed, and compares it with what one process draws.
set -euo pipefail
program=$1

said=$("$program" --size 400 --rows 4 --check)
printf '%s\n' "$said"
for part in 'tiles drawn by' 'were recycled' 'was killed' 'checked: '; do
    case $said in
        *"$part"*) ;;
        *) printf 'missing: %s\n' "$part" >&2 && exit 1 ;;
    esac
done
code=0
"$program" --size 0 2>/dev/null || code=$?
[ "$code" = 2 ] || { printf 'bad arguments: exit code %s\n' "$code" >&2 && exit 1; }
