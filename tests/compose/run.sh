#!/usr/bin/env bash
# Brings docker-compose.yml up from images made here, drives it as a visitor and as an
# operator would, and takes it down. Needs a Docker engine, its compose (docker compose
# or docker-compose) and curl; no registry. Prints one line a check, and their number.
#
#     tests/compose/run.sh
#
# HEADWATER_TEST_BINARIES=FOLDER takes edge, upper-tier and headwater from there
# instead of building them for release.
#
# Every wait is for a condition and has a bound. Everything made has this run's number
# in its name and is removed at the end, however that comes. Ports are published on a
# loopback address of this run, so that a demo or another run may be beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."

run=headwater-test-$$
work=$(mktemp -d)
probe_image=$run:probe
files=(-f docker-compose.yml -f tests/compose/override.yml)
export HEADWATER_TEST_IMAGE=$run:nodes
export HEADWATER_PUBLISH=127.0.$(($$ % 250 + 1)).1
export HEADWATER_KEYS=$work/keys

# How long containers may take to start or stop, all at once on a busy machine.
patience_s=90

# Objects asked for around the loss of an upper tier: enough that both get their share.
objects=60

edges=(edge-1 edge-2 edge-3)
uppers=(upper-1 upper-2)

. tests/compose/lib.sh
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

prepare() {
    local tool binaries=${HEADWATER_TEST_BINARIES:-target/release}
    for tool in docker "${compose_command[0]}" curl tar ldd; do
        if ! command -v "$tool" >/dev/null; then
            echo "missing: $tool (on Debian: docker.io docker-compose curl)" >&2
            exit 1
        fi
    done
    if [ -z "${HEADWATER_TEST_BINARIES:-}" ]; then
        say "building"
        cargo build --release --locked --bins
    fi
    say "making images and keys"
    tests/compose/make-image "$HEADWATER_TEST_IMAGE" "$binaries"/{edge,upper-tier,headwater}
    tests/compose/make-image "$probe_image" "$(command -v curl)"
    deploy/make-keys "$HEADWATER_KEYS" \
        docker run --rm --network none "$HEADWATER_TEST_IMAGE" headwater
    HEADWATER_KEYS_GROUP=$(stat --format %g "$HEADWATER_KEYS/edge-1.key")
    export HEADWATER_KEYS_GROUP
}

up() {
    compose up --detach --no-build "$@" >"$work/up" 2>&1 || {
        cat "$work/up"
        return 1
    }
}

# Start order does not matter: edges first, and alone.
edges_before_anybody_else() {
    say "starting the edges alone"
    up --no-deps "${edges[@]}"
    answered() {
        ask 1 /
        not status_is 000
    }
    check "an edge without upper tiers answers" within "$patience_s" answered
    check "with 502 or 504" grep -Eqx '50[24]' <<<"$status"
    check "and says why in Proxy-Status" field_has Proxy-Status 'edge-1'

    say "starting the rest"
    up
    check "all six become healthy" within "$patience_s" healthy "${edges[@]}" "${uppers[@]}" origin
}

nothing_more_than_needed() {
    say "what the containers may do"
    local service limits
    for service in "${edges[@]}" "${uppers[@]}" origin; do
        limits=$(docker inspect --format \
            '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}' \
            "$(container "$service")")
        check "$service runs as nobody in particular, read-only, without privileges" \
            [ "$limits" = "10001:10001 true [ALL] [no-new-privileges:true]" ]
    done
    check "an edge cannot write a file" \
        not quietly inside edge-1 headwater keygen edge-1 --out /tmp/a.key
    check "for the reason that nobody can" said Read-only
    check "an edge has its own key" \
        quietly inside edge-1 headwater check /etc/headwater/edge-1.toml
    check "and nothing to be warned of" not said warning
    check "an edge has no other edge's key" \
        not quietly inside edge-1 headwater check /etc/headwater/edge-2.toml
    check "since the file is not there" said 'edge-2.key does not exist'
}

visitors_are_served() {
    say "as a visitor"
    ask 1 /fresh/300?visitors
    check "a first request is answered" status_is 200
    check "as a miss at both tiers, the edge last" \
        field_has Cache-Status '^upper-[12]; *fwd=.*, *edge-1; *fwd='
    ask 1 /fresh/300?visitors
    check "the second is a hit at the edge" field_has Cache-Status 'edge-1; *hit'
    ask 2 /fresh/300?visitors
    check "another edge's first" status_is 200
    check "is a hit at the upper tier" field_has Cache-Status '^upper-[12]; *hit.*, *edge-2; *fwd='
    check "no field between tiers reaches a visitor" not grep -Eiq '^(tier-|signature)' "$work/head"
    ask 3 /error/503
    check "the origin's own errors arrive as they are" status_is 503
    check "and are no errors of ours" field_lacks Proxy-Status .
}

# counted PATH: how many requests for it the origin has seen.
counted() {
    ask 1 /count
    sed -n "s#^ *\"$1\": *\([0-9]*\),*#\1#p" "$work/body"
}

a_crowd_costs_one_fetch() {
    say "a crowd at one cold, slow object"
    local edge statuses
    for edge in 1 2 3; do
        for _ in $(seq 10); do
            printf 'url = "http://%s:808%s/slow?ms=1500"\noutput = "/dev/null"\n' "$HEADWATER_PUBLISH" "$edge"
        done
    done >"$work/crowd"
    statuses=$(curl --silent --max-time 20 --parallel --parallel-max 30 --parallel-immediate \
        --write-out '%{http_code}\n' --config "$work/crowd" 2>/dev/null | sort | uniq -c | tr -s ' ')
    check "all thirty are served" [ "$statuses" = " 30 200" ]
    check "the origin is asked once" [ "$(counted /slow)" = 1 ]
}

networks_are_walls() {
    say "who reaches whom"
    local origin_address
    origin_address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' \
        "$(container origin)")
    check "an upper tier reaches the origin" reaches upper-1 "$origin_address:8000"
    check "an edge does not, by address" not reaches edge-1 "$origin_address:8000"
    check "for want of a way" said 'is unreachable'
    check "nor by name" not reaches edge-1 origin:8000
    check "for want of a way" said 'is unreachable'
    check "an edge's plain request to an upper tier fails" not reaches edge-1 upper-1:8091
    check "for it is answered, with a refusal" said 'answered 4'
    check "a visitor's network does not have the upper tiers" \
        not probe "${run}_visitors" --output /dev/null http://upper-1:8091/
    check "nor the admin listeners" \
        not probe "${run}_visitors" --output /dev/null http://edge-1:9081/metrics
}

upper_tiers_want_a_control_block() {
    say "straight to an upper tier"
    probe "${run}_tiers" --include http://upper-1:8091/fresh/300?visitors >"$work/head" || true
    status=$(sed -n '1s/^HTTP[^ ]* \([0-9]*\).*/\1/p' "$work/head")
    check "a request without a control block is refused" grep -Eqx '4[0-9][0-9]' <<<"$status"
    check "under that name" field_has Proxy-Status 'tier-control.*missing|missing.*tier-control'
    probe "container:$(container upper-1)" http://127.0.0.1:9091/metrics >"$work/metrics" || true
    check "and counted" grep -Eq \
        '^headwater_tier_control_rejected_total\{.*reason="missing".*\} [1-9]' "$work/metrics"
}

a_purge_reaches_every_node() {
    say "purging"
    local service url="http://$HEADWATER_PUBLISH:8081/fresh/300?visitors"
    ask 1 /fresh/300?visitors
    check "before, a hit" field_has Cache-Status 'edge-1; *hit'
    for service in "${uppers[@]}" "${edges[@]}"; do
        check "$service is purged" quietly inside "$service" headwater purge "$url"
    done
    ask 1 /fresh/300?visitors
    check "after, a miss at both tiers" field_has Cache-Status '^upper-[12]; *fwd=.*, *edge-1; *fwd='
}

# all_served NAME: asks for many cold objects, at the edges in turn.
all_served() {
    local object
    for object in $(seq "$objects"); do
        ask $((object % 3 + 1)) "/fresh/300?$1-$object"
        if [ "$status" != 200 ]; then
            echo "object $object at edge-$((object % 3 + 1)): $status"
            return 1
        fi
        upper_asked >>"$work/$1" || echo none >>"$work/$1"
    done
}

# Both upper tiers have been asked for something.
shared() {
    [ "$(sort -u "$work/$1" | paste -sd' ' -)" = "upper-1 upper-2" ]
}

# asked_again UPPER: a cold object of its share goes to it.
asked_again() {
    local object=$((SECONDS * 1000 + RANDOM))
    ask 1 "/fresh/300?again-$object"
    [ "$(upper_asked)" = "$1" ]
}

an_upper_tier_dies() {
    say "an upper tier dies"
    : >"$work/during"
    all_served during &
    local visitor=$!
    check "both upper tiers are asked" within 10 shared during
    docker kill --signal KILL "$(container upper-1)" >/dev/null
    check "no cold object is lost with one of them" wait "$visitor"
    check "cold objects are served without it" all_served after
    check "by the other" [ "$(sort -u "$work/after")" = upper-2 ]
    check "the edges stay ready" healthy "${edges[@]}"
    docker start "$(container upper-1)" >/dev/null
    check "it comes back" within "$patience_s" healthy upper-1
    check "and is used again" within 3 asked_again upper-1
}

# in_flight SERVICE ADMIN_PORT PATH: whether the node says that it serves that path now.
in_flight() {
    probe "container:$(container "$1")" "http://127.0.0.1:$2/requests" | grep -q "$3"
}

everything_drains() {
    say "draining"
    (
        ask 1 '/slow?ms=8000&drain'
        echo "$status" >"$work/drained"
    ) &
    local visitor=$!
    check "a slow request is under way" within 6 in_flight edge-1 9081 drain
    compose stop >"$work/stop" 2>&1
    check "every container ends with status 0" ended_with 0 "${edges[@]}" "${uppers[@]}" origin
    wait "$visitor"
    check "not before the request under way was answered" [ "$(cat "$work/drained")" = 200 ]
}

direct_where_allowed() {
    say "direct access, where it is allowed"
    files+=(-f docker-compose.direct.yml)
    up
    check "all six become healthy" within "$patience_s" healthy "${edges[@]}" "${uppers[@]}" origin
    ask 1 /fresh/300?direct-before
    check "an upper tier is asked while there is one" field_has Cache-Status '^upper-[12];'
    docker kill --signal KILL "$(container upper-1)" "$(container upper-2)" >/dev/null
    ask 1 /fresh/300?direct-after
    check "without any, a cold object is served" status_is 200
    check "by the edge alone" field_lacks Cache-Status upper
    check "which stays ready" healthy edge-1
}

prepare
edges_before_anybody_else
nothing_more_than_needed
visitors_are_served
a_crowd_costs_one_fetch
networks_are_walls
upper_tiers_want_a_control_block
a_purge_reaches_every_node
an_upper_tier_dies
everything_drains
direct_where_allowed
