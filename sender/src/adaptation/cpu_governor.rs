use super::Adapt;
use lenscast_media::TrackId;
use std::time::Instant;
pub(crate) struct Load {
    pub(crate) track: TrackId,
    pub(crate) usage: f64,
    pub(crate) steps: u8,
    pub(crate) can_step_down: bool,
}
pub(crate) struct CpuGovernor;
impl CpuGovernor {
    pub(crate) fn new() -> Self {
        Self
    }
    pub(crate) fn check(&mut self, _: Instant, _: &[Load], _: &mut Vec<(TrackId, Adapt)>) {}
}
