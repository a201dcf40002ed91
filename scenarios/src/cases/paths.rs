//! One flow over paths of other kinds than RFC 8867's: more capacity, steps of five times, loss, a cell, short and long queues.

use super::{Bitrate, Capacity, Case, Duration, FORWARD, LinkPlan, sender, steps, two_way, video};

/// What the source makes at most: a third more than what most of these links carry.
const MAX: Bitrate = Bitrate::from_kbps(4_000);
/// On a link of 4 Mb/s at most.
const MAX_SHAPED: Bitrate = Bitrate::from_kbps(5_333);
/// On a link of 20 Mb/s.
const MAX_CELLULAR: Bitrate = Bitrate::from_kbps(25_000);

/// What passes at once where a token bucket shapes a path: twice what a timer of 250 Hz needs for 4 Mb/s (tc-tbf(8)).
const BUCKET: u64 = 5_000;

const LENGTH: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    let three = || steps(&[(0, 3_000)]);
    let lossy = |loss| move |link: &mut LinkPlan| link.loss = loss;
    let shaped = |link: &mut LinkPlan| link.burst = BUCKET;
    let queue = |millis| move |link: &mut LinkPlan| link.queue = Duration::from_millis(millis);
    let same = |_: &mut LinkPlan| {};
    let cellular = Capacity::Cellular(Bitrate::from_kbps(20_000));
    let fall_and_rise = steps(&[(0, 4_000), (20, 800), (40, 4_000)]);
    vec![
        case("steady", "3 Mb/s", three(), MAX, same),
        case("rise", "0.6 to 3 Mb/s at 20 s", steps(&[(0, 600), (20, 3_000)]), MAX, same),
        case("fall", "3 to 0.6 Mb/s at 20 s", steps(&[(0, 3_000), (20, 600)]), MAX, same),
        case("loss-1", "3 Mb/s, 1 % random loss", three(), MAX, lossy(0.01)),
        case("loss-5", "3 Mb/s, 5 % random loss", three(), MAX, lossy(0.05)),
        case("loss-10", "3 Mb/s, 10 % random loss", three(), MAX, lossy(0.1)),
        case("bucket", "4 to 0.8 Mb/s at 20 s and back at 40 s, a token bucket", fall_and_rise, MAX_SHAPED, shaped),
        case("lte", "a cell of 20 Mb/s", cellular, MAX_CELLULAR, same),
        case("queue-70ms", "3 Mb/s, queue of 70 ms", three(), MAX, queue(70)),
        case("queue-2000ms", "3 Mb/s, queue of 2 s", three(), MAX, queue(2_000)),
    ]
}

fn case(
    name: &'static str,
    title: &'static str,
    capacity: Capacity,
    max: Bitrate,
    change: impl FnOnce(&mut LinkPlan),
) -> Case {
    let mut links = two_way(capacity);
    change(&mut links[FORWARD]);
    Case {
        name,
        title,
        length: LENGTH,
        links,
        senders: vec![sender(video(max, 0, LENGTH.as_secs()))],
        tcp: Vec::new(),
        ecn: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::QUEUE;
    use super::*;

    #[test]
    fn queues_are_the_default_but_where_the_case_is_about_them() {
        for case in cases().iter().filter(|case| !case.name.starts_with("queue")) {
            assert_eq!(case.links[FORWARD].queue, QUEUE, "{}", case.name);
        }
    }
}
