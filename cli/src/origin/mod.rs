//! The demo origin: a small site whose answers differ in their caching fields.
//!
//! It stands in for a customer's server in `headwater demo`, in the containers and
//! by hand. What matters about it is that it is honest and steady: every answer
//! carries `Date` and a request number, long bodies are generated, never built,
//! and the same path has the same bytes in every build.
//!
//! Invariants: no input makes it panic; a wrong one gets a 4xx that says what would
//! have been right. Connections, idle times and the final drain have bounds.

mod body;
mod count;
mod deflate;
mod picture;
mod range;
mod reply;
mod site;

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::failure::Failure;
use site::Site;

/// Open connections. What comes beyond waits in the listener's queue.
const CONNECTIONS_MAX: usize = 10_000;

/// From an idle connection, or an accepted one, to a whole request head. Well
/// above a node's `pool_idle_ms`, so that the node drops the connection first and
/// no request meets a closing one.
const IDLE_OR_HEAD_MS: u64 = 120_000;

/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_RETRY_MS: u64 = 50;

/// How long requests under way may still take once `stop` has come. A reader of
/// `/large` that has stopped reading must not keep the process alive.
const DRAIN_MS: u64 = 10_000;

/// Command line of `headwater origin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
}

/// `headwater origin`: serves until SIGINT or SIGTERM.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let Options { listen } = options;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::because(format!(
            "the demo origin cannot listen on {listen}: {error}; --listen ADDR names another address"
        ))
    })?;
    let stop = crate::signals::stop()?;
    writeln!(
        io::stdout(),
        "demo origin on http://{}",
        listener.local_addr()?
    )?;
    Ok(serve(listener, stop).await?)
}

/// Serves the demo site over HTTP/1.1 until `stop` completes, then lets requests
/// under way finish within a bound. One call is one site, with counts of its own.
pub(crate) async fn serve(listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
    let site = Arc::new(Site::default());
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let draining = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            () = &mut stop => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let connection = draining.watch(connection(stream, site.clone()));
        tokio::spawn(async move {
            // A broken connection is the client's affair; there is nobody to tell.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS), draining.shutdown()).await;
    Ok(())
}

/// One connection, ready to be driven.
fn connection(
    stream: TcpStream,
    site: Arc<Site>,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send {
    // A short answer must not wait for the acknowledgement of the one before it.
    // Where this fails the connection is already gone, and serving it will say so.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(IDLE_OR_HEAD_MS))
        .serve_connection(TokioIo::new(stream), service)
}

#[cfg(test)]
mod tests;
