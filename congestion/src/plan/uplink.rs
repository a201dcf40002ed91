//! The division of the uplink among legs, as water fills vessels: all at one level, each up to its claim.
//!
//! A leg claims what it has a use for, but no more than a quarter above what it seems to carry: so one that the uplink has kept
//! down can show that it carries more, and no more than that quarter lies idle. What all claims leave goes to those who have a
//! use for more, and what is left then to all alike, for their probes.

use lenscast_media::Bitrate;

use super::LegDemand;
use crate::budget::LIMIT;

/// The limit of each leg. `wanted` has what each has a use for.
pub(super) fn divide(uplink: Bitrate, legs: &[&LegDemand], wanted: &[Bitrate]) -> Vec<Bitrate> {
    if uplink == Bitrate::UNLIMITED {
        return vec![Bitrate::UNLIMITED; legs.len()];
    }
    let mut left = uplink.as_bps().min(LIMIT);
    let mut given = vec![0_u64; legs.len()];
    let wanted = || wanted.iter().map(|wanted| wanted.as_bps().min(LIMIT));
    let carried = legs.iter().map(|leg| leg.estimate.as_bps().min(LIMIT));
    let claims: Vec<u64> = wanted().zip(carried).map(|(wanted, carried)| wanted.min(carried + carried / 4)).collect();
    pour(&mut left, &mut given, &claims);
    let more: Vec<u64> = wanted().zip(&given).map(|(wanted, given)| wanted.saturating_sub(*given)).collect();
    pour(&mut left, &mut given, &more);
    pour(&mut left, &mut given, &vec![u64::MAX; legs.len()]);
    given.into_iter().map(Bitrate::from_bps).collect()
}

/// Gives out what is left, to each no more than it claims.
fn pour(left: &mut u64, given: &mut [u64], claims: &[u64]) {
    let level = level(*left, claims);
    for (given, claim) in given.iter_mut().zip(claims) {
        let more = level.min(*claim);
        *given += more;
        *left -= more;
    }
}

/// The highest level at which what is given is no more than `amount`.
fn level(amount: u64, claims: &[u64]) -> u64 {
    let mut sorted = claims.to_vec();
    sorted.sort_unstable();
    let (mut left, mut many) = (amount, sorted.len() as u64);
    for claim in sorted {
        if claim > left / many {
            return left / many;
        }
        left -= claim;
        many -= 1;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::LegId;

    fn limits(uplink: u64, legs: &[(u64, u64)]) -> Vec<u64> {
        let kbps = Bitrate::from_kbps;
        let demands: Vec<LegDemand> = (0..)
            .zip(legs)
            .map(|(leg, (estimate, _))| LegDemand {
                leg: LegId(leg),
                estimate: kbps(*estimate),
                is_confirmed: true,
                reserved: Bitrate::ZERO,
                media: Vec::new(),
            })
            .collect();
        let wanted: Vec<Bitrate> = legs.iter().map(|(_, wanted)| kbps(*wanted)).collect();
        divide(kbps(uplink), &demands.iter().collect::<Vec<_>>(), &wanted).iter().map(|limit| limit.as_kbps()).collect()
    }

    #[test]
    fn a_thin_leg_keeps_a_quarter_to_grow_and_the_others_share_the_rest_alike() {
        assert_eq!(limits(6_000, &[(800, 5_000), (9_000, 5_000), (9_000, 5_000)]), [1_000, 2_500, 2_500]);
    }

    #[test]
    fn nobody_claims_more_than_it_has_a_use_for() {
        assert_eq!(limits(3_000, &[(9_000, 500), (9_000, 5_000)]), [500, 2_500]);
    }

    #[test]
    fn what_nobody_claims_goes_to_who_wants_more_and_then_to_all() {
        assert_eq!(limits(6_000, &[(400, 3_000), (400, 1_000)]), [4_000, 2_000]);
    }

    #[test]
    fn a_leg_that_the_uplink_kept_down_comes_up_to_its_part() {
        let mut estimates = [300, 5_000];
        for _ in 0..20 {
            let limits = limits(4_000, &[(estimates[0], 5_000), (estimates[1], 5_000)]);
            // Its path carries anything: its estimate is what it is limited to.
            estimates = [limits[0], limits[1]];
        }
        assert_eq!(estimates, [2_000, 2_000]);
    }
}
