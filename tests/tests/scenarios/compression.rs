//! Edges that compress what came plain, where the site says so.

use std::io::Read;

use flate2::read::GzDecoder;
use tests::{Gate, Origin, Reply, Response, Topology, get};

const SITE: &str = "[sites.shop.cache]\ncompress = true\n";

fn text() -> String {
    "All that glisters is not gold. ".repeat(100)
}

fn unpacked(answer: &Response) -> String {
    let mut text = String::new();
    GzDecoder::new(&answer.body[..])
        .read_to_string(&mut text)
        .unwrap();
    text
}

fn page() -> Reply {
    Reply::fresh(text())
        .with("Content-Type", "text/html")
        .with("ETag", "\"v1\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_are_stored_apart_from_one_fetch_of_the_origin() {
    let origin = Origin::start().await;
    origin.always("/a", page());
    let topology = Topology::new(&origin).site(SITE).start().await;
    let edge = topology.edge(1);
    for _ in 0..2 {
        let coded = edge.ask(&get("/a").with("Accept-Encoding", "gzip")).await;
        assert_eq!(coded.says("Content-Encoding"), "gzip");
        assert_eq!(coded.says("ETag"), "\"v1~gzip\"");
        assert!(coded.says("Vary").contains("accept-encoding"));
        assert!(coded.body.len() < text().len() / 5, "{}", coded.body.len());
        assert_eq!(unpacked(&coded), text());

        let plain = edge.get("/a").await;
        assert_eq!(plain.field("Content-Encoding"), None);
        assert_eq!(plain.says("ETag"), "\"v1\"");
        assert!(plain.says("Vary").contains("accept-encoding"));
        assert_eq!(plain.text(), text());
    }
    let coded = edge.ask(&get("/a").with("Accept-Encoding", "gzip")).await;
    assert!(coded.hit_at("edge-1"), "{coded:?}");
    assert!(edge.get("/a").await.hit_at("edge-1"));
    let known = get("/a")
        .with("Accept-Encoding", "gzip")
        .with("If-None-Match", "\"v1~gzip\"");
    assert_eq!(edge.ask(&known).await.status, 304);
    assert_eq!(origin.requests("/a").len(), 1);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coded_object_is_validated_by_the_tag_the_origin_knows() {
    let origin = Origin::start().await;
    origin.on("/a", |asked| {
        let reply = if asked.field("If-None-Match").is_none() {
            Reply::stale(text(), "").with("Content-Type", "text/html")
        } else {
            Reply::fresh(text()).with("Vary", "Cookie")
        };
        reply.unless_known(asked, "\"v1\"")
    });
    let site = format!("topology = \"off\"\n{SITE}");
    let topology = Topology::new(&origin).uppers(0).site(&site).start().await;
    let edge = topology.edge(1);
    let gzip = get("/a").with("Accept-Encoding", "gzip");
    assert_eq!(unpacked(&edge.ask(&gzip).await), text());
    let confirmed = edge.ask(&gzip).await;
    assert_eq!(origin.requests("/a")[1].says("If-None-Match"), "\"v1\"");
    assert_eq!(confirmed.says("ETag"), "\"v1~gzip\"");
    assert_eq!(unpacked(&confirmed), text());
    // The 304 named other fields in Vary; the plain form is still another variant.
    let plain = edge.get("/a").await;
    assert_eq!(plain.field("Content-Encoding"), None);
    assert_eq!(plain.text(), text());
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_slowly_goes_out_as_it_comes() {
    let origin = Origin::start().await;
    let gate = Gate::new();
    let reply = page().chunked().pausing_after(1000, &gate);
    origin.always("/a", reply);
    let topology = Topology::new(&origin).site(SITE).start().await;
    let mut client = topology.edge(1).client().await;
    let gzip = get("/a").with("Accept-Encoding", "gzip");
    client.send(gzip.bytes()).await;
    let head = client.head().await;
    assert_eq!(head.says("Content-Encoding"), "gzip");
    // The first part can be unpacked while the origin still holds the second.
    let mut coded = Vec::new();
    let mut unpacked = vec![0; 900];
    loop {
        coded.extend_from_slice(&client.part().await.unwrap());
        if GzDecoder::new(&coded[..]).read_exact(&mut unpacked).is_ok() {
            break;
        }
    }
    assert_eq!(unpacked, text().as_bytes()[..900]);
    gate.open();
    let (_, complete) = client.rest().await;
    assert!(complete);
    topology.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_or_need_not_be_compressed_stays_as_it_is() {
    let origin = Origin::start().await;
    origin.always("/transform", page().with("Cache-Control", "no-transform"));
    origin.always(
        "/image",
        Reply::fresh(text()).with("Content-Type", "image/png"),
    );
    origin.always(
        "/small",
        Reply::fresh("small").with("Content-Type", "text/html"),
    );
    origin.always("/coded", page().with("Content-Encoding", "br"));
    let topology = Topology::new(&origin).site(SITE).start().await;
    for path in ["/transform", "/image", "/small", "/coded"] {
        let gzip = get(path).with("Accept-Encoding", "gzip");
        let answer = topology.edge(1).ask(&gzip).await;
        assert_ne!(
            answer.field("Content-Encoding").as_deref(),
            Some("gzip"),
            "{path}"
        );
    }
    topology.finish().await;
}
