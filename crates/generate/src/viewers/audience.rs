//! Who comes, and when: viewers drawn by popularity, each awake by the clock of their own country.

use super::addresses::Country;
use super::dice::{Dice, Zipf};

/// How likely a viewer is to start a session in each local hour, from midnight, in per mille of the evening peak.
const DAY_CURVE: [u64; 24] = [
    330, 210, 130, 90, 80, 110, 190, 320, 400, 410, 420, 450, 520, 530, 490, 490, 540, 640, 770, 900, 1000, 970, 790,
    540,
];

pub struct Audience {
    users: Zipf,
}

impl Audience {
    pub fn new(users: u32) -> Self {
        // Nobody watches thousands of times more than the middle of the audience: flatten the head of the curve.
        Self { users: Zipf::new(users, 20 + users / 20) }
    }

    /// The chance, averaged over day and world, that a drawn viewer is awake.
    pub fn awake_per_mille() -> u64 {
        DAY_CURVE.iter().sum::<u64>() / 24
    }

    pub fn draw(&self, dice: &mut Dice) -> u32 {
        self.users.draw(dice)
    }

    /// Whether the viewer starts a session at this moment, drawn from the day curve at their local time.
    pub fn is_awake(&self, user: u32, at_ms: i64, dice: &mut Dice) -> bool {
        let minutes = at_ms.div_euclid(60_000) + i64::from(Country::of(user).utc_offset_minutes);
        let local = minutes.rem_euclid(24 * 60) as u64;
        let (hour, minute) = ((local / 60) as usize, local % 60);
        let chance = (DAY_CURVE[hour] * (60 - minute) + DAY_CURVE[(hour + 1) % 24] * minute) / 60;
        dice.per_mille(chance)
    }
}
