//! Random numbers that come out the same everywhere: a seeded generator, and the distributions that the models need.
//!
//! The generator is xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), its state filled
//! by SplitMix64. It stands here so that no update of a dependency changes what a simulation prints. For the
//! same reason the logarithm is our own: the platform's may differ in the last bit from one C library to the next, whereas
//! addition, multiplication, division and square root are exact by IEEE 754.
//!
//! Not for secrets.

/// A stream of random numbers, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Random {
    state: [u64; 4],
    /// The polar method yields two normal numbers at a time.
    spare: Option<f64>,
}

impl Random {
    /// A stream of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut filler = seed;
        let mut next = || {
            filler = filler.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = filler;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self { state: [next(), next(), next(), next()], spare: None }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Evenly from 0, included, to 1, excluded.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Evenly from `low` to `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// True with this probability; never with 0, always with 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Exponentially distributed, with a mean of 1.
    pub fn exponential(&mut self) -> f64 {
        // 1 - u is above zero, which the logarithm needs.
        -ln(1.0 - self.uniform())
    }

    /// Laplace distributed around 0: e^(-|x| / scale) / (2 scale).
    pub fn laplace(&mut self, scale: f64) -> f64 {
        let magnitude = scale * self.exponential();
        if self.bits() & 1 == 0 { magnitude } else { -magnitude }
    }

    /// Normally distributed, with mean 0 and deviation 1 (Marsaglia's polar method).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (self.between(-1.0, 1.0), self.between(-1.0, 1.0));
            let square = x * x + y * y;
            if square < 1.0 && square > 0.0 {
                let factor = (-2.0 * ln(square) / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }

    /// Normally distributed as above; what is more than `cut` from 0 becomes that.
    pub fn truncated_normal(&mut self, cut: f64) -> f64 {
        // Not `clamp`, which panics if the cut is no number or below zero.
        self.normal().min(cut).max(-cut.max(0.0))
    }
}

/// The natural logarithm of a positive, normal number, to about 15 digits, from operations that are exact everywhere.
fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0);
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), whose series converges fast for m near 1: |z| < 0.172.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    for divisor in (1..=19).rev().step_by(2) {
        sum = sum * square + 1.0 / f64::from(divisor);
    }
    2.0 * z * sum + exponent as f64 * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let drawn: Vec<f64> = (0..200_000).map(|_| draw()).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        (mean, drawn.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / drawn.len() as f64)
    }

    /// Every figure of docs/congestion.md depends on this order of numbers.
    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let mut random = Random::new(1);
        let first: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(first, [14971601782005023387, 13781649495232077965, 1847458086238483744]);
    }

    #[test]
    fn logarithm_agrees_with_the_platform() {
        for x in [1e-300, 1e-9, 0.1, 0.5, 0.70, 0.71, 1.0, 1.41, 1.42, 2.0, 10.0, 1e9, 1e300_f64] {
            assert!((ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs().max(1.0), "{x}");
        }
    }

    #[test]
    fn distributions_have_their_moments() {
        let mut random = Random::new(7);
        let (mean, variance) = moments(|| random.uniform());
        assert!((mean - 0.5).abs() < 0.005 && (variance - 1.0 / 12.0).abs() < 0.002, "{mean} {variance}");
        let (mean, variance) = moments(|| random.exponential());
        assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let (mean, variance) = moments(|| random.laplace(0.15));
        assert!(mean.abs() < 0.005 && (variance - 2.0 * 0.15 * 0.15).abs() < 0.002, "{mean} {variance}");
        let (mean, variance) = moments(|| random.normal());
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn truncated_normal_stays_within_its_cut() {
        let mut random = Random::new(3);
        let drawn: Vec<f64> = (0..100_000).map(|_| random.truncated_normal(1.5)).collect();
        assert!(drawn.iter().all(|x| x.abs() <= 1.5));
        // 13.4 % of a normal distribution lies beyond 1.5 deviations.
        let at_cut = drawn.iter().filter(|x| x.abs() == 1.5).count() as f64 / 100_000.0;
        assert!((at_cut - 0.134).abs() < 0.005, "{at_cut}");
        assert_eq!(random.truncated_normal(0.0), 0.0);
        for odd in [-1.0, f64::NAN] {
            assert!(random.truncated_normal(odd).is_finite());
        }
    }
}
