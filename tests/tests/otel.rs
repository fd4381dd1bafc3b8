//! Spans of real peers, as a collector gets them. Built with the feature `otel` alone.
#![cfg(feature = "otel")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use common::{Federation, Running, kith};

/// A span's name, the id of its trace, its own and its parent's.
#[derive(Debug)]
struct Span {
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
}

/// A collector of a test's own: each POST to `/v1/traces` becomes an entry.
fn collector() -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, bodies) = sync_channel(64);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                loop {
                    let mut head = Vec::new();
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        if line == "\r\n" {
                            break;
                        }
                        head.push(line.to_ascii_lowercase());
                    }
                    assert!(head[0].starts_with("post /v1/traces "), "{head:?}");
                    let length = head
                        .iter()
                        .find_map(|line| line.strip_prefix("content-length: "));
                    let length = length.expect("a length").trim().parse().expect("a number");
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).expect("a body");
                    if sender.send(body).is_err() {
                        return;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
                    reader.get_mut().write_all(answer).expect("written");
                }
            });
        }
    });
    (format!("http://{address}"), bodies)
}

/// The fields of a message that hold bytes, by number (the wire format of Protocol Buffers).
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a number");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                varint(&mut bytes);
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            kind => panic!("wire type {kind}"),
        };
        let (value, rest) = bytes.split_at(length);
        if key & 7 == 2 {
            found.push((key >> 3, value));
        }
        bytes = rest;
    }
    found
}

fn field(message: &[u8], number: u64) -> Vec<&[u8]> {
    let fields = fields(message).into_iter();
    fields
        .filter(|(found, _)| *found == number)
        .map(|(_, value)| value)
        .collect()
}

/// The spans of an `ExportTraceServiceRequest`: its resource spans, their scope spans, and theirs.
fn spans(request: &[u8]) -> Vec<Span> {
    let scopes = field(request, 1)
        .into_iter()
        .flat_map(|of_resource| field(of_resource, 2));
    let spans = scopes.flat_map(|of_scope| field(of_scope, 2));
    let one = |span: &[u8], number| field(span, number).concat();
    spans
        .map(|span| Span {
            name: String::from_utf8(one(span, 5)).expect("text"),
            trace: one(span, 1),
            id: one(span, 2),
            parent: one(span, 4),
        })
        .collect()
}

#[test]
fn a_collector_sees_one_trace_for_each_round_from_three_processes() {
    const ROUNDS: usize = 4;
    let (endpoint, bodies) = collector();
    let federation = Federation::new(3, &["--rounds", &ROUNDS.to_string()]);
    let mut peers: Vec<Running> = federation
        .names
        .iter()
        .map(|name| {
            let mut command = kith();
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
            Running::with(command, &federation.dir(name))
        })
        .collect();
    for peer in &mut peers {
        assert_eq!(peer.end(), Some(0));
    }
    let deadline = Instant::now() + common::PATIENCE;
    let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
    let rounds = |traces: &BTreeMap<Vec<u8>, Vec<Span>>| {
        let spans = traces.values().flatten();
        spans.filter(|span| span.name == "round").count()
    };
    while rounds(&traces) < 3 * ROUNDS {
        let left = deadline.saturating_duration_since(Instant::now());
        let body = bodies.recv_timeout(left).expect("spans");
        for span in spans(&body) {
            traces.entry(span.trace.clone()).or_default().push(span);
        }
    }
    assert_eq!(traces.len(), ROUNDS, "a trace for each round");
    for (trace, spans) in &traces {
        assert_eq!(trace.len(), 16);
        let of = |name: &str| -> BTreeSet<&Vec<u8>> {
            let named = spans.iter().filter(|span| span.name == name);
            named.map(|span| &span.id).collect()
        };
        let rounds = of("round");
        assert_eq!(rounds.len(), 3, "of three peers: {spans:?}");
        for phase in ["train", "promise", "collect", "mix"] {
            assert_eq!(of(phase).len(), 3, "{phase}: {spans:?}");
        }
        let children = spans.iter().filter(|span| span.name != "round");
        assert!(
            children
                .into_iter()
                .all(|span| rounds.contains(&span.parent))
        );
    }
}
