#!/bin/sh
# Every page is there, in the directory and in the list made of it: 300 pages and an empty file.
set -eu
test "$(find -L "$1" -type f | wc -l)" -eq 301
test "$(wc -l < "$2")" -eq 301
grep -q '^chapter11/page299.txt ' "$2"
