//! Whether an address can be used: the carrier speaks TCP, and QUIC over UDP. Multiaddresses can
//! say much more, and a mistake there would show only when no peer can be reached.

use std::net::IpAddr;

use kith_gossip::net::NetworkEvent;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// To listen on.
    Listen,
    /// To dial.
    Dial,
}

impl Use {
    fn example(self) -> &'static str {
        match self {
            Use::Listen => {
                "expected for example \"/ip4/0.0.0.0/tcp/4001\" or \"/ip4/0.0.0.0/udp/4001/quic-v1\""
            }
            Use::Dial => {
                "expected for example \"/ip4/192.0.2.7/tcp/4001\" or \"/dns4/peer.example/udp/4001/quic-v1\""
            }
        }
    }
}

/// Why a text is no address for this use; one sentence with what was expected.
pub(crate) fn problem(text: &str, used: Use) -> Option<String> {
    let why = unusable(text, used)?;
    Some(format!("{text:?} {why}; {}", used.example()))
}

fn unusable(text: &str, used: Use) -> Option<String> {
    if let Err(error) = text
        .parse()
        .map(|address| NetworkEvent::Listening { address })
    {
        return Some(format!("is not an address ({error})"));
    }
    let parts: Vec<&str> = text.split('/').skip(1).collect();
    // The id of the expected peer may stand at the end.
    let place = match &parts[..] {
        [place @ .., "p2p", _] => place,
        place => place,
    };
    let verb = if used == Use::Listen {
        "be listened on"
    } else {
        "be dialled"
    };
    let host = match place {
        ["dnsaddr", _] if used == Use::Dial => return None,
        [
            kind @ ("ip4" | "ip6" | "dns" | "dns4" | "dns6"),
            host,
            rest @ ..,
        ] => match rest {
            ["tcp", port] | ["udp", port, "quic-v1"] => (kind, host, *port),
            [] => return Some(format!("cannot {verb}: it names no port")),
            ["udp", _] => {
                return Some(format!(
                    "cannot {verb}: over UDP only QUIC is spoken, add /quic-v1"
                ));
            }
            _ => {
                return Some(format!(
                    "cannot {verb}: only TCP and QUIC are spoken, not /{}",
                    rest.join("/")
                ));
            }
        },
        _ => return Some(format!("cannot {verb}: it does not begin with a host")),
    };
    let (kind, host, port) = host;
    let unspecified = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    match used {
        Use::Listen if kind.starts_with("dns") => {
            Some("cannot be listened on: a name is for others to dial".to_owned())
        }
        Use::Dial if port == "0" => {
            Some("cannot be dialled: port 0 is for listening on any free one".to_owned())
        }
        Use::Dial if unspecified => Some(
            "cannot be dialled: it stands for all addresses of the machine that listens".to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_transport_speaks_is_accepted() {
        let id = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";
        for text in [
            "/ip4/127.0.0.1/tcp/0".to_owned(),
            "/ip4/0.0.0.0/udp/4001/quic-v1".to_owned(),
            "/ip6/::/tcp/4001".to_owned(),
            format!("/ip6/::1/udp/4001/quic-v1/p2p/{id}"),
        ] {
            assert_eq!(problem(&text, Use::Listen), None, "{text}");
        }
        for text in [
            "/ip4/192.0.2.7/tcp/4001".to_owned(),
            format!("/ip4/192.0.2.7/tcp/4001/p2p/{id}"),
            format!("/dns4/peer.example/udp/4001/quic-v1/p2p/{id}"),
            "/dns/peer.example/tcp/4001".to_owned(),
            "/dns6/peer.example/tcp/4001".to_owned(),
            format!("/dnsaddr/peer.example/p2p/{id}"),
        ] {
            assert_eq!(problem(&text, Use::Dial), None, "{text}");
        }
    }

    #[test]
    fn what_no_transport_speaks_is_refused_with_the_reason() {
        for (text, said) in [
            ("localhost:4001", "is not an address"),
            ("", "cannot"),
            ("/ip4/127.0.0.1", "no port"),
            ("/ip4/127.0.0.1/udp/4701", "add /quic-v1"),
            ("/ip4/127.0.0.1/tcp/4701/ws", "only TCP and QUIC"),
            ("/ip4/127.0.0.1/tcp/4701/tls/ws", "only TCP and QUIC"),
            ("/ip4/127.0.0.1/udp/4701/quic", "only TCP and QUIC"),
            ("/ip4/127.0.0.1/udp/4701/webrtc-direct", "only TCP and QUIC"),
            ("/ip4/127.0.0.1/sctp/4701", "only TCP and QUIC"),
            ("/memory/7", "begin with a host"),
            (
                "/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo",
                "begin with a host",
            ),
            ("/unix/tmp", "begin with a host"),
        ] {
            for used in [Use::Listen, Use::Dial] {
                let why = problem(text, used)
                    .unwrap_or_else(|| panic!("{text} is accepted for {used:?}"));
                assert!(
                    why.contains(said) && why.contains("expected for example"),
                    "{text}: {why}"
                );
            }
        }
        assert!(
            problem("/ip4/127.0.0.1/tcp/0", Use::Dial).is_some_and(|why| why.contains("port 0"))
        );
        assert!(
            problem("/ip4/0.0.0.0/tcp/4001", Use::Dial)
                .is_some_and(|why| why.contains("all addresses"))
        );
        assert!(
            problem("/dns4/peer.example/tcp/4001", Use::Listen)
                .is_some_and(|why| why.contains("for others to dial"))
        );
    }
}
