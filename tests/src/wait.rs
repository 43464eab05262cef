//! Bounded waiting, for everything that might not come.

use std::panic::Location;
use std::time::Duration;

/// How long a condition that is polled for may take to come true.
const CONDITION_S: u64 = 10;

/// The pause between two looks at a condition that nothing announces.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The future's output, or a panic that names the waiting line.
#[track_caller]
pub fn within<F: Future>(seconds: u64, future: F) -> impl Future<Output = F::Output> {
    let place = Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(seconds), future).await {
            Ok(output) => output,
            Err(_) => panic!("{place}: nothing came within {seconds} s"),
        }
    }
}

/// Looks again and again until the probe sees what it looks for. Only for what
/// nothing announces, such as a counter behind `/metrics`.
///
/// # Panics
/// With the words of `what`, when that takes longer than ten seconds.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let looking = async {
        loop {
            looks.tick().await;
            if let Some(seen) = probe().await {
                return seen;
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(CONDITION_S), looking).await {
        Ok(seen) => seen,
        Err(_) => panic!("after {CONDITION_S} s still not true: {what}"),
    }
}
