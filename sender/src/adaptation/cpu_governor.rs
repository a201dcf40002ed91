use std::time::{Duration, Instant};

use lenscast_media::TrackId;

use super::Adapt;

/// Shares out a lack of CPU over all tracks of the process: one of it, fed with every track's load, says who steps.
///
/// Each track alone (as in libwebrtc's `video/adaptation/overuse_frame_detector.cc`, one detector a stream) would let the
/// one that looks first give up everything while the others keep all. Here all of them are looked at together:
///
/// - **Down**: as soon as a track that can step down has been overused for two seconds, all of those that are and that have
///   taken the fewest steps take one, in the same check. If others that could use less have taken fewer still, these go
///   instead. **Invariant**: so none goes down while another that can, and that uses more than [`LOW`], has taken fewer
///   steps; among cameras alike, levels differ by at most one.
/// - **Up**: only while every track is below [`LOW`], one track a check, the most degraded first (of those with room for
///   it). One, because each that goes up takes from the others, and what it took shows before the next goes.
///
/// A track may be overused because its thread is at its limit while cores idle; that cannot be told from loads. Tracks
/// below [`LOW`] are never asked to give up anything for others.
///
/// Call [`CpuGovernor::check`] about once a second, and after a step of a track [reset](super::UsageMeter::reset) its meter.
#[derive(Debug, Clone)]
pub(crate) struct CpuGovernor {
    /// Since when some track that can step down has been overused without a pause.
    over_since: Option<Instant>,
    last_down: Option<Instant>,
    /// Since the last down, and what all used together before it.
    last_up: Option<(Instant, f64)>,
    /// What all used together before an up that was a mistake.
    too_much_for_up: Option<f64>,
    ramp_up_delay: Duration,
}

/// What the governor knows of a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) track: TrackId,
    /// Time spent on a frame over the source's time between frames, smoothed; above 1 it cannot keep up.
    pub(crate) usage: f64,
    /// Steps down taken for the CPU.
    pub(crate) steps: u8,
    pub(crate) can_step_down: bool,
}

/// libwebrtc `CpuOveruseOptions`, `overuse_frame_detector.cc`: `high_encode_usage_threshold_percent` 85,
/// `low_encode_usage_threshold_percent` half of it.
pub(super) const HIGH: f64 = 0.85;
pub(super) const LOW: f64 = 0.42;
/// A track goes up only if what it would then use, by the ladder's largest steps (×9/4), stays a tenth below [`HIGH`].
/// libwebrtc has [`LOW`] alone, for steps that are nominally ×5/3.
const LOW_ENOUGH_TO_GO_UP: f64 = HIGH * 0.9 * 4.0 / 9.0;
/// So long must overuse last. libwebrtc wants two checks in a row, 5 s apart (`high_threshold_consecutive_count`,
/// `kCheckForOveruseIntervalMs`): five steps would take most of a minute.
const OVERUSE_LASTS: Duration = Duration::from_secs(2);
/// After a step no verdict for so long: the meters start anew.
const SETTLE: Duration = Duration::from_secs(2);
/// libwebrtc, same file: `kStandardRampUpDelayMs`, `kMaxRampUpDelayMs`; and `kRampUpBackoffFactor` is 2. An overuse within
/// the standard delay after an up calls it a mistake.
const RAMP_UP_DELAY: Duration = Duration::from_secs(40);
const MAX_RAMP_UP_DELAY: Duration = Duration::from_secs(240);
/// While the load is what it was when an up was a mistake, it would be one again: then the delay doubles up to this.
/// libwebrtc's longest alone would be fifteen mistakes an hour, for ever.
const MAX_DELAY_OF_SAME_LOAD: Duration = Duration::from_secs(3_600);
/// A load is another one when it is a fifth less.
const LESS: f64 = 0.8;

impl CpuGovernor {
    pub(crate) const fn new() -> Self {
        Self { over_since: None, last_down: None, last_up: None, too_much_for_up: None, ramp_up_delay: RAMP_UP_DELAY }
    }

    /// Appends to `out` who takes a step now. The caller takes them all, or reports other `steps` next time.
    pub(crate) fn check(&mut self, now: Instant, loads: &[Load], out: &mut Vec<(TrackId, Adapt)>) {
        if loads.iter().any(Load::is_overused) {
            let since = *self.over_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= OVERUSE_LASTS && self.has_settled(now) {
                self.step_down(now, loads, out);
            }
            return;
        }
        self.over_since = None;
        let total: f64 = loads.iter().map(|load| load.usage).sum();
        if loads.iter().all(|load| load.usage < LOW) && self.may_go_up(now, total) {
            self.step_up(now, loads, total, out);
        }
    }

    fn step_down(&mut self, now: Instant, loads: &[Load], out: &mut Vec<(TrackId, Adapt)>) {
        let fewest = |of: fn(&Load) -> bool| loads.iter().filter(|load| of(load)).map(|load| load.steps).min();
        let (Some(overused), Some(sharing)) = (fewest(Load::is_overused), fewest(Load::can_share)) else { return };
        let steps = |load: &&Load| {
            if sharing < overused {
                load.can_share() && load.steps == sharing
            } else {
                load.is_overused() && load.steps == overused
            }
        };
        out.extend(loads.iter().filter(steps).map(|load| (load.track, Adapt::Down)));
        self.back_off(now);
        self.last_down = Some(now);
        self.over_since = None;
    }

    fn step_up(&mut self, now: Instant, loads: &[Load], total: f64, out: &mut Vec<(TrackId, Adapt)>) {
        let degraded = loads.iter().filter(|load| load.steps > 0 && load.usage < LOW_ENOUGH_TO_GO_UP);
        // Of equals the first.
        let Some(load) = degraded.min_by_key(|load| (u8::MAX - load.steps, load.track)) else { return };
        out.push((load.track, Adapt::Up));
        self.last_up = Some((now, total));
    }

    fn has_settled(&self, now: Instant) -> bool {
        let last_up = self.last_up.map(|(at, _)| at);
        has_passed(self.last_down.max(last_up), SETTLE + OVERUSE_LASTS, now)
    }

    fn may_go_up(&self, now: Instant, total: f64) -> bool {
        let is_less = self.too_much_for_up.is_none_or(|too_much| total < too_much * LESS);
        let longest = if is_less { MAX_RAMP_UP_DELAY } else { MAX_DELAY_OF_SAME_LOAD };
        let last_up = self.last_up.map(|(at, _)| at);
        has_passed(self.last_down, self.ramp_up_delay.min(longest), now) && has_passed(last_up, SETTLE, now)
    }

    fn back_off(&mut self, now: Instant) {
        // Each up is judged once, by the first overuse after it.
        let Some((up, total)) = self.last_up.take() else { return };
        if has_passed(Some(up), RAMP_UP_DELAY, now) {
            (self.too_much_for_up, self.ramp_up_delay) = (None, RAMP_UP_DELAY);
        } else {
            self.too_much_for_up = Some(total);
            self.ramp_up_delay = (self.ramp_up_delay * 2).min(MAX_DELAY_OF_SAME_LOAD);
        }
    }
}

/// True also if `since` never was.
fn has_passed(since: Option<Instant>, wait: Duration, now: Instant) -> bool {
    since.is_none_or(|since| now.saturating_duration_since(since) >= wait)
}

impl Load {
    fn is_overused(&self) -> bool {
        self.can_step_down && self.usage > HIGH
    }

    fn can_share(&self) -> bool {
        self.can_step_down && self.usage > LOW
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::super::UsageMeter;
    use super::*;

    const SETTLED: f64 = 600.0;
    const HOUR: f64 = 3_600.0;

    /// A camera's need of a core at each step: what a ladder of 1280x720 costs.
    #[derive(Clone)]
    struct Camera {
        costs: Vec<f64>,
        step: u8,
        enabled: bool,
        meter: UsageMeter,
    }

    /// Cameras that share cores, in virtual time.
    struct Machine {
        cores: f64,
        /// Cores that others take.
        taken: f64,
        cameras: Vec<Camera>,
        governor: CpuGovernor,
        start: Instant,
        time: f64,
        /// When, who, what.
        steps: Vec<(f64, u32, Adapt)>,
    }

    const INTERVAL: Duration = Duration::from_millis(100);

    impl Machine {
        fn new(cores: f64, costs: &[f64]) -> Self {
            let camera = |cost: &f64| Camera {
                costs: [1.0, 0.5625, 0.25, 0.14, 0.0625].iter().map(|of| of * cost).collect(),
                step: 0,
                enabled: true,
                meter: UsageMeter::new(),
            };
            Self {
                cores,
                taken: 0.0,
                cameras: costs.iter().map(camera).collect(),
                governor: CpuGovernor::new(),
                start: Instant::now(),
                time: 0.0,
                steps: Vec::new(),
            }
        }

        /// How much longer everything takes than alone: fair shares of a queue while there is enough (M/G/1 processor
        /// sharing, but for several cores); with too little, every thread always waits for a core with all others.
        fn contention(&self) -> f64 {
            let demand: f64 = self.cameras.iter().map(Camera::cost).sum::<f64>() + self.taken;
            let load = demand / self.cores;
            let crowd = ((self.cameras.len() as f64 + self.taken) / self.cores).max(1.0);
            if load >= 1.0 { crowd } else { (1.0 / (1.0 - load.powf(self.cores))).min(crowd) }
        }

        fn run(&mut self, seconds: f64) {
            let end = self.time + seconds;
            while self.time < end {
                self.time += INTERVAL.as_secs_f64();
                let (contention, now) = (self.contention(), self.start + Duration::from_secs_f64(self.time));
                for (index, camera) in self.cameras.iter_mut().enumerate() {
                    // Loads tremble by a twentieth.
                    let noise = 1.0 + 0.05 * (self.time * 1.7 + index as f64).sin();
                    camera.meter.handle_frame(now, INTERVAL.mul_f64(camera.cost() * contention * noise), 0);
                }
                if (self.time * 10.0).round() % 10.0 == 0.0 {
                    self.check(now);
                }
            }
        }

        fn check(&mut self, now: Instant) {
            let mut out = Vec::new();
            let loads = self.loads();
            self.governor.check(now, &loads, &mut out);
            for (track, _) in out.iter().filter(|(_, adapt)| *adapt == Adapt::Down) {
                let steps = loads[track.0 as usize].steps;
                let lag = loads.iter().find(|other| other.can_share() && other.steps < steps);
                assert_eq!(lag, None, "{track} goes down from {steps} before it");
            }
            for (track, adapt) in out {
                let camera = &mut self.cameras[track.0 as usize];
                match adapt {
                    Adapt::Down => {
                        assert!(camera.can_step_down(), "{track} cannot step down");
                        camera.step += 1;
                    }
                    Adapt::Up => camera.step = camera.step.checked_sub(1).expect("is degraded"),
                }
                camera.meter.reset();
                self.steps.push((self.time, track.0, adapt));
            }
        }

        fn loads(&self) -> Vec<Load> {
            let load = |(index, camera): (usize, &Camera)| Load {
                track: TrackId(index as u32),
                usage: camera.meter.usage(),
                steps: camera.step,
                can_step_down: camera.can_step_down(),
            };
            self.cameras.iter().enumerate().map(load).collect()
        }

        fn levels(&self) -> Vec<u8> {
            self.cameras.iter().map(|camera| camera.step).collect()
        }

        fn steps_after(&self, time: f64) -> usize {
            self.steps.iter().filter(|(at, ..)| *at > time).count()
        }

        fn is_overused(&self) -> bool {
            self.loads().iter().any(Load::is_overused)
        }
    }

    impl Camera {
        fn cost(&self) -> f64 {
            self.costs[usize::from(self.step)]
        }

        fn can_step_down(&self) -> bool {
            self.enabled && usize::from(self.step) + 1 < self.costs.len()
        }
    }

    fn spread(levels: &[u8]) -> u8 {
        levels.iter().max().unwrap() - levels.iter().min().unwrap()
    }

    #[test]
    fn fourteen_cameras_on_two_cores_settle_evenly_and_stay_there_for_an_hour() {
        for cost in [0.16, 0.3, 0.7, 1.5] {
            let mut machine = Machine::new(2.0, &[cost; 14]);
            machine.run(20.0);
            assert!(!machine.is_overused(), "not cleared in 20 s: {:?} of {cost}", machine.levels());
            assert!(spread(&machine.levels()) <= 1, "{:?}", machine.levels());
            machine.run(SETTLED - 20.0);
            let levels = machine.levels();
            assert!(levels.iter().any(|level| *level > 0));
            assert!(spread(&levels) <= 1, "{levels:?}");
            machine.run(HOUR);
            assert_eq!(machine.steps_after(SETTLED), 0, "{:?}", machine.steps);
        }
    }

    #[test]
    fn all_come_back_when_the_load_has_gone() {
        let mut machine = Machine::new(2.0, &[0.1; 14]);
        machine.taken = 6.0;
        machine.run(60.0);
        assert!(machine.levels().iter().all(|level| *level > 0), "{:?}", machine.levels());
        machine.taken = 0.0;
        machine.run(SETTLED);
        assert_eq!(machine.levels(), [0; 14]);
        let during = machine.steps.len();
        machine.run(HOUR);
        assert_eq!(machine.steps.len(), during);
    }

    #[test]
    fn who_must_not_step_never_does() {
        let mut machine = Machine::new(2.0, &[0.3; 14]);
        for camera in &mut machine.cameras[..4] {
            camera.enabled = false;
        }
        machine.run(SETTLED);
        assert_eq!(machine.levels()[..4], [0; 4]);
        assert!(machine.levels()[4..].iter().all(|level| *level > 0));
        assert!(spread(&machine.levels()[4..]) <= 1, "{:?}", machine.levels());
    }

    #[test]
    fn one_that_comes_late_goes_down_to_the_others_first() {
        let mut machine = Machine::new(2.0, &[0.3; 14]);
        machine.run(60.0);
        let late = Machine::new(2.0, &[1.2]).cameras.remove(0);
        machine.cameras.push(late);
        machine.run(10.0);
        let (at, ..) = machine.steps.iter().find(|(_, track, _)| *track == 14).expect("it is overused");
        let before = machine.steps.iter().filter(|(time, ..)| *time > 60.0 && time < at).count();
        assert_eq!(before, 0, "{:?}", machine.steps);
    }

    #[test]
    fn a_moment_of_overuse_is_none() {
        let (mut governor, now) = (CpuGovernor::new(), Instant::now());
        let load = |usage| Load { track: TrackId(0), usage, steps: 0, can_step_down: true };
        let mut out = Vec::new();
        for second in 0..60 {
            let usage = if second % 3 == 2 { 0.5 } else { 1.5 };
            governor.check(now + Duration::from_secs(second), &[load(usage)], &mut out);
        }
        assert_eq!(out, []);
        for second in 60..63 {
            governor.check(now + Duration::from_secs(second), &[load(1.5)], &mut out);
        }
        assert_eq!(out, [(TrackId(0), Adapt::Down)], "within two seconds");
    }

    /// One track whose load no level suits: too much at the source's, next to nothing (`below`) a step down.
    fn run_misfit(governor: &mut CpuGovernor, now: Instant, seconds: u64, steps: &mut u8, below: f64) -> Vec<u64> {
        let mut ups = Vec::new();
        for second in 0..seconds {
            let usage = if *steps == 0 { 1.2 } else { below };
            let mut out = Vec::new();
            let load = Load { track: TrackId(0), usage, steps: *steps, can_step_down: *steps < 4 };
            governor.check(now + Duration::from_secs(second), &[load], &mut out);
            match out.first() {
                Some((_, Adapt::Down)) => *steps += 1,
                Some((_, Adapt::Up)) => {
                    *steps -= 1;
                    ups.push(second);
                }
                None => {}
            }
        }
        ups
    }

    #[test]
    fn a_step_up_that_fails_is_tried_ever_less_often() {
        let (mut governor, now, mut steps) = (CpuGovernor::new(), Instant::now(), 0);
        let ups = run_misfit(&mut governor, now, 36_000, &mut steps, 0.2);
        let waits: Vec<u64> = ups.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.is_sorted(), "{waits:?}");
        assert!(waits[0] >= 80 && *waits.last().unwrap() >= 3_600, "{ups:?}");
        assert!(ups.iter().filter(|at| **at < 3_600).count() <= 7, "{ups:?}");
    }

    #[test]
    fn after_many_failures_a_lesser_load_still_goes_up_in_four_minutes() {
        let (mut governor, now, mut steps) = (CpuGovernor::new(), Instant::now(), 0);
        run_misfit(&mut governor, now, 36_000, &mut steps, 0.2);
        assert_eq!(steps, 1);
        let later = now + Duration::from_secs(36_000);
        let ups = run_misfit(&mut governor, later, 300, &mut steps, 0.1);
        assert!(ups.first().is_some_and(|at| *at <= 240), "{ups:?}");
    }

    #[test]
    fn no_tracks_and_no_numbers_are_no_reason() {
        let (mut governor, now, mut out) = (CpuGovernor::new(), Instant::now(), Vec::new());
        for second in 0..200 {
            let load = Load { track: TrackId(0), usage: f64::NAN, steps: 1, can_step_down: true };
            governor.check(now + Duration::from_secs(second), &[load], &mut out);
            governor.check(now, &[], &mut out);
        }
        assert_eq!(out, []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_machine_settles(
            cores in 1..=8u8,
            costs in prop::collection::vec(0.02..0.8f64, 1..20),
            taken in 0.0..0.5f64,
        ) {
            let mut machine = Machine::new(f64::from(cores), &costs);
            machine.taken = taken * machine.cores;
            machine.run(SETTLED);
            machine.run(HOUR);
            // The model has a cliff where demand meets the cores; one step up may lead over it, but not again and again.
            let mut mistakes: Vec<f64> = machine.steps.iter().filter(|step| step.2 == Adapt::Down).map(|step| step.0).collect();
            mistakes.retain(|at| *at > SETTLED);
            mistakes.dedup();
            prop_assert!(mistakes.len() <= 3, "{:?}", machine.steps);
        }
    }
}
