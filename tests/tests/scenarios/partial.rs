//! Parts of objects, through one tier and through two.

use tests::{Origin, Reply, Response, Topology, get};

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
