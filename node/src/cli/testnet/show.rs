//! The page of a testnet that runs, and the orders that come from it.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::super::output::{Failure, tell};
use super::super::view::open;
use super::answer::Answer;
use super::control::Request;
use super::directory::Directory;
use super::ending::Ending;
use crate::page::Page;
use crate::page::recording::Header;
use crate::page::server::{ORDERS_MAX, Order, serve};
use crate::token::Token;

/// File in the testnet's folder with the secret that orders from the page need.
const TOKEN_FILE: &str = "page.token";

/// A page while it is served.
pub(super) struct Show {
    pub(super) page: Arc<Page>,
    pub(super) orders: mpsc::Receiver<Order>,
    /// Its one thread serves.
    _runtime: Runtime,
}

impl Show {
    /// Serves the page of a testnet that is about to start, and says where.
    ///
    /// # Errors
    /// When there is no port or no secret for it.
    pub(super) fn start(
        port: u16,
        header: &Header,
        directory: &Directory,
    ) -> Result<Show, Failure> {
        let runtime = super::super::runtime(1)?;
        let token = Token::of_run(directory.path.join(TOKEN_FILE))
            .map_err(|error| Failure::new(error.to_string()))?;
        let page = Arc::new(Page::new(header.clone()));
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let socket = runtime.block_on(open(port))?;
        tell(&format!("the page is at {}", socket.link(Some(&token))));
        let entered = runtime.enter();
        drop(serve(socket, page.clone(), Some((token, sender))));
        drop(entered);
        Ok(Show {
            page,
            orders,
            _runtime: runtime,
        })
    }
}

/// Keeps the page until the user has seen enough.
pub(super) fn stay(ending: &Ending) {
    tell("the page stays until Ctrl-C");
    // Without a sender there are no signals to wait for.
    let _ = ending.signals().blocking_recv();
}

/// What an order asks for, and where the supervisor's answer goes; `None` if it asks for something
/// else, which is its answer.
pub(super) fn read(order: Order) -> Option<(Request, oneshot::Sender<Answer>)> {
    let request = match serde_json::from_value(order.request) {
        Ok(request) => request,
        Err(error) => {
            // The asker may be gone.
            let _ = order.answer.send(Err(format!("not an order: {error}")));
            return None;
        }
    };
    let (sender, answer) = oneshot::channel();
    tokio::spawn(async move {
        let reply = match answer.await {
            Ok(Answer::Refused { why, .. }) => Err(why),
            Ok(Answer::Done { what, .. }) => Ok(what),
            Ok(Answer::Status { .. }) => Ok("it runs".to_owned()),
            Err(_) => Err("the testnet has ended".to_owned()),
        };
        // The asker may be gone.
        let _ = order.answer.send(reply);
    });
    Some((request, sender))
}
