//! Who may ask a server of this program: programs of this machine or with its secret, not a web page
//! that happens to be open on it.
//!
//! A page whose name was rebound to this machine's address sends that name as `Host`; a page of
//! another site sends its `Origin` or `Sec-Fetch-Site` (Fetch standard, W3C Fetch Metadata). All
//! three are checked for every path, before any answer.
//!
//! | request | on loopback | on another address |
//! |---|---|---|
//! | `GET /live`, `/ready` | anybody | anybody |
//! | any other `GET` | anybody | the secret |
//! | anything else, such as `POST /leave` | the secret | the secret, and only from this machine |

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::token::Token;

/// Paths that a probe without a secret may ask: they say one word.
const OPEN: [&str; 2] = ["/live", "/ready"];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What requests are checked against.
pub(crate) struct Guard {
    /// The address at which the server listens.
    pub(crate) served: SocketAddr,
    /// Further names of it, from the configuration.
    pub(crate) names: Vec<String>,
    /// The secret; without one nothing but reads from loopback is answered.
    pub(crate) token: Option<Token>,
}

/// Why a request gets no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It may not be asked from where it comes.
    Foreign(String),
    /// It does not show the secret.
    NoToken(String),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Refused::Foreign(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
            Refused::NoToken(why) => {
                let scheme = [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
                (StatusCode::UNAUTHORIZED, scheme, format!("{why}\n")).into_response()
            }
        }
    }
}

impl Guard {
    /// Whether a request from an address may be answered.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admit(
        &self,
        from: SocketAddr,
        (method, uri): (&Method, &Uri),
        headers: &HeaderMap,
    ) -> Result<(), Refused> {
        let host = self.host(uri, headers).map_err(Refused::Foreign)?;
        same_site(&host, headers).map_err(Refused::Foreign)?;
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if reads && (self.served.ip().is_loopback() || OPEN.contains(&uri.path())) {
            return Ok(());
        }
        if !reads && !from.ip().is_loopback() {
            let why = "only this machine may give orders; ask on it, for example with `kith backup --dir …`";
            return Err(Refused::Foreign(why.to_owned()));
        }
        let Some(token) = &self.token else {
            let why = "this server takes no orders; it only shows what has been";
            return Err(Refused::Foreign(why.to_owned()));
        };
        if is_shown(token, headers) {
            return Ok(());
        }
        let owner = if reads {
            ""
        } else {
            "only this machine's owner may ask that: "
        };
        Err(Refused::NoToken(format!(
            "{owner}expected \"Authorization: Bearer\" and the secret in the token file, {}",
            token.path().file_name().unwrap_or_default().display()
        )))
    }

    /// The one host that a request names, which is this server's.
    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<Authority, String> {
        let expected = || format!("expected {}", self.expected());
        let hosts: Vec<_> = headers.get_all(HOST).iter().collect();
        let [host] = hosts[..] else {
            let count = hosts.len();
            return Err(format!(
                "the request has {count} Host headers; {}",
                expected()
            ));
        };
        let host = host.to_str().ok().and_then(|host| host.parse().ok());
        let Some(host) = host else {
            return Err(format!("the Host header is not a host; {}", expected()));
        };
        let mut named = std::iter::once(&host).chain(uri.authority());
        match named.find(|named| !self.is_ours(named)) {
            Some(named) => Err(format!(
                "{:?} is not this server's name; {}",
                named.as_str(),
                expected()
            )),
            None => Ok(host),
        }
    }

    /// Names of loopback and the address that is served, each with its port, and what the
    /// configuration names. A server on every address has none of its own: there any address is
    /// right, since a rebound name never is one.
    fn is_ours(&self, named: &Authority) -> bool {
        let configured = |name: &String| {
            name.eq_ignore_ascii_case(named.as_str()) || name.eq_ignore_ascii_case(named.host())
        };
        if self.names.iter().any(configured) {
            return true;
        }
        if named.as_str().contains('@') || named.port_u16().unwrap_or(80) != self.served.port() {
            return false;
        }
        let host = named.host().trim_start_matches('[').trim_end_matches(']');
        let served = self.served.ip();
        host.eq_ignore_ascii_case("localhost")
            || host
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_loopback() || ip == served || served.is_unspecified())
    }

    /// What a request may name, for people.
    fn expected(&self) -> String {
        let port = self.served.port();
        let first = if self.served.ip().is_unspecified() {
            format!("an address of this machine with port {port}")
        } else {
            self.served.to_string()
        };
        let names = self.names.iter().cloned();
        let all: Vec<String> = [first, format!("localhost:{port}")]
            .into_iter()
            .chain(names)
            .collect();
        format!("{} ([status] names accepts more)", all.join(", "))
    }
}

/// Whether a request shows the secret.
fn is_shown(token: &Token, headers: &HeaderMap) -> bool {
    let shown = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
        // The scheme's case does not count (RFC 9110, section 11.1).
        scheme.eq_ignore_ascii_case("bearer").then_some(secret)
    });
    shown.is_some_and(|shown| token.is(shown.trim()))
}

/// Whether a request comes from a program, or from a page that this server itself would serve under
/// that host.
fn same_site(host: &Authority, headers: &HeaderMap) -> Result<(), String> {
    let same = |value: &HeaderValue| {
        let origin = value.to_str().ok();
        let rest = origin.and_then(|origin| {
            origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"))
        });
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str()))
    };
    let own = |value: &HeaderValue| value == "same-origin" || value == "none";
    if headers.get_all(ORIGIN).iter().all(same) && headers.get_all(SEC_FETCH_SITE).iter().all(own) {
        return Ok(());
    }
    Err(format!(
        "pages of other sites are not answered; expected no Origin, or http://{host}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "127.0.0.1:50000";
    const AWAY: &str = "192.0.2.99:50000";

    /// A server's guard and its secret.
    fn guard(served: &str, names: &[&str]) -> (Guard, String) {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::of_run(folder.path().join("token")).unwrap();
        let secret = std::fs::read_to_string(token.path()).unwrap();
        let guard = Guard {
            served: served.parse().unwrap(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            token: Some(token),
        };
        (guard, secret.trim().to_owned())
    }

    /// The status of the answer to a request; 200 if it is admitted.
    fn asked(guard: &Guard, from: &str, what: (Method, &str), headers: &[(&str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let uri: Uri = what.1.parse().unwrap();
        match guard.admit(from.parse().unwrap(), (&what.0, &uri), &map) {
            Ok(()) => 200,
            Err(refused) => refused.into_response().status().as_u16(),
        }
    }

    fn get(guard: &Guard, headers: &[(&str, &str)]) -> u16 {
        asked(guard, HOME, (Method::GET, "/status"), headers)
    }

    #[test]
    fn only_names_of_loopback_and_of_the_served_address_are_answered() {
        let (loopback, _) = guard("127.0.0.1:9464", &[]);
        let host = |host| get(&loopback, &[("host", host)]);
        for name in [
            "127.0.0.1:9464",
            "localhost:9464",
            "LOCALHOST:9464",
            "[::1]:9464",
            "127.0.0.2:9464",
        ] {
            assert_eq!(host(name), 200, "{name}");
        }
        for name in [
            "evil.example",
            "evil.example:9464",
            "127.0.0.1.evil.example:9464",
            "localhost.evil.example:9464",
            "192.0.2.7:9464",
            "evil@127.0.0.1:9464",
            "127.0.0.1:9465",
            "127.0.0.1",
            "localhost",
            "",
        ] {
            assert_eq!(host(name), 403, "{name}");
        }
        assert_eq!(get(&loopback, &[]), 403);
        let two = [("host", "127.0.0.1:9464"), ("host", "evil.example")];
        assert_eq!(get(&loopback, &two), 403);
        let absolute = (Method::GET, "http://evil.example/status");
        let own = [("host", "127.0.0.1:9464")];
        assert_eq!(asked(&loopback, HOME, absolute, &own), 403);
        let answer = loopback.host(&Uri::from_static("/"), &HeaderMap::new());
        assert!(
            answer
                .unwrap_err()
                .contains("expected 127.0.0.1:9464, localhost:9464")
        );
    }

    #[test]
    fn beyond_loopback_the_own_address_and_configured_names_are_answered() {
        let host = |served, names: &[&str], host| {
            let (guard, secret) = guard(served, names);
            let shown = format!("Bearer {secret}");
            get(&guard, &[("host", host), ("authorization", &shown)])
        };
        assert_eq!(host("192.0.2.7:9464", &[], "192.0.2.7:9464"), 200);
        assert_eq!(host("192.0.2.7:9464", &[], "192.0.2.8:9464"), 403);
        assert_eq!(host("[2001:db8::7]:9464", &[], "[2001:db8::7]:9464"), 200);
        assert_eq!(host("0.0.0.0:9464", &[], "192.0.2.8:9464"), 200);
        assert_eq!(host("0.0.0.0:9464", &[], "192.0.2.8:9465"), 403);
        assert_eq!(host("0.0.0.0:9464", &[], "kith.example.org:9464"), 403);
        let names = &["kith.example.org", "proxy.example.org:8443"];
        for (name, code) in [
            ("kith.example.org:9464", 200),
            ("KITH.example.org", 200),
            ("proxy.example.org:8443", 200),
            ("proxy.example.org:9464", 403),
            ("evil.kith.example.org:9464", 403),
        ] {
            assert_eq!(host("0.0.0.0:9464", names, name), code, "{name}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_not_answered() {
        let (guard, secret) = guard("127.0.0.1:9464", &[]);
        let host = ("host", "127.0.0.1:9464");
        let from = |name, value| get(&guard, &[host, (name, value)]);
        assert_eq!(from("origin", "http://127.0.0.1:9464"), 200);
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:8000",
            "file://127.0.0.1:9464",
            "",
        ] {
            assert_eq!(from("origin", origin), 403, "{origin}");
        }
        for (site, code) in [
            ("same-origin", 200),
            ("none", 200),
            ("same-site", 403),
            ("cross-site", 403),
        ] {
            assert_eq!(from("sec-fetch-site", site), code, "{site}");
        }
        let shown = format!("Bearer {secret}");
        let foreign = [
            host,
            ("origin", "http://evil.example"),
            ("authorization", &shown),
        ];
        assert_eq!(asked(&guard, HOME, (Method::POST, "/leave"), &foreign), 403);
    }

    #[test]
    fn orders_take_the_secret_and_so_do_readers_from_outside() {
        let (loopback, secret) = guard("127.0.0.1:9464", &[]);
        let (shown, longer) = (format!("Bearer {secret}"), format!("Bearer {secret}0"));
        let home = ("host", "127.0.0.1:9464");
        for path in ["/leave", "/snapshot", "/none"] {
            let order = |headers: &[_]| asked(&loopback, HOME, (Method::POST, path), headers);
            assert_eq!(order(&[home]), 401, "{path}");
            for wrong in ["Bearer ", &secret, &longer, "Basic x"] {
                assert_eq!(order(&[home, ("authorization", wrong)]), 401, "{wrong}");
            }
            assert_eq!(order(&[home, ("authorization", &shown)]), 200, "{path}");
        }
        let (open, secret) = guard("192.0.2.7:9464", &[]);
        let (host, shown) = (("host", "192.0.2.7:9464"), format!("bearer {secret}"));
        let shown = ("authorization", shown.as_str());
        for path in ["/status", "/metrics", "/log", "/none"] {
            // From this machine too: behind a proxy everybody comes from it.
            for from in [HOME, AWAY] {
                let read = |headers: &[_]| asked(&open, from, (Method::GET, path), headers);
                assert_eq!((read(&[host]), read(&[host, shown])), (401, 200), "{path}");
            }
        }
        for path in OPEN {
            assert_eq!(asked(&open, AWAY, (Method::GET, path), &[host]), 200);
        }
        let leave = |from| asked(&open, from, (Method::POST, "/leave"), &[host, shown]);
        assert_eq!((leave(HOME), leave(AWAY)), (200, 403));
    }
}
