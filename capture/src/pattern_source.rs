use std::convert::Infallible;
use std::time::{Instant, UNIX_EPOCH};

use lenscast_media::PicturePool;

use crate::outlet::Outlet;
use crate::schedule::Schedule;
use crate::stop_signal::StopSignal;
use crate::{FrameRate, Pattern};

/// Draws the pattern at its rate until stopped, or until the buffer is closed.
pub(crate) fn run(mut pattern: Pattern, rate: FrameRate, outlet: &Outlet, stop: &StopSignal) {
    let mut pool = PicturePool::new();
    let mut schedule = Schedule::new(Instant::now(), rate);
    loop {
        let slot = schedule.next_slot(Instant::now());
        if stop.wait_until(slot.at) {
            return;
        }
        outlet.board().missed_frames(slot.skipped);
        // Zero before 1970, which a machine without a clock battery may believe in.
        let unix = UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(slot.at.elapsed());
        let drawn = pool.fill(pattern.resolution(), |picture| {
            pattern.draw(picture, slot.number, rate.time_of(slot.number), unix);
            Ok::<_, Infallible>(())
        });
        let Ok(picture) = drawn;
        if outlet.deliver(picture, slot.number, slot.at).is_err() {
            return;
        }
    }
}
