#!/bin/sh
# test_install.sh: what `make install` puts where, what the library exports, and what systemd thinks of the unit. TAP.
set -u
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
n=0
ok() { # ok NAME COMMAND...
    n=$((n + 1)); name=$1; shift
    if "$@" >"$root/log" 2>&1; then echo "ok $n - $name"; else echo "not ok $n - $name"; sed 's/^/# /' "$root/log"; fi
}

echo 1..12
ok "make install into an empty folder" env -u MAKEFLAGS -u MAKELEVEL make -s -C "$top_builddir" install DESTDIR="$root"

prefix=$(cd "$root" && find . -name onelip.pc -path '*/pkgconfig/*' | sed 's|^\./||; s|/lib.*||' | head -n 1)
base=$root/$prefix
lib=$(find "$base" -name 'libonelip.so.*.*' | head -n 1)
nm -D --defined-only "$lib" | awk '$2 ~ /[TDBR]/ { print $3 }' | LC_ALL=C sort >"$root/exported"
ok "exports what libonelip.sym lists" diff "$srcdir/lib/libonelip.sym" "$root/exported"

unlike() { ! grep -v '^lip_[a-z]' "$root/exported"; }
ok "exports lip_ names only" unlike

ok "headers stand alone" sh -c 'for h in "$1"/include/onelip/*.h; do
    printf "#include <onelip/%s>\nint main(void) { return 0; }\n" "$(basename "$h")" |
        ${CC:-cc} -std=c11 -Wall -Werror -I"$1/include" -x c -fsyntax-only - || exit 1; done' sh "$base"

# As a stranger builds against the library: by what pkg-config says of it, and nothing else.
flags=$(PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=$base/lib/pkgconfig pkg-config --cflags --libs onelip)
stranger() { # stranger COMPILER...
    "$@" -Wall -Werror $SANITIZER_FLAGS -o "$root/use" $flags -lm && LD_LIBRARY_PATH=$(dirname "$lib") "$root/use"
}
ok "a C program builds by pkg-config, trains, condenses, bounds and saves" stranger ${CC:-cc} -std=c11 "$srcdir/tests/install/use.c"
ok "and so it does as C++" stranger ${CXX:-c++} -std=c++17 -x c++ "$srcdir/tests/install/use.c" -x none

examples=$(find "$base" -type d -name examples | head -n 1)
run_examples() { # train first: predict reads what it saves
    for example in train predict layers lipschitz gradients certify wasserstein export normalize; do
        ${CC:-cc} -std=c11 -Wall -Werror -Wno-unused-function -Wno-unused-variable -Wno-unused-const-variable $SANITIZER_FLAGS \
            -o "$root/$example" "$examples/$example.c" $flags -lm && (cd "$root" && LD_LIBRARY_PATH=$(dirname "$lib") "./$example") || return 1
    done
    [ "$(ls "$examples"/*.c | wc -l)" = 9 ]
}
ok "every example builds by pkg-config and runs" run_examples

ok "the dashboard is where onelipd looks for it, whole" diff -r "$srcdir/server/web/ui" "$base/share/onelip/web/ui"

pages() {
    for page in "$base"/share/man/man1/onelip.1 "$base"/share/man/man3/onelip.3 "$base"/share/man/man8/onelipd.8; do
        groff -mandoc -Tutf8 -ww -z "$page" 2>&1 || return 1
    done >"$root/pages"
    cat "$root/pages"
    [ ! -s "$root/pages" ]
}
ok "the manual pages format without a warning" pages

named() { # PAGE PROGRAM: prints what the page lacks
    "$2" --help | grep -oE -- '--[a-z][a-z-]*' | sort -u | while read -r option; do
        grep -qE -- "Fl -${option#--}( |$)" "$1" || echo "$1 does not name $option"
    done
}
complete() {
    said=$(named "$base/share/man/man8/onelipd.8" "$ONELIPD"; named "$base/share/man/man1/onelip.1" "$ONELIP")
    echo "$said"
    [ -z "$said" ]
}
ok "the manual pages name every option" complete

unit=$(find "$root" -name onelipd.service | head -n 1)
# verify looks for the program and the manual page at the paths that the unit names: those of this staged installation.
verify() {
    [ -n "$unit" ] || { echo "no unit was installed"; return 1; }
    page=$(find "$base" -name onelipd.8 | head -n 1)
    sed "s|^ExecStart=.*|ExecStart=$base/sbin/onelipd|; s|^Documentation=.*|Documentation=file://$page|" "$unit" >"$root/onelipd.service"
    [ -n "$page" ] && out=$(systemd-analyze verify --man=no "$root/onelipd.service" 2>&1)
    status=$?
    echo "$out"
    [ $status = 0 ] && [ -z "$out" ]
}
ok "systemd-analyze verify finds nothing" verify
# 0.9 as the notes measured it, of a service that opens its own loopback socket; 1.5 would be a lost line.
ok "the unit's exposure is at most 1.5" systemd-analyze security --offline=true --threshold=15 --no-pager "$root/onelipd.service"
