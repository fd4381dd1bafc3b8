//! `kith view`: the page of a testnet, a simulation or a peer from its file of events, which may still
//! grow.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::done;
use super::output::{Failure, Verdict, tell};
use crate::page::Page;
use crate::page::recording::{Noticed, Recording};
use crate::page::server::{PORT, Socket, serve};

/// Pause before a file that may still grow is looked at again (guess: seems immediate).
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Looks at an unfinished line before it is called cut: a testnet writes at least every 1.5 s.
const UNFINISHED_LOOKS: u32 = 12;

/// Show a testnet, a simulation or a peer in a browser, from its file of events
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kith testnet --dir net && kith view net\n  kith view net --speed 5            again, five times as fast\n  kith sim run first.toml --events first.jsonl && kith view first.jsonl\n  kith log --dir ada --export ada.jsonl && kith view ada.jsonl\n\nA file that still grows is followed."
)]
pub(crate) struct View {
    /// The testnet's folder, or its file of events
    place: PathBuf,
    /// Play it again, this many times as fast as it ran; without it the end is shown at once
    #[arg(long, value_parser = speed)]
    speed: Option<f64>,
    /// Port of the page on loopback; if it is in use, a free one is taken and named
    #[arg(long, default_value_t = PORT)]
    port: u16,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: Option<f64> = text.parse().ok();
    speed
        .filter(|speed| speed.is_finite() && *speed > 0.0)
        .ok_or_else(|| "expected a number above 0, for example 1 or 10".to_owned())
}

impl View {
    pub(crate) fn run(self) -> Verdict {
        let (header, recording) =
            Recording::open(&self.place).map_err(|error| Failure::new(error.to_string()))?;
        let page = Arc::new(Page::new(header));
        super::runtime(1)?.block_on(async {
            let socket = open(self.port).await?;
            tell(&format!(
                "the page is at {}; Ctrl-C ends it",
                socket.link(None)
            ));
            let server = serve(socket, page.clone(), None);
            let replay = replay(&page, recording, self.speed);
            tokio::select! {
                () = replay => drop(tokio::signal::ctrl_c().await),
                _ = tokio::signal::ctrl_c() => {}
            }
            server.abort();
            done()
        })
    }
}

/// Feeds the page with a recording, at once or by its times, until it says that it is over or cannot
/// be read on.
async fn replay(page: &Page, mut recording: Recording, speed: Option<f64>) {
    let started = tokio::time::Instant::now();
    let mut ending = Ending::default();
    loop {
        let mut over = false;
        for entry in recording.by_ref() {
            if let Some(speed) = speed {
                // A time beyond what a clock can say does not come.
                let after = Duration::try_from_secs_f64(entry.seconds / speed);
                tokio::time::sleep_until(started + after.unwrap_or_default()).await;
            }
            ending.goes_on(page);
            over |= entry.what == Noticed::Over;
            page.add(&entry);
        }
        let cut = recording.cut();
        if let Some(cut) = cut.as_ref().filter(|_| recording.is_damaged()) {
            page.remark(Some(cut));
            return tell(cut);
        }
        if over {
            return tell("it is shown to its end");
        }
        ending.stands(page, cut);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What has been said about the end of a file that may still grow.
#[derive(Default)]
struct Ending {
    /// Looks at which the file ended in the same unfinished line.
    looks: u32,
    is_followed: bool,
}

impl Ending {
    /// An entry came.
    fn goes_on(&mut self, page: &Page) {
        if self.looks > UNFINISHED_LOOKS {
            page.remark(None);
        }
        self.looks = 0;
    }

    /// Nothing came, and `cut` is what can be said of that.
    fn stands(&mut self, page: &Page, cut: Option<String>) {
        if let Some(cut) = cut {
            self.looks += 1;
            // Whoever writes the file may be in the middle of a line.
            if self.looks == UNFINISHED_LOOKS + 1 {
                page.remark(Some(&cut));
                tell(&cut);
            }
        } else if !self.is_followed {
            self.is_followed = true;
            tell("it is shown to its end so far; what is added to it will be shown");
        }
    }
}

/// A socket for a page on `port`, or, if that is in use, on a free one, which is named.
///
/// # Errors
/// When the operating system gives none.
pub(super) async fn open(port: u16) -> Result<Socket, Failure> {
    let socket = Socket::bind(port).await.map_err(|error| {
        Failure::with_help(
            format!("cannot listen on port {port} of 127.0.0.1: {error}"),
            "choose another port",
        )
    })?;
    if let Some(taken) = socket.taken {
        tell(&format!("port {taken} is in use; a free one is taken"));
    }
    Ok(socket)
}
