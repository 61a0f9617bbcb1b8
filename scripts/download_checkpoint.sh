#!/usr/bin/env bash
# Fetches an official COCO checkpoint and unpacks it:
#
#     scripts/download_checkpoint.sh efficientdet-d2 [FOLDER]
#
# leaves FOLDER/efficientdet-d2/ (FOLDER: the current one), to be used as --ckpt=efficientdet-d2.
# An interrupted download goes on where it stopped; nothing incomplete is ever unpacked.
# CHECKPOINT_URL sets another base address.
set -euo pipefail

CHECKPOINT_URL="${CHECKPOINT_URL:-https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet/coco}"

fail() {
  echo "error: $*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'
}

# Prints the size in bytes that the server announces for $1, or nothing.
remote_size() {
  if command -v curl >/dev/null; then
    curl -fsSIL "$1" 2>/dev/null
  elif command -v wget >/dev/null; then
    wget -q --spider --server-response "$1" 2>&1
  else
    python3 -c 'import sys, urllib.request as u
print(u.urlopen(u.Request(sys.argv[1], method="HEAD")).headers)' "$1" 2>/dev/null
  fi | tr -d '\r' | awk 'tolower($1) == "content-length:" { size = $2 } END { print size }'
}

# Continues the download of $1 in the file $2.
fetch() {
  if command -v curl >/dev/null; then
    curl -fL --retry 3 -C - -o "$2" "$1"
  elif command -v wget >/dev/null; then
    wget -c -O "$2" "$1"
  else
    python3 - "$1" "$2" <<'PYTHON'
import os, shutil, sys, urllib.request

url, path = sys.argv[1:]
start = os.path.getsize(path) if os.path.exists(path) else 0
request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"})
with urllib.request.urlopen(request) as answer:
    # A server that does not continue sends everything from the start.
    with open(path, "ab" if answer.status == 206 else "wb") as file:
        shutil.copyfileobj(answer, file)
PYTHON
  fi
}

size_of() {
  if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi
}

case "${1:-}" in
  "" | -h | --help) usage; exit 0 ;;
esac
model="$1"
folder="${2:-.}"
case "$model" in
  efficientdet-d[0-7] | efficientdet-d7x | efficientdet-lite[0-4] | efficientdet-lite3x) ;;
  *) fail "unknown model '$model': expected efficientdet-d0 .. d7, d7x, lite0 .. lite4, lite3x" ;;
esac

url="$CHECKPOINT_URL/$model.tar.gz"
archive="$folder/$model.tar.gz"
if [ -e "$folder/$model/checkpoint" ]; then
  echo "$folder/$model is there already"
  exit 0
fi
mkdir -p "$folder"

expected="$(remote_size "$url")" || true
[ -n "$expected" ] || fail "$url: no answer; is the network up, and the model published there?"
[ "$(size_of "$archive.part")" -le "$expected" ] || rm "$archive.part"
if [ "$(size_of "$archive.part")" -lt "$expected" ]; then
  fetch "$url" "$archive.part" || fail "$url: the download broke off; run the same command to go on"
fi
actual="$(size_of "$archive.part")"
[ "$actual" = "$expected" ] ||
  fail "$archive.part: $actual bytes of $expected; run the same command to go on"

unpacked="$(mktemp -d "$folder/.$model.XXXXXX")"
trap 'rm -rf "$unpacked"' EXIT
if ! gzip -t "$archive.part" || ! tar -xzf "$archive.part" -C "$unpacked" ||
  [ ! -e "$unpacked/$model/checkpoint" ]; then
  rm "$archive.part"
  fail "$url: complete ($expected bytes) but no .tar.gz of $model/; removed, nothing was unpacked"
fi
mv "$unpacked/$model" "$folder/$model"
rm "$archive.part"
echo "$folder/$model: ready, use --ckpt=$folder/$model"
