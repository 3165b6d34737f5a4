# The tour: the contract's answers, one curl command each.

all_scopes="loads:read loads:write customers:read carriers:read tracking:read
    webhooks:manage"


admin() {
    "$root/scripts/keygate" --url "$KEYGATE_ADMIN_URL" "$@"
}

# new_key NAME MODE SCOPE...: makes a key and prints its token.
new_key() {
    local name=$1 mode=$2 scope scopes=()
    shift 2
    for scope; do
        scopes+=(--scope "$scope")
    done

    admin --json key create "$org" --mode "$mode" --name "$name" \
        "${scopes[@]}" \
        | /usr/bin/python3 -c 'import json, sys
print(json.load(sys.stdin)["token"])'
}

# Shows of each key the prefix, the mode and the last four characters.
shorten() {
    sed -E 's/(_(test|live)_)[0-9A-Za-z]{34}([0-9A-Za-z]{4})/\1...\3/g'
}

# Words as one would type them, with keys shortened.
show_command() {
    local word line=

    for word; do
        case $word in
            *[!A-Za-z0-9_./:=%@,+-]*) line+=" '$word'" ;;
            *) line+=" $word" ;;
        esac
    done
    printf '$%s\n' "$line" | shorten
}

# ask STATUS TITLE [curl's arguments]: shows the command and the answer, and
# stops the tour when the status is another.
ask() {
    local expected=$1 title=$2 answer
    shift 2

    say "$title"
    show_command curl -i "$@"
    answer=$(curl -s -i --noproxy "*" "$@") || true
    printf '%s\n' "$answer" | tr -d '\r'

    [[ $answer =~ ^HTTP/[0-9.]+\ $expected ]] \
        || die "expected status $expected; see $demo/error.log"
}

# status KEY: of a request with it.
status() {
    curl -s --noproxy '*' -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $1" \
        "$KEYGATE_URL/v1/loads"
}

# Each of nginx's workers finds out for itself that Redis is back, so one
# request that passes is not enough.
passes() {
    local i

    for i in {1..10}; do
        [ "$(status "$1")" = 200 ] || return 1
    done
}

make_access() {
    say "an organisation, its keys"
    show_command scripts/keygate org set "$org" --access live \
        --name "Acme Freight"
    admin org set "$org" --access live --name "Acme Freight"

    # shellcheck disable=SC2086 # a list of words
    {
        tour_key=$(new_key tour test $all_scopes)
        narrow_key=$(new_key "loads only" test loads:read)
        busy_key=$(new_key busy test $all_scopes)
        tour_live_key=$(new_key "tour live" live $all_scopes)
        KEYGATE_TEST_KEY=$(new_key yours test $all_scopes)
    }
    echo
    echo "Five keys, one of them by"
    show_command scripts/keygate key create "$org" --mode test \
        --scope loads:read --name "loads only"
    echo "$narrow_key" | shorten

    echo
    echo "Its access is for testing only until the end of the tour:"
    show_command scripts/keygate org set "$org" --access test
    admin org set "$org" --access test
}

tour_access() {
    local url=$KEYGATE_URL

    ask 200 "no key needed" "$url/health/api"
    ask 401 "no key" "$url/v1/loads"
    ask 401 "a bad key" -H "Authorization: Bearer tf_test_not-a-key" \
        "$url/v1/loads"
    ask 200 "a test key" -H "Authorization: Bearer $tour_key" "$url/v1/loads"
    ask 200 "what the holder of a key is told of it" \
        -H "Authorization: Bearer $tour_key" "$url/v1/self"
    ask 403 "a live key, without live access" \
        -H "Authorization: Bearer $tour_live_key" "$url/v1/loads"
    ask 403 "the wrong scope" -H "Authorization: Bearer $narrow_key" \
        "$url/v1/customers"
    ask 404 "an unknown route" -H "Authorization: Bearer $tour_key" \
        "$url/v1/invoices"
    ask 405 "the wrong method" -X DELETE \
        -H "Authorization: Bearer $tour_key" "$url/v1/loads"
}

tour_limit() {
    local url=$KEYGATE_URL

    say "60 requests, the limit of a minute"
    show_command curl -s -o /dev/null -w '%{http_code}\n' \
        -H "Authorization: Bearer $busy_key" "$url/v1/loads?n=[1-60]"
    curl -s --noproxy '*' -o /dev/null -w '%{http_code}\n' \
        -H "Authorization: Bearer $busy_key" "$url/v1/loads?n=[1-60]" \
        | sort | uniq -c | sed 's/^ *\([0-9]*\) \(.*\)/\1 times \2/'

    ask 429 "the 61st" -H "Authorization: Bearer $busy_key" \
        "$url/v1/loads?n=61"
}

# write STATUS TITLE KEY BODY: an idempotent write of a load.
write() {
    local status=$1 title=$2 key=$3 body=$4
    ask "$status" "$title" -X POST -H "Authorization: Bearer $tour_key" \
        -H "Idempotency-Key: $key" -H "Content-Type: application/json" \
        -d "$body" "$KEYGATE_URL/v1/loads"
}

tour_idempotency() {
    local url=$KEYGATE_URL id load
    id=$(openssl rand -hex 8)
    load="{\"externalId\":\"order-$id\"}"

    ask 400 "a write without an Idempotency-Key" -X POST \
        -H "Authorization: Bearer $tour_key" \
        -H "Content-Type: application/json" -d "$load" "$url/v1/loads"
    write 201 "an idempotent write" "key-$id" "$load"
    write 201 "its replay: the same answer, and no second load" \
        "key-$id" "$load"
    write 409 "its conflict: the same key, another request" \
        "key-$id" "{\"externalId\":\"other-$id\"}"
    ask 200 "one load was made" -H "Authorization: Bearer $tour_key" \
        "$url/v1/loads?externalId=order-$id"
    write 500 "an upstream 500: its HTML page and host names stay inside" \
        "boom-$id" '{"externalId":"boom"}'
}

tour_outages() {
    local url=$KEYGATE_URL

    say "the upstream goes down"
    stop_upstream
    ask 502 "an upstream that is down" \
        -H "Authorization: Bearer $tour_key" "$url/v1/loads"
    start_upstream

    say "Redis goes down"
    stop_redis
    ask 200 "Redis down: a known key is counted by this node alone" \
        -H "Authorization: Bearer $tour_key" "$url/v1/loads"
    write 503 "Redis down: a write that cannot be claimed is not made" \
        "down-$(openssl rand -hex 8)" '{"externalId":"down"}'
    start_redis
    wait_until 30 passes "$tour_key" || die "the gate did not come back"
    ask 200 "Redis is back" -H "Authorization: Bearer $tour_key" \
        "$url/v1/loads"
}

open_live_access() {
    say "live access is granted"
    show_command scripts/keygate org set "$org" --access live
    wait_until 10 admin org set "$org" --access live \
        || die "the admin interface did not come back"

    # The organisation's record may be cached for some seconds.
    wait_until 30 passes "$tour_live_key" || die "live access does not come"
    ask 200 "the live key, with live access" \
        -H "Authorization: Bearer $tour_live_key" "$KEYGATE_URL/v1/loads"

    # shellcheck disable=SC2086 # a list of words
    KEYGATE_LIVE_KEY=$(new_key yours live $all_scopes)
}

tour() {
    make_access
    tour_access
    tour_limit
    tour_idempotency
    tour_outages
    open_live_access
}
