//! Threads that send without pause while there is somebody to send to, and keep the books.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use playhouse_testkit::http;
use serde_json::Value;

use crate::dice::Dice;
use crate::events::{self, Id, Ledger};

const SMALL: u64 = 6;
const LARGE: u64 = 600;
/// One request in so many is large.
const LARGE_EVERY: u64 = 60;
/// One event in so many is one that was sent before; as many are invalid.
const RESENT_EVERY: u64 = 25;
const INVALID_EVERY: u64 = 40;

#[derive(Default)]
struct Target {
    /// Changes with every life of the process.
    life: u64,
    address: Option<SocketAddr>,
    finished: bool,
}

type Shared = Arc<(Mutex<Target>, Condvar)>;

pub struct Senders {
    target: Shared,
    threads: Vec<JoinHandle<Ledger>>,
}

impl Senders {
    pub fn start(count: u32, seed: u64) -> Senders {
        let target = Shared::default();
        let threads = (0..count).map(|sender| {
            let target = target.clone();
            let dice = Dice::new(seed.wrapping_mul(31).wrapping_add(u64::from(sender)));
            let sender = Sender { sender, dice, sent: 0, invalid: 0, ledger: Ledger::default(), target };
            std::thread::spawn(|| sender.run())
        });
        Senders { threads: threads.collect(), target }
    }

    pub fn send_to(&self, address: SocketAddr) {
        self.change(|target| {
            target.life += 1;
            target.address = Some(address);
        });
    }

    /// No new requests; those on their way stay on their way.
    pub fn pause(&self) {
        self.change(|target| target.address = None);
    }

    pub fn finish(self) -> Ledger {
        self.change(|target| target.finished = true);
        let mut all = Ledger::default();
        for thread in self.threads {
            all.add(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    }

    fn change(&self, change: impl FnOnce(&mut Target)) {
        // A sender that found something wrong fails the test at once.
        if self.threads.iter().any(JoinHandle::is_finished) {
            panic!("a sender has failed: see above");
        }
        change(&mut self.target.0.lock().unwrap());
        self.target.1.notify_all();
    }
}

#[derive(Clone, Copy)]
enum Event {
    Valid(Id),
    Invalid(Id),
}

struct Sender {
    sender: u32,
    dice: Dice,
    sent: u32,
    invalid: u32,
    ledger: Ledger,
    target: Shared,
}

impl Sender {
    fn run(mut self) -> Ledger {
        while let Some((life, address)) = self.wait() {
            let events = self.events();
            let text = |event: &Event| match event {
                Event::Valid(id) => events::text(*id),
                Event::Invalid(id) => events::invalid_text(*id),
            };
            let body: Vec<String> = events.iter().map(text).collect();
            self.ledger.requests += 1;
            match http::post(
                address,
                "/events",
                &[("Content-Type", "application/x-ndjson")],
                body.join("\n").as_bytes(),
            ) {
                Ok(response) if response.status == 429 => self.ledger.throttled += 1,
                Ok(response) if self.current(life) || matches!(response.status, 200 | 422) => {
                    assert!(matches!(response.status, 200 | 422), "{}: {}", response.status, response.text());
                    self.answered(&events, &response.json());
                }
                Ok(_) => self.ledger.unanswered += 1,
                Err(error) => {
                    assert!(!self.current(life), "a request failed though nobody was killed: {error}");
                    self.ledger.unanswered += 1;
                }
            }
        }
        self.ledger
    }

    /// Whom to send to; nobody any more at the end.
    fn wait(&self) -> Option<(u64, SocketAddr)> {
        let mut target = self.target.0.lock().unwrap();
        loop {
            match target.address {
                _ if target.finished => return None,
                Some(address) => return Some((target.life, address)),
                None => target = self.target.1.wait(target).unwrap(),
            }
        }
    }

    /// Whether the process of that life has not been killed yet.
    fn current(&self, life: u64) -> bool {
        let target = self.target.0.lock().unwrap();
        target.life == life && target.address.is_some()
    }

    fn events(&mut self) -> Vec<Event> {
        let most = if self.dice.below(LARGE_EVERY) == 0 { LARGE } else { SMALL };
        let count = 1 + self.dice.below(most);
        let mut events = Vec::new();
        for _ in 0..count {
            if self.dice.below(INVALID_EVERY) == 0 {
                let id = Id { sender: self.sender, number: self.invalid };
                self.invalid += 1;
                self.ledger.invalid.sending(id);
                events.push(Event::Invalid(id));
            } else if self.sent > 0 && self.dice.below(RESENT_EVERY) == 0 {
                let number = self.dice.below(u64::from(self.sent)) as u32;
                self.ledger.resent += 1;
                events.push(Event::Valid(Id { sender: self.sender, number }));
            } else {
                let id = Id { sender: self.sender, number: self.sent };
                self.sent += 1;
                self.ledger.valid.sending(id);
                events.push(Event::Valid(id));
            }
        }
        events
    }

    fn answered(&mut self, events: &[Event], answer: &Value) {
        let results = answer["results"].as_array().expect("results in the answer");
        assert_eq!(results.len(), events.len(), "one result per event");
        for (event, result) in events.iter().zip(results) {
            match event {
                Event::Valid(id) => {
                    assert_eq!(result["status"], "accepted", "{}: {result}", events::text(*id));
                    self.ledger.valid.acknowledge(*id);
                }
                Event::Invalid(id) => {
                    assert_eq!(result["status"], "rejected", "{}: {result}", events::invalid_text(*id));
                    self.ledger.invalid.acknowledge(*id);
                }
            }
        }
    }
}
