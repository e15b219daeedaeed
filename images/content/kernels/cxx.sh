#!/bin/sh
# The C++ compiler in one word, as SGLang asks for it. A library names those of torch that it needs,
# though the linker finds no symbol of theirs used: it has stubs without any.
exec g++ -Wl,--no-as-needed -Wl,--build-id=none "$@"
