//! The carrier's limits: how many messages, streams, pulls and connections there may be, and how
//! long each may take.
//!
//! One description for both carriers. `net` imposes these limits on sockets, and a simulation
//! imposes the same ones on virtual connections, so that neither can be kinder than the other.

use std::time::Duration;

/// Messages that wait for one slow reader before its connection is cut (guess: the headers of a
/// few rounds in a large neighbourhood).
pub const SEND_QUEUE_MAX: usize = 1024;

/// Bytes of messages that wait for one slow reader before its connection is cut: 64 of the largest.
pub const SEND_BYTES_MAX: usize = 64 * crate::envelope::ENVELOPE_BYTES_MAX;

/// Messages of gossip that wait for one slow reader; further ones are not passed on to it.
pub const GOSSIP_QUEUE_MAX: usize = 64;

/// Inputs from streams that wait for a peer that is busy. The readers wait when it is full, and so
/// do their senders.
pub const EVENT_QUEUE_MAX: usize = 256;

/// Streams of messages that the other side may have open at a time over one connection. One is in
/// use, and one more while the other side replaces it.
pub const MESSAGE_STREAMS_MAX: usize = 2;

/// Streams of bodies that the other side may have open at a time over one connection. An honest
/// peer pulls one body at a time, and possibly a keyframe.
pub const BODY_STREAMS_MAX: usize = 4;

/// Pulls from one source at the same time; further ones wait for their turn. Each source has its
/// own queue, so a slow one delays nobody else.
pub const PULLS_PER_SOURCE: usize = 1;

/// Requests for bodies that one peer serves at the same time; the others wait for their turn.
pub const SERVED_MAX: usize = 32;

/// A pull that gets nothing for this long tries elsewhere or gives up. It limits silence, not the
/// whole pull (guess).
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Lowest rate that a pull or a service may have, beyond the time for silence.
pub const BYTES_PER_SECOND_MIN: u64 = 16 * 1024;

/// Times the sources are gone through before a pull fails.
pub const PASSES: usize = 2;

/// Pause between two passes over the sources.
pub const PASS_PAUSE: Duration = Duration::from_millis(250);

/// A write of a message that makes no progress for this long is given up (guess; a slow line
/// carries 64 KiB in far less).
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// A peer that is sent away is given this long to read why; no message of it is read meanwhile
/// (guess).
pub const FAREWELL: Duration = Duration::from_millis(500);

/// How long a dismissed peer cannot reconnect. By then it may have fixed what was wrong with it
/// (guess).
pub const BAN: Duration = Duration::from_secs(10);

/// How long a handshake may take, from the first byte to the last.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Dials under way at a time.
pub const DIALS_MAX: u32 = 64;

/// Connections with one peer at a time: two peers may dial each other at once, over TCP and QUIC.
pub const CONNECTIONS_PER_PEER_MAX: u32 = 4;

/// How long after the answer to a ping the next one follows. (Guess. libp2p forgives the first ping
/// that fails, so a dead line is noticed after at most twice the sum of this and [`PING_TIMEOUT`],
/// 24 s. By then the system's pauses between attempts have not grown to more.)
pub const PING_INTERVAL: Duration = Duration::from_secs(4);

/// How long a peer may take to answer a ping (guess).
pub const PING_TIMEOUT: Duration = Duration::from_secs(8);

/// Bytes that a stream may have on its way while its reader waits: yamux's initial window.
pub const STREAM_WINDOW_BYTES: usize = 256 * 1024;

/// Bytes of a body that are read or written between two looks at the clock.
pub const CHUNK_BYTES: usize = 256 * 1024;
