"""The names that Bazel 4's own Java toolchains load from rules_java, given by the rules inside Bazel.

The sample has no Java in it, but Bazel 4 reads its Java toolchains before it builds anything.
"""

def java_binary(**attrs):
    native.java_binary(**attrs)

def java_import(**attrs):
    native.java_import(**attrs)

def java_library(**attrs):
    native.java_library(**attrs)

def java_runtime(**attrs):
    native.java_runtime(**attrs)

def java_toolchain(**attrs):
    native.java_toolchain(**attrs)
