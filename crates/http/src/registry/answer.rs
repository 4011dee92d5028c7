//! Answers. Their content type comes last, in the router.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use serde::Serialize;

use super::refusal::Refusal;

/// A list is sent in pieces of about so many bytes, made when the client takes them.
const PIECE_BYTES: usize = 64 << 10;

pub(super) type Answer = Result<Response, Refusal>;

pub(super) fn json(value: &impl Serialize) -> Answer {
    let json = serde_json::to_vec(value).map_err(|error| {
        let message = format!("the answer is no JSON: {error}");
        Refusal::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    Ok(Response::new(Body::from(json)))
}

/// A schema's text alone.
pub(super) fn text(text: &str) -> Answer {
    Ok(Response::new(Body::from(text.to_owned())))
}

/// A JSON array. What is still to be sent is held as it is, not as text.
pub(super) fn list<T: Send + Unpin + 'static>(items: Vec<T>, write: fn(&T, &mut Vec<u8>)) -> Answer {
    let mut list = List { items: items.into_iter(), write, begun: false, ended: false };
    let first = list.piece();
    Ok(Response::new(if list.ended {
        Body::from(first)
    } else {
        Body::new(Begun { first: Some(Bytes::from(first)), list })
    }))
}

/// For [`list`]: structs and texts, which cannot fail.
pub(super) fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "{written:?}");
}

struct List<T> {
    items: std::vec::IntoIter<T>,
    write: fn(&T, &mut Vec<u8>),
    begun: bool,
    ended: bool,
}

impl<T> List<T> {
    fn piece(&mut self) -> Vec<u8> {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            match self.items.next() {
                Some(item) => {
                    piece.push(if self.begun { b',' } else { b'[' });
                    self.begun = true;
                    (self.write)(&item, &mut piece);
                }
                None => {
                    piece.extend_from_slice(if self.begun { b"]" } else { b"[]" });
                    self.ended = true;
                    break;
                }
            }
        }
        piece
    }
}

struct Begun<T> {
    first: Option<Bytes>,
    list: List<T>,
}

impl<T: Unpin> HttpBody for Begun<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.list.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(self.list.piece())))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn lists_of_any_length_are_json() {
        for length in [0, 1, 10, 30_000] {
            let numbers: Vec<usize> = (0..length).collect();
            let response = list(numbers.clone(), write_json).unwrap();
            let exact = response.body().size_hint().exact().is_some();
            assert_eq!(exact, length <= 10, "short ones come with their length");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Vec<usize>>(&body).unwrap(), numbers);
        }
    }
}
