//! What a request asks for.

use axum::extract::{FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use hyper::body::Body as _;
use playhouse_schema::formats::Format;
use playhouse_schema::registry::{Registered, Shown, VersionSpec, subject_name};
use serde::de::DeserializeOwned;

use crate::body::{Received, receive};
use crate::encoding::Encoding;

use super::refusal::Refusal;
use super::{CONTENT_TYPES, RegistryDoor};

/// The names in the path, and the query.
#[derive(Debug)]
pub(super) struct Asked {
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked, Refusal> {
        let path = RawPathParams::from_request_parts(parts, state).await;
        let path = path.map_err(|rejection| Refusal::bad_request(rejection.body_text()).closing())?;
        let path = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let query = Query::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(|rejection| Refusal::bad_request(rejection.body_text()).closing())?;
        Ok(Asked { path, query })
    }
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) offset: usize,
    pub(super) limit: usize,
}

impl Page {
    pub(super) fn of<T>(self, items: impl Iterator<Item = T>) -> Vec<T> {
        items.skip(self.offset).take(self.limit).collect()
    }
}

impl Asked {
    /// Empty where the path has no such name.
    pub(super) fn name(&self, name: &str) -> &str {
        self.path.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(super) fn subject(&self) -> Result<String, Refusal> {
        Ok(subject_name(self.name("subject"))?.to_owned())
    }

    /// Where the path may leave it out.
    pub(super) fn subject_if_named(&self) -> Result<Option<String>, Refusal> {
        let named = self.path.iter().any(|(name, _)| name == "subject");
        named.then(|| self.subject()).transpose()
    }

    pub(super) fn version(&self) -> Result<VersionSpec, Refusal> {
        Ok(self.name("version").parse()?)
    }

    /// The last of this name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn parameters(&self, name: &str) -> Vec<&str> {
        self.query.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// False if it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.parameter(name) {
            None | Some("") => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(Refusal::bad_request(format!("{name}={value} is neither true nor false"))),
        }
    }

    pub(super) fn shown(&self) -> Result<Shown, Refusal> {
        Ok(match (self.flag("deletedOnly")?, self.flag("deleted")?) {
            (true, _) => Shown::Deleted,
            (false, true) => Shown::All,
            (false, false) => Shown::Live,
        })
    }

    /// `format` asks for another text than the registered one. What Protobuf's clients call `serialized` is nothing else for
    /// other formats.
    pub(super) fn wants_serialized(&self, schema: &Registered) -> Result<bool, Refusal> {
        match self.parameter("format") {
            None | Some("" | "default") => Ok(false),
            Some("serialized") => Ok(schema.format == Format::Protobuf),
            Some(other) => {
                let message = format!("format={other} is not supported for schemas of type {}", schema.format);
                Err(Refusal::unprocessable(message))
            }
        }
    }

    /// A limit below 0 is none, as far as `most` allows.
    pub(super) fn page(&self, most: usize) -> Result<Page, Refusal> {
        let number = |name: &str, default: i64| match self.parameter(name) {
            None | Some("") => Ok(default),
            Some(value) => {
                value.parse().map_err(|_| Refusal::bad_request(format!("{name}={value} is no whole number")))
            }
        };
        let offset = usize::try_from(number("offset", 0)?.max(0)).unwrap_or(usize::MAX);
        let limit = usize::try_from(number("limit", -1)?).map_or(most, |limit| limit.min(most));
        Ok(Page { offset, limit })
    }

    /// The beginning of the names asked for; None if it is one of another context, of which there are none. `:*:` stands for
    /// all contexts.
    pub(super) fn subject_prefix(&self) -> Option<&str> {
        let prefix = self.parameter("subjectPrefix").unwrap_or_default();
        match prefix.strip_prefix(":*:").or_else(|| prefix.strip_prefix(":.:")) {
            Some(prefix) => Some(prefix),
            None if prefix.starts_with(":.") && prefix != ":." => None,
            None if prefix == ":." || prefix == ":*" || prefix == ":" => Some(""),
            None => Some(prefix),
        }
    }
}

/// The body as JSON. An empty one is an empty object.
pub(super) async fn read<T: DeserializeOwned>(door: &RegistryDoor, request: Request) -> Result<T, Refusal> {
    let (head, body) = request.into_parts();
    if let Some(given) = head.headers.get(header::CONTENT_TYPE) {
        let given = given.to_str().unwrap_or_default();
        let plain = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !CONTENT_TYPES.contains(&plain.as_str()) && plain != "application/octet-stream" {
            let message = format!("content type {given:?} is not supported: send {}", CONTENT_TYPES[0]);
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).closing());
        }
    }
    let encoding = Encoding::of(&head.headers)?;
    let announced = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let Received { bytes, lease: _lease } =
        receive(body, announced, encoding, &door.limits, door.budget.lease()).await?;
    let json: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(json).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Refusal::unprocessable(format!("the body is not what it should be: {error}"))
        }
        _ => Refusal::bad_request(format!("the body is not JSON: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &[(&str, &str)]) -> Asked {
        let query = query.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Asked { path: Vec::new(), query }
    }

    #[test]
    fn flags_are_true_false_or_refused() {
        let flag = |value| asked(&[("f", value)]).flag("f").map_err(|_| ());
        assert_eq!([flag("true"), flag("True"), flag("false"), flag("")], [Ok(true), Ok(true), Ok(false), Ok(false)]);
        assert_eq!(flag("yes"), Err(()));
        assert!(!asked(&[]).flag("f").unwrap());
    }

    #[test]
    fn pages_are_cut_out() {
        let page = |offset, limit| asked(&[("offset", offset), ("limit", limit)]).page(5).unwrap().of(0..10);
        assert_eq!(page("0", "-1"), [0, 1, 2, 3, 4]);
        assert_eq!(page("8", "4"), [8, 9]);
        assert_eq!(page("-3", "2"), [0, 1]);
        assert!(asked(&[("limit", "x")]).page(5).is_err());
    }

    #[test]
    fn prefixes_know_the_one_context() {
        let prefix = |prefix| asked(&[("subjectPrefix", prefix)]).subject_prefix().map(str::to_owned);
        for all in ["", ":*:", ":.:", ":."] {
            assert_eq!(prefix(all).as_deref(), Some(""), "{all}");
        }
        assert_eq!(prefix(":*:a").as_deref(), Some("a"));
        assert_eq!(prefix(":a").as_deref(), Some(":a"));
        assert_eq!(prefix(":.other:a"), None);
    }
}
