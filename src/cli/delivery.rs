//! What `generate` and `replay` share: where events go, and how progress shows.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use playhouse_generate::send::{ClientConfig, Courier, Summary, Target, TargetError};
use tokio::sync::watch;

#[derive(Debug, Args)]
pub struct DeliveryArgs {
    /// Topic to send to; the door's default topic if not given
    #[arg(long)]
    topic: Option<String>,

    /// API key, where the door asks for one
    #[arg(long, value_name = "KEY", env = "PLAYHOUSE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,

    /// Events per second, at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,

    /// Requests under way at once; above 1, neighbouring batches may arrive in another order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,

    /// How long to keep trying while the door does not answer, or asks to slow down
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = playhouse_generate::parse_span)]
    give_up_after: Duration,
}

impl DeliveryArgs {
    pub fn target(&self, url: &str) -> Result<Target, TargetError> {
        Target::new(url, self.topic.as_deref())
    }

    /// A courier that tells `meter` about trouble, and continues `summary`.
    pub fn courier(&self, target: Target, meter: &Meter, summary: Summary) -> Courier {
        let meter = meter.clone();
        let give_up_after = self.give_up_after;
        let config = ClientConfig {
            patience: give_up_after,
            api_key: self.api_key.clone(),
            on_trouble: Arc::new(move |cause| {
                meter.say(&format!("{cause}; trying again for up to {} s", give_up_after.as_secs()));
            }),
            ..ClientConfig::new(target)
        };
        Courier::new(config, usize::from(self.connections), summary)
    }
}

/// Turns true at the first Ctrl-C; the second ends the process.
pub fn stop_on_ctrl_c() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let mut presses = 0;
        while tokio::signal::ctrl_c().await.is_ok() {
            presses += 1;
            if presses > 1 {
                std::process::exit(INTERRUPTED.into());
            }
            sender.send_replace(true);
        }
        // Without signals nobody can stop it; the sender has to live all the same.
        sender.closed().await;
    });
    receiver
}

/// The exit code that shells expect after Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Progress on standard error: a bar in place on a terminal, otherwise a line every few seconds.
#[derive(Clone)]
pub struct Meter {
    bar: ProgressBar,
    terminal: bool,
    last: Instant,
}

const LINE_EVERY: Duration = Duration::from_secs(5);

impl Meter {
    /// `total` in whatever unit [`Meter::show`] is given; a spinner if unknown.
    pub fn new(total: Option<u64>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), "{bar:30} {percent:>3}%  {msg}  {elapsed}"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, terminal, last: Instant::now() }
    }

    pub fn show(&mut self, position: u64, message: impl FnOnce() -> String) {
        if self.terminal {
            self.bar.set_position(position);
            self.bar.set_message(message());
        } else if self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            match self.bar.length() {
                Some(total) if total > 0 => eprintln!("{:>3}%  {}", position.saturating_mul(100) / total, message()),
                _ => eprintln!("{}", message()),
            }
        }
    }

    /// Says something beside the bar.
    pub fn say(&self, text: &str) {
        if self.terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
