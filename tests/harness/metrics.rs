//! `/metrics` as Prometheus reads it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Server, http};

/// How long a number may take to be what it should.
const PATIENCE: Duration = Duration::from_secs(60);

/// One scrape: each series as it is written, with its value, and the type of each family.
#[derive(Debug, Default)]
pub struct Metrics {
    pub samples: BTreeMap<String, f64>,
    pub families: BTreeMap<String, String>,
}

impl Metrics {
    /// Asks a server.
    pub fn of(server: &Server) -> Self {
        let answer = http::ask(server.listener(), "GET /metrics", &[], b"");
        assert_eq!(answer.code, 200);
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        Self::parse(std::str::from_utf8(&answer.body).expect("text"))
    }

    /// Reads the text, and checks what its format demands.
    pub fn parse(text: &str) -> Self {
        let mut read = Self::default();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                let twice = read.families.insert(name.to_owned(), kind.to_owned());
                assert_eq!(twice, None, "{name} is declared twice");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
                let value: f64 = value.replace("+Inf", "inf").parse().unwrap_or_else(|_| panic!("no value: {line}"));
                let family = read.family(series);
                assert!(family.is_some(), "{series} belongs to no family that was declared before it");
                assert_eq!(read.samples.insert(series.to_owned(), value), None, "{series} is there twice");
            }
        }
        read
    }

    /// The family that a series belongs to.
    fn family(&self, series: &str) -> Option<&str> {
        let name = series.split('{').next().unwrap_or(series);
        let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
        let known = |name: &str| self.families.get_key_value(name).map(|(name, _)| name.as_str());
        known(name).or_else(|| known(histogram?))
    }

    /// The value of a series, 0 when it is not there.
    pub fn value(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or(0.0)
    }

    /// The series whose text starts so.
    pub fn starting(&self, prefix: &str) -> impl Iterator<Item = (&str, f64)> {
        self.samples.iter().filter(move |(series, _)| series.starts_with(prefix)).map(|(s, v)| (s.as_str(), *v))
    }

    /// Their sum.
    pub fn sum(&self, prefix: &str) -> f64 {
        self.starting(prefix).map(|(_, value)| value).sum()
    }

    /// Scrapes until a number is there: a call is counted when its answer has ended, a moment after its client has it.
    pub fn until(server: &Server, what: &str, is_so: impl Fn(&Self) -> bool) -> Self {
        let asked = Instant::now();
        loop {
            let metrics = Self::of(server);
            if is_so(&metrics) {
                return metrics;
            }
            assert!(asked.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}\n{metrics:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
