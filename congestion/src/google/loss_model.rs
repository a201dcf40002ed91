//! How well a guess at a path explains the losses that were seen on it.
//!
//! A path loses some packets whatever is sent (the inherent loss), and all that is sent above its bandwidth. Of a guess at both
//! the likelihood is reckoned over the last observations, newer ones weighing more, with a liking for higher bandwidths. After
//! libwebrtc, `modules/congestion_controller/goog_cc/loss_based_bwe_v2.cc`; names in brackets are of its configuration, whose
//! default values these are.
//!
//! What it does not do: choose the guesses, or bound what comes of them; that is [`loss`](super::loss).

use super::rate::Rate;

/// Observations that count (`ObservationWindowSize`).
const WINDOW: usize = 15;
/// What each weighs of the one after it (`TemporalWeightFactor`, `InstantUpperBoundTemporalWeightFactor`).
const WEIGHT: f64 = 0.9;
/// The inherent loss: at first (`InitialInherentLossEstimate`), at least (`InherentLossLowerBound`), and at most the tolerance
/// and so many kb/s divided by the bandwidth (`InherentLossUpperBoundBwBalance`).
const INHERENT_START: f64 = 0.01;
const INHERENT_MIN: f64 = 1e-3;
const INHERENT_MAX_BALANCE_KBPS: f64 = 100.0;
/// One step of Newton's method, of this length (`NewtonIterations`, `NewtonStepSize`).
const NEWTON_STEP: f64 = 0.75;
/// The liking for high bandwidths, for each kb/s and for its logarithm (`HigherBwBiasFactor`, `HigherLogBwBiasFactor`)…
const BIAS: f64 = 0.0002;
const BIAS_LOG: f64 = 0.02;
/// …which becomes a dislike above this loss, about so abruptly (`LossThresholdOfHighBandwidthPreference`,
/// `BandwidthPreferenceSmoothingFactor`).
const BIAS_LOSS: f64 = 0.2;
const BIAS_SMOOTHING: f64 = 0.002;
/// A probability stays this far from 0 and 1 (`GetLossProbability`).
const CERTAINTY: f64 = 1e-6;
/// The worst and the best observation do not count for the average loss, if there are more than so many
/// (`CalculateAverageReportedByteLossRatio`)…
const TRIMMED_FROM: usize = 4;
/// …unless the worst was one where this many times more was sent than usual (`MedianSendingRateFactor`).
const RATE_JUMP: f64 = 2.0;

/// What became of what was sent over some time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observation {
    pub(super) bytes: f64,
    pub(super) lost_bytes: f64,
    pub(super) sending_rate: Rate,
}

/// A guess at a path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Channel {
    pub(super) bandwidth: Rate,
    pub(super) inherent_loss: f64,
}

/// How much loss may be a path's own: less where queues are full, as they overflow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tolerance(f64);

impl Tolerance {
    /// As libwebrtc has it (`InherentLossUpperBoundOffset`, `InstantUpperBoundLossOffset`).
    pub(super) const USUAL: Self = Self(0.05);
    /// While no packets wait in queues: what is lost is not lost for lack of room. Ours. More is not worth it, as
    /// retransmissions are lost too.
    pub(super) const CALM: Self = Self(0.15);

    pub(super) fn loss(self) -> f64 {
        self.0
    }
}

/// The last observations.
#[derive(Debug)]
pub(super) struct LossModel {
    observations: [Observation; WINDOW],
    /// How many there have been; the next one goes to this modulo the window.
    count: usize,
    average_loss: f64,
}

impl Channel {
    pub(super) fn new(bandwidth: Rate) -> Self {
        Self { bandwidth, inherent_loss: INHERENT_START }
    }

    /// This guess with its inherent loss brought between the bounds of its bandwidth.
    pub(super) fn feasible(self, tolerance: Tolerance) -> Self {
        let balance = INHERENT_MAX_BALANCE_KBPS / self.bandwidth.kbps();
        let most = (tolerance.loss() + balance).min(1.0);
        Self { inherent_loss: self.inherent_loss.max(INHERENT_MIN).min(most), ..self }
    }

    fn loss_probability(&self, sending_rate: Rate) -> f64 {
        let mut loss = self.inherent_loss;
        if sending_rate > self.bandwidth && sending_rate.is_finite() {
            loss += (1.0 - loss) * (sending_rate.less(self.bandwidth).bps() / sending_rate.bps());
        }
        loss.clamp(CERTAINTY, 1.0 - CERTAINTY)
    }
}

impl LossModel {
    pub(super) fn new() -> Self {
        let none = Observation { bytes: 0.0, lost_bytes: 0.0, sending_rate: Rate::ZERO };
        Self { observations: [none; WINDOW], count: 0, average_loss: 0.0 }
    }

    /// How many observations there have been.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The part of the bytes that was lost, newer ones weighing more, outliers left out.
    pub(super) fn average_loss(&self) -> f64 {
        self.average_loss
    }

    pub(super) fn add(&mut self, observation: Observation) {
        self.observations[self.count % WINDOW] = observation;
        // Where counting ends, it goes on with a full window.
        self.count = self.count.checked_add(1).unwrap_or(WINDOW);
        self.average_loss = self.find_average_loss();
    }

    /// The guess with the inherent loss that explains the losses better, and how well it does.
    pub(super) fn fit(&self, channel: Channel, tolerance: Tolerance) -> (Channel, f64) {
        let channel = self.newton_step(channel.feasible(tolerance), tolerance);
        (channel, self.objective(channel))
    }

    /// The observations with their weights.
    fn weighted(&self) -> impl Iterator<Item = (&Observation, f64)> {
        let newest_first = (1..=self.count.min(WINDOW)).map(|age| &self.observations[(self.count - age) % WINDOW]);
        let mut weight = 1.0 / WEIGHT;
        newest_first.map(move |observation| {
            weight *= WEIGHT;
            (observation, weight)
        })
    }

    fn newton_step(&self, channel: Channel, tolerance: Tolerance) -> Channel {
        let (mut first, mut second) = (0.0, 0.0);
        for (observation, weight) in self.weighted() {
            let loss = channel.loss_probability(observation.sending_rate);
            let lost = observation.lost_bytes / 1e3;
            let kept = (observation.bytes - observation.lost_bytes) / 1e3;
            first += weight * (lost / loss - kept / (1.0 - loss));
            second -= weight * (lost / (loss * loss) + kept / ((1.0 - loss) * (1.0 - loss)));
        }
        if second >= 0.0 {
            return channel;
        }
        Channel { inherent_loss: channel.inherent_loss - NEWTON_STEP * first / second, ..channel }.feasible(tolerance)
    }

    fn objective(&self, channel: Channel) -> f64 {
        let bias = self.bias(channel.bandwidth);
        self.weighted()
            .map(|(observation, weight)| {
                let loss = channel.loss_probability(observation.sending_rate);
                let lost = observation.lost_bytes / 1e3;
                let kept = (observation.bytes - observation.lost_bytes) / 1e3;
                weight * (lost * loss.ln() + kept * (1.0 - loss).ln() + bias * observation.bytes / 1e3)
            })
            .sum()
    }

    fn bias(&self, bandwidth: Rate) -> f64 {
        if !bandwidth.is_finite() {
            return 0.0;
        }
        let below = BIAS_LOSS - self.average_loss;
        let liking = below / (BIAS_SMOOTHING + below.abs());
        liking * (BIAS * bandwidth.kbps() + BIAS_LOG * bandwidth.kbps().ln_1p())
    }

    fn find_average_loss(&self) -> f64 {
        let (mut bytes, mut lost) = (0.0, 0.0);
        let mut best: Option<Share> = None;
        let mut worst: Option<Share> = None;
        for (observation, weight) in self.weighted() {
            bytes += weight * observation.bytes;
            lost += weight * observation.lost_bytes;
            let share = Share::new(observation, weight);
            if best.as_ref().is_none_or(|best| share.loss < best.loss) {
                best = Some(share);
            }
            if share.loss > 0.0 && worst.as_ref().is_none_or(|worst| share.loss > worst.loss) {
                worst = Some(share);
            }
        }
        if self.count >= TRIMMED_FROM
            && let (Some(best), Some(worst)) = (best, worst)
            && worst.sending_rate < self.median_sending_rate() * RATE_JUMP
            && bytes - best.bytes - worst.bytes > 0.0
        {
            bytes -= best.bytes + worst.bytes;
            lost -= best.lost + worst.lost;
        }
        if bytes > 0.0 { (lost / bytes).clamp(0.0, 1.0) } else { 0.0 }
    }

    fn median_sending_rate(&self) -> Rate {
        let count = self.count.min(WINDOW);
        let mut rates = [0.0; WINDOW];
        for (rate, observation) in rates.iter_mut().zip(&self.observations[..count]) {
            *rate = observation.sending_rate.bps();
        }
        let rates = &mut rates[..count];
        rates.sort_unstable_by(f64::total_cmp);
        match count {
            0 => Rate::ZERO,
            n if n % 2 == 0 => Rate::from_bps((rates[n / 2 - 1] + rates[n / 2]) / 2.0),
            n => Rate::from_bps(rates[n / 2]),
        }
    }
}

/// An observation as it counts for the average.
#[derive(Clone, Copy)]
struct Share {
    loss: f64,
    bytes: f64,
    lost: f64,
    sending_rate: Rate,
}

impl Share {
    fn new(observation: &Observation, weight: f64) -> Self {
        let loss = if observation.bytes > 0.0 { observation.lost_bytes / observation.bytes } else { 0.0 };
        let (bytes, lost) = (weight * observation.bytes, weight * observation.lost_bytes);
        Self { loss, bytes, lost, sending_rate: observation.sending_rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(kbps: u32, loss: f64) -> Observation {
        let bytes = f64::from(kbps) * 1e3 / 8.0 * 0.25;
        Observation { bytes, lost_bytes: bytes * loss, sending_rate: Rate::from_kbps(kbps) }
    }

    fn model(observations: &[Observation]) -> LossModel {
        let mut model = LossModel::new();
        observations.iter().for_each(|&observation| model.add(observation));
        model
    }

    #[test]
    fn what_is_above_the_bandwidth_is_lost() {
        let channel = Channel { bandwidth: Rate::from_kbps(500), inherent_loss: 0.1 };
        assert!((channel.loss_probability(Rate::from_kbps(400)) - 0.1).abs() < 1e-12);
        assert!((channel.loss_probability(Rate::from_kbps(1_000)) - 0.55).abs() < 1e-12, "0.1 + 0.9 × 0.5");
        assert_eq!(Channel { inherent_loss: 0.0, ..channel }.loss_probability(Rate::ZERO), 1e-6);
    }

    #[test]
    fn inherent_loss_is_bounded_by_the_bandwidth() {
        let channel = Channel { bandwidth: Rate::from_kbps(1_000), inherent_loss: 0.9 };
        assert!((channel.feasible(Tolerance::USUAL).inherent_loss - 0.15).abs() < 1e-12);
        assert_eq!(Channel { bandwidth: Rate::ZERO, inherent_loss: 0.9 }.feasible(Tolerance::USUAL).inherent_loss, 0.9);
        assert_eq!(Channel { inherent_loss: 0.0, ..channel }.feasible(Tolerance::USUAL).inherent_loss, INHERENT_MIN);
    }

    #[test]
    fn averages_the_loss_without_the_best_and_the_worst() {
        let even = model(&[observation(1_000, 0.1); 3]);
        assert!((even.average_loss() - 0.1).abs() < 1e-12);
        let mut spiky = [observation(1_000, 0.1); 10];
        spiky[4] = observation(1_000, 0.9);
        spiky[6] = observation(1_000, 0.0);
        assert!((model(&spiky).average_loss() - 0.1).abs() < 1e-12);
        // Three times what is usual was sent: this may well have been too much.
        spiky[4] = observation(3_000, 0.9);
        assert!(model(&spiky).average_loss() > 0.2);
    }

    #[test]
    fn the_bandwidth_that_explains_the_losses_wins() {
        // 1 Mb/s was sent, and half was lost: 500 kb/s explain it.
        let model = model(&[observation(1_000, 0.5); 15]);
        let fit = |kbps| model.fit(Channel::new(Rate::from_kbps(kbps)), Tolerance::USUAL).1;
        assert!(fit(500) > fit(1_000) && fit(500) > fit(300), "{} {} {}", fit(300), fit(500), fit(1_000));
    }

    #[test]
    fn a_little_loss_at_every_rate_is_inherent() {
        let model = model(&[observation(1_000, 0.05), observation(500, 0.05), observation(800, 0.05)]);
        let mut channel = Channel::new(Rate::from_kbps(1_000));
        for _ in 0..30 {
            channel = model.fit(channel, Tolerance::USUAL).0;
        }
        assert!((channel.inherent_loss - 0.05).abs() < 1e-3, "{}", channel.inherent_loss);
        assert!(
            model.fit(channel, Tolerance::USUAL).1
                > model.fit(Channel { bandwidth: Rate::from_kbps(400), ..channel }, Tolerance::USUAL).1
        );
    }
}
