//! Whatever is done to routers on several workers, in whatever order what they tell each other arrives: the router's
//! invariants hold. They are numbered I1 to I16 here as in docs/concurrency.md, and each check is named by the one it is of.
//!
//! Each sequence makes some engines with routers, transports, producers, consumers and pipes between them (chains and
//! cycles too), and does random things to them: pause, resume, close, layers, frames, full channels, deliveries in any order
//! that keeps each channel's own. A single-threaded model says what each call must return and tell. In the end everything
//! is let through and compared.
//!
//! A failure prints its seed; `LENSCAST_SEED=… cargo test -p lenscast-router --test random_operations` does just that
//! sequence again and tells it step by step. `LENSCAST_SEQUENCES` sets how many there are.
//!
//! I14 (locks) and I16 (futures that are dropped) are not of the engine, which has neither: the handles' own tests have
//! them.

mod deliveries;
mod faults;
mod judge;
mod operations;
mod rest;
mod rng;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use faults::Fault;
use rng::Rng;
use world::{Violation, World};

const SEQUENCES: u64 = 100_000;
/// Far more than any fault needs to be seen.
const SEQUENCES_WITH_FAULT: u64 = 5_000;

fn run(seed: u64, fault: Fault, logged: bool) -> (Result<(), Violation>, Vec<String>) {
    let mut world = World::new(seed, fault, logged);
    let result = run_in(&mut world);
    (result, world.log.take().unwrap_or_default())
}

fn run_in(world: &mut World) -> Result<(), Violation> {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let steps = 20 + world.rng.below(80);
        world.begin()?;
        for _ in 0..steps {
            world.step()?;
        }
        world.come_to_rest()
    }));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation { check: "the engine panicked", saw: text.unwrap_or_default() })
    })
}

fn seed_of(sequence: u64) -> u64 {
    Rng::new(sequence).next()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}, no number")))
}

#[test]
fn random_operations_keep_every_invariant() {
    if let Some(seed) = number("LENSCAST_SEED") {
        let (result, log) = run(seed, Fault::None, true);
        let violation =
            result.map_or_else(|found| format!("{}: {}", found.check, found.saw), |()| "no violation".into());
        panic!("{}\n{violation}", log.join("\n"));
    }
    for sequence in 0..number("LENSCAST_SEQUENCES").unwrap_or(SEQUENCES) {
        let seed = seed_of(sequence);
        if let (Err(found), _) = run(seed, Fault::None, false) {
            panic!("{}: {}\nafter {sequence} sequences; LENSCAST_SEED={seed} does it again", found.check, found.saw);
        }
    }
}

#[test]
fn the_sequences_come_to_what_they_are_to_show() {
    let mut reached = BTreeMap::new();
    for sequence in 0..SEQUENCES_WITH_FAULT {
        let mut world = World::new(seed_of(sequence), Fault::None, false);
        run_in(&mut world).unwrap_or_else(|found| panic!("{found:?}"));
        for (what, _) in world.outside.reached {
            *reached.entry(what).or_insert(0_u64) += 1;
        }
    }
    // In one of a hundred sequences at least.
    let rare = world::reached::ALL
        .into_iter()
        .filter(|what| reached.get(what).is_none_or(|times| times * 100 < SEQUENCES_WITH_FAULT));
    assert_eq!(rare.collect::<Vec<_>>(), [""; 0], "{reached:#?}");
}

/// The check that a fault is found by.
fn found(fault: Fault) -> String {
    let violation = (0..SEQUENCES_WITH_FAULT).find_map(|sequence| run(seed_of(sequence), fault, false).0.err());
    violation.unwrap_or_else(|| panic!("{fault:?} was not seen")).check.to_owned()
}

macro_rules! seen {
    ($($name:ident: $fault:ident => $checks:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let check = found(Fault::$fault);
                assert!($checks.iter().any(|known| check.starts_with(known)), "found by {check:?}");
            }
        )*
    };
}

seen! {
    checking_before_subscribing_is_seen: CheckThenSubscribe => ["I1 ", "I5 ", "I6 "];
    a_state_dropped_on_a_full_channel_is_seen: DroppedState => ["I1 ", "I3 ", "I8 "];
    a_stale_version_that_is_applied_is_seen: StaleVersion => ["I1 ", "I3 ", "I8 "];
    a_source_that_is_not_gated_is_seen: NotGated => ["I5 "];
    an_end_told_twice_is_seen: ClosedTwice => ["I7 "];
    an_end_not_told_is_seen: NeverClosed => ["I7 "];
    a_packet_sent_twice_is_seen: PacketTwice => ["I15 "];
    a_wish_that_is_not_looked_at_is_seen: LostWish => ["I6 ", "I8 "];
    an_end_that_is_not_looked_at_is_seen: LostEnd => ["I8 "];
    a_loss_that_is_hidden_is_seen: HiddenLoss => ["I6 "];
}
