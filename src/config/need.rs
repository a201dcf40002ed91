//! What a camera takes at least on the wire, and what a configuration's limit is too small for.

use lenscast_media::Bitrate;
use lenscast_sender::OVERHEAD;

use super::{CameraConfig, Config};

/// What must be there for a camera to send `media` at this rate of frames, headers and retransmissions included, if it is the
/// only one. Rounded up to whole kilobits.
#[must_use]
pub fn needed(media: Bitrate, frames_per_second: f64) -> Bitrate {
    Bitrate::from_kbps((on_the_wire(media.as_bps() as f64, frames_per_second) / 1e3).ceil() as u64)
}

/// As the sender counts: full packets for all of it, and one more for each frame.
fn on_the_wire(media: f64, frames_per_second: f64) -> f64 {
    let headers = f64::from(OVERHEAD.packet_bytes);
    let share = headers / f64::from(OVERHEAD.payload_bytes) + OVERHEAD.retransmission;
    media * (1.0 + share) + frames_per_second * headers * 8.0
}

impl Config {
    /// What can be run and is hardly meant: a line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let Some(total) = self.total else { return Vec::new() };
        let mut warnings = Vec::new();
        // One of weight 0 sends nothing.
        let sending = || self.cameras.iter().filter(|camera| camera.share.claim.weight > 0.0);
        let alone = |camera: &&CameraConfig| needed(camera.share.claim.min, camera.settings.framerate);
        if let Some(least) = sending().map(|camera| alone(&camera)).min()
            && least > total
        {
            warnings.push(format!(
                "bandwidth.total_kbps = {}: no camera can send with so little, the least that one needs with its headers is \
                 about {}",
                total.as_kbps(),
                least.as_kbps()
            ));
        }
        let enforced = sending().filter(|camera| camera.share.claim.enforced);
        let (minima, frames) = enforced.fold((0.0, 0.0), |(minima, frames), camera| {
            (minima + camera.share.claim.min.as_bps() as f64, frames + camera.settings.framerate)
        });
        let all = needed(Bitrate::from_bps(minima as u64), frames);
        if minima > 0.0 && all > total {
            warnings.push(format!(
                "bandwidth.total_kbps = {}: cameras with enforce_min take about {} together, headers included, and exceed it \
                 if all are watched",
                total.as_kbps(),
                all.as_kbps()
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn warnings(total: u64, cameras: &[&str]) -> Vec<String> {
        let cameras = cameras
            .iter()
            .enumerate()
            .map(|(index, keys)| format!("[[camera]]\nname = \"c{index}\"\npattern = true\nfps = 15\n{keys}\n"));
        let text = format!("[bandwidth]\ntotal_kbps = {total}\n{}", cameras.collect::<String>());
        Config::from_raw(parse(&text).unwrap()).unwrap().warnings()
    }

    #[test]
    fn a_total_that_no_camera_can_send_with_is_told_with_what_is_needed() {
        let least = needed(Bitrate::from_kbps(30), 15.0).as_kbps();
        assert!((35..60).contains(&least), "{least}");
        let found = warnings(least - 1, &["", "min_kbps = 90"]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(&format!("total_kbps = {}", least - 1)) && found[0].ends_with(&least.to_string()));
        assert_eq!(warnings(least, &["", "min_kbps = 90"]), [""; 0]);
        assert_eq!(warnings(least, &["weight = 0", "min_kbps = 90"]).len(), 1, "that which needs least sends nothing");
    }

    #[test]
    fn minima_that_hold_in_any_case_and_exceed_the_total_are_told() {
        let enforced = "min_kbps = 400\nenforce_min = true";
        let found = warnings(900, &[enforced, enforced]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("enforce_min take about 9"), "{found:?}");
        assert_eq!(warnings(1_100, &[enforced, enforced]), [""; 0]);
        assert_eq!(warnings(900, &[enforced, "min_kbps = 400"]), [""; 0], "one of them may pause");
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_tell() {
        let config = Config::from_raw(parse("").unwrap()).unwrap();
        assert_eq!(config.warnings(), [""; 0]);
    }
}
