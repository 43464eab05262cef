# What tests/compose/run.sh is told with: waiting, checking, asking. Sourced by it;
# it sets run, work, files and probe_image first.
# shellcheck shell=bash disable=SC2154

passed=0
failed=0
exec 3>&1

if docker compose version >/dev/null 2>&1; then
    compose_command=(docker compose)
else
    compose_command=(docker-compose)
fi

compose() {
    "${compose_command[@]}" --project-name "$run" "${files[@]}" "$@"
}

# The container of a service, running or not.
container() {
    docker ps --all --quiet --no-trunc \
        --filter "label=com.docker.compose.project=$run" \
        --filter "label=com.docker.compose.service=$1"
}

# say WORDS: what is being done now.
say() {
    printf -- '-- %s\n' "$*"
}

# check WORDS COMMAND...: one check, which passes if the command succeeds.
check() {
    local words=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        printf 'ok: %s\n' "$words"
    else
        failed=$((failed + 1))
        printf 'FAILED: %s (%s)\n' "$words" "$*"
        if [ -s "$work/head" ]; then
            sed 's/^/    | /' "$work/head"
        fi
    fi
}

# within SECONDS COMMAND...: tries until the command succeeds or the time is over.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        if [ "$SECONDS" -ge "$end" ]; then
            return 1
        fi
        sleep 0.2
    done
}

not() {
    ! "$@"
}

# quietly COMMAND...: keeps what it says in the file `said` of the folder for work.
quietly() {
    "$@" >"$work/said" 2>&1
}

# inside SERVICE COMMAND...: in that service's container.
inside() {
    local service=$1
    shift
    docker exec "$(container "$service")" "$@"
}

# said PATTERN: whether the last quiet command said so.
said() {
    grep -Eq -- "$1" "$work/said"
}

# ask EDGE PATH [CURL'S ARGUMENTS]: as a visitor of that edge, over its published port.
# Leaves `status`, and head and body in the folder for work. 000 is no answer.
ask() {
    local edge=$1 path=$2
    shift 2
    : >"$work/head"
    : >"$work/body"
    status=$(curl --silent --max-time 20 --dump-header "$work/head" --output "$work/body" \
        --write-out '%{http_code}' "$@" "http://$HEADWATER_PUBLISH:808$edge$path") || true
}

# probe NETWORK CURL'S ARGUMENTS: curl in a container of its own on a network of the
# topology, or `container:ID` for a node's own loopback. Its output is the command's.
probe() {
    local network=$1
    shift
    docker run --rm --network "$network" "$probe_image" curl --silent --max-time 10 "$@"
}

# The value of a field in the last answer, several lines joined.
field() {
    tr -d '\r' <"$work/head" | sed -n "s/^$1: *//Ip" | paste -sd, -
}

# field_has NAME PATTERN: whether the last answer's field matches.
field_has() {
    field "$1" | grep -Eq -- "$2"
}

field_lacks() {
    ! field_has "$@"
}

status_is() {
    [ "$status" = "$1" ]
}

# The name of the upper tier that the last answer came through.
upper_asked() {
    field Cache-Status | grep -Eo 'upper-[12]' | head -n 1
}

# reaches SERVICE ADDRESS: whether a listener there answers that service with 200.
reaches() {
    quietly inside "$1" headwater health --admin "$2" --path /
}

healthy() {
    local service
    for service in "$@"; do
        [ "$(docker inspect --format '{{.State.Health.Status}}' "$(container "$service")")" = healthy ] \
            || return 1
    done
}

ended_with() {
    local expected=$1 service
    shift
    for service in "$@"; do
        [ "$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$(container "$service")")" \
            = "exited $expected" ] || return 1
    done
}

# Removes all that this run has made, whatever came before.
tidy() {
    local ended=$?
    trap - EXIT
    # A second Ctrl-C must not leave half of it standing.
    trap '' INT TERM
    # Wherever output went when the end came.
    exec >&3 2>&1
    # Not after a signal: then nobody asks what went wrong.
    if [ "$failed" != 0 ] || { [ "$ended" != 0 ] && [ "$ended" -lt 128 ]; }; then
        say "the last lines of every container"
        compose logs --no-color --tail 15 2>&1 || true
    fi
    say "taking everything down"
    compose down --volumes --remove-orphans --timeout 20 >"$work/down" 2>&1 || cat "$work/down"
    docker image rm --force "$HEADWATER_TEST_IMAGE" "$probe_image" >/dev/null 2>&1 || true
    rm -rf "$work"
    if [ "$ended" = 0 ] && [ "$failed" != 0 ]; then
        ended=1
    fi
    printf '%s passed, %s failed\n' "$passed" "$failed"
    exit "$ended"
}
