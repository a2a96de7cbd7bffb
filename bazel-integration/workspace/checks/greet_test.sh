#!/bin/sh
# The program greets, and counts its words.
set -eu
test "$("$1" Ada)" = "good day, Ada (3 words)"
