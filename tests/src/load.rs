//! Visitors that ask steadily and forgive nothing, while a scenario does something to
//! the nodes.
//!
//! Half of them keep their connection for as long as the node does, the others open one
//! for each request. Every answer must be a whole 200 with the body that belongs to its
//! target; a connection that is refused, or closed before the answer, fails the scenario.
//! Only a kept connection that the node closed without a word of an answer is opened
//! anew, and what is safe asked again, as every client with a pool does (RFC 9110
//! §9.2.2): the node's end and the request may cross.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ask::{Ask, ask, get};
use crate::client::Client;
use crate::within;

/// Seconds in which a scenario's load has to get somewhere.
const PATIENCE_S: u64 = 60;

/// Every so many requests one passes by the cache, and one more changes something.
const PASSES_EVERY: usize = 10;

/// Whom everybody asks, and what.
type Course = dyn Fn(usize) -> (SocketAddr, Ask, String) + Send + Sync;

/// The load. Its visitors leave when this is dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<watch::Sender<bool>>,
    asked: Arc<watch::Sender<usize>>,
    visitors: JoinSet<()>,
}

impl Load {
    /// So many visitors begin, each asking all of the nodes in turn for `/object?N`,
    /// whose body has to be its target: some hundred objects, so that there are hits and
    /// misses, and some requests that pass by the cache.
    #[must_use]
    pub fn start(visitors: usize, nodes: Vec<SocketAddr>) -> Self {
        Self::along(visitors, move |number| {
            let node = nodes[number % nodes.len()];
            // Objects that were asked for lately, and now and then a new one.
            let target = format!("/object?{}", number / 4 + number % 7);
            let ask = match number % (2 * PASSES_EVERY) {
                0 => ask("POST", &target).body("x"),
                PASSES_EVERY => ask("OPTIONS", &target),
                _ => get(&target),
            };
            (node, ask, target)
        })
    }

    /// So many visitors begin; `course` says for each request whom it asks, what, and
    /// what body has to come.
    #[must_use]
    pub fn along(
        visitors: usize,
        course: impl Fn(usize) -> (SocketAddr, Ask, String) + Send + Sync + 'static,
    ) -> Self {
        let course: Arc<Course> = Arc::new(course);
        let next = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(watch::Sender::new(false));
        let asked = Arc::new(watch::Sender::new(0));
        let mut tasks = JoinSet::new();
        for visitor in 0..visitors {
            let (course, next) = (Arc::clone(&course), Arc::clone(&next));
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            tasks.spawn(async move {
                let mut kept: Vec<(SocketAddr, Client)> = Vec::new();
                while !*stop.borrow() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (node, ask, body) = course(number);
                    let at = kept.iter().position(|(address, _)| *address == node);
                    let mut client = at.map(|at| kept.swap_remove(at).1);
                    // What must not be asked twice takes no connection that may be
                    // closing just now.
                    if let Some(kept) = &mut client
                        && (ask.method == "POST" || kept.has_closed().await)
                    {
                        client = None;
                    }
                    let answer = match &mut client {
                        Some(kept) => kept.try_ask(&ask).await,
                        None => None,
                    };
                    let (client, answer) = match (client, answer) {
                        (Some(client), Some(answer)) => (client, answer),
                        _ => {
                            let mut client = Client::connect(node).await;
                            let answer = client.ask(&ask).await;
                            (client, answer)
                        }
                    };
                    let of = format!("{} {} at {node}", ask.method, ask.target);
                    assert_eq!(answer.status, 200, "{of}: {answer:?}");
                    assert_eq!((answer.text(), answer.complete), (body, true), "{of}");
                    if visitor % 2 == 0 && answer.says("Connection") != "close" {
                        kept.push((node, client));
                    }
                    asked.send_modify(|asked| *asked += 1);
                }
            });
        }
        Self {
            stop,
            asked,
            visitors: tasks,
        }
    }

    /// Requests answered so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    /// Waits until so many more were answered.
    ///
    /// # Panics
    /// When a visitor met what must not be.
    pub async fn goes_on(&mut self, more: usize) {
        let goal = self.asked() + more;
        let mut asked = self.asked.subscribe();
        tokio::select! {
            goes_on = within(PATIENCE_S, asked.wait_for(|asked| *asked >= goal)) => {
                assert!(goes_on.is_ok(), "somebody asks");
            }
            Some(left) = self.visitors.join_next() => {
                panic!("a visitor left: {left:?}");
            }
        }
    }

    /// Lets everybody finish, and gives how many requests were answered.
    ///
    /// # Panics
    /// When a visitor met what must not be.
    pub async fn end(mut self) -> usize {
        self.stop.send_replace(true);
        while let Some(left) = within(PATIENCE_S, self.visitors.join_next()).await {
            assert!(left.is_ok(), "a visitor met an error");
        }
        self.asked()
    }
}
