//! Ways in which an event can be wrong.

use super::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    NoId,
    NoTimestamp,
    NoType,
    NoUser,
    UserIsNumber,
    TimestampIsNumber,
    TimestampIsWord,
    TimestampImpossible,
    PositionIsText,
    PositionNegative,
    /// The line ends in the middle.
    CutShort,
    /// A byte that is not UTF-8.
    NotUtf8,
}

impl Fault {
    pub const ALL: [Fault; 12] = [
        Fault::NoId,
        Fault::NoTimestamp,
        Fault::NoType,
        Fault::NoUser,
        Fault::UserIsNumber,
        Fault::TimestampIsNumber,
        Fault::TimestampIsWord,
        Fault::TimestampImpossible,
        Fault::PositionIsText,
        Fault::PositionNegative,
        Fault::CutShort,
        Fault::NotUtf8,
    ];

    pub fn draw(dice: &mut Dice) -> Self {
        dice.pick(&Self::ALL)
    }
}

/// How much too early a late event's timestamp is, in ms: two minutes to about four and a half hours, shorter delays
/// more often.
pub fn lateness_ms(dice: &mut Dice) -> i64 {
    let doublings = dice.below(7);
    let base = 120_000u64 << doublings;
    dice.between(base, base * 2) as i64
}
