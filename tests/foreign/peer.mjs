// Another libp2p stack at a peer's door: js-libp2p with a member's key, or with a key that nobody knows.
//
//     node --input-type=module - ADDRESS SECONDS [SECRET] < peer.mjs
//
// The packages below are those of the folder that this runs in (libp2p 2.10). With a SECRET (64 hexadecimal
// digits) it speaks the wire as a member: frames that are whole, cut, oversize and repeated, streams that are opened and
// never read, and connections that end in the middle. It stops by itself, and prints what it saw as JSON.

import { createLibp2p } from 'libp2p'
import { tcp } from '@libp2p/tcp'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { multiaddr } from '@multiformats/multiaddr'

// Packages of this generation use it, and Node.js 20 lacks it.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((...both) => { [resolve, reject] = both })
  return { promise, resolve, reject }
}

const MESSAGE = '/kith/message/1'
const BODY = '/kith/body/1'

const [address, seconds, secret] = process.argv.slice(2)
const end = Date.now() + 1000 * Number(seconds)
const seen = { agent: null, protocols: [], pings: 0, heard: 0, sent: 0, connections: 0, streams: 0, ended: 0 }

const privateKey = secret
  ? await generateKeyPairFromSeed('Ed25519', Uint8Array.from(Buffer.from(secret, 'hex')))
  : await generateKeyPair('Ed25519')
const node = await createLibp2p({
  privateKey,
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping() }
})

// What it is told: frames of a length (four bytes, the lowest first) and as many bytes.
let recorded = new Uint8Array()
await node.handle(MESSAGE, async ({ stream }) => {
  try {
    for await (const chunk of stream.source) {
      const bytes = chunk.subarray()
      seen.heard += bytes.length
      if (recorded.length < 100_000) {
        recorded = Buffer.concat([recorded, bytes])
      }
    }
  } catch {
    seen.ended += 1
  }
})

const frame = (bytes) => {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return Buffer.concat([length, bytes])
}

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** Opens a stream and writes these chunks; whether that was possible. */
async function say (connection, protocol, chunks) {
  const stream = await connection.newStream(protocol, { signal: AbortSignal.timeout(2000) })
  seen.streams += 1
  const sink = stream.sink((async function * () {
    for (const chunk of chunks) {
      seen.sent += 1
      yield chunk
      await wait(1)
    }
  })())
  // The other side need not read.
  await Promise.race([sink.catch(() => { seen.ended += 1 }), wait(500)])
}

/** Does everything once over one connection. */
async function visit () {
  const connection = await node.dial(multiaddr(address), { signal: AbortSignal.timeout(3000) })
  seen.connections += 1
  try {
    await node.services.ping.ping(connection.remotePeer, { signal: AbortSignal.timeout(2000) })
    seen.pings += 1
    const known = await node.peerStore.get(connection.remotePeer)
    seen.protocols = known.protocols
    seen.agent = new TextDecoder().decode(known.metadata.get('AgentVersion') ?? new Uint8Array())
    await wait(300)
    // Whole frames of junk, what was heard once more, one above the limit, and one that is cut.
    await say(connection, MESSAGE, [
      ...Array.from({ length: 10 }, (_, place) => frame(Buffer.alloc(200, place))),
      recorded,
      frame(Buffer.alloc(70_000, 0x83)),
      frame(Buffer.alloc(500, 1)).subarray(0, 40)
    ])
    // Requests that are none, more at a time than a connection may have.
    await Promise.allSettled(Array.from({ length: 12 }, () => say(connection, BODY, [Buffer.alloc(64, 9)])))
    // A length, and nothing after it.
    await say(connection, MESSAGE, [Buffer.from([0xff, 0xff, 0, 0])])
  } finally {
    await connection.close().catch(() => connection.abort(new Error('enough')))
  }
}

// Whatever still waits for the other side, this ends.
const over = () => {
  console.log(JSON.stringify(seen))
  process.exit(0)
}
setTimeout(over, end - Date.now())

while (Date.now() < end) {
  try {
    await visit()
  } catch {
    seen.ended += 1
    await wait(50)
  }
}
over()
