//! The administrative listener: metrics, health, what is in flight, purging.
//!
//! On loopback unless told otherwise. Reading needs no token there or anywhere;
//! changing something needs one where the listener is not on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, Method, Response, StatusCode};
use pingora_core::apps::ServerApp;
use pingora_core::apps::http_app::{HttpServer, ServeHttp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream as L4Stream;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use topology::State;

use crate::drain::Drain;
use crate::fill::tiers;
use crate::purge::order::Order;
use crate::state::Node;

/// The pages of the administrative listener.
pub(crate) struct Admin {
    pub(crate) node: Arc<Node>,
    /// Changing something is allowed without a token.
    pub(crate) on_loopback: bool,
}

/// Connections of the listener, each for one request and not for longer than that: it
/// must answer when everything else is in disorder.
const CONNECTIONS_MAX: usize = 64;
const REQUEST: Duration = Duration::from_secs(30);

/// The administrative listener serves until a drain is over, since that is watched
/// through it, unless another process serves there from now on. Its connections end
/// with this task.
pub(crate) async fn serve(
    node: Arc<Node>,
    socket: TcpListener,
    address: SocketAddr,
    drain: Arc<Drain>,
) {
    let mut draining = node.draining.clone();
    // pingora keeps no connection for another request where a shutdown is near.
    let (_near, shutdown) = watch::channel(true);
    let app = Arc::new(HttpServer::new_app(Admin {
        on_loopback: address.ip().is_loopback(),
        node,
    }));
    let mut connections = JoinSet::new();
    let mut socket = Some(socket);
    loop {
        if drain.is_handed_over() {
            socket = None;
        }
        // The others wait in the system's queue.
        let has_room = connections.len() < CONNECTIONS_MAX;
        let accepting = async {
            match &socket {
                Some(socket) if has_room => socket.accept().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(_) = connections.join_next() => {}
            Ok(()) = draining.changed() => {}
            accepted = accepting => match accepted {
                Ok((stream, _)) => {
                    let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
                    connections.spawn(async move {
                        let stream = Box::new(L4Stream::from(stream));
                        let serving = app.process_new(stream, &shutdown);
                        let _ = tokio::time::timeout(REQUEST, serving).await;
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

struct Page {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

impl Page {
    fn json(told: serde_json::Result<String>) -> Self {
        match told {
            Ok(text) => Self {
                status: StatusCode::OK,
                kind: "application/json",
                text: text + "\n",
            },
            Err(error) => Self::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn plain(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            text: text.into(),
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let token = head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let by_page = is_from_a_web_page(&head.headers);
        let page = if by_page && !method.is_safe() {
            Page::plain(
                StatusCode::FORBIDDEN,
                "a web page asked for this; ask with curl or `headwater purge`\n",
            )
        } else {
            self.page(&method, uri.path(), uri.query(), token.as_deref())
                .await
        };
        let length = page.text.len();
        let mut response = Response::new(page.text.into_bytes());
        *response.status_mut() = page.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, http::HeaderValue::from_static(page.kind));
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, http::HeaderValue::from(length));
        response
    }
}

impl Admin {
    async fn page(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        token: Option<&str>,
    ) -> Page {
        match (method, path) {
            (&Method::GET | &Method::HEAD, "/metrics") => self.metrics(),
            (&Method::GET | &Method::HEAD, "/healthz") => Page::plain(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready(),
            (&Method::GET | &Method::HEAD, "/requests") => self.requests(),
            (&Method::GET | &Method::HEAD, "/tiers") => {
                let tiers = tiers::view(&self.node, self.node.now_ms());
                Page::json(serde_json::to_string_pretty(&tiers))
            }
            (&Method::POST, "/purge") => self.purge(query, token).await,
            (_, "/metrics" | "/healthz" | "/readyz" | "/requests" | "/tiers") => {
                Page::plain(StatusCode::METHOD_NOT_ALLOWED, "ask with GET\n")
            }
            (_, "/purge") => Page::plain(StatusCode::METHOD_NOT_ALLOWED, "purge with POST\n"),
            _ => Page::plain(
                StatusCode::NOT_FOUND,
                "here are /metrics, /healthz, /readyz, /requests, /tiers and POST /purge?url=…, ?prefix=…, ?site=… or ?group=…&url=…\n",
            ),
        }
    }

    fn metrics(&self) -> Page {
        let node = &self.node;
        let store = &node.store;
        node.observer
            .metrics()
            .store_sizes(store.bytes(), store.objects(), store.evictions());
        Page {
            status: StatusCode::OK,
            kind: "text/plain; version=0.0.4; charset=utf-8",
            text: node.observer.render_at(self.node.now_ms()),
        }
    }

    fn ready(&self) -> Page {
        if self.node.is_draining() {
            return Page::plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        if is_ready(&self.node, self.node.now_ms()) {
            Page::plain(StatusCode::OK, "ready\n")
        } else {
            Page::plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "no permitted way to content is up\n",
            )
        }
    }

    fn requests(&self) -> Page {
        let rows = self.node.observer.in_flight(self.node.now_ms());
        Page::json(serde_json::to_string_pretty(&rows))
    }

    async fn purge(&self, query: Option<&str>, token: Option<&str>) -> Page {
        if !self.may_change(token) {
            return Page::plain(
                StatusCode::UNAUTHORIZED,
                "this listener is not on loopback: send `Authorization: Bearer TOKEN` with the token of [admin]\n",
            );
        }
        let node = Arc::clone(&self.node);
        let purged = match Order::parse(query) {
            Err(bad) => Err(bad),
            Ok(order) => {
                // It may walk over every stored key, which no request should wait for.
                let work = move || order.carry_out(&node, node.now_ms());
                match tokio::task::spawn_blocking(work).await {
                    Ok(purged) => purged,
                    Err(error) => {
                        return Page::plain(
                            StatusCode::INTERNAL_SERVER_ERROR,
                            format!("{error}\n"),
                        );
                    }
                }
            }
        };
        let metrics = self.node.observer.metrics();
        match purged {
            Ok(outcome) => {
                metrics.purge(outcome.as_str());
                Page::plain(StatusCode::OK, format!("{outcome}\n"))
            }
            Err(bad) => {
                metrics.purge("bad_url");
                Page::plain(StatusCode::BAD_REQUEST, bad.0 + "\n")
            }
        }
    }

    fn may_change(&self, token: Option<&str>) -> bool {
        match &self.node.config.admin.token {
            None => self.on_loopback,
            Some(secret) => {
                let expected = ring::digest::digest(
                    &ring::digest::SHA256,
                    format!("Bearer {}", secret.expose()).as_bytes(),
                );
                let given =
                    ring::digest::digest(&ring::digest::SHA256, token.unwrap_or("").as_bytes());
                // Digests are compared, so that timing tells nothing of the token.
                expected.as_ref() == given.as_ref()
            }
        }
    }
}

/// Whether a browser sent this for a web page, which may be anybody's: on loopback
/// being there is all the permission that is asked for. Browsers put `Origin` on
/// every unsafe request (Fetch §3.2), and newer ones say the relation besides.
fn is_from_a_web_page(fields: &HeaderMap) -> bool {
    fields.contains_key(ORIGIN) || fields.contains_key("sec-fetch-site")
}

/// A node is ready when any permitted way to content is up, whatever the upper
/// tiers say: a refused control block must not drain every edge at once.
pub(crate) fn is_ready(node: &Node, now_ms: u64) -> bool {
    let live = node.live.load();
    let uppers = node.upstreams.upper_states(now_ms);
    let any_upper = uppers
        .iter()
        .any(|state| !matches!(state, State::Down { .. }));
    live.all().any(|site| {
        let site = &site.config;
        let asks_tiers = tiers::asks_tiers(node, site, 0);
        let direct = !asks_tiers || site.fallback.contains(&config::Fallback::Direct);
        (asks_tiers && any_upper) || (direct && node.upstreams.origin_is_up(&site.pool, now_ms))
    })
}
