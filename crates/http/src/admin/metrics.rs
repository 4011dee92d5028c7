//! Metrics in the Prometheus text exposition format 0.0.4.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::AdminDoor;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric family. By convention names begin with `playhouse_` and end in the unit, counters in `_total`.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    /// After the family's name: `_bucket`, `_sum`, `_count`.
    suffix: &'static str,
    labels: Vec<(&'static str, String)>,
    value: f64,
}

impl Metric {
    pub fn counter(name: &'static str, help: &'static str) -> Metric {
        Metric { name, help, kind: Kind::Counter, samples: Vec::new() }
    }

    pub fn gauge(name: &'static str, help: &'static str) -> Metric {
        Metric { name, help, kind: Kind::Gauge, samples: Vec::new() }
    }

    pub fn histogram(name: &'static str, help: &'static str) -> Metric {
        Metric { name, help, kind: Kind::Histogram, samples: Vec::new() }
    }

    /// A sample without labels.
    pub fn value(self, value: f64) -> Metric {
        self.labelled([], value)
    }

    pub fn labelled<const N: usize>(mut self, labels: [(&'static str, &str); N], value: f64) -> Metric {
        let labels = labels.into_iter().map(|(name, value)| (name, value.to_string())).collect();
        self.samples.push(Sample { suffix: "", labels, value });
        self
    }

    /// What a histogram counted: `within[i]` observations of at most `bounds[i]`, the last of `within` all of them.
    pub fn observed<const N: usize>(
        mut self,
        labels: [(&'static str, &str); N],
        bounds: &[f64],
        within: &[u64],
        sum: f64,
    ) -> Metric {
        let labels = labels.map(|(name, value)| (name, value.to_string())).to_vec();
        let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_string()]);
        for (bound, count) in bounds.zip(within) {
            let labels = labels.iter().cloned().chain([("le", bound)]).collect();
            self.samples.push(Sample { suffix: "_bucket", labels, value: *count as f64 });
        }
        let count = within.last().copied().unwrap_or(0) as f64;
        self.samples.push(Sample { suffix: "_sum", labels: labels.clone(), value: sum });
        self.samples.push(Sample { suffix: "_count", labels, value: count });
        self
    }

    fn write(&self, out: &mut String) {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing into a String cannot fail.
        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", self.name, escape(self.help), self.name);
        for Sample { suffix, labels, value } in &self.samples {
            out.push_str(self.name);
            out.push_str(suffix);
            for (index, (label, text)) in labels.iter().enumerate() {
                let _ = write!(
                    out,
                    "{}{label}=\"{}\"",
                    if index == 0 { "{" } else { "," },
                    escape(text).replace('"', "\\\"")
                );
            }
            let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

pub(super) async fn metrics(State(door): State<AdminDoor>) -> Response {
    let mut text = String::new();
    for metric in (door.metrics)() {
        metric.write(&mut text);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_with_escaped_labels() {
        let mut text = String::new();
        Metric::counter("playhouse_events_total", "Events\nseen.").value(3.0).write(&mut text);
        Metric::gauge("playhouse_lag_rows", "Lag.")
            .labelled([("sink", "a\"b\\c"), ("store", "lake")], 0.5)
            .write(&mut text);
        assert_eq!(
            text,
            "# HELP playhouse_events_total Events\\nseen.\n# TYPE playhouse_events_total counter\n\
             playhouse_events_total 3\n# HELP playhouse_lag_rows Lag.\n# TYPE playhouse_lag_rows gauge\n\
             playhouse_lag_rows{sink=\"a\\\"b\\\\c\",store=\"lake\"} 0.5\n"
        );
    }

    #[test]
    fn a_histogram_has_cumulative_buckets_a_sum_and_a_count() {
        let mut text = String::new();
        let histogram = Metric::histogram("playhouse_wait_seconds", "Waits.");
        histogram.observed([("api", "Fetch")], &[0.001, 1.0], &[2, 3, 4], 9.5).write(&mut text);
        assert_eq!(
            text,
            "# HELP playhouse_wait_seconds Waits.\n# TYPE playhouse_wait_seconds histogram\n\
             playhouse_wait_seconds_bucket{api=\"Fetch\",le=\"0.001\"} 2\n\
             playhouse_wait_seconds_bucket{api=\"Fetch\",le=\"1\"} 3\n\
             playhouse_wait_seconds_bucket{api=\"Fetch\",le=\"+Inf\"} 4\n\
             playhouse_wait_seconds_sum{api=\"Fetch\"} 9.5\nplayhouse_wait_seconds_count{api=\"Fetch\"} 4\n"
        );
    }
}
