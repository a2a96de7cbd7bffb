#!/usr/bin/env bash
# Builds librocksdb.a once per machine into a kept folder and links it into the checkout.
#
# The sources are those of the librocksdb-sys crate that Cargo.lock pins; the crate's own build takes
# 58 CPU minutes for each profile and each target folder. Here the files are compiled in groups that share
# one pass over the headers, once, outside the checkout.
# The folder's name is a hash of all that decides the result: sources, compiler, flags.
#
#   TWOFOLD_DEPS   where built libraries are kept (default: ${XDG_CACHE_HOME:-~/.cache}/twofold/deps)
set -euo pipefail
cd "$(dirname "$0")/.."

# crate_dir NAME: the unpacked sources of a dependency, as cargo keeps them.
crate_dir() {
    local manifest
    manifest=$(grep -o "\"manifest_path\":\"[^\"]*/$1-[0-9][^\"]*/Cargo.toml\"" <<<"$METADATA" | head -n 1)
    manifest=${manifest#*:\"}
    dirname "${manifest%\"}"
}
METADATA=$(cargo metadata --format-version 1 --locked)
SRC=$(crate_dir librocksdb-sys)
LZ4=$(crate_dir lz4-sys)/liblz4/lib
CXX=${CXX:-g++}

FLAGS=(-O2 -std=c++20 -fPIC -fno-omit-frame-pointer -ffunction-sections -fdata-sections -w -include cstdint
       -DNDEBUG=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DLZ4=1
       -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
       -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT)
# CRC32C in hardware, where this machine has it.
if grep -qw sse4_2 /proc/cpuinfo 2>/dev/null && grep -qw pclmulqdq /proc/cpuinfo; then
    FLAGS+=(-msse4.2 -mpclmul)
fi
INCLUDES=(-I"$SRC/rocksdb/include" -I"$SRC/rocksdb" -I"$SRC" -I"$LZ4")

KEY=$({ basename "$SRC"; $CXX --version | head -n 1; uname -m; echo "${FLAGS[@]}"; } | sha256sum | cut -c 1-16)
KEPT=${TWOFOLD_DEPS:-${XDG_CACHE_HOME:-$HOME/.cache}/twofold/deps}/$(basename "$SRC")-$KEY

link_into_checkout() {
    mkdir -p .deps
    ln -sfn "$KEPT" .deps/rocksdb
}
if [ -f "$KEPT/librocksdb.a" ]; then
    echo "rocksdb: using $KEPT"
    link_into_checkout
    exit 0
fi

mkdir -p "$(dirname "$KEPT")"
exec 9>"$KEPT.lock"
flock 9
if [ -f "$KEPT/librocksdb.a" ]; then
    link_into_checkout
    exit 0
fi

WORK=$KEPT.building
mkdir -p "$WORK"
echo "rocksdb: compiling $(basename "$SRC") once into $KEPT"
echo "rocksdb: this is the long part of the set-up (about 10 minutes on two cores); later runs reuse it"

# Files of one folder share a translation unit, at most GROUP of them.
GROUP=10
rm -f "$WORK"/*.cc
grep -v -e '^util/build_version.cc$' -e '^$' "$SRC/rocksdb_lib_sources.txt" | sort |
    awk -v group=$GROUP -v work="$WORK" -v src="$SRC/rocksdb/" '{
        dir = $0; sub("/[^/]*$", "", dir)
        if (dir != last || n % group == 0) { unit++; last = dir; n = 0 }
        n++
        printf "#include \"%s%s\"\n", src, $0 >> sprintf("%s/unit%03d.cc", work, unit)
    }'
cp "$SRC/build_version.cc" "$WORK/build_version.cc"

# compile_unit FILE: as one object; file by file where two of its sources define the same local name.
compile_unit() {
    local unit=$1 object=${1%.cc}.o source n=0
    if [ -f "$object.done" ]; then return; fi
    rm -f "$object" "${unit%.cc}"-*.o
    if $CXX "${FLAGS[@]}" "${INCLUDES[@]}" -c "$unit" -o "$object" 2>"$unit.log"; then
        touch "$object.done"
        return
    fi
    sed -n 's/^#include "\(.*\)"$/\1/p' "$unit" | while read -r source; do
        n=$((n + 1))
        $CXX "${FLAGS[@]}" "${INCLUDES[@]}" -c "$source" -o "${unit%.cc}-$n.o" || exit 1
    done
    touch "$object.done"
}
export -f compile_unit
export CXX
export_arrays=$(declare -p FLAGS INCLUDES)
export export_arrays

total=$(ls "$WORK"/*.cc | wc -l)
ls -S "$WORK"/*.cc | xargs -P "$(nproc)" -I{} bash -c '
    set -euo pipefail
    eval "$export_arrays"
    compile_unit "{}"
    done=$(ls "'"$WORK"'"/*.done | wc -l)
    if [ -t 1 ]; then printf "\rrocksdb: %d of '"$total"' units" "$done"
    elif [ $((done % 10)) = 0 ]; then echo "rocksdb: $done of '"$total"' units"; fi'
[ -t 1 ] && echo

ar crs "$WORK/librocksdb.a" "$WORK"/*.o
mkdir -p "$KEPT"
mv "$WORK/librocksdb.a" "$KEPT/librocksdb.a"
rm -rf "$WORK"
echo "rocksdb: done"
link_into_checkout
