//! The eleven cases of RFC 8867, each with its second delay or queue where one is given.
//!
//! Where the RFC leaves something open, or a case needs something else to show what it is for:
//! - A video makes 1.5 Mb/s at most, as in section 4.3, but in 5.1, 5.2 and 5.3, where a flow's part of the link is more at
//!   times: there 3 Mb/s, so that the link is what limits.
//! - 5.7: downloads of 30 to 50 kB with pauses of 10 s, as RFC 8868 has short flows; then of 100 to 1,000 kB, which leave hardly
//!   a pause on this link.
//! - 6.1: the three videos are of one sender with one controller, whose estimate is divided by weight, as that of a viewer of
//!   three cameras is. The RFC lets flows be coupled like this. Their sources make up to 2.5 Mb/s, since twice the others' part
//!   is 1.75 Mb/s.
//! - 6.2: 5.1 to 5.8 with marks from 60 ms of queue on. TCP does without: its packets say that they cannot be marked.

use super::{
    BACK, Bitrate, Case, DELAY, Duration, FORWARD, MAX, QUEUE, SenderPlan, TrackPlan, bottleneck, seconds, sender,
    steps, two_way, video, wire,
};
use crate::case::{JitterPlan, LinkPlan, TcpLoad, TcpPlan};

/// What a source makes at most where a flow's part of the link is more than 1.5 Mb/s.
const MORE: Bitrate = Bitrate::from_kbps(3_000);

/// From how much waiting on packets are marked: a fifth of what the queue takes. The RFC leaves it open. Less than 40 ms is
/// reached by single frames of a video that is alone on 1 Mb/s, and says nothing of congestion.
const MARK: Duration = Duration::from_millis(60);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        variable_capacity("5.1", "variable capacity, one flow", DELAY),
        variable_capacity("5.1-100ms", "the same, 100 ms one way", Duration::from_millis(100)),
        several_flows(),
        congested_feedback(),
        same_algorithm(),
        round_trip_fairness(),
        long_tcp("5.6", "beside a long TCP flow", QUEUE),
        long_tcp("5.6-1000ms", "the same, queue of 1 s", Duration::from_millis(1_000)),
        short_tcp("5.7", "two flows beside ten short TCP flows", TcpLoad::Web),
        short_tcp("5.7-files", "the same, larger files", TcpLoad::Files),
        pause_and_resume(),
        priority(),
    ];
    cases.extend([
        with_ecn("6.2-5.1", variable_capacity("", "5.1 with ECN", DELAY)),
        with_ecn("6.2-5.2", titled("5.2 with ECN", several_flows())),
        with_ecn("6.2-5.3", titled("5.3 with ECN", congested_feedback())),
        with_ecn("6.2-5.4", titled("5.4 with ECN", same_algorithm())),
        with_ecn("6.2-5.5", titled("5.5 with ECN", round_trip_fairness())),
        with_ecn("6.2-5.6", long_tcp("", "5.6 with ECN", QUEUE)),
        with_ecn("6.2-5.7", short_tcp("", "5.7 with ECN", TcpLoad::Web)),
        with_ecn("6.2-5.8", titled("5.8 with ECN", pause_and_resume())),
    ]);
    cases.push(several_bottlenecks());
    cases
}

/// Section 5.1.
fn variable_capacity(name: &'static str, title: &'static str, delay: Duration) -> Case {
    let mut links = two_way(steps(&[(0, 1_000), (40, 2_500), (60, 600), (80, 1_000)]));
    links.iter_mut().for_each(|link| link.delay = delay);
    Case {
        name,
        title,
        length: seconds(100),
        links,
        senders: vec![sender(video(MORE, 0, 99))],
        tcp: Vec::new(),
        ecn: false,
    }
}

/// Section 5.2.
fn several_flows() -> Case {
    Case {
        name: "5.2",
        title: "variable capacity, two flows",
        length: seconds(125),
        links: two_way(steps(&[(0, 4_000), (25, 2_000), (50, 3_500), (75, 1_000), (100, 2_000)])),
        senders: vec![sender(video(MORE, 0, 124)); 2],
        tcp: Vec::new(),
        ecn: false,
    }
}

/// Section 5.3.
fn congested_feedback() -> Case {
    let forward = bottleneck("forward", steps(&[(0, 2_000), (20, 1_000), (40, 500), (60, 2_000)]));
    let back = bottleneck("back", steps(&[(0, 2_000), (35, 800), (70, 2_000)]));
    let there = sender(video(MORE, 0, 99));
    let other_way = SenderPlan { forward: vec![BACK], back: vec![FORWARD], ..there.clone() };
    Case {
        name: "5.3",
        title: "congested feedback, a flow each way",
        length: seconds(100),
        links: vec![forward, back],
        senders: vec![there, other_way],
        tcp: Vec::new(),
        ecn: false,
    }
}

/// Section 5.4.
fn same_algorithm() -> Case {
    Case {
        name: "5.4",
        title: "three flows compete",
        length: seconds(120),
        links: two_way(steps(&[(0, 3_500)])),
        senders: [0, 20, 40].into_iter().map(|from| sender(video(MAX, from, 119))).collect(),
        tcp: Vec::new(),
        ecn: false,
    }
}

/// Section 5.5: each flow comes to the bottleneck, and goes back, over a link of its own, which has its delay.
fn round_trip_fairness() -> Case {
    let delays = [10, 25, 50, 100, 150].map(Duration::from_millis);
    let mut links = two_way(steps(&[(0, 4_000)]));
    links.iter_mut().for_each(|link| link.delay = Duration::ZERO);
    let mut senders = Vec::new();
    for (delay, from) in delays.into_iter().zip([0, 10, 20, 30, 40]) {
        let there = links.len();
        links.push(wire("access", delay));
        links.push(wire("access back", delay));
        let (forward, back) = (vec![there, FORWARD], vec![BACK, there + 1]);
        senders.push(SenderPlan { forward, back, ..sender(video(MAX, from, 299)) });
    }
    Case {
        name: "5.5",
        title: "five flows, 20 to 300 ms round trip",
        length: seconds(300),
        links,
        senders,
        tcp: Vec::new(),
        ecn: false,
    }
}

/// Section 5.6.
fn long_tcp(name: &'static str, title: &'static str, queue: Duration) -> Case {
    let mut links = two_way(steps(&[(0, 2_000)]));
    links[FORWARD].queue = queue;
    let load = TcpLoad::Long(Duration::ZERO, seconds(119));
    Case {
        name,
        title,
        length: seconds(120),
        links,
        senders: vec![sender(video(MAX, 5, 119))],
        tcp: vec![TcpPlan { load, forward: vec![FORWARD], back: vec![BACK] }],
        ecn: false,
    }
}

/// Section 5.7: two connections begin with a download, the others with a pause.
fn short_tcp(name: &'static str, title: &'static str, load: fn(bool) -> TcpLoad) -> Case {
    let connection = |index| TcpPlan { load: load(index < 2), forward: vec![FORWARD], back: vec![BACK] };
    Case {
        name,
        title,
        length: seconds(300),
        links: two_way(steps(&[(0, 2_000)])),
        senders: vec![sender(video(MAX, 5, 299)); 2],
        tcp: (0..10).map(connection).collect(),
        ecn: false,
    }
}

/// Section 5.8.
fn pause_and_resume() -> Case {
    let pausing =
        TrackPlan { active: vec![(seconds(0), seconds(40)), (seconds(60), seconds(119))], ..video(MAX, 0, 0) };
    let steady = sender(video(MAX, 0, 119));
    Case {
        name: "5.8",
        title: "three flows, the second pauses",
        senders: vec![steady.clone(), sender(pausing), steady],
        ..same_algorithm()
    }
}

/// Section 6.1.
fn priority() -> Case {
    let max = Bitrate::from_kbps(2_500);
    let first = TrackPlan { priority: 2.0, ..video(max, 0, 119) };
    let tracks = vec![first, video(max, 20, 119), video(max, 40, 119)];
    Case {
        name: "6.1",
        title: "three flows of priorities 2:1:1",
        senders: vec![SenderPlan { tracks, ..sender(video(max, 0, 0)) }],
        ..same_algorithm()
    }
}

fn titled(title: &'static str, case: Case) -> Case {
    Case { title, ..case }
}

/// Section 6.2.
fn with_ecn(name: &'static str, mut case: Case) -> Case {
    for link in case.links.iter_mut().filter(|link| link.bottleneck) {
        link.mark = Some(MARK);
    }
    Case { name, ecn: true, ..case }
}

/// Section 6.3: the first flow goes from A to D, the second from A to B, the third from C to D.
fn several_bottlenecks() -> Case {
    let link =
        |name, kbps, delay| LinkPlan { delay: Duration::from_millis(delay), ..bottleneck(name, steps(&[(0, kbps)])) };
    let middle = LinkPlan { bottleneck: false, jitter: JitterPlan::None, ..link("B-C", 8_000, 40) };
    let back = |name, delay| wire(name, Duration::from_millis(delay));
    let links = vec![
        link("A-B", 2_000, 100),
        middle,
        link("C-D", 1_500, 40),
        back("B-A", 100),
        back("C-B", 40),
        back("D-C", 40),
    ];
    let over = |forward, back| SenderPlan { forward, back, ..sender(video(MAX, 0, 299)) };
    Case {
        name: "6.3",
        title: "three flows, two bottlenecks",
        length: seconds(300),
        links,
        senders: vec![over(vec![0, 1, 2], vec![5, 4, 3]), over(vec![0], vec![3]), over(vec![2], vec![5])],
        tcp: Vec::new(),
        ecn: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Capacity, START};
    use super::*;

    #[test]
    fn every_case_of_the_rfc_is_there() {
        let names: Vec<_> = cases().iter().map(|case| case.name).collect();
        let sections = ["5.1", "5.2", "5.3", "5.4", "5.5", "5.6", "5.7", "5.8", "6.1", "6.2", "6.3"];
        let missing: Vec<_> =
            sections.iter().filter(|section| !names.iter().any(|name| name.starts_with(*section))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn the_ratios_of_5_2_are_of_two_megabits() {
        let case = several_flows();
        let Capacity::Steps(steps) = &case.links[FORWARD].capacity else { panic!("steps") };
        let ratios: Vec<f64> = steps.iter().map(|(_, rate)| rate.as_bps() as f64 / 2e6).collect();
        assert_eq!(ratios, [2.0, 1.0, 1.75, 0.5, 1.0]);
        assert_eq!(case.senders[0].start, START);
    }
}
