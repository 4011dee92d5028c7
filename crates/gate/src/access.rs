//! Who may send through a door where events come in, and how much. Asked before a request is read; doors that are given
//! the same one count a caller's requests together.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::{Auth, Caller, Principal, RateLimits, Rates};

#[derive(Debug, Default)]
pub struct Access {
    auth: Auth,
    rates: Rates,
}

/// Why a request does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("no API key was sent (`playhouse key create` makes one)")]
    NoKey,
    #[error("this API key is not known, or was revoked")]
    UnknownKey,
    #[error("this caller's rate is used up: retry after {} s", .0.as_millis().div_ceil(1000))]
    TooMuch(Duration),
    #[error("this API key may not send to topic {0:?}: `playhouse key list` shows what it may")]
    Topic(String),
}

/// Whoever asks: by its key, else by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    pub caller: Caller,
    principal: Option<Principal>,
}

impl Access {
    pub fn new(auth: Auth, limits: &RateLimits) -> Access {
        Access { auth, rates: Rates::new(limits) }
    }

    /// Who it is. Attempts without a good key go by the rate of their address.
    pub fn identify(&self, key: Option<&str>, address: Option<IpAddr>) -> Result<Visitor, Denied> {
        let Auth::Keys(ring) = &self.auth else {
            return Ok(Visitor { caller: Caller::address(address), principal: None });
        };
        let found = key.ok_or(Denied::NoKey).and_then(|key| ring.principal(key).ok_or(Denied::UnknownKey));
        match found {
            Ok(principal) => Ok(Visitor { caller: Caller::Key(principal.id.clone()), principal: Some(principal) }),
            Err(denied) => {
                self.rates.admit(&Caller::address(address), Instant::now()).map_err(Denied::TooMuch)?;
                Err(denied)
            }
        }
    }

    /// Whether a request of this visitor may go on; its key may have been revoked since.
    pub fn admit(&self, visitor: &Visitor, topic: &str) -> Result<(), Denied> {
        self.rates.admit(&visitor.caller, Instant::now()).map_err(Denied::TooMuch)?;
        match (&self.auth, &visitor.principal) {
            (Auth::None, _) => Ok(()),
            (Auth::Keys(_), None) => Err(Denied::NoKey),
            (Auth::Keys(ring), Some(principal)) if !ring.is_in_force(principal) => Err(Denied::UnknownKey),
            (Auth::Keys(_), Some(principal)) if !principal.may_send_to(topic) => Err(Denied::Topic(topic.to_owned())),
            (Auth::Keys(_), Some(_)) => Ok(()),
        }
    }

    /// Takes the bytes of a request that was admitted.
    pub fn charge(&self, caller: &Caller, bytes: usize) {
        self.rates.charge(caller, bytes, Instant::now());
    }
}
