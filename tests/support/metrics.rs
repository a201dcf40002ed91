use std::collections::{BTreeMap, BTreeSet};

/// A page of metrics in the OpenMetrics text format, held against the rules of that format while it is read.
pub(crate) struct Metrics {
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Metrics {
    /// Reads a page. Fails if a line is none, a family is not declared or is torn apart, or a series is there twice.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("the page does not end with # EOF")?;
        let mut samples = BTreeMap::new();
        let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
        let mut family = "";
        let mut past: BTreeSet<&str> = BTreeSet::new();
        for line in body.lines() {
            let wrong = |what: &str| format!("{what}: {line:?}");
            if let Some(comment) = line.strip_prefix("# ") {
                let (keyword, rest) = comment.split_once(' ').ok_or_else(|| wrong("a comment of one word"))?;
                let (name, value) = rest.split_once(' ').ok_or_else(|| wrong("metadata without a value"))?;
                match keyword {
                    "TYPE" if kinds.insert(name, value).is_some() => return Err(wrong("a second TYPE")),
                    "HELP" | "TYPE" | "UNIT" => {}
                    _ => return Err(wrong("an unknown comment")),
                }
                if name != family {
                    past.insert(family);
                    if past.contains(name) {
                        return Err(wrong("a family in two pieces"));
                    }
                    family = name;
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').ok_or_else(|| wrong("a sample without a value"))?;
            let (name, labels) = match series.split_once('{') {
                None => (series, BTreeMap::new()),
                Some((name, rest)) => {
                    let inside = rest.strip_suffix('}').ok_or_else(|| wrong("labels without an end"))?;
                    (name, labels(inside).ok_or_else(|| wrong("labels that cannot be read"))?)
                }
            };
            let kind = kinds.get(family).copied().unwrap_or("");
            let suffixes: &[&str] = match kind {
                "gauge" => &[""],
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => return Err(wrong("a sample of an undeclared family")),
            };
            if !suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(family)) {
                return Err(wrong("a sample that is not of the family before it"));
            }
            let value: f64 = value.parse().map_err(|_| wrong("a value that is no number"))?;
            if samples.insert((name.to_owned(), labels), value).is_some() {
                return Err(wrong("a series that is there twice"));
            }
        }
        Ok(Self { samples })
    }

    /// The value of the series with exactly these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// The sum over all series of this name that have this label.
    pub(crate) fn sum_where(&self, name: &str, label: &str, value: &str) -> f64 {
        self.series(name)
            .filter(|(labels, _)| labels.get(label).is_some_and(|found| found == value))
            .map(|(_, v)| v)
            .sum()
    }

    /// The sum over all series of this name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.series(name).map(|(_, value)| value).sum()
    }

    /// All series of this name.
    pub(crate) fn series(&self, name: &str) -> impl Iterator<Item = (&BTreeMap<String, String>, f64)> {
        self.samples.iter().filter(move |((found, _), _)| found == name).map(|((_, labels), value)| (labels, *value))
    }

    /// The names of all series that have this label.
    pub(crate) fn names_with(&self, label: &str) -> BTreeSet<&str> {
        self.samples.keys().filter(|(_, labels)| labels.contains_key(label)).map(|(name, _)| name.as_str()).collect()
    }

    /// Sessions that have ended for this reason.
    pub(crate) fn closed(&self, cause: &str) -> f64 {
        self.value("lenscast_sessions_closed_total", &[("cause", cause)]).unwrap_or(0.0)
    }

    /// Datagrams dropped for this reason, by all workers.
    pub(crate) fn dropped(&self, reason: &str) -> f64 {
        self.sum_where("lenscast_udp_dropped_total", "reason", reason)
    }

    /// Viewers that are connected.
    pub(crate) fn connected(&self) -> f64 {
        self.value("lenscast_sessions_connected", &[]).expect("it is always there")
    }

    /// Viewers that have an answer and have not been heard of.
    pub(crate) fn pending(&self) -> f64 {
        self.value("lenscast_sessions_pending", &[]).expect("it is always there")
    }
}

/// Reads `a="b",c="d"`. No value of ours has an escaped character in it.
fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        if value.contains('\\') || labels.insert(name.to_owned(), value.to_owned()).is_some() {
            return None;
        }
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(labels)
}
