//! Text that every store can hold.

use std::borrow::Cow;

/// PostgreSQL refuses the character NUL, and SQLite's tools cut a text at it: both stores get U+FFFD in its place.
pub(crate) fn without_nul(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}
