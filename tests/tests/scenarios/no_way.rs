//! No way is left to content, for every reason and by every method: one clean answer,
//! within the time that the node has for it.

use std::time::Duration;

use tests::{Ask, H2Client, Hop, NameServer, Origin, Reply, TestNode, Topology, ask, get, within};

/// The time that every node has for an answer, seconds, and what a busy machine adds.
const ANSWER_S: u64 = 3;
const SLACK_S: u64 = 2;

/// Why there is no way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Why {
    /// Nobody listens where the origin was.
    OriginGone,
    /// Nor where the upper tiers were.
    AllGone,
    /// The origin takes requests and never answers.
    OriginPaused,
    /// The upper tiers do so.
    UppersPaused,
    /// The origin's name has no address.
    NoName,
}

/// Timeouts as they are by default, a tenth as long.
const TIMEOUTS: &str = "[timeouts]\nanswer_ms = 3000\ntier_answer_ms = 2200\n\
    first_byte_ms = 1500\nconnect_ms = 200\nrequest_body_ms = 500\ncollapse_ms = 2500";

/// A topology that has lost its ways, with one stale page at its edge, and what is left
/// of those it asks.
async fn without_a_way(why: Why, fallback: &str) -> (Topology, Option<Origin>, NameServer) {
    let origin = Origin::start().await;
    origin.always("/stale", Reply::stale("old", ", stale-if-error=600"));
    let names = NameServer::start().await;
    names.says(std::net::Ipv4Addr::LOCALHOST, 0);
    let hop = match why {
        Why::UppersPaused => Hop::Messages,
        _ => Hop::Bytes,
    };
    let port = origin.address().port();
    let topology = Topology::new(&origin)
        .uppers(2)
        .hop(hop)
        .every_top(&format!("name_servers = [\"{}\"]", names.address()))
        .every_node(TIMEOUTS)
        .sites(&format!(
            "[pools.shop]\nservers = [\"origin.shop.example:{port}\"]\n\
             [sites.shop]\nhosts = [\"*\"]\npool = \"shop\"\nfallback = {fallback}\n"
        ))
        .start()
        .await;
    assert_eq!(topology.edge(1).get("/stale").await.text(), "old");
    match why {
        Why::OriginGone => drop(origin),
        Why::AllGone => {
            drop(origin);
            for relay in topology.relays() {
                relay.cut().await;
            }
        }
        Why::OriginPaused => {
            for path in ["/page", "/order", "/stale"] {
                origin.always(path, Reply::silence());
            }
            return (topology, Some(origin), names);
        }
        Why::UppersPaused => {
            drop(origin);
            for relay in topology.relays() {
                relay.swallow();
            }
        }
        Why::NoName => names.knows_nothing(),
    }
    (topology, None, names)
}

/// Asks by every method and over both protocols, whatever the site falls back to.
async fn every_answer_is_a_clean_error_in_time_or_what_is_stale(why: Why) {
    // Boxed: two stories at a time, each of eight visitors.
    let strict = Box::pin(errors_are_clean(why, "[\"stale\"]"));
    let direct = Box::pin(errors_are_clean(why, "[\"stale\", \"direct\"]"));
    tokio::join!(strict, direct);
}

async fn errors_are_clean(why: Why, fallback: &str) {
    let (topology, _origin, _names) = without_a_way(why, fallback).await;
    let edge = topology.edge(1);
    let what = format!("{why:?} {fallback}");
    tokio::join!(
        is_clean(edge, &what, "GET", get("/page?get")),
        is_clean(edge, &what, "HEAD", ask("HEAD", "/page?head")),
        is_clean(edge, &what, "OPTIONS", ask("OPTIONS", "/page")),
        is_clean(edge, &what, "POST", ask("POST", "/order").body("x")),
    );
    let stale = within(ANSWER_S + SLACK_S, edge.get("/stale")).await;
    let seen = (stale.status, stale.text());
    assert_eq!(seen, (200, "old".to_owned()), "{what}");
    topology.finish().await;
}

async fn is_clean(edge: &TestNode, what: &str, method: &str, asked: Ask) {
    let h2 = async {
        let mut client = H2Client::connect(edge.address()).await;
        client.ask(&asked).await
    };
    let both = async { tokio::join!(edge.ask(&asked), h2) };
    let limit = Duration::from_secs(ANSWER_S + SLACK_S);
    let Ok((h1, h2)) = tokio::time::timeout(limit, both).await else {
        panic!("{what} {method}: nothing came in time");
    };
    for answer in [h1, h2] {
        let what = format!("{what} {method}: {answer:?}");
        assert!([502, 503, 504].contains(&answer.status), "{what}");
        assert!(answer.complete, "{what}");
        let named = answer.says("Proxy-Status");
        assert!(named.contains("; error="), "who, and why: {what}");
        assert!(!answer.leaks_control(), "{what}");
        assert_eq!(answer.says("Cache-Control"), "no-store", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_gone_is_a_clean_error() {
    every_answer_is_a_clean_error_in_time_or_what_is_stale(Why::OriginGone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_and_upper_tiers_that_are_gone_are_a_clean_error() {
    every_answer_is_a_clean_error_in_time_or_what_is_stale(Why::AllGone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_pauses_is_a_clean_error_in_time() {
    every_answer_is_a_clean_error_in_time_or_what_is_stale(Why::OriginPaused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upper_tiers_that_pause_are_a_clean_error_in_time() {
    every_answer_is_a_clean_error_in_time_or_what_is_stale(Why::UppersPaused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_without_an_address_is_a_clean_error() {
    every_answer_is_a_clean_error_in_time_or_what_is_stale(Why::NoName).await;
}
