//! Outcomes as a table in Markdown: a row for each case and controller.

use std::fmt::Write as _;
use std::time::Duration;

use crate::outcome::{Outcome, Settling};

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
    let percent = |part: f64, digits: usize| format!("{:.digits$} %", part * 100.0);
    let cells = [
        format!("{} {}", outcome.case, outcome.title),
        outcome.controller.name().to_owned(),
        percent(metrics.utilisation, 1),
        format!("{:.2} Mb/s", metrics.goodput.as_bps() as f64 / 1e6),
        millis(metrics.queueing_mean),
        millis(metrics.queueing_p95),
        percent(metrics.lost, 2),
        percent(metrics.lost_after_repair, 2),
        settlings(&metrics.rises),
        settlings(&metrics.drains),
        metrics.jain.map_or_else(String::new, |jain| format!("{jain:.3}")),
        metrics.max_min.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
    ];
    // Writing to a string does not fail.
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}

/// In seconds, one after the other.
fn settlings(settlings: &[Settling]) -> String {
    if settlings.is_empty() {
        return String::new();
    }
    let each: Vec<String> = settlings
        .iter()
        .map(|settling| match settling {
            Settling::After(span) => format!("{:.1}", span.as_secs_f64()),
            Settling::Never => String::from("never"),
        })
        .collect();
    format!("{} s", each.join(", "))
}
