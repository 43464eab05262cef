//! Ranges in aligned slices, where a site turns them on.

use std::time::Duration;

use tests::{HOST, Origin, Recorded, Reply, Topology, get};

const SLICE: usize = 64 * 1024;
const SITE: &str = "[sites.shop.cache]\nslice_bytes = \"64KiB\"\n";

fn content() -> Vec<u8> {
    (0..5 * SLICE + 1000).map(|at| (at % 251) as u8).collect()
}

/// The answer of an origin that knows ranges.
fn part(asked: &Recorded, etag: &str) -> Reply {
    let whole = content();
    let range = asked.field("Range");
    let range = range
        .as_deref()
        .and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
        return Reply::fresh(whole).with("ETag", etag);
    };
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(usize::MAX).min(whole.len() - 1);
    let content_range = format!("bytes {first}-{last}/{}", whole.len());
    Reply::new(206)
        .with("Cache-Control", "max-age=60")
        .with("ETag", etag)
        .with("Content-Range", &content_range)
        .body(whole[first..=last].to_vec())
}

fn ranges(origin: &Origin) -> Vec<String> {
    let asked = origin.requests("/film");
    asked.iter().map(|asked| asked.says("Range")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_something_cold_takes_the_slices_it_touches_and_no_more() {
    let origin = Origin::start().await;
    origin.on("/film", |asked| part(asked, "\"v1\""));
    let topology = Topology::new(&origin).edges(2).site(SITE).start().await;
    let (from, to) = (SLICE - 10, 2 * SLICE + 9);
    let range = format!("bytes={from}-{to}");
    let answer = topology
        .edge(1)
        .ask(&get("/film").with("Range", &range))
        .await;
    assert_eq!(answer.status, 206, "{answer:?}");
    assert_eq!(answer.body, content()[from..=to]);
    let total = content().len();
    let content_range = format!("bytes {from}-{to}/{total}");
    assert_eq!(answer.says("Content-Range"), content_range);
    let expected = ["bytes=0-65535", "bytes=65536-131071", "bytes=131072-196607"];
    assert_eq!(ranges(&origin), expected);

    // What lies within them is at the edge now, and at the upper tier for the others.
    let again = get("/film").with("Range", "bytes=70000-70099");
    let hit = topology.edge(1).ask(&again).await;
    assert!(hit.hit_at("edge-1"), "{hit:?}");
    assert_eq!(hit.body, content()[70000..70100]);
    let other = topology.edge(2).ask(&again).await;
    assert_eq!(other.body, content()[70000..70100]);
    assert_eq!(origin.requests("/film").len(), 3);

    // To the end: only what is missing is fetched.
    let rest = get("/film").with("Range", "bytes=196600-");
    let rest = topology.edge(1).ask(&rest).await;
    assert_eq!(rest.body, content()[196_600..]);
    assert_eq!(origin.requests("/film").len(), 6);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_slice_has_its_own_time() {
    const TAKES_MS: u64 = 500;
    let origin = Origin::start().await;
    origin.on("/film", |asked| {
        part(asked, "\"v1\"").taking(Duration::from_millis(TAKES_MS))
    });
    let topology = Topology::new(&origin)
        .site(SITE)
        // Enough for each of six, and too little for all.
        .edge_extra("[timeouts]\nanswer_ms = 2000\ntier_answer_ms = 2000")
        .start()
        .await;
    let film = get("/film").with("Range", "bytes=0-");
    let answer = topology.edge(1).ask(&film).await;
    assert_eq!((answer.status, answer.complete), (206, true));
    assert_eq!(answer.body, content());
    assert_eq!(ranges(&origin).len(), 6);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_two_representations_are_never_put_together() {
    let origin = Origin::start().await;
    origin.on("/film", |asked| {
        let first = asked.says("Range").starts_with("bytes=0-");
        part(asked, if first { "\"v1\"" } else { "\"v2\"" })
    });
    let topology = Topology::new(&origin).site(SITE).start().await;
    let both = get("/film").with("Range", "bytes=0-100000");
    let answer = topology.edge(1).ask(&both).await;
    assert!(!answer.complete, "{answer:?}");
    assert!(answer.body.len() <= SLICE);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_strong_validator_the_usual_way_is_taken() {
    let origin = Origin::start().await;
    origin.on("/film", |asked| part(asked, "W/\"v1\""));
    let topology = Topology::new(&origin).site(SITE).start().await;
    let range = get("/film").with("Range", "bytes=10-19");
    for _ in 0..2 {
        let answer = topology.edge(1).ask(&range).await;
        assert_eq!((answer.status, &answer.body[..]), (206, &content()[10..20]));
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_the_slices_too() {
    let origin = Origin::start().await;
    origin.on("/film", |asked| part(asked, "\"v1\""));
    let topology = Topology::new(&origin).site(SITE).start().await;
    let range = get("/film").with("Range", "bytes=10-19");
    topology.edge(1).ask(&range).await;
    let url = format!("http://{HOST}/film");
    for node in [topology.upper(1), topology.edge(1)] {
        node.purge(&url).await;
    }
    let answer = topology.edge(1).ask(&range).await;
    assert_eq!(answer.body, content()[10..20]);
    assert_eq!(origin.requests("/film").len(), 2);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_is_purged_alone_gets_no_old_slice_back() {
    let origin = Origin::start().await;
    origin.on("/film", |asked| part(asked, "\"v1\""));
    let topology = Topology::new(&origin).site(SITE).start().await;
    let range = get("/film").with("Range", "bytes=10-19");
    topology.edge(1).ask(&range).await;
    topology.edge(1).purge(&format!("http://{HOST}/film")).await;
    topology.edge(1).ask(&range).await;
    assert_eq!(origin.requests("/film").len(), 2);
    topology.finish().await;
}
