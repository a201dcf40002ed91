//! Claims on the bandwidth by the cameras' names: what somebody asks for, what of it lasts over a reload, and how it is told.
//!
//! **Invariant.** What somebody has changed while the server runs stays, until the file says something else for that very key
//! than it said before.
//!
//! What it does not do: divide bandwidth, which is the sender's.

use std::collections::BTreeMap;

use lenscast_encoder::BuildEncoderError;
use lenscast_media::Bitrate;
use lenscast_sender::{AllocationReport, SetAllocationError, ShareChange, ShareError, TrackShare};
use thiserror::Error;

use crate::config::{CameraShare, Config};

/// A change that somebody asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AllocationChange {
    /// If set, nothing changes unless the allocation's version is still this.
    pub expected_version: Option<u64>,
    /// What all cameras together may take, if it is to change. [`Bitrate::UNLIMITED`] lifts it.
    pub limit: Option<Bitrate>,
    /// The cameras that are to change, by name.
    pub shares: Vec<(String, ShareChange)>,
}

/// Why nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AllocateError {
    /// There is no camera of this name.
    #[error("no camera is called {:?}; there are {}", shown(.name), .there.join(", "))]
    UnknownCamera {
        /// What was asked for.
        name: String,
        /// Those there are.
        there: Vec<String>,
    },
    /// A claim cannot be, as it would be with what is not named.
    #[error("camera {camera:?}: {}", share_problem(.error))]
    Share {
        /// Whose claim.
        camera: String,
        /// What is wrong.
        error: ShareError,
    },
    /// An encoder that the change needs cannot be built.
    #[error("camera {camera:?}: {error}")]
    Encoder {
        /// Whose encoder.
        camera: String,
        /// Why.
        error: BuildEncoderError,
    },
    /// No camera would send anything.
    #[error("weight: all cameras would be at 0, at least one must be above 0")]
    NothingPositive,
    /// For another reason of the sender's.
    #[error(transparent)]
    Refused(SetAllocationError),
    /// The thread that was to do it is gone.
    #[error("changing the allocation panicked")]
    Panicked,
}

/// What the configuration in effect says. What holds may have been changed since.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filed {
    total: Option<Bitrate>,
    shares: BTreeMap<String, CameraShare>,
}

impl Filed {
    pub(crate) fn new(config: &Config) -> Self {
        let shares = config.cameras.iter().map(|camera| (camera.name.clone(), camera.share));
        Self { total: config.total, shares: shares.collect() }
    }

    /// The limit that `after` sets, if it says another than this.
    pub(crate) fn new_limit(&self, after: &Self) -> Option<Bitrate> {
        (self.total != after.total).then(|| limit_of(after.total))
    }

    /// What is in effect once `after` is, but for what was `refused`: there it still says what it said.
    pub(crate) fn followed_by(&self, after: Self, refused: &Refused) -> Self {
        let Self { mut total, mut shares } = after;
        if refused.limit {
            total = self.total;
        }
        for name in &refused.shares {
            // Without one, the camera has just begun, with what the file says.
            shares.extend(self.shares.get(name).map(|share| (name.clone(), *share)));
        }
        Self { total, shares }
    }

    /// The claim of each camera of `after`, at the end of a reload. `noted` has the claims from its beginning, `live` those of
    /// all cameras that run now: those that ran on may have been changed meanwhile, those that it started are what this has
    /// made of `noted`.
    pub(crate) fn merged_since(
        &self,
        noted: &BTreeMap<String, TrackShare>,
        live: &BTreeMap<String, TrackShare>,
        kept: impl Fn(&str) -> bool,
        after: &Self,
    ) -> BTreeMap<String, TrackShare> {
        let mut claims = noted.clone();
        claims.extend(live.iter().filter(|(name, _)| kept(name)).map(|(name, share)| (name.clone(), *share)));
        self.merged(&claims, after)
    }

    /// The claim of each camera of `after`. `live` has those of the cameras that run; the others start from the file.
    pub(crate) fn merged(&self, live: &BTreeMap<String, TrackShare>, after: &Self) -> BTreeMap<String, TrackShare> {
        let merged = after.shares.iter().map(|(name, after)| {
            let share = match (self.shares.get(name), live.get(name)) {
                (Some(before), Some(live)) => merged(before, live, after),
                _ => after.claim,
            };
            (name.clone(), share)
        });
        let mut merged: BTreeMap<_, _> = merged.collect();
        if merged.values().all(|share| share.weight == 0.0) {
            // What is left would send nothing at all. What the file says together can be.
            for (share, after) in merged.values_mut().zip(after.shares.values()) {
                share.weight = after.claim.weight;
            }
        }
        merged
    }
}

/// As the sender has it.
pub(crate) fn limit_of(total: Option<Bitrate>) -> Bitrate {
    total.unwrap_or(Bitrate::UNLIMITED)
}

fn merged(before: &CameraShare, live: &TrackShare, after: &CameraShare) -> TrackShare {
    fn key<T: PartialEq + Copy>(written: [Option<T>; 2], filed: [T; 2], live: T) -> T {
        if written[0] != written[1] || live == filed[0] { filed[1] } else { live }
    }
    let (written, filed) = ([before.written, after.written], [before.claim, after.claim]);
    let share = TrackShare {
        weight: key(written.map(|written| written.weight), filed.map(|claim| claim.weight), live.weight),
        min: key(written.map(|written| written.min), filed.map(|claim| claim.min), live.min),
        max: key(written.map(|written| written.max), filed.map(|claim| claim.max), live.max),
        enforced: key(written.map(|written| written.enforced), filed.map(|claim| claim.enforced), live.enforced),
    };
    if share.min <= share.max {
        return share;
    }
    // A key that the file changed and one that was changed since do not go together: the file's do.
    TrackShare { min: after.claim.min, max: after.claim.max, ..share }
}

/// What of a reload did not take effect: the next one tries it again.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) limit: bool,
    /// The cameras whose claims stay what they were.
    pub(crate) shares: Vec<String>,
}

/// What is set aside for headers and retransmissions. Where nothing is known of what there is, nothing is: the report then
/// speaks of a part of the largest budget that can be.
pub(crate) fn overhead_of(report: &AllocationReport) -> Bitrate {
    let known = report.limit.min(report.estimate) < Bitrate::UNLIMITED;
    if known { report.overhead } else { Bitrate::ZERO }
}

/// What makes `to` of `from`.
pub(crate) fn difference(from: &TrackShare, to: &TrackShare) -> ShareChange {
    ShareChange {
        weight: (from.weight != to.weight).then_some(to.weight),
        min: (from.min != to.min).then_some(to.min),
        max: (from.max != to.max).then_some(to.max),
        enforced: (from.enforced != to.enforced).then_some(to.enforced),
    }
}

/// What `change` makes of `share`.
pub(crate) fn changed(share: &TrackShare, change: &ShareChange) -> TrackShare {
    TrackShare {
        weight: change.weight.unwrap_or(share.weight),
        min: change.min.unwrap_or(share.min),
        max: change.max.unwrap_or(share.max),
        enforced: change.enforced.unwrap_or(share.enforced),
    }
}

/// What is different, for the log; `None` if nothing is.
pub(crate) fn told(from: &TrackShare, to: &TrackShare) -> Option<String> {
    let kbps = |bitrate: Bitrate| bitrate.as_bps() as f64 / 1e3;
    let mut parts = Vec::new();
    for (name, from, to) in [
        ("weight", from.weight, to.weight),
        ("minKbps", kbps(from.min), kbps(to.min)),
        ("maxKbps", kbps(from.max), kbps(to.max)),
    ] {
        if from != to {
            parts.push(format!("{name} {from} -> {to}"));
        }
    }
    if from.enforced != to.enforced {
        parts.push(format!("enforceMin {} -> {}", from.enforced, to.enforced));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What is different in the limit; `None` if nothing is.
pub(crate) fn told_limit(from: Bitrate, to: Bitrate) -> Option<String> {
    let text = |limit: Bitrate| match limit {
        Bitrate::UNLIMITED => "none".to_owned(),
        limit => (limit.as_bps() as f64 / 1e3).to_string(),
    };
    (from != to).then(|| format!("totalKbps {} -> {}", text(from), text(to)))
}

/// What is shown or logged of what a stranger sent, at most, in characters.
const MAX_SHOWN: usize = 100;

/// The beginning of what a stranger sent.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// In the terms of the API.
fn share_problem(error: &ShareError) -> String {
    match error {
        ShareError::MinOverMax { min, max } => {
            let [min, max] = [min, max].map(|bitrate| bitrate.as_bps() as f64 / 1e3);
            format!("minKbps = {min}: must not exceed maxKbps, which is {max}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn filed(text: &str) -> Filed {
        Filed::new(&Config::from_raw(parse(text).unwrap()).unwrap())
    }

    fn camera(name: &str, keys: &str) -> String {
        format!("[[camera]]\nname = \"{name}\"\npattern = true\n{keys}\n")
    }

    fn kbps(kbps: u64) -> Bitrate {
        Bitrate::from_kbps(kbps)
    }

    /// What holds after a reload from `before` to `after` of a camera whose claim was changed to `live` meanwhile.
    fn reloaded(before: &str, live: ShareChange, after: &str) -> TrackShare {
        let (before, after) = (filed(&camera("a", before)), filed(&camera("a", after)));
        let claim = before.shares["a"].claim;
        before.merged(&BTreeMap::from([("a".to_owned(), changed(&claim, &live))]), &after)["a"]
    }

    const NOTHING: ShareChange = ShareChange { weight: None, min: None, max: None, enforced: None };

    #[test]
    fn what_was_changed_stays_until_the_file_says_something_else_for_that_key() {
        let live = ShareChange { weight: Some(4.0), max: Some(kbps(900)), ..NOTHING };
        let share = reloaded("", live, "");
        assert_eq!((share.weight, share.max), (4.0, kbps(900)));
        let share = reloaded("", live, "weight = 2");
        assert_eq!((share.weight, share.max), (2.0, kbps(900)), "the file's weight, and nothing else");
        let share = reloaded("weight = 2\nmax_kbps = 800", live, "max_kbps = 800");
        assert_eq!((share.weight, share.max), (1.0, kbps(900)), "a key that was taken out has changed too");
    }

    #[test]
    fn what_was_not_changed_follows_the_file_and_its_defaults() {
        let small = "width = 640\nheight = 480";
        assert_eq!(reloaded("", NOTHING, small).max, kbps(1_700));
        let live = ShareChange { max: Some(kbps(900)), ..NOTHING };
        assert_eq!(reloaded("", live, small).max, kbps(900), "another size is not another max_kbps");
    }

    #[test]
    fn keys_that_do_not_go_together_are_the_files() {
        let live = ShareChange { min: Some(kbps(1_000)), weight: Some(3.0), ..NOTHING };
        let share = reloaded("", live, "max_kbps = 500");
        assert_eq!((share.min, share.max, share.weight), (kbps(30), kbps(500), 3.0));
    }

    #[test]
    fn weights_that_would_all_be_zero_are_the_files() {
        let before = filed(&(camera("a", "") + &camera("b", "")));
        let after = filed(&camera("a", "weight = 3"));
        let silent = TrackShare { weight: 0.0, ..after.shares["a"].claim };
        let live = BTreeMap::from([("a".to_owned(), silent), ("b".to_owned(), silent)]);
        let merged = before.merged(&live, &filed(&camera("a", "")));
        assert_eq!(merged["a"].weight, 1.0);
        assert_eq!(before.merged(&live, &after)["a"].weight, 3.0);
    }

    #[test]
    fn what_was_changed_during_a_reload_counts_for_cameras_that_ran_on() {
        let text = camera("a", "") + &camera("b", "codec = \"h264\"");
        let (before, after) = (filed(&(camera("a", "") + &camera("b", ""))), filed(&text));
        let claim = before.shares["a"].claim;
        let weighing = |weight| TrackShare { weight, ..claim };
        let noted = BTreeMap::from([("a".to_owned(), weighing(2.0)), ("b".to_owned(), weighing(3.0))]);
        let live = BTreeMap::from([("a".to_owned(), weighing(0.0)), ("b".to_owned(), weighing(9.0))]);
        let merged = before.merged_since(&noted, &live, |name| name == "a", &after);
        assert_eq!((merged["a"].weight, merged["b"].weight), (0.0, 3.0), "b was restarted with what it had");
        let silent = BTreeMap::from([("a".to_owned(), weighing(2.0)), ("b".to_owned(), weighing(0.0))]);
        let merged = before.merged_since(&silent, &live, |name| name == "a", &after);
        assert_eq!((merged["a"].weight, merged["b"].weight), (1.0, 1.0), "all silent by now: the file's");
    }

    #[test]
    fn what_was_refused_is_tried_again_by_the_next_reload() {
        let before = filed(&(camera("a", "weight = 2") + &camera("b", "weight = 2")));
        let after =
            "[bandwidth]\ntotal_kbps = 900\n".to_owned() + &camera("a", "weight = 3") + &camera("b", "weight = 4");
        let refused = Refused { limit: true, shares: vec!["b".to_owned()] };
        let filed_now = before.followed_by(filed(&after), &refused);
        let live = ["a", "b"].map(|name| (name.to_owned(), before.shares[name].claim));
        let live = BTreeMap::from(live.map(|(name, claim)| (name, TrackShare { weight: 5.0, ..claim })));
        let merged = filed_now.merged(&live, &filed(&after));
        assert_eq!((merged["a"].weight, merged["b"].weight), (5.0, 4.0), "of a the file says nothing new any more");
        assert_eq!(filed_now.new_limit(&filed(&after)), Some(kbps(900)));
        let filed_now = before.followed_by(filed(&after), &Refused::default());
        assert_eq!(filed_now.new_limit(&filed(&after)), None);
    }

    #[test]
    fn a_name_that_is_not_known_is_cut() {
        let error = AllocateError::UnknownCamera { name: "x".repeat(5_000), there: vec!["front".to_owned()] };
        let text = error.to_string();
        assert!(text.len() < 200 && text.ends_with("there are front"), "{text}");
    }

    #[test]
    fn a_camera_that_does_not_run_starts_from_the_file() {
        let text = camera("a", "weight = 7");
        let merged = filed(&text).merged(&BTreeMap::new(), &filed(&text));
        assert_eq!(merged["a"].weight, 7.0);
    }

    #[test]
    fn the_limit_changes_with_the_file_only() {
        let (none, some) = (filed(""), filed("[bandwidth]\ntotal_kbps = 900\n"));
        assert_eq!((none.new_limit(&none), some.new_limit(&some)), (None, None));
        assert_eq!((none.new_limit(&some), some.new_limit(&none)), (Some(kbps(900)), Some(Bitrate::UNLIMITED)));
    }

    #[test]
    fn a_change_is_told_from_what_to_what() {
        let from = filed(&camera("a", "")).shares["a"].claim;
        let to = TrackShare { weight: 0.5, max: Bitrate::from_bps(900_500), ..from };
        assert_eq!(told(&from, &to).as_deref(), Some("weight 1 -> 0.5, maxKbps 2500 -> 900.5"));
        assert_eq!((told(&from, &from), told_limit(kbps(9), kbps(9))), (None, None));
        assert_eq!(told_limit(Bitrate::UNLIMITED, kbps(900)).as_deref(), Some("totalKbps none -> 900"));
    }
}
