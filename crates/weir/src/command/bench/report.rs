//! What a run showed: throughput, and latency from the moment at which a record *should* have been sent. A system that
//! stalls is thereby charged with every record that it kept waiting, not only with the one it was slow on.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::exit::Outcome;
use crate::output::{self, Format};

/// The longest latency that is told apart, in microseconds: ten minutes.
const LATENCY_MAX_US: u64 = 600_000_000;
/// Three digits of every latency count.
const DIGITS: u8 = 3;

/// Latencies and counts, as they come in.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    latencies_us: Histogram<u64>,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        let latencies_us =
            Histogram::new_with_max(LATENCY_MAX_US, DIGITS).expect("the bounds are constants that the histogram takes");
        Tally { latencies_us, records: 0, bytes: 0, errors: 0, first_error: None }
    }

    /// One more record of so many bytes arrived, so long after it was due.
    pub(super) fn arrived(&mut self, bytes: u64, latency: Option<Duration>) {
        self.records += 1;
        self.bytes += bytes;
        if let Some(latency) = latency {
            let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
            self.latencies_us.saturating_record(us);
        }
    }

    /// One more record failed.
    pub(super) fn failed(&mut self, error: impl std::fmt::Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Adds what another task counted.
    pub(super) fn merge(&mut self, other: &Tally) {
        self.latencies_us.add(&other.latencies_us).expect("all tallies have the same bounds");
        self.records += other.records;
        self.bytes += other.bytes;
        self.errors += other.errors;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }

    /// The result after so long a run.
    pub(super) fn report(&self, bench: &'static str, topic: &str, elapsed: Duration, settings: Settings) -> Report {
        let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
        let latency = (!self.latencies_us.is_empty()).then(|| Latency::of(&self.latencies_us));
        Report {
            bench,
            topic: topic.to_owned(),
            settings,
            duration_s: round(elapsed.as_secs_f64()),
            records: self.records,
            errors: self.errors,
            first_error: self.first_error.clone(),
            records_per_s: round(as_f64(self.records) / seconds),
            mib_per_s: round(as_f64(self.bytes) / seconds / f64::from(1 << 20)),
            latency_ms: latency,
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) record_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) producers: Option<u64>,
    pub(super) partitions: i32,
}

/// Milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Latency {
    fn of(latencies_us: &Histogram<u64>) -> Latency {
        let at = |quantile| round(as_f64(latencies_us.value_at_quantile(quantile)) / 1000.0);
        Latency {
            mean: round(latencies_us.mean() / 1000.0),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: round(as_f64(latencies_us.max()) / 1000.0),
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    bench: &'static str,
    topic: String,
    #[serde(flatten)]
    settings: Settings,
    duration_s: f64,
    records: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    records_per_s: f64,
    mib_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
}

impl Report {
    /// Writes the report.
    pub(super) fn write(&self, format: Format) -> Outcome {
        output::description(format, self, &self.table())
    }

    fn table(&self) -> String {
        let mut columns = vec!["records", "errors", "seconds", "records/s", "MiB/s"];
        let number = |value: f64| format!("{value}");
        let mut row = vec![self.records.to_string(), self.errors.to_string(), number(self.duration_s)];
        row.extend([number(self.records_per_s), number(self.mib_per_s)]);
        if let Some(latency) = &self.latency_ms {
            columns.extend(["mean ms", "p50", "p90", "p99", "p99.9", "max"]);
            let values = [latency.mean, latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
            row.extend(values.map(number));
        }
        output::table(&columns, std::iter::once(row))
    }
}

/// Three digits behind the point.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "figures for people; 52 bits are enough for them")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Settings, Tally};

    #[test]
    fn a_report_has_rates_and_percentiles() {
        let mut tally = Tally::new();
        for ms in 1..=100 {
            tally.arrived(1 << 20, Some(Duration::from_millis(ms)));
        }
        let mut other = Tally::new();
        other.failed("broken");
        other.failed("broken again");
        tally.merge(&other);
        let report =
            tally.report("produce", "t", Duration::from_secs(10), Settings { partitions: 3, ..Settings::default() });
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["records"].as_u64(), json["errors"].as_u64()), (Some(100), Some(2)));
        assert_eq!(json["first_error"], "broken");
        assert_eq!((json["records_per_s"].as_f64(), json["mib_per_s"].as_f64()), (Some(10.0), Some(10.0)));
        assert_eq!(json["partitions"], 3);
        let at = |name: &str| json["latency_ms"][name].as_f64().unwrap();
        assert!((49.9..50.1).contains(&at("p50")), "{json}");
        assert!((98.9..99.1).contains(&at("p99")), "{json}");
        assert!((99.9..100.1).contains(&at("max")), "{json}");
        let table = report.table();
        assert!(table.contains("RECORDS/S") && table.contains("P99.9"), "{table}");
    }

    #[test]
    fn a_latency_beyond_the_scale_counts_as_the_longest() {
        let mut tally = Tally::new();
        tally.arrived(1, Some(Duration::from_secs(100_000)));
        let json = serde_json::to_value(tally.report("e2e", "t", Duration::from_secs(1), Settings::default())).unwrap();
        assert!(json["latency_ms"]["max"].as_f64().unwrap() >= 600_000.0);
    }
}
