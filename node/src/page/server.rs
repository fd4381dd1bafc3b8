//! The page over HTTP, on loopback only: eight files at most, a stream of snapshots, orders.
//!
//! `GET /` and the assets, `GET /stream` (server-sent events), `POST /order` (JSON, with the
//! secret). Everything comes from this program: the policy below lets the page ask nobody else.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::Stream;
use maud::html;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Page, tables};
use crate::http::access::Guard;
use crate::http::listener::BoundedListener;
use crate::http::{From, look};
use crate::token::Token;

/// The port if none is asked for (guess: not registered with IANA).
pub(crate) const PORT: u16 = 9470;
/// Shortest time between two snapshots of one stream. A browser shares the cores of the testnet that
/// it shows: at 500 ms Chromium took a tenth of a core (measured, eight peers). A second looks live
/// (guess), and leaves another one in which a killed peer is shown as gone.
const BETWEEN: Duration = Duration::from_secs(1);
/// Longest life of a connection; a stream that ends so is resumed.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Most bytes of an order.
const ORDER_BYTES_MAX: usize = 4096;
/// Orders that wait for the supervisor.
pub(crate) const ORDERS_MAX: usize = 16;

/// The page may load and ask only what this server has, and its scripts may make no markup out of
/// text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

/// Where the tables for browsers without scripts go.
const TABLES: &str = "<!-- tables -->";
const INDEX: &str = include_str!("assets/index.html");
/// The files besides the page itself: path, type, content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("/page.css", "text/css", include_str!("assets/page.css")),
    ("/page.js", SCRIPT, include_str!("assets/page.js")),
    ("/graph.js", SCRIPT, include_str!("assets/graph.js")),
    ("/charts.js", SCRIPT, include_str!("assets/charts.js")),
    ("/draw.js", SCRIPT, include_str!("assets/draw.js")),
];
const SCRIPT: &str = "text/javascript";

/// An order from the page, as JSON, and where its answer goes: what was done, or why not.
pub(crate) struct Order {
    pub(crate) request: serde_json::Value,
    pub(crate) answer: oneshot::Sender<Result<String, String>>,
}

/// A socket on loopback for a page.
pub(crate) struct Socket {
    listener: TcpListener,
    address: SocketAddr,
    /// The port that was asked for and is in use.
    pub(crate) taken: Option<u16>,
}

impl Socket {
    /// Listens on `port`, or on a free one if that is in use.
    ///
    /// # Errors
    /// What the operating system said.
    pub(crate) async fn bind(port: u16) -> std::io::Result<Socket> {
        let at = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let (listener, taken) = match at(port).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => (at(0).await?, Some(port)),
            bound => (bound?, None),
        };
        let address = listener.local_addr()?;
        Ok(Socket {
            listener,
            address,
            taken,
        })
    }

    /// Where a browser finds the page; with a secret it may give orders.
    pub(crate) fn link(&self, token: Option<&Token>) -> String {
        let secret = token.map_or(String::new(), |token| format!("#t={}", token.text()));
        format!("http://{}/{secret}", self.address)
    }
}

/// The page as it is served.
#[derive(Clone)]
struct Served {
    page: Arc<Page>,
    /// `None` if the page only shows.
    orders: Option<mpsc::Sender<Order>>,
    /// Tells the streams of one server from those of another at the same port.
    run: Arc<str>,
}

/// Serves a page until the task is aborted. Orders need the secret; without one there are none.
pub(crate) fn serve(
    socket: Socket,
    page: Arc<Page>,
    control: Option<(Token, mpsc::Sender<Order>)>,
) -> JoinHandle<()> {
    let (token, orders) = control.unzip();
    let guard = Guard {
        served: socket.address,
        names: Vec::new(),
        token,
    };
    let started = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let started = started.map_or(0, |since| since.as_micros());
    let served = Served {
        page,
        orders,
        run: format!("{started:x}").into(),
    };
    let routes = ASSETS.iter().fold(Router::new(), |routes, asset| {
        let (path, kind, content) = *asset;
        let answer = async move || ([(header::CONTENT_TYPE, kind)], content);
        routes.route(path, get(answer))
    });
    let routes = routes
        .route("/", get(index))
        .route("/stream", get(stream))
        .route("/order", post(order))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(DefaultBodyLimit::max(ORDER_BYTES_MAX))
        .layer(from_fn_with_state(Arc::new(guard), look))
        .layer(from_fn(async |request, next: axum::middleware::Next| {
            (HEADERS, next.run(request).await)
        }))
        .with_state(served);
    tokio::spawn(async move {
        let listener = BoundedListener::new(socket.listener, LIFETIME);
        let service = routes.into_make_service_with_connect_info::<From>();
        if let Err(error) = axum::serve(listener, service).await {
            tracing::warn!("the page is no longer served: {error}");
        }
    })
}

/// What goes with every answer.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// The page with its numbers as tables, which its script replaces.
async fn index(State(served): State<Served>) -> Response {
    let shown = served.page.snapshot(u64::MAX);
    let name = html! { (shown.name) };
    let text = INDEX
        .replace("<!-- name -->", &name.0)
        .replace(TABLES, &tables::markup(&shown).0);
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

/// Snapshots as server-sent events: one at once, then one after every change, though not too often.
/// A reader that names the last one it has gets only newer ones, and only the events since.
async fn stream(
    State(served): State<Served>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let last = headers
        .get("last-event-id")
        .and_then(|id| resumed(&served.run, id.to_str().ok()?));
    let changed = served.page.changed.subscribe();
    let start = (served, changed, last);
    let snapshots = futures::stream::unfold(start, move |(served, mut changed, last)| async move {
        if let Some((changes, _)) = last {
            let newer = changed.wait_for(|now| *now != changes).await;
            newer.ok()?;
            tokio::time::sleep(BETWEEN).await;
        }
        let changes = *changed.borrow_and_update();
        let shown = served.page.snapshot(last.map_or(0, |(_, listed)| listed));
        let id = format!("{}.{changes}.{}", served.run, shown.listed);
        let last = Some((changes, shown.listed));
        let event = Event::default().id(id).json_data(&shown).ok()?;
        Some((Ok(event), (served, changed, last)))
    });
    Sse::new(snapshots).keep_alive(KeepAlive::default())
}

/// The changes and the listed events that a reader of this run has seen.
fn resumed(run: &str, id: &str) -> Option<(u64, u64)> {
    let (changes, listed) = id.strip_prefix(run)?.strip_prefix('.')?.split_once('.')?;
    Some((changes.parse().ok()?, listed.parse().ok()?))
}

/// An order, which the guard has already let through.
async fn order(
    State(served): State<Served>,
    Json(request): Json<serde_json::Value>,
) -> (StatusCode, String) {
    let (answer, answered) = oneshot::channel();
    let order = Order { request, answer };
    let over = (
        StatusCode::SERVICE_UNAVAILABLE,
        "the testnet is over".to_owned(),
    );
    let Some(orders) = served.orders else {
        return over;
    };
    if orders.send(order).await.is_err() {
        return over;
    }
    match answered.await {
        Ok(Ok(done)) => (StatusCode::OK, done),
        Ok(Err(why)) => (StatusCode::CONFLICT, why),
        Err(_) => over,
    }
}

#[cfg(test)]
mod tests {
    use super::super::recording::tests::{entry, header};
    use super::*;
    use std::io::{Read as _, Write as _};

    /// Assets: at most eight files and 120 kB, so that the first paint is quick.
    #[test]
    fn the_page_is_small() {
        let bytes: usize = ASSETS.iter().map(|(_, _, content)| content.len()).sum();
        let bytes = bytes + INDEX.len();
        assert!(ASSETS.len() < 8 && bytes <= 120_000, "{bytes} bytes");
        assert!(INDEX.contains(TABLES));
        let elsewhere = |text: &&str| text.contains("https://") || text.contains("//cdn");
        let contents = ASSETS.iter().map(|(_, _, content)| *content);
        assert_eq!(contents.chain([INDEX]).find(elsewhere), None);
    }

    #[tokio::test]
    async fn a_port_in_use_gives_a_free_one() {
        let first = Socket::bind(0).await.unwrap();
        assert_eq!(first.taken, None);
        let port = first.address.port();
        let second = Socket::bind(port).await.unwrap();
        assert_eq!(second.taken, Some(port));
        assert_ne!(second.address.port(), port);
        assert!(second.address.ip().is_loopback());
        let free = second.address.port();
        assert_eq!(second.link(None), format!("http://127.0.0.1:{free}/"));
    }

    /// The answer to a request, up to `enough` or its end.
    fn asked(address: SocketAddr, head: &str, body: &str, enough: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let timeout = Some(Duration::from_secs(20));
        stream.set_read_timeout(timeout).unwrap();
        let length = body.len();
        let request = format!("{head}Host: {address}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let (mut text, mut piece) = (String::new(), [0; 4096]);
        while !text.contains(enough) {
            match stream.read(&mut piece).unwrap() {
                0 => break,
                count => text += &String::from_utf8_lossy(&piece[..count]),
            }
        }
        text
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn snapshots_stream_and_resume_and_orders_take_the_secret() {
        let page = Arc::new(Page::new(header()));
        let suspected = |score| kith_gossip::Event::Suspected {
            peer: kith_consensus::PeerId([3; 32]),
            score,
        };
        page.add(&entry(1.0, 1, suspected(1.0)));
        let folder = tempfile::tempdir().unwrap();
        let token = Token::of_run(folder.path().join("page.token")).unwrap();
        let secret = token.text().to_owned();
        let (orders, mut ordered) = mpsc::channel(ORDERS_MAX);
        let socket = Socket::bind(0).await.unwrap();
        let address = socket.address;
        assert!(
            socket
                .link(Some(&token))
                .ends_with(&format!("/#t={secret}"))
        );
        let server = serve(socket, page.clone(), Some((token, orders)));
        tokio::spawn(async move {
            while let Some(Order { request, answer }) = ordered.recv().await {
                let _ = answer.send(Ok(format!("did {}", request["command"])));
            }
        });
        let ask = tokio::task::spawn_blocking(move || {
            let text = asked(address, "GET /stream HTTP/1.1\r\n", "", "\n\n");
            assert!(text.contains(&format!("content-security-policy: {POLICY}")));
            assert!(text.contains("\"listed\":1"), "{text}");
            let id = text.lines().find_map(|line| line.strip_prefix("id: "));
            let resume = format!("GET /stream HTTP/1.1\r\nLast-Event-ID: {}\r\n", id.unwrap());
            page.add(&entry(2.0, 1, suspected(2.0)));
            let text = asked(address, &resume, "", "\"listed\":");
            let rest = text.split("\"events\":").last().unwrap_or_default();
            assert!(
                text.contains("\"listed\":2") && !rest.contains("\"number\":1,"),
                "{text}"
            );
            let other = "GET /stream HTTP/1.1\r\nLast-Event-ID: other.9.9\r\n";
            let all = asked(address, other, "", "\"number\":2");
            assert!(all.contains("\"number\":1,"), "another run's id: {all}");
            let order = "POST /order HTTP/1.1\r\nContent-Type: application/json\r\n";
            let body = r#"{"command":"kill","node":"peer-1"}"#;
            assert!(asked(address, order, body, "secret").starts_with("HTTP/1.1 401"));
            let shown = format!("{order}Authorization: Bearer {secret}\r\n");
            let text = asked(address, &shown, body, "did");
            assert!(text.contains("did \"kill\""), "{text}");
            let foreign = format!("{shown}Origin: http://evil.example\r\n");
            assert!(asked(address, &foreign, body, "sites").starts_with("HTTP/1.1 403"));
            let rebound = "GET / HTTP/1.1\r\nHost: evil.example\r\n";
            assert!(asked(address, rebound, "", "expected").starts_with("HTTP/1.1 403"));
            let form = format!(
                "POST /order HTTP/1.1\r\nContent-Type: text/plain\r\nAuthorization: Bearer {secret}\r\n"
            );
            assert!(asked(address, &form, body, "type").starts_with("HTTP/1.1 415"));
        });
        ask.await.unwrap();
        server.abort();
    }
}
