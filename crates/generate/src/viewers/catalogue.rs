//! What there is to listen to.

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
pub struct Track {
    pub content_id: String,
    pub title: String,
    pub artist: String,
    pub album: String,
    pub genre: String,
    pub duration_ms: u32,
}

/// The tracks in the order of the file. Popularity is assigned by the generator, not stored.
#[derive(Debug, Clone)]
pub struct Catalogue {
    tracks: Vec<Track>,
}

impl Catalogue {
    /// The catalogue compiled into the binary (`data/catalogue.ndjson`).
    pub fn bundled() -> Self {
        let text = include_str!("../../../../data/catalogue.ndjson");
        let tracks = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("the bundled catalogue is valid: a test reads it"))
            .collect();
        Self { tracks }
    }

    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_catalogue_is_whole() {
        let catalogue = Catalogue::bundled();
        assert_eq!(catalogue.tracks().len(), 3503);
        assert_eq!(catalogue.tracks()[41].content_id, "track-42");
        assert!(catalogue.tracks().iter().all(|track| track.duration_ms > 0 && !track.title.is_empty()));
    }
}
