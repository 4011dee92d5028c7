//! Random draws that are the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64, run: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&run.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number in `0..bound`; `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    pub fn between(&mut self, low: u64, high_exclusive: u64) -> u64 {
        low + self.below(high_exclusive - low)
    }

    pub fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// An exponentially distributed number with the given mean, by von Neumann's comparison method (1951): it needs no
    /// logarithm.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let mut whole = 0u64;
        loop {
            let first = self.0.next_u64();
            let mut previous = first;
            let mut run = 1u32;
            loop {
                let next = self.0.next_u64();
                if next >= previous {
                    break;
                }
                previous = next;
                run += 1;
            }
            if run % 2 == 1 {
                let fraction = ((u128::from(first) * u128::from(mean)) >> 64) as u64;
                return whole.saturating_mul(mean).saturating_add(fraction);
            }
            whole += 1;
        }
    }
}

/// Spreads a number over 64 bits (the finaliser of SplitMix64), for properties that follow from an identity.
pub fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Ranks drawn by popularity: the weight of rank r is 1 / (r + flatness), in fixed point (Zipf and Mandelbrot).
pub struct Zipf {
    cumulative: Vec<u64>,
}

impl Zipf {
    /// `ranks` must not be 0, `flatness` at least 1: the larger, the less the first ranks stand out.
    pub fn new(ranks: u32, flatness: u32) -> Self {
        let mut total = 0;
        let cumulative = (0..ranks)
            .map(|rank| {
                total += (1u64 << 32) / (u64::from(rank) + u64::from(flatness));
                total
            })
            .collect();
        Self { cumulative }
    }

    pub fn draw(&self, dice: &mut Dice) -> u32 {
        let total = self.cumulative[self.cumulative.len() - 1];
        let point = dice.below(total);
        self.cumulative.partition_point(|&upper| upper <= point) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_has_its_mean_and_its_tail() {
        let mut dice = Dice::new(1, 0);
        let draws: Vec<u64> = (0..200_000).map(|_| dice.exponential(1000)).collect();
        let mean = draws.iter().sum::<u64>() / draws.len() as u64;
        assert!((985..1015).contains(&mean), "mean {mean}");
        let beyond_three = draws.iter().filter(|&&draw| draw > 3000).count();
        assert!((9_400..10_500).contains(&beyond_three), "e^-3 of 200,000 is 9,957, not {beyond_three}");
    }

    #[test]
    fn zipf_favours_the_first_ranks() {
        let zipf = Zipf::new(1000, 1);
        let mut dice = Dice::new(2, 0);
        let mut counts = vec![0u32; 1000];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut dice) as usize] += 1;
        }
        // 1 / H(1000) = 13.4 %
        assert!((12_900..13_900).contains(&counts[0]), "{}", counts[0]);
        assert!((6_300..7_100).contains(&counts[1]), "{}", counts[1]);
        assert!(counts[500..].iter().sum::<u32>() > 5_000);
    }
}
