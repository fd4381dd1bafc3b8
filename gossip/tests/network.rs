//! The carrier over real sockets on loopback: messages, bodies, strangers, floods of junk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::{Digest, Genesis, PeerId};
use kith_gossip::net::{Network, NetworkEvent, NetworkSettings, Obstacle};
use kith_gossip::{Authenticator, Effect, Input, Refusal};
use libp2p::Multiaddr;

fn secret(number: u8) -> [u8; 32] {
    [number; 32]
}

fn id(number: u8) -> PeerId {
    Authenticator::from_secret(&secret(number)).peer()
}

fn settings(number: u8, listen: &str, allowed: &[u8]) -> NetworkSettings {
    NetworkSettings {
        secret: secret(number),
        federation: Genesis(Digest::of(b"test")),
        listen: vec![listen.parse().expect("an address")],
        bootstrap: Vec::new(),
        allowed: Some(
            allowed
                .iter()
                .map(|number| id(*number))
                .collect::<BTreeSet<_>>(),
        ),
        mdns: false,
        body_bytes_max: 10_000_000,
        connections_max: 16,
    }
}

/// Waits for the event that `pick` wants; every other one is handed to `pick` as well.
async fn until<T>(network: &mut Network, mut pick: impl FnMut(NetworkEvent) -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = pick(network.next().await) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("the awaited event")
}

/// A network, and where it listens (without its id).
async fn listening(settings: NetworkSettings) -> (Network, Multiaddr) {
    let mut network = Network::new(settings).expect("a network");
    let listening = |event| match event {
        NetworkEvent::Listening { address } => Some(address),
        _ => None,
    };
    let address = until(&mut network, listening).await;
    let bare = address
        .iter()
        .filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_)))
        .collect();
    (network, bare)
}

/// Waits for the event that `pick` wants from each of two, and lets both work meanwhile.
async fn both<T>(
    first: &mut Network,
    second: &mut Network,
    pick: impl Fn(NetworkEvent) -> Option<T>,
) -> (T, T) {
    let (mut by_first, mut by_second) = (None, None);
    let wait = async {
        while by_first.is_none() || by_second.is_none() {
            tokio::select! {
                event = first.next() => by_first = pick(event).or(by_first.take()),
                event = second.next() => by_second = pick(event).or(by_second.take()),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("the awaited events");
    by_first.zip(by_second).expect("both")
}

async fn pair(listen: &str) -> (Network, Network) {
    let (mut first, address) = listening(settings(1, listen, &[2])).await;
    let mut options = settings(2, listen, &[1]);
    options.bootstrap = vec![address];
    let mut second = Network::new(options).expect("a network");
    let up = |event| matches!(event, NetworkEvent::Input(Input::PeerUp { .. })).then_some(());
    tokio::join!(until(&mut first, up), until(&mut second, up));
    (first, second)
}

/// Drives a network that serves one body.
async fn serving(network: &mut Network, body: Arc<Vec<u8>>) {
    loop {
        if let NetworkEvent::Input(Input::BodyRequested {
            digest, request, ..
        }) = network.next().await
        {
            let body = (Digest::of(&body) == digest).then(|| Arc::clone(&body));
            network.execute(Effect::Provide { request, body });
        }
    }
}

#[tokio::test]
async fn messages_and_bodies_travel_over_tcp_and_quic() {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let (mut first, mut second) = pair(listen).await;
        for number in 0..50u8 {
            first.execute(Effect::Send {
                to: id(2),
                bytes: vec![number; 1000].into(),
            });
        }
        let mut received = Vec::new();
        let collect = until(&mut second, |event| {
            if let NetworkEvent::Input(Input::Received { from, bytes }) = event {
                assert_eq!(from, id(1));
                received.push(bytes[0]);
            }
            (received.len() == 50).then_some(())
        });
        let idle = async {
            loop {
                first.next().await;
            }
        };
        tokio::select! { () = collect => {}, () = idle => {} }
        assert_eq!(received, (0..50).collect::<Vec<u8>>(), "{listen}: in order");

        let body = Arc::new(
            (0..3_000_000u32)
                .map(|byte| byte as u8)
                .collect::<Vec<u8>>(),
        );
        let digest = Digest::of(&body);
        second.execute(Effect::Fetch {
            digest,
            length: body.len(),
            sources: vec![id(1)],
        });
        let fetched = until(&mut second, |event| match event {
            NetworkEvent::Input(Input::Fetched { digest: got, bytes }) if got == digest => {
                Some(bytes)
            }
            NetworkEvent::Input(Input::FetchFailed { why, .. }) => panic!("{why}"),
            _ => None,
        });
        let bytes = tokio::select! { bytes = fetched => bytes, () = serving(&mut first, Arc::clone(&body)) => unreachable!() };
        assert_eq!(Digest::of(&bytes), digest, "{listen}");
        assert!(
            second.wire_bytes().0 >= 3_000_000,
            "{listen}: {:?}",
            second.wire_bytes()
        );
    }
}

#[tokio::test]
async fn a_body_that_nobody_has_fails_with_a_reason() {
    let (mut first, mut second) = pair("/ip4/127.0.0.1/tcp/0").await;
    second.execute(Effect::Fetch {
        digest: Digest::of(b"nothing"),
        length: 10,
        sources: vec![id(1)],
    });
    let failed = until(&mut second, |event| match event {
        NetworkEvent::Input(Input::FetchFailed { why, .. }) => Some(why),
        _ => None,
    });
    let why = tokio::select! { why = failed => why, () = serving(&mut first, Arc::new(vec![1])) => unreachable!() };
    assert!(why.contains("does not have it"), "{why}");
}

/// That a peer is down is told once the readers of its connection have ended: they must, whichever
/// side has closed it.
#[tokio::test]
async fn streams_end_with_a_connection_that_this_side_closes() {
    let (mut first, mut second) = pair("/ip4/127.0.0.1/tcp/0").await;
    second.execute(Effect::Send {
        to: id(1),
        bytes: vec![7; 100].into(),
    });
    let heard = until(&mut first, |event| {
        matches!(event, NetworkEvent::Input(Input::Received { .. })).then_some(())
    });
    tokio::select! { () = heard => {}, () = idle(&mut second) => unreachable!() }
    first.execute(Effect::Disconnect {
        peer: id(2),
        reason: Refusal::UnknownSender,
    });
    let down = until(&mut first, |event| {
        matches!(event, NetworkEvent::Input(Input::PeerDown { peer }) if peer == id(2))
            .then_some(())
    });
    tokio::select! { () = down => {}, () = idle(&mut second) => unreachable!() }
}

async fn idle(network: &mut Network) {
    loop {
        network.next().await;
    }
}

/// A dense graph pulls many bodies at once: each is served, however many are asked for at a time.
#[tokio::test]
async fn no_pull_is_dropped_because_others_are_served() {
    const BODIES: u32 = 40;
    let (mut first, mut second) = pair("/ip4/127.0.0.1/tcp/0").await;
    let bodies: Vec<Arc<Vec<u8>>> = (0..BODIES)
        .map(|number| Arc::new(number.to_le_bytes().repeat(50_000)))
        .collect();
    for body in &bodies {
        let (digest, length) = (Digest::of(body), body.len());
        second.execute(Effect::Fetch {
            digest,
            length,
            sources: vec![id(1)],
        });
    }
    let mut here = 0;
    let fetched = until(&mut second, |event| match event {
        NetworkEvent::Input(Input::Fetched { .. }) => {
            here += 1;
            (here == BODIES).then_some(())
        }
        NetworkEvent::Input(Input::FetchFailed { why, .. }) => panic!("{why}"),
        _ => None,
    });
    let serve = async {
        loop {
            if let NetworkEvent::Input(Input::BodyRequested {
                digest, request, ..
            }) = first.next().await
            {
                let body = bodies
                    .iter()
                    .find(|body| Digest::of(body) == digest)
                    .map(Arc::clone);
                first.execute(Effect::Provide { request, body });
            }
        }
    };
    tokio::select! { () = fetched => {}, () = serve => unreachable!() }
}

#[tokio::test]
async fn a_port_that_another_network_listens_on_is_an_error() {
    let (_first, address) = listening(settings(1, "/ip4/127.0.0.1/tcp/0", &[2])).await;
    let listen = address.to_string();
    let error = Network::new(settings(2, &listen, &[1]))
        .err()
        .expect("the port is taken")
        .to_string();
    assert!(
        error.contains(&listen) && error.contains("in use"),
        "{error}"
    );
}

/// Both processes learn where the other one is, whichever dials, also when both dial at the same
/// moment; a peer that dials itself is not told anything.
#[tokio::test]
async fn a_key_in_two_places_is_told_to_both_and_a_peer_that_dials_itself_is_told_nothing() {
    let elsewhere = |event: NetworkEvent| match event {
        NetworkEvent::OwnKeyElsewhere { address } => Some(address),
        _ => None,
    };
    let connect = |address: &Multiaddr| Effect::Connect {
        peer: id(1),
        addresses: vec![address.to_string()],
    };
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let (mut first, first_at) = listening(settings(1, listen, &[2])).await;
        first.execute(connect(&first_at));
        let quiet = tokio::time::timeout(Duration::from_secs(2), until(&mut first, elsewhere));
        assert!(quiet.await.is_err(), "it has met itself");
        let (mut double, double_at) = listening(settings(1, listen, &[2])).await;
        first.execute(connect(&double_at));
        double.execute(connect(&first_at));
        let (by_first, by_double) = both(&mut first, &mut double, elsewhere).await;
        assert_ne!(by_first, first_at);
        assert_ne!(by_double, double_at);
        // The one that is called learns it as well.
        let (mut third, _) = listening(settings(1, listen, &[2])).await;
        third.execute(connect(&first_at));
        let (_, by_third) = both(&mut first, &mut third, elsewhere).await;
        assert_eq!(by_third, first_at);
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_with_its_reason() {
    let junk = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = junk.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in junk.incoming().flatten() {
            let _ = std::io::Write::write_all(
                &mut stream,
                b"220 this is not what you are looking for\r\n",
            );
        }
    });
    let other = id(9).to_string();
    let (mut third, right) = listening(settings(3, "/ip4/127.0.0.1/tcp/0", &[])).await;
    let wrong = format!("{right}/p2p/{other}");
    let cases = [
        (
            format!("/ip4/127.0.0.1/tcp/{}", free_port()),
            Obstacle::Refused,
        ),
        (format!("/ip4/127.0.0.1/tcp/{port}"), Obstacle::NotKith),
        (wrong, Obstacle::OtherKey(Some(id(3)))),
    ];
    for (address, expected) in cases {
        let mut options = settings(1, "/ip4/127.0.0.1/tcp/0", &[2, 3, 9]);
        options.bootstrap = vec![address.parse().expect("an address")];
        let mut network = Network::new(options).expect("a network");
        let failed = until(&mut network, |event| match event {
            NetworkEvent::DialFailed { obstacle, why, .. } => Some((obstacle, why)),
            _ => None,
        });
        let (obstacle, why) =
            tokio::select! { found = failed => found, () = idle(&mut third) => unreachable!() };
        assert_eq!(obstacle, expected, "{address}: {why}");
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .expect("loopback")
        .local_addr()
        .expect("bound")
        .port()
}

#[tokio::test]
async fn a_stranger_is_cut_off_before_it_can_say_anything() {
    let mut member = Network::new(settings(1, "/ip4/127.0.0.1/tcp/0", &[2])).unwrap();
    let address = until(&mut member, |event| match event {
        NetworkEvent::Listening { address } => Some(address),
        _ => None,
    })
    .await;
    let mut options = settings(9, "/ip4/127.0.0.1/tcp/0", &[1]);
    options.bootstrap = vec![address];
    let mut stranger = Network::new(options).expect("a network");
    let denied = until(&mut member, |event| match event {
        NetworkEvent::Denied { peer, .. } => Some(peer),
        NetworkEvent::Input(Input::PeerUp { .. }) | NetworkEvent::Input(Input::Received { .. }) => {
            panic!("the stranger got in")
        }
        _ => None,
    });
    let idle = async {
        loop {
            stranger.next().await;
        }
    };
    let peer = tokio::select! { peer = denied => peer, () = idle => unreachable!() };
    assert_eq!(peer, Some(id(9)));
}

#[tokio::test]
async fn peers_that_are_kept_apart_lose_each_other_until_that_ends() {
    let (mut first, mut second) = pair("/ip4/127.0.0.1/tcp/0").await;
    first.keep_apart(BTreeSet::from([id(2)]));
    let down = |event| matches!(event, NetworkEvent::Input(Input::PeerDown { .. })).then_some(());
    both(&mut first, &mut second, down).await;
    // The other one dials on. It is turned away, and nobody is told that a stranger came.
    let attempts = async {
        let mut attempts = 0;
        while attempts < 3 {
            tokio::select! {
                event = first.next() => match event {
                    NetworkEvent::Input(Input::PeerUp { .. }) | NetworkEvent::Denied { .. } => panic!("{event:?}"),
                    _ => {}
                },
                event = second.next() => attempts += usize::from(down(event).is_some()),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), attempts)
        .await
        .expect("it dials again");
    first.keep_apart(BTreeSet::new());
    let up = |event| matches!(event, NetworkEvent::Input(Input::PeerUp { .. })).then_some(());
    both(&mut first, &mut second, up).await;
}

#[tokio::test]
async fn a_busy_port_is_an_error_with_its_address() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("/ip4/127.0.0.1/tcp/{}", holder.local_addr().unwrap().port());
    let error = Network::new(settings(1, &listen, &[]))
        .err()
        .expect("the port is taken")
        .to_string();
    assert!(
        error.contains(&listen) && error.contains("in use"),
        "{error}"
    );
}
