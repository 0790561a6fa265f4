//! Zipf's distribution by rejection and inversion: W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates from
//! monotone discrete distributions" (1996). Constant time and no tables, for any number of keys.

/// Ranks 1 to `ranks`; rank k has a weight of k to the power of minus `exponent`.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    ranks: u64,
    exponent: f64,
    /// The area below the hat at its two ends.
    first: f64,
    last: f64,
    /// A draw this close above its rank is accepted without a look at the curve.
    shortcut: f64,
}

impl Zipf {
    /// `exponent` must not be 1, where the area's formula has no value.
    pub(super) fn new(ranks: u64, exponent: f64) -> Self {
        let mut zipf = Self { ranks, exponent, first: 0.0, last: 0.0, shortcut: 0.0 };
        zipf.first = zipf.area(1.5) - 1.0;
        zipf.last = zipf.area(ranks as f64 + 0.5);
        zipf.shortcut = 2.0 - zipf.inverse(zipf.area(2.5) - 2.0_f64.powf(-exponent));
        zipf
    }

    /// The integral of x to the power of minus the exponent.
    fn area(&self, x: f64) -> f64 {
        x.powf(1.0 - self.exponent) / (1.0 - self.exponent)
    }

    fn inverse(&self, area: f64) -> f64 {
        (area * (1.0 - self.exponent)).powf(1.0 / (1.0 - self.exponent))
    }

    /// A rank.
    pub(super) fn sample(&self, random: &mut fastrand::Rng) -> u64 {
        loop {
            let area = self.last + random.f64() * (self.first - self.last);
            let x = self.inverse(area);
            let rank = ((x + 0.5) as u64).clamp(1, self.ranks);
            let k = rank as f64;
            if k - x <= self.shortcut || area >= self.area(k + 0.5) - k.powf(-self.exponent) {
                return rank;
            }
        }
    }
}
