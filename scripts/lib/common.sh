# What the scripts share: where things are, what Debian packages they need, and
# how to say what they do.  Sourced by bash after `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${KEYGATE_BUILD:-$root/build}

# The nginx the module is built for and run in, and what it is built with.
packages_build="gcc libc6-dev make nginx nginx-dev libhiredis-dev libjansson-dev
    libssl-dev libpcre2-dev zlib1g-dev"

# What the demo and the tour run beside it.
packages_run="redis-server redis-tools python3 curl openssl"

# The tests: both compilers, the sanitizers, and what drives them.
packages_test="clang llvm libclang-rt-dev libcmocka-dev dpkg-dev
    xz-utils libnginx-mod-nchan nginx-extras python3-pytest python3-pytest-xdist
    python3-redis python3-httpx python3-h2 python3-hypothesis
    python3-jsonschema python3-yaml nodejs"

# Debian's npm is a package of its own, other builds of nodejs have it with them.
command -v npm > /dev/null || packages_test="$packages_test npm"

# The proof of the limits, a minute of which is a test.
packages_prove="faketime patch python3-hypothesis python3-redis python3-httpx
    python3-h2"

# The other gateways scripts/bench measures this one against.
packages_bench="wrk valgrind haproxy libnginx-mod-http-lua lua-nginx-redis lua-cjson"


say() {
    printf '\n== %s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Prints those of the packages named that are not installed.
missing_packages() {
    local package

    for package; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null \
            | grep -qx installed || printf '%s\n' "$package"
    done
}

# Installs what is missing of the packages named; with nothing missing it needs
# no network, and without root it says what to install.
need_packages() {
    local missing

    missing=$(missing_packages "$@" | tr '\n' ' ')
    missing=${missing% }
    [ -n "$missing" ] || return 0

    if [ "$(id -u)" -ne 0 ]; then
        die "these packages are missing: $missing
Install them as root and run this again:
    apt-get install --no-install-recommends $missing"
    fi

    say "installing $missing"
    export DEBIAN_FRONTEND=noninteractive

    # A Debian service would start at once and take a port nobody asked for.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
        made=$policy
    fi

    local rc=0
    # shellcheck disable=SC2086 # a list of words
    {
        apt-get update -q \
            && apt-get install -q -y --no-install-recommends $missing
    } < /dev/null || rc=$?

    [ -z "$made" ] || rm -f "$made"
    [ "$rc" -eq 0 ] || die "apt-get could not install: $missing"
}

# Installs what t/openapi/package-lock.json names, unless it is there already.
npm_packages() {
    local folder=$root/t/openapi

    cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed" \
        && return
    (cd "$folder" && npm ci --no-progress) \
        && cp "$folder/package-lock.json" "$folder/node_modules/.installed"
}

# Prints a TCP port of 127.0.0.1 nobody listens on, below the ephemeral range
# and from a number on, so that several calls in a row differ.
free_port() {
    local port=$1

    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
    done
    printf '%s\n' "$port"
}

# wait_until SECONDS COMMAND...: true as soon as the command is.
wait_until() {
    local tries=$(($1 * 20))
    shift

    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

# Waits until no other build uses the folder, and keeps it to this one.
one_at_a_time() {
    exec 9> "$1/.lock"
    flock 9
}

# Prints what a configure of nginx takes from this tree: the addon file, which
# files there are, and the Redis scripts, which it makes a header of.
configured_from() {
    echo "$root"
    (cd "$root" && find src -type f | LC_ALL=C sort)
    cat "$root/config" "$root/scripts/embed-lua" \
        "$root"/src/redis/scripts/*.lua
}
