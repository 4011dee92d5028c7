//! Event schemas: subjects and compiled validators

/// Why an event is not valid.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// JSON pointer (RFC 6901) to the offending value; empty for the whole event.
    pub path: String,
    pub message: String,
    /// The schema keyword that failed (`required`, `type`, …), or `json`, `encoding`, `depth`, `size`.
    pub keyword: String,
}
