//! All cases, in the order of the table.

mod paths;
mod rfc8867;

use std::time::Duration;

use lenscast_media::Bitrate;

use crate::Case;
use crate::case::{Capacity, JitterPlan, LinkPlan, SenderPlan, TrackPlan};

/// All cases: those of RFC 8867, then single flows over paths of other kinds.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = rfc8867::cases();
    cases.extend(paths::cases());
    cases
}

/// RFC 8867, section 4.2: one way.
const DELAY: Duration = Duration::from_millis(50);
/// RFC 8867, section 4.2: a queue drops at its tail.
const QUEUE: Duration = Duration::from_millis(300);
/// RFC 8867, section 4.3: what a video's encoder makes at least.
const MIN: Bitrate = Bitrate::from_kbps(150);
/// RFC 8867, section 4.3: what it makes at most.
const MAX: Bitrate = Bitrate::from_kbps(1_500);
/// Where every estimate begins: libwebrtc's `kDefaultStartBitrateBps` (`call/bitrate_constraints.h`).
const START: Bitrate = Bitrate::from_kbps(300);
/// What a way back carries that is no part of a case: enough for all that comes back.
const AMPLE: Bitrate = Bitrate::from_kbps(100_000);

const FORWARD: usize = 0;
const BACK: usize = 1;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The capacity in kb/s from each second on.
fn steps(steps: &[(u64, u64)]) -> Capacity {
    Capacity::Steps(steps.iter().map(|(at, kbps)| (seconds(*at), Bitrate::from_kbps(*kbps))).collect())
}

fn bottleneck(name: &'static str, capacity: Capacity) -> LinkPlan {
    LinkPlan {
        name,
        capacity,
        delay: DELAY,
        jitter: JitterPlan::Gaussian,
        loss: 0.0,
        queue: QUEUE,
        burst: 0,
        mark: None,
        bottleneck: true,
    }
}

/// A link that delays and nothing else.
fn wire(name: &'static str, delay: Duration) -> LinkPlan {
    LinkPlan {
        name,
        capacity: Capacity::Steps(vec![(Duration::ZERO, AMPLE)]),
        delay,
        jitter: JitterPlan::None,
        loss: 0.0,
        queue: QUEUE,
        burst: 0,
        mark: None,
        bottleneck: false,
    }
}

/// A bottleneck [`FORWARD`], and a way [`BACK`] that is none.
fn two_way(capacity: Capacity) -> Vec<LinkPlan> {
    let back = LinkPlan { jitter: JitterPlan::Gaussian, ..wire("back", DELAY) };
    vec![bottleneck("bottleneck", capacity), back]
}

fn video(max: Bitrate, from: u64, to: u64) -> TrackPlan {
    TrackPlan { priority: 1.0, min: MIN, max, active: vec![(seconds(from), seconds(to))] }
}

/// One video and one audio source over the two links of [`two_way`].
fn sender(track: TrackPlan) -> SenderPlan {
    SenderPlan { tracks: vec![track], audio: true, forward: vec![FORWARD], back: vec![BACK], start: START }
}
