"""A rule whose one output is a directory (a tree artifact)."""

_SCRIPT = """
set -eu
title=$(cat "$1")
page=0
while [ "$page" -lt "$3" ]; do
    chapter="$2/chapter$((page % 12))"
    mkdir -p "$chapter"
    printf '%s, page %s\\n' "$title" "$page" > "$chapter/page$page.txt"
    page=$((page + 1))
done
: > "$2/empty.txt"
"""

def _pages_impl(ctx):
    out = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(
        inputs = [ctx.file.title],
        outputs = [out],
        command = _SCRIPT,
        arguments = [ctx.file.title.path, out.path, str(ctx.attr.count)],
        mnemonic = "Pages",
        progress_message = "Writing %d pages" % ctx.attr.count,
    )
    return [DefaultInfo(files = depset([out]), runfiles = ctx.runfiles([out]))]

pages = rule(
    implementation = _pages_impl,
    attrs = {
        "count": attr.int(mandatory = True),
        "title": attr.label(mandatory = True, allow_single_file = True),
    },
)
