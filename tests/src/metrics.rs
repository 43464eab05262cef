//! A node's `/metrics`, read back.

use std::net::SocketAddr;

use crate::ask::get;
use crate::client::Client;

/// Everything that one look at `/metrics` showed.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    series: Vec<Series>,
}

#[derive(Clone, Debug)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Asks an admin listener.
    ///
    /// # Panics
    /// When it does not answer 200.
    pub async fn fetch(admin: SocketAddr) -> Self {
        let mut client = Client::connect(admin).await;
        let response = client
            .ask(&get("/metrics").with("Connection", "close"))
            .await;
        assert_eq!(response.status, 200, "/metrics: {}", response.text());
        Self::parse(&response.text())
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self {
            series: lines.filter_map(parse_line).collect(),
        }
    }

    /// The sum over all series of that name that have these labels; 0 where there
    /// is none. The name comes without `headwater_`.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let full = format!("headwater_{name}");
        let matching = self.series.iter().filter(|series| {
            let has = |(label, value): &(&str, &str)| {
                let mut own = series.labels.iter();
                own.any(|(have, is)| have == label && is == value)
            };
            series.name == full && labels.iter().all(has)
        });
        // Counters and gauges of a scenario are small whole numbers.
        matching.map(|series| series.value as u64).sum()
    }

    /// Every series of that name that is not 0: its labels and its value.
    pub(crate) fn counted(&self, name: &str) -> impl Iterator<Item = (&[(String, String)], u64)> {
        let full = format!("headwater_{name}");
        let series = self.series.iter();
        series
            .filter(move |series| series.name == full && series.value > 0.0)
            .map(|series| (&*series.labels, series.value as u64))
    }

    /// Whether any series has that name, without `headwater_`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let full = format!("headwater_{name}");
        self.series.iter().any(|series| series.name == full)
    }

    /// Every name there is.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.series.iter().map(|series| series.name.as_str())
    }
}

/// `name{label="value",…} number`. Label values of ours need no escapes.
fn parse_line(line: &str) -> Option<Series> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let labels = labels.split("\",").filter_map(|label| {
        let (name, value) = label.split_once("=\"")?;
        Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    Some(Series {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_name_and_labels() {
        let metrics = Metrics::parse(
            "# HELP headwater_a Words.\nheadwater_a{x=\"1\",y=\"u v\"} 2\nheadwater_a{x=\"2\"} 3\nheadwater_b 4\n",
        );
        for (name, labels, sum) in [
            ("a", &[][..], 5),
            ("a", &[("x", "1")], 2),
            ("a", &[("y", "u v"), ("x", "1")], 2),
            ("a", &[("x", "3")], 0),
            ("b", &[], 4),
            ("c", &[], 0),
        ] {
            assert_eq!(metrics.sum(name, labels), sum, "{name} {labels:?}");
        }
    }
}
