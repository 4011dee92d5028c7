//! One visit of one viewer: which event comes next, and when.

use super::catalogue::Track;
use super::dice::{Dice, Zipf};

/// The event types that viewers produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    PageView,
    Search,
    Click,
    Like,
    Subscribe,
    VideoView,
    Play,
    Pause,
    Seek,
    Heartbeat,
    BufferStart,
    BufferEnd,
    Complete,
    Error,
}

impl Kind {
    pub const COUNT: usize = 14;

    pub const NAMES: [&'static str; Self::COUNT] = [
        "page_view",
        "search",
        "click",
        "like",
        "subscribe",
        "video_view",
        "play",
        "pause",
        "seek",
        "heartbeat",
        "buffer_start",
        "buffer_end",
        "complete",
        "error",
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What goes into `metadata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Nothing,
    Page(&'static str),
    /// The artist of this track was searched for.
    Query {
        track: u32,
    },
    Quality(&'static str),
    SoughtFrom {
        position_ms: u32,
    },
    Stalled {
        ms: u32,
    },
    Failure(&'static str),
}

/// What happened. Positions and watch time are in ms.
#[derive(Debug, Clone, Copy)]
pub struct Act {
    pub kind: Kind,
    pub track: Option<u32>,
    pub position_ms: Option<u32>,
    pub watched_ms: Option<u32>,
    pub detail: Detail,
}

/// What the viewer does when the session is next due.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Arrive,
    Browse { left: u8 },
    Open,
    Play,
    Heartbeat,
    Pause { leaving: bool },
    Seek,
    Stall,
    Recover { stalled_ms: u32 },
    Fail,
    Complete,
}

/// What there is to choose from.
pub struct Programme<'a> {
    pub tracks: &'a [Track],
    /// Track indexes, the most popular first.
    pub by_rank: &'a [u32],
    pub popularity: &'a Zipf,
}

impl Programme<'_> {
    fn draw(&self, dice: &mut Dice) -> u32 {
        self.by_rank[self.popularity.draw(dice) as usize]
    }
}

const HEARTBEAT_MS: u32 = 10_000;
const PAGES: [&str; 6] = ["/", "/new", "/charts", "/genres", "/library", "/playlists"];
const QUALITIES: [&str; 5] = ["480p", "720p", "1080p", "1080p", "2160p"];
const FAILURES: [&str; 3] = ["network", "decode", "licence"];

#[derive(Debug)]
pub struct Session {
    pub user: u32,
    /// Counts the sessions of a run.
    pub number: u64,
    stage: Stage,
    track: u32,
    position_ms: u32,
    /// Played since the last event, once the session is due.
    watching_ms: u32,
    quality: &'static str,
}

impl Session {
    pub fn new(user: u32, number: u64, dice: &mut Dice) -> Self {
        let quality = dice.pick(&QUALITIES);
        Self { user, number, stage: Stage::Arrive, track: 0, position_ms: 0, watching_ms: 0, quality }
    }

    /// What happens now, and after how many ms the next thing does; `None` if the viewer has gone.
    pub fn step(&mut self, programme: &Programme<'_>, dice: &mut Dice) -> (Act, Option<u64>) {
        match self.stage {
            Stage::Arrive => {
                self.stage = Stage::Browse { left: dice.below(4) as u8 };
                let act = self.browsing(Kind::PageView, None, Detail::Page(PAGES[0]));
                (act, Some(dice.between(1_500, 15_000)))
            }
            Stage::Browse { left } => {
                let act = self.browse(programme, dice);
                if dice.per_mille(80) {
                    return (act, None);
                }
                self.stage = left.checked_sub(1).map_or(Stage::Open, |left| Stage::Browse { left });
                (act, Some(2_000 + dice.exponential(12_000)))
            }
            Stage::Open => {
                self.track = programme.draw(dice);
                self.position_ms = 0;
                self.stage = Stage::Play;
                let act = self.browsing(Kind::VideoView, Some(self.track), Detail::Quality(self.quality));
                (act, Some(dice.between(100, 900)))
            }
            Stage::Play => {
                let act = self.playing(Kind::Play, None, Detail::Quality(self.quality));
                if self.position_ms == 0 && dice.per_mille(300) {
                    self.watching_ms = 0;
                    self.stage = Stage::Stall;
                    return (act, Some(dice.between(20, 200)));
                }
                (act, self.watch_on(programme, dice))
            }
            Stage::Heartbeat => {
                let act = self.watched(Kind::Heartbeat, Detail::Quality(self.quality));
                (act, self.watch_on(programme, dice))
            }
            Stage::Pause { leaving } => {
                let act = self.watched(Kind::Pause, Detail::Nothing);
                if leaving {
                    return (act, None);
                }
                self.stage = Stage::Play;
                (act, Some(1_000 + dice.exponential(60_000)))
            }
            Stage::Seek => {
                let from = self.position_ms.saturating_add(self.watching_ms);
                let duration = programme.tracks[self.track as usize].duration_ms;
                self.position_ms = dice.below(u64::from(duration)) as u32;
                let act = self.playing(Kind::Seek, Some(self.watching_ms), Detail::SoughtFrom { position_ms: from });
                (act, self.watch_on(programme, dice))
            }
            Stage::Stall => {
                let act = self.watched(Kind::BufferStart, Detail::Quality(self.quality));
                let stalled_ms = 80 + dice.exponential(900).min(30_000) as u32;
                self.stage = Stage::Recover { stalled_ms };
                (act, Some(u64::from(stalled_ms)))
            }
            Stage::Recover { stalled_ms } => {
                let act = self.playing(Kind::BufferEnd, None, Detail::Stalled { ms: stalled_ms });
                (act, self.watch_on(programme, dice))
            }
            Stage::Fail => {
                let act = self.watched(Kind::Error, Detail::Failure(dice.pick(&FAILURES)));
                self.stage = Stage::Play;
                (act, dice.per_mille(600).then(|| dice.between(800, 4_000)))
            }
            Stage::Complete => {
                let act = self.watched(Kind::Complete, Detail::Quality(self.quality));
                let next = match dice.below(100) {
                    0..55 => Some(Stage::Open),
                    55..80 => Some(Stage::Browse { left: dice.below(3) as u8 }),
                    _ => None,
                };
                self.stage = next.unwrap_or(Stage::Open);
                (act, next.map(|_| dice.between(400, 4_000)))
            }
        }
    }

    fn browse(&self, programme: &Programme<'_>, dice: &mut Dice) -> Act {
        let track = programme.draw(dice);
        match dice.below(100) {
            0..20 => self.browsing(Kind::PageView, None, Detail::Page(dice.pick(&PAGES))),
            20..45 => self.browsing(Kind::PageView, Some(track), Detail::Page("/track")),
            45..70 => self.browsing(Kind::Search, None, Detail::Query { track }),
            70..90 => self.browsing(Kind::Click, Some(track), Detail::Nothing),
            90..97 => self.browsing(Kind::Like, Some(track), Detail::Nothing),
            _ => self.browsing(Kind::Subscribe, Some(track), Detail::Nothing),
        }
    }

    /// Chooses how the next stretch of watching ends, and returns how long it lasts; `None`: the viewer vanishes and the
    /// stretch goes unreported.
    fn watch_on(&mut self, programme: &Programme<'_>, dice: &mut Dice) -> Option<u64> {
        let duration_ms = programme.tracks[self.track as usize].duration_ms;
        let left_ms = duration_ms.saturating_sub(self.position_ms);
        let stretch_ms = left_ms.min(HEARTBEAT_MS);
        let cut_short = match dice.below(1000) {
            0..12 => Some(Stage::Pause { leaving: dice.per_mille(150) }),
            12..24 => Some(Stage::Seek),
            24..34 => Some(Stage::Stall),
            34..44 => Some(Stage::Pause { leaving: true }),
            44..54 => return None,
            54..56 => Some(Stage::Fail),
            _ => None,
        };
        (self.stage, self.watching_ms) = match cut_short {
            Some(stage) => (stage, dice.below(u64::from(stretch_ms) + 1) as u32),
            None if left_ms <= HEARTBEAT_MS => (Stage::Complete, left_ms),
            None => (Stage::Heartbeat, HEARTBEAT_MS),
        };
        Some(u64::from(self.watching_ms))
    }

    fn browsing(&self, kind: Kind, track: Option<u32>, detail: Detail) -> Act {
        Act { kind, track, position_ms: None, watched_ms: None, detail }
    }

    fn playing(&self, kind: Kind, watched_ms: Option<u32>, detail: Detail) -> Act {
        Act { kind, track: Some(self.track), position_ms: Some(self.position_ms), watched_ms, detail }
    }

    /// An event that reports the stretch just watched.
    fn watched(&mut self, kind: Kind, detail: Detail) -> Act {
        self.position_ms = self.position_ms.saturating_add(self.watching_ms);
        self.playing(kind, Some(self.watching_ms), detail)
    }
}
