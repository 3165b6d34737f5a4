# The demo's servers: how they are configured, started and stopped, each by its
# pid file in build/demo.

demo=$build/demo
org=acme


# alive PIDFILE: the process it names runs.
alive() {
    local pid

    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

gone() {
    ! alive "$1"
}

# end PIDFILE COMMAND SIGNAL: sends it to the process, and waits for its end.
# A pid file of before a restart of the machine may name another's process: it
# is ours when its command line has COMMAND in it.
end() {
    local file=$1 pid

    if alive "$file"; then
        pid=$(cat "$file")
        if tr '\0' ' ' < "/proc/$pid/cmdline" | grep -qF "$2"; then
            kill -"$3" "$pid"
            wait_until 20 gone "$file" || kill -KILL "$pid"
        fi
    fi
    rm -f "$file"
}

stop_nginx() {
    end "$demo/nginx.pid" "nginx: master process" QUIT
}

stop_upstream() {
    end "$demo/upstream.pid" "demo/upstream.py" TERM
}

stop_redis() {
    end "$demo/redis.pid" "redis-server" TERM
}

stop_all() {
    stop_nginx
    stop_upstream
    stop_redis
    rm -f "$demo/demo.env"
}

# Chooses ports, makes the pepper once, writes the configurations.
prepare() {
    mkdir -p "$demo/redis" "$demo/temp"
    chmod 700 "$demo"

    local gate admin upstream redis
    gate=$(free_port 8080)
    admin=$(free_port $((gate + 1)))
    upstream=$(free_port $((admin + 1)))
    redis=$(free_port 16390)

    KEYGATE_URL=http://127.0.0.1:$gate
    KEYGATE_ADMIN_URL=http://127.0.0.1:$admin
    UPSTREAM_URL=http://127.0.0.1:$upstream
    REDIS_URL=redis://127.0.0.1:$redis/0
    upstream_port=$upstream
    redis_port=$redis

    [ -s "$demo/pepper" ] \
        || (umask 077; openssl rand -hex 32 > "$demo/pepper")

    cat > "$demo/redis.conf" <<END
bind 127.0.0.1
port $redis
daemonize yes
pidfile $demo/redis.pid
logfile $demo/redis.log
dir $demo/redis
appendonly yes
maxmemory-policy noeviction
END

    # A checkout may be in a folder that only its owner may enter, so the
    # demo's workers run as the one who starts it.
    sed -e "s#load_module .*#load_module $build/ngx_http_keygate_module.so;\\
pid $demo/nginx.pid;#" \
        -e "s#worker_processes .*#worker_processes 2;$(
            [ "$(id -u)" -ne 0 ] || printf '\\\nuser root;')#" \
        -e "s#error_log .*#error_log $demo/error.log warn;#" \
        -e "s#^http {#&\\
    client_body_temp_path $demo/temp/body;\\
    proxy_temp_path $demo/temp/proxy;\\
    fastcgi_temp_path $demo/temp/fastcgi;\\
    scgi_temp_path $demo/temp/scgi;\\
    uwsgi_temp_path $demo/temp/uwsgi;#" \
        -e "s#/var/log/nginx/access.log#$demo/access.log#" \
        -e "s#redis://127.0.0.1:6379/0#$REDIS_URL#" \
        -e "s#/etc/nginx/keygate.pepper#$demo/pepper#" \
        -e "s#include \( *\)keygate#include \1$root/conf/keygate#" \
        -e "s#127.0.0.1:8080#127.0.0.1:$upstream#" \
        -e "s#listen  *80;#listen 127.0.0.1:$gate;#" \
        -e "s#listen  *unix:/run/keygate/admin.sock;#listen 127.0.0.1:$admin;#" \
        "$root/conf/nginx.conf" > "$demo/nginx.conf"

    # What no line above has found would be a port or a file of the system's.
    if grep -vE '^ *#' "$demo/nginx.conf" \
            | grep -E '/etc/|/var/|/run/|:6379|listen +(80|unix)|modules/'; then
        die "conf/nginx.conf has lines the demo does not know, see above"
    fi
}

redis_answers() {
    [ "$(redis-cli -p "$redis_port" ping 2>/dev/null)" = PONG ]
}

start_redis() {
    redis-server "$demo/redis.conf" > /dev/null
    wait_until 20 redis_answers || die "Redis does not answer: $demo/redis.log"
}

start_upstream() {
    setsid /usr/bin/python3 "$root/scripts/demo/upstream.py" \
        "$upstream_port" "$demo/upstream.pid" \
        > "$demo/upstream.log" 2>&1 &
    wait_until 20 curl -fs --noproxy "*" "$UPSTREAM_URL/health/api" \
        || die "the demo API does not answer: $demo/upstream.log"
}

start_nginx() {
    /usr/sbin/nginx -p "$demo" -e "$demo/error.log" -c "$demo/nginx.conf" \
        || die "nginx does not start: $demo/error.log"
    wait_until 20 curl -fs --noproxy "*" "$KEYGATE_URL/health/api" \
        || die "the gate does not answer: $demo/error.log"
}

write_env() {
    (
        umask 077
        cat > "$demo/demo.env" <<END
KEYGATE_URL=$KEYGATE_URL
KEYGATE_ADMIN_URL=$KEYGATE_ADMIN_URL
KEYGATE_TEST_KEY=$KEYGATE_TEST_KEY
KEYGATE_LIVE_KEY=$KEYGATE_LIVE_KEY
REDIS_URL=$REDIS_URL
UPSTREAM_URL=$UPSTREAM_URL
KEYGATE_PIDFILE=$demo/nginx.pid
REDIS_PIDFILE=$demo/redis.pid
END
    )
}
