//! `[status] page = true`: what this peer sees, in a browser on this machine.
//!
//! The page knows this peer's lines and nothing of the others' roles. Its one order is to leave.

use std::sync::Arc;

use kith_consensus::Charter;
use tokio::sync::{Notify, mpsc};

use crate::cli::output::Failure;
use crate::cli::recording::header_of_peer;
use crate::cli::view::open;
use crate::config::Config;
use crate::error::NodeError;
use crate::identity::Identity;
use crate::page::Page;
use crate::page::recording::{Entry, Header, Noticed};
use crate::page::server::{ORDERS_MAX, Order, PORT, serve};
use crate::telemetry::{Line, NodeEvent, What};
use crate::token::Token;

/// A page that is asked for and not served yet: made before the peer starts, so that what is wrong
/// with it is said then.
pub(super) struct Wanted {
    header: Header,
    token_file: std::path::PathBuf,
}

impl Wanted {
    /// `None` if the configuration asks for no page.
    ///
    /// # Errors
    /// When the charter does not say who exchanges updates with whom.
    pub(super) fn of(
        config: &Config,
        charter: &Charter,
        own: &Identity,
    ) -> Result<Option<Wanted>, Failure> {
        if !config.status.page {
            return Ok(None);
        }
        Ok(Some(Wanted {
            header: header_of_peer(charter, &own.peer())?,
            token_file: config.token_file(),
        }))
    }

    /// Serves it until the process ends. The peer has started, so its secret is there.
    ///
    /// # Errors
    /// When there is no port, or the secret cannot be read.
    pub(super) async fn serve(self, leave: Arc<Notify>) -> Result<Shown, Failure> {
        let token = Token::read(&self.token_file).map_err(NodeError::from)?;
        let page = Arc::new(Page::new(self.header));
        let socket = open(PORT).await?;
        tracing::info!(
            "its page: {} (for orders add #t= and what is in {})",
            socket.link(None),
            self.token_file.display()
        );
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        drop(serve(socket, page.clone(), Some((token, sender))));
        tokio::spawn(obey(orders, leave));
        Ok(Shown(page))
    }
}

/// A page that is served.
pub(super) struct Shown(Arc<Page>);

impl Shown {
    pub(super) fn add(&self, line: &Line) {
        let entry = |what| Entry {
            seconds: line.at_seconds,
            what,
        };
        self.0.add(&entry(Noticed::Line(line.clone())));
        if matches!(&line.what, What::Node(NodeEvent::Report { .. })) {
            self.0.add(&entry(Noticed::Over));
        }
    }

    /// Says that lines are missing.
    pub(super) fn misses(&self, lines: u64) {
        self.0.remark(Some(&format!(
            "{lines} events are missing here: they came too fast"
        )));
    }
}

async fn obey(mut orders: mpsc::Receiver<Order>, leave: Arc<Notify>) {
    while let Some(Order { request, answer }) = orders.recv().await {
        let reply = match request["command"].as_str() {
            Some("leave") => {
                leave.notify_one();
                Ok("it says goodbye and stops".to_owned())
            }
            _ => Err("not an order: a peer's page can only let it leave".to_owned()),
        };
        // The asker may be gone.
        let _ = answer.send(reply);
    }
}
