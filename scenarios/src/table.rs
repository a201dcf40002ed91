//! Outcomes as a table in Markdown: a row for each case and controller.

use std::fmt::Write as _;

use crate::outcome::Outcome;
use crate::summary::{millis, percent, settlings};

const HEAD: &str = "\
| case | controller | used | goodput | queueing mean | p95 | lost | after repair | to 90 % | drained | Jain | max/min |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
";

/// The rows in the order of `outcomes`.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(HEAD);
    outcomes.iter().for_each(|outcome| write_row(&mut text, outcome));
    text
}

fn write_row(text: &mut String, outcome: &Outcome) {
    let metrics = &outcome.metrics;
    let cells = [
        format!("{} {}", outcome.case, outcome.title),
        outcome.controller.name().to_owned(),
        percent(metrics.utilisation),
        format!("{:.2} Mb/s", metrics.goodput.as_bps() as f64 / 1e6),
        millis(metrics.queueing_mean),
        millis(metrics.queueing_p95),
        percent(metrics.lost),
        percent(metrics.lost_after_repair),
        settlings(&metrics.rises),
        settlings(&metrics.drains),
        metrics.jain.map_or_else(String::new, |jain| format!("{jain:.3}")),
        metrics.max_min.last().map_or_else(String::new, |(_, ratio)| format!("{ratio:.2}")),
    ];
    // Writing to a string does not fail.
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}
