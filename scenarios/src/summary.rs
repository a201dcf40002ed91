//! One outcome in words: what the table holds, and what it has no room for.

use std::fmt::Write as _;
use std::time::Duration;

use lenscast_media::Bitrate;

use crate::outcome::{Outcome, Settling};

/// The metrics of RFC 8868, a line each.
#[must_use]
pub fn summary(outcome: &Outcome) -> String {
    let metrics = &outcome.metrics;
    let mut text = format!(
        "{}: {}; {}, {} s, seed {}\n",
        outcome.case,
        outcome.title,
        outcome.controller.name(),
        outcome.length.as_secs(),
        outcome.seed
    );
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<24}{value}");
    };
    line("utilisation", percent(metrics.utilisation));
    line("goodput", metrics.goodput.to_string());
    line(
        "queueing delay",
        format!("{} mean, {} at the 95th percentile", millis(metrics.queueing_mean), millis(metrics.queueing_p95)),
    );
    line("loss", format!("{}, {} after repair", percent(metrics.lost), percent(metrics.lost_after_repair)));
    if !metrics.rises.is_empty() {
        line("to 90 % of the capacity", settlings(&metrics.rises));
    }
    if !metrics.drains.is_empty() {
        line("queue drained", settlings(&metrics.drains));
    }
    if let Some(jain) = metrics.jain {
        line("Jain's index", format!("{jain:.3}"));
    }
    for (window, ratio) in &metrics.max_min {
        line("greatest rate ratio", format!("{ratio:.2} over {} s", window.as_secs()));
    }
    line("oscillation", format!("{} of the mean", percent(metrics.oscillation)));
    for flow in &outcome.flows {
        let [sent, received, goodput] = [&flow.sent, &flow.received, &flow.goodput].map(|rates| mean(rates));
        line(&flow.name, format!("{sent} sent, {received} received, {goodput} of media"));
    }
    for cross in &outcome.cross {
        line(&cross.name, format!("{} received", mean(&cross.received)));
    }
    text
}

/// Of those samples in which there is something.
fn mean(rates: &[Bitrate]) -> Bitrate {
    let (sum, count) = rates
        .iter()
        .filter(|rate| **rate > Bitrate::ZERO)
        .fold((0, 0), |(sum, count), rate| (sum + rate.as_bps(), count + 1));
    Bitrate::from_bps(sum.checked_div(count).unwrap_or(0))
}

pub(crate) fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

pub(crate) fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}

/// In seconds, one after the other.
pub(crate) fn settlings(settlings: &[Settling]) -> String {
    let each: Vec<String> = settlings
        .iter()
        .map(|settling| match settling {
            Settling::After(span) => format!("{:.1}", span.as_secs_f64()),
            Settling::Never => String::from("never"),
        })
        .collect();
    match settlings {
        [] => String::new(),
        [.., Settling::Never] => each.join(", "),
        _ => format!("{} s", each.join(", ")),
    }
}
