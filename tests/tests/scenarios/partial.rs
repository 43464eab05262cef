//! Parts of objects, through one tier and through two.

use tests::{Gate, Origin, Recorded, Reply, Response, Topology, get};

/// One tier and two: whatever is said here must hold for both.
const TIERS: [usize; 2] = [0, 1];

/// An edge without upper tiers goes to the origin itself.
const DIRECT: &str = "fallback = [\"stale\", \"direct\"]";

/// The parts of a `multipart/byteranges`: `Content-Range` and bytes of each.
fn parts(answer: &Response) -> Vec<(String, String)> {
    let kind = answer.says("Content-Type");
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap_or_else(|| panic!("{kind}"));
    let text = answer.text();
    let (text, end) = text.rsplit_once(&format!("\r\n--{boundary}--")).unwrap();
    assert_eq!(end, "\r\n");
    text.split(&format!("\r\n--{boundary}\r\n"))
        .skip(1)
        .map(|part| {
            let (head, bytes) = part.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("Content-Type: text/x"), "{head}");
            let (_, range) = head.split_once("Content-Range: ").unwrap();
            (range.to_owned(), bytes.to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_come_in_one_answer() {
    for uppers in TIERS {
        let origin = Origin::start().await;
        let reply = Reply::fresh("0123456789").with("Content-Type", "text/x");
        origin.always("/a", reply);
        let topology = Topology::new(&origin)
            .uppers(uppers)
            .site(DIRECT)
            .start()
            .await;
        let mut client = topology.edge(1).client().await;
        client.ask(&get("/a")).await;
        let asked = get("/a").with("Range", "bytes=7-, 0-1,20-30");
        let answer = client.ask(&asked).await;
        assert_eq!(answer.status, 206);
        assert_eq!(answer.field("Content-Range"), None);
        let expected = [("bytes 7-9/10", "789"), ("bytes 0-1/10", "01")];
        let expected = expected.map(|(range, bytes)| (range.to_owned(), bytes.to_owned()));
        assert_eq!(parts(&answer), expected);

        for (range, status, text) in [
            // One is left: it comes as if asked for alone.
            ("bytes=2-3,20-30", 206, "23"),
            ("bytes=20-30,-0", 416, ""),
            // Nobody honest asks for bytes twice.
            ("bytes=0-4,4-9", 200, "0123456789"),
        ] {
            let answer = client.ask(&get("/a").with("Range", range)).await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (status, text),
                "{range}"
            );
        }
        assert_eq!(origin.requests("/a").len(), 1);
        topology.finish().await;
    }
}

const WHOLE: &str = "0123456789";

/// An origin that knows ranges of ten digits; `of` makes each answer its own.
fn ranged(asked: &Recorded, of: impl Fn(Reply) -> Reply) -> Reply {
    let range = asked.says("Range");
    let bounds = match range
        .strip_prefix("bytes=")
        .and_then(|set| set.split_once('-'))
    {
        None => return of(Reply::fresh(WHOLE)),
        Some(("", last)) => (
            WHOLE.len() - last.parse::<usize>().unwrap(),
            WHOLE.len() - 1,
        ),
        Some((first, "")) => (first.parse().unwrap(), WHOLE.len() - 1),
        Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
    };
    let (first, last) = bounds;
    let reply = Reply::new(206).with("Cache-Control", "max-age=3600").with(
        "Content-Range",
        &format!("bytes {first}-{last}/{}", WHOLE.len()),
    );
    of(reply.body(&WHOLE[first..=last]))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_something_is_fetched_and_kept_as_that() {
    for uppers in TIERS {
        let origin = Origin::start().await;
        origin.on("/a", |asked| {
            ranged(asked, |reply| reply.with("ETag", "\"1\""))
        });
        let topology = Topology::new(&origin)
            .uppers(uppers)
            .site(DIRECT)
            .start()
            .await;
        let mut client = topology.edge(1).client().await;
        let cold = client.ask(&get("/a").with("Range", "bytes=-5")).await;
        assert_eq!((cold.status, cold.text().as_str()), (206, "56789"));
        assert_eq!(cold.says("Content-Range"), "bytes 5-9/10");
        assert!(cold.at("edge-1").contains("stored"), "{cold:?}");
        for (range, text, content_range) in [
            ("bytes=-5", "56789", "bytes 5-9/10"),
            ("bytes=-1", "9", "bytes 9-9/10"),
            ("bytes=6-8", "678", "bytes 6-8/10"),
            ("bytes=6-", "6789", "bytes 6-9/10"),
        ] {
            let within = client.ask(&get("/a").with("Range", range)).await;
            assert!(within.hit_at("edge-1"), "{range}: {within:?}");
            assert_eq!(
                (within.status, within.text().as_str()),
                (206, text),
                "{range}"
            );
            assert_eq!(within.says("Content-Range"), content_range, "{range}");
        }
        assert_eq!(origin.requests("/a").len(), 1);
        assert_eq!(origin.requests("/a")[0].says("Range"), "bytes=-5");
        topology.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_completed_under_its_strong_validator() {
    for uppers in TIERS {
        // What is there, and what is asked for: the bytes before or behind it.
        for (part, range, rest) in [
            ("5-9", "bytes=-5", "bytes=0-4"),
            ("0-6", "bytes=-7", "bytes=7-"),
        ] {
            let origin = Origin::start().await;
            origin.on("/a", move |asked| {
                let reply = ranged(asked, |reply| reply.with("ETag", "\"1\""));
                // An origin may send another part than it was asked for.
                match asked.says("Range").as_str() {
                    "bytes=-7" => reply
                        .set("Content-Range", "bytes 0-6/10")
                        .body(&WHOLE[0..=6]),
                    _ => reply,
                }
            });
            let topology = Topology::new(&origin)
                .uppers(uppers)
                .site(DIRECT)
                .start()
                .await;
            let mut client = topology.edge(1).client().await;
            client.ask(&get("/a").with("Range", range)).await;
            let whole = client.ask(&get("/a")).await;
            assert_eq!(
                (whole.status, whole.text().as_str()),
                (200, WHOLE),
                "{part}"
            );
            assert_eq!(whole.field("Content-Range"), None);
            assert!(
                whole
                    .at("edge-1")
                    .contains("fwd=partial; fwd-status=206; stored"),
                "{whole:?}"
            );
            let asked = origin.requests("/a");
            assert_eq!(asked.len(), 2, "{part} {uppers}");
            assert_eq!(asked[1].says("Range"), rest);
            assert_eq!(asked[1].says("If-Range"), "\"1\"");
            let again = client.ask(&get("/a")).await;
            assert!(again.hit_at("edge-1"), "{again:?}");
            assert_eq!(again.text(), WHOLE);
            topology.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_two_representations_are_never_put_together() {
    let tagged = |tag: &'static str| move |reply: Reply| reply.with("ETag", tag);
    for uppers in TIERS {
        // The validator of the part, and of what comes later.
        for (first, then) in [
            ("\"1\"", "\"2\""),
            ("W/\"1\"", "W/\"1\""),
            ("", ""),
            ("", "\"1\""),
        ] {
            let origin = Origin::start().await;
            origin.on("/a", move |asked| {
                let reply = match asked.says("Range").as_str() {
                    "bytes=-5" => ranged(asked, tagged(first))
                        .set("Content-Range", "bytes 0-4/10")
                        .body("old-5"),
                    _ => ranged(asked, tagged(then)),
                };
                if first.is_empty() {
                    reply.without("ETag")
                } else {
                    reply
                }
            });
            let topology = Topology::new(&origin)
                .uppers(uppers)
                .site(DIRECT)
                .start()
                .await;
            let mut client = topology.edge(1).client().await;
            let part = client.ask(&get("/a").with("Range", "bytes=-5")).await;
            assert_eq!(part.text(), "old-5");
            let whole = client.ask(&get("/a")).await;
            assert_eq!(
                (whole.status, whole.text().as_str()),
                (200, WHOLE),
                "{first} {then}"
            );
            let again = client.ask(&get("/a")).await;
            assert_eq!(again.text(), WHOLE);
            assert!(again.hit_at("edge-1"), "{again:?}");
            topology.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_contradicts_itself_is_passed_on_and_not_kept() {
    let origin = Origin::start().await;
    let reply = Reply::new(206)
        .with("Cache-Control", "max-age=3600")
        .with("Content-Range", "bytes 4-9/10")
        .body("01234");
    origin.always("/a", reply);
    let topology = Topology::new(&origin).start().await;
    for asked in 1..=2 {
        let answer = topology
            .edge(1)
            .ask(&get("/a").with("Range", "bytes=-5"))
            .await;
        assert_eq!((answer.status, answer.text().as_str()), (206, "01234"));
        assert_eq!(origin.requests("/a").len(), asked);
    }
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_the_same_end_waits_for_one_fetch() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/a", move |asked| {
        ranged(asked, |reply| reply.held_at(&held))
    });
    let topology = Topology::new(&origin).start().await;
    let asked = get("/a").with("Range", "bytes=-5");
    let edge = topology.edge(1);
    let (first, second, ()) = tokio::join!(edge.ask(&asked), edge.ask(&asked), async {
        gate.arrivals(1).await;
        gate.open();
    });
    assert_eq!(
        (first.text().as_str(), second.text().as_str()),
        ("56789", "56789")
    );
    assert!(edge.ask(&asked).await.hit_at("edge-1"));
    assert_eq!(origin.requests("/a").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_ignores_ranges_is_asked_once() {
    for uppers in TIERS {
        let origin = Origin::start().await;
        origin.always("/a", Reply::ok(WHOLE));
        // The first answer is a part without validator; from then on all is whole.
        let part = Reply::new(206)
            .with("Cache-Control", "max-age=3600")
            .with("Content-Range", "bytes 0-4/10")
            .body("01234");
        origin.in_turn("/b", [part, Reply::ok(WHOLE)]);
        let topology = Topology::new(&origin)
            .uppers(uppers)
            .site(DIRECT)
            .start()
            .await;
        let edge = topology.edge(1);
        let end = edge.ask(&get("/a").with("Range", "bytes=-5")).await;
        assert_eq!((end.status, end.text().as_str()), (200, WHOLE));
        assert_eq!(origin.requests("/a").len(), 1, "{uppers}");

        edge.ask(&get("/b").with("Range", "bytes=-5")).await;
        assert_eq!(edge.get("/b").await.text(), WHOLE);
        let asked = origin.requests("/b");
        assert_eq!(asked.len(), 2, "{uppers}");
        assert_eq!(asked[1].says("Range"), "bytes=5-");
        topology.finish().await;
    }
}
