#!/bin/bash
# bootstrap.sh: the door for a fresh Debian 12.
#
#   ./bootstrap.sh build   install the build dependencies, configure and build in build/
#   ./bootstrap.sh check   the same, then make check
#   ./bootstrap.sh demo    the same as build, then a model on Fashion-MNIST: served, trained, measured, condensed, exported
#   ./bootstrap.sh stop    end the demo's daemon
#
# As root or with sudo; needs no terminal; may be run again at any time. debian/control is the only list of dependencies.
# ONELIP_LISTEN is the address of the demo's daemon (127.0.0.1:8000), ONELIP_DEMO_STEPS how long it trains (1000).
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '%s\n' "$*" >&2; }
die() { say "bootstrap.sh: $*"; exit 1; }

# What debian/control wants, one package a line.
dependencies() {
    sed -n '/^Build-Depends:/,/^[A-Z]/p' debian/control | sed -n 's/^ \([a-z0-9.+-]*\).*/\1/p'
}

# debhelper is for packages, not for this build. An npm that did not come from Debian's package serves as well, and keeps
# that package from being installed.
missing() {
    dependencies | grep -v '^debhelper' | while read -r package; do
        [ "$package" != npm ] || ! command -v npm >/dev/null || continue
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

install_dependencies() {
    local list root=()
    command -v dpkg-query >/dev/null || { say "bootstrap.sh: no Debian here; needs: $(dependencies | tr '\n' ' ')"; return; }
    list=$(missing)
    [ -n "$list" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "needs root or sudo to install: $(echo $list)"
        root=(sudo)
    fi
    say "installing $(echo "$list" | wc -l) packages"
    export DEBIAN_FRONTEND=noninteractive
    mkdir -p build
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
    { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends build-essential $list; } >build/apt.log 2>&1 </dev/null ||
        die "apt-get failed: $(grep -m1 '^E:' build/apt.log || tail -n 1 build/apt.log) (build/apt.log has the rest)"
}

# Runs a step with its output in build/NAME.log, and says where it broke.
quietly() {
    local log=build/$1.log
    shift
    "$@" >"$log" 2>&1 </dev/null || die "$* failed: $(grep -m1 -iE 'error[: ]' "$log" || tail -n 1 "$log") ($log has the rest)"
}

build() {
    install_dependencies
    mkdir -p build
    if [ ! -x configure ] || [ configure.ac -nt configure ] || [ -n "$(find . -name local.mk -newer Makefile.in -print -quit 2>/dev/null)" ]; then
        say "preparing"
        quietly autoreconf autoreconf -fi
    fi
    if [ ! -f build/Makefile ] || [ configure -nt build/config.status ]; then
        say "configuring"
        quietly configure sh -c 'cd build && ../configure'
    fi
    say "building"
    quietly make make -C build -j"$(nproc)"
}

check() {
    build
    say "testing"
    make -s -C build -j"$(nproc)" check </dev/null || {
        find build -name '*.log' -path '*tests*' -newer build/make.log -exec grep -H '^not ok' {} + >&2 || true
        die "make check failed (build/test-suite.log)"
    }
}

# ---- the demo ----------------------------------------------------------------------------------------------

demo_state=build/demo

demo_stop() {
    local pid i
    [ -f $demo_state/pid ] || { say "no demo is running"; return; }
    pid=$(cat $demo_state/pid)
    if is_ours "$pid"; then
        kill "$pid" 2>/dev/null || true
        for i in $(seq 300); do
            [ -d "/proc/$pid" ] && ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null || break
            sleep 0.1
        done
        [ ! -d "/proc/$pid" ] || kill -KILL "$pid" 2>/dev/null || true
        say "stopped onelipd, process $pid"
    else
        say "no demo is running"
    fi
    rm -f $demo_state/pid
}

# Whether the process is the demo's daemon and not one that got its number later.
is_ours() {
    tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -qx -- "$PWD/$demo_state/state"
}

demo_start() {
    local listen=${ONELIP_LISTEN:-127.0.0.1:8000} i pid
    mkdir -p $demo_state/state
    rm -f $demo_state/address
    # Of its own session, without our terminal or pipes: it outlives this script.
    setsid build/server/onelipd --listen "$listen" --port-file "$PWD/$demo_state/address" --state-dir "$PWD/$demo_state/state" \
        --web-root "$PWD/build/web" </dev/null >$demo_state/onelipd.log 2>&1 &
    pid=$!
    echo "$pid" >$demo_state/pid
    for i in $(seq 300); do
        [ ! -s $demo_state/address ] || break
        kill -0 "$pid" 2>/dev/null || { rm -f $demo_state/pid; die "$(tail -n 1 $demo_state/onelipd.log)"; }
        sleep 0.1
    done
    [ -s $demo_state/address ] || die "onelipd did not start within 30 s ($demo_state/onelipd.log)"
    disown "$pid" 2>/dev/null || true
    address=$(head -n 1 $demo_state/address)
    case $address in http*) ;; *) address=http://$address ;; esac
    # ready is when every stored model has loaded
    for i in $(seq 300); do
        curl -fs --noproxy '*' "$address/v2/health/ready" >/dev/null && return
        sleep 0.1
    done
    die "onelipd is not ready after 30 s ($demo_state/onelipd.log)"
}

# One call, its answer on stdout; anything but a 2xx ends the demo with the server's own words.
call() {
    local status
    status=$(curl -s --noproxy '*' -o $demo_state/answer -w '%{http_code}' "$@") || die "curl $* failed"
    case $status in
        2*) cat $demo_state/answer ;;
        *) die "curl $*: $status $(head -c 300 $demo_state/answer)" ;;
    esac
}

headline() { printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }

demo() {
    local data=/usr/share/datasets/fashion-mnist steps=${ONELIP_DEMO_STEPS:-1000} model url
    build
    demo_stop 2>/dev/null
    demo_start
    model=fashion url=$address/v2/models/fashion

    headline "A Lipschitz network for Fashion-MNIST, served at $address"
    call -X PUT "$url" -H 'Content-Type: application/json' --data-binary @clients/demo/fashion.json >/dev/null
    call -X PUT "$url/training" -H 'Content-Type: application/json' -d '{
        "optimizer":{"class_name":"Adam","config":{"learning_rate":0.002}},
        "loss":{"class_name":"MulticlassHKR","config":{"alpha":250.0,"min_margin":0.5}},"metrics":["accuracy"]}' >/dev/null
    build/clients/cli/onelip --url "$address" ls

    headline "$steps training steps of 128 images, each an HTTP request"
    build/clients/cli/onelip --url "$address" train $model --images $data/train-images-idx3-ubyte.gz \
        --labels $data/train-labels-idx1-ubyte.gz --steps "$steps" --batch 128

    headline "All 10,000 test images"
    build/clients/cli/onelip --url "$address" evaluate $model --images $data/t10k-images-idx3-ubyte.gz \
        --labels $data/t10k-labels-idx1-ubyte.gz --batch 1000

    headline "What it says of the first two test images (their classes are $(labels 2))"
    images 2 >$demo_state/infer.json
    call "$url/infer" -H 'Content-Type: application/json' --data-binary @$demo_state/infer.json
    headline "The Lipschitz report: what each layer claims, and what is proven of the weights now served"
    call "$url/lipschitz"
    headline "Condense: every kernel becomes its own orthogonalised self, and no answer changes"
    call -X POST "$url/condense"
    headline "Export: plain Keras layers, as safetensors and as Keras JSON"
    call "$url/export?format=safetensors&vanilla=true" >build/demo/fashion.safetensors
    call "$url/export?format=keras_json&vanilla=true" >build/demo/fashion.keras.json
    ls -l build/demo/fashion.safetensors build/demo/fashion.keras.json

    headline "Try next (./bootstrap.sh stop ends the daemon):"
    printf '  %s/ui/ in a browser\n' "$address"
    printf '  curl -s %s\n' "$url" "$url/layers" "'$url/lipschitz?layers=false'"
}

# The first N test images as an inference request, and their labels.
images() {
    # od stops reading early, which gzip takes as a failure.
    { gzip -dc /usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz || true; } | od -An -v -tu1 -j16 -N$((784 * $1)) |
        awk -v n="$1" 'BEGIN { printf "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[%d,28,28,1],\"data\":[", n }
            { for (i = 1; i <= NF; i++) printf "%s%.9g", k++ ? "," : "", $i / 255 } END { print "]}]}" }'
}

labels() {
    { gzip -dc /usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz || true; } | od -An -v -tu1 -j8 -N"$1" | xargs
}

case ${1-} in
    build) build ;;
    check) check ;;
    demo) demo ;;
    stop) demo_stop ;;
    *) say "usage: ./bootstrap.sh build|check|demo|stop"; exit 2 ;;
esac
