//! Whole trials, named by behaviour.

use std::time::Duration;

use lenscast_media::Bitrate;
use lenscast_simnet::{Ecn, LinkConfig, Loss, QueueLimit, Trace};

use crate::trial::{Outcome, Trial};

fn kbps(kbps: u64) -> Bitrate {
    Bitrate::from_kbps(kbps)
}

fn steps(steps: &[(u64, u64)]) -> Trace {
    Trace::steps(&steps.iter().map(|&(at, rate)| (Duration::from_secs(at), kbps(rate))).collect::<Vec<_>>())
}

fn run(name: &str, start_kbps: u64, wanted: u64, seconds: u64, link: LinkConfig) -> Outcome {
    let outcome = Trial::new(start_kbps, kbps(wanted), link).run(Duration::from_secs(seconds));
    let (used, p95) = (outcome.utilisation(0.0, 1e9), outcome.queue_percentile(0.95));
    println!("{name}: {:.1} % used, p95 {} ms", used * 100.0, p95.as_millis());
    if std::env::var_os("TRIAL_SAMPLES").is_some() {
        for s in &outcome.samples {
            println!(
                "{:5.1} cap {:5} arr {:5} tgt {:5} q {:4} est-q {:4} loss {:.2} alr {}",
                s.at.as_secs_f64(),
                s.capacity.as_kbps(),
                s.arrived.as_kbps(),
                s.estimate.target.as_kbps(),
                s.queue.as_millis(),
                s.estimate.queue_delay.as_millis(),
                s.estimate.loss,
                s.estimate.application_limited
            );
        }
    }
    outcome
}

#[test]
fn finds_a_steady_link_and_uses_it() {
    let outcome = run("steady 3", 300, 10_000, 60, LinkConfig::new(Trace::constant(kbps(3_000))));
    assert!(outcome.reached(0.0, kbps(2_700)) < 3.0 && outcome.utilisation(3.0, 60.0) > 0.92);
    assert!(outcome.queue_percentile(0.95) < Duration::from_millis(95));
}

#[test]
fn follows_rfc_8867_5_1() {
    let trace = steps(&[(0, 1_000), (40, 2_500), (60, 600), (80, 1_000)]);
    let outcome = run("5.1", 300, 1_500, 100, LinkConfig::new(trace));
    assert!(outcome.utilisation(0.0, 100.0) > 0.85 && outcome.drained(60.0, Duration::from_millis(30)) < 2.0);
}

#[test]
fn steps_up_and_down() {
    let up = run("0.6 to 3", 300, 10_000, 60, LinkConfig::new(steps(&[(0, 600), (20, 3_000)])));
    assert!(up.reached(20.0, kbps(2_700)) < 5.0);
    let down = run("3 to 0.6", 300, 10_000, 60, LinkConfig::new(steps(&[(0, 3_000), (20, 600)])));
    assert!(down.drained(20.0, Duration::from_millis(30)) < 2.5);
}

#[test]
fn bears_random_loss() {
    for (percent, used) in [(1, 0.85), (5, 0.8), (10, 0.6)] {
        let loss = Loss::Random(f64::from(percent) / 100.0);
        let link = LinkConfig { loss, seed: 7, ..LinkConfig::new(Trace::constant(kbps(3_000))) };
        let outcome = run(&format!("loss {percent} %"), 300, 10_000, 60, link);
        assert!(outcome.utilisation(0.0, 60.0) > used);
    }
}

#[test]
fn uses_links_with_other_queues_a_cell_and_one_that_marks() {
    for millis in [70, 2_000] {
        let queue = QueueLimit::Time(Duration::from_millis(millis));
        let outcome = run(
            &format!("queue {millis}"),
            300,
            10_000,
            60,
            LinkConfig { queue, ..LinkConfig::new(Trace::constant(kbps(3_000))) },
        );
        assert!(outcome.utilisation(0.0, 60.0) > 0.9);
    }
    let link = LinkConfig::new(Trace::lte_like(1, kbps(20_000), Duration::from_secs(60)));
    assert!(run("lte", 300, 20_000, 60, link).utilisation(0.0, 60.0) > 0.5);
    let ecn = Some(Ecn { threshold: Duration::from_millis(20) });
    let marking = run("ecn", 300, 10_000, 60, LinkConfig { ecn, ..LinkConfig::new(Trace::constant(kbps(3_000))) });
    assert!(marking.utilisation(0.0, 60.0) > 0.5 && marking.queue_percentile(0.95) < Duration::from_millis(40));
}
