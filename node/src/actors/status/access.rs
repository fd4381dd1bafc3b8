//! Who may ask the status server: programs of this machine, not a web page that happens to be open
//! on it.
//!
//! A page whose name was rebound to this machine's address sends that name as `Host`; a page of
//! another site sends its `Origin`. Both are checked on every route, before any answer. Orders,
//! such as to leave, also need a secret.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use zeroize::Zeroizing;

use crate::error::NodeError;
use crate::private;

/// File in the state folder with the secret that `POST` routes ask for, as `Authorization: Bearer
/// …`.
pub const OWNER_TOKEN_FILE: &str = "owner.token";

/// Why a request does not come from a program of this machine; `None` if it does. `served` is the
/// address at which the server listens.
pub(crate) fn refusal(served: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let hosts: Vec<_> = headers.get_all(HOST).iter().collect();
    let [host] = hosts[..] else {
        return Some("expected one Host header".to_owned());
    };
    let Some(host) = host
        .to_str()
        .ok()
        .and_then(|host| host.parse::<Authority>().ok())
    else {
        return Some("the Host header is not a host".to_owned());
    };
    for named in std::iter::once(&host).chain(uri.authority()) {
        if !is_ours(served.ip(), named.host()) {
            return Some(format!(
                "{:?} is not this server's name; ask at http://{served}",
                named.host()
            ));
        }
    }
    // A page that this server itself would serve has its host and port.
    let same = |origin: &str| {
        let rest = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str()))
    };
    let foreign = headers
        .get_all(ORIGIN)
        .iter()
        .any(|origin| !origin.to_str().is_ok_and(same));
    foreign.then(|| "pages of other sites are not answered".to_owned())
}

/// Names of loopback and the address that is served. A server on every address has none of its own;
/// a rebound name never is an address.
fn is_ours(served: IpAddr, host: &str) -> bool {
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case("localhost.") {
        return true;
    }
    host.parse::<IpAddr>()
        .is_ok_and(|ip| ip.is_loopback() || ip == served || served.is_unspecified())
}

/// The secret of one run, in a file that only the peer's owner can read. Removed with the run.
pub(crate) struct OwnerToken {
    path: PathBuf,
    text: Zeroizing<String>,
}

impl OwnerToken {
    /// Makes a new secret in the state folder.
    ///
    /// # Errors
    /// When there is no randomness, or the file cannot be written.
    pub(crate) fn create(state: &Path) -> Result<OwnerToken, NodeError> {
        let mut secret = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *secret).map_err(|error| {
            NodeError::Unfit(format!(
                "the operating system gave no random bytes: {error}"
            ))
        })?;
        let text = Zeroizing::new(blake3::Hash::from_bytes(*secret).to_hex().to_string());
        let path = state.join(OWNER_TOKEN_FILE);
        private::write(&path, format!("{}\n", *text).as_bytes())
            .map_err(|error| NodeError::io("write", &path, error))?;
        Ok(OwnerToken { path, text })
    }

    /// Whether the request carries the secret. The comparison takes the same time whatever the
    /// request carries.
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        shown.is_some_and(|shown| {
            blake3::hash(shown.trim().as_bytes()) == blake3::hash(self.text.as_bytes())
        })
    }
}

impl Drop for OwnerToken {
    fn drop(&mut self) {
        private::remove_own(&self.path, &format!("{}\n", *self.text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn asked(served: &str, headers: &[(axum::http::HeaderName, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        refusal(served.parse().unwrap(), &Uri::from_static("/status"), &map).is_none()
    }

    #[test]
    fn only_names_of_loopback_and_of_the_served_address_are_answered() {
        let host = |served, host| asked(served, &[(HOST, host)]);
        for name in [
            "127.0.0.1:9464",
            "localhost:9464",
            "LOCALHOST",
            "[::1]:9464",
            "127.0.0.2",
        ] {
            assert!(host("127.0.0.1:9464", name), "{name}");
        }
        for name in [
            "evil.example",
            "evil.example:9464",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "192.0.2.7",
            "",
        ] {
            assert!(!host("127.0.0.1:9464", name), "{name}");
        }
        assert!(host("192.0.2.7:9464", "192.0.2.7:9464") && !host("192.0.2.7:9464", "192.0.2.8"));
        assert!(host("[2001:db8::7]:9464", "[2001:db8::7]:9464"));
        assert!(host("0.0.0.0:9464", "192.0.2.8") && !host("0.0.0.0:9464", "evil.example"));
        assert!(!asked("127.0.0.1:9464", &[]));
        assert!(!asked(
            "127.0.0.1:9464",
            &[(HOST, "127.0.0.1"), (HOST, "evil.example")]
        ));
        let mut map = HeaderMap::new();
        map.insert(HOST, HeaderValue::from_static("127.0.0.1"));
        let absolute = Uri::from_static("http://evil.example/status");
        assert!(refusal("127.0.0.1:9464".parse().unwrap(), &absolute, &map).is_some());
    }

    #[test]
    fn pages_of_other_sites_are_not_answered() {
        let from = |origin| {
            asked(
                "127.0.0.1:9464",
                &[(HOST, "127.0.0.1:9464"), (ORIGIN, origin)],
            )
        };
        assert!(from("http://127.0.0.1:9464"));
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:8000",
            "file://127.0.0.1:9464",
            "",
        ] {
            assert!(!from(origin), "{origin}");
        }
    }

    #[test]
    fn leaving_takes_the_secret_of_this_run() {
        let folder = tempfile::tempdir().unwrap();
        let token = OwnerToken::create(folder.path()).unwrap();
        let path = folder.path().join(OWNER_TOKEN_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = |value: &str| {
            let mut map = HeaderMap::new();
            map.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            token.is_shown(&map)
        };
        assert!(shown(&format!("Bearer {}", text.trim())));
        assert!(
            !shown("Bearer ") && !shown(text.trim()) && !shown(&format!("Bearer {}0", text.trim()))
        );
        drop(token);
        assert!(!path.exists());
    }
}
