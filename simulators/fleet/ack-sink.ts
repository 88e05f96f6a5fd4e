/**
 * A TCP server that does nothing but acknowledge: CONNACK for a CONNECT, one PUBACK per PUBLISH, found by hopping over the
 * length fields. It keeps and checks nothing. What the load generator reaches against it is the generator's own limit.
 */
import { createServer, type Server, type Socket } from 'node:net'
import type { AddressInfo } from 'node:net'

const connack = Buffer.from([0x20, 2, 0, 0])
const pubacksMax = 16_384

class SinkConnection {
  /** Bytes of the current packet that have not arrived yet. */
  skip = 0
  /** Start of a packet whose length is not complete. */
  head: Buffer = Buffer.alloc(0)
}

function answer (socket: Socket, connection: SinkConnection, arrived: Buffer, pubacks: Buffer): void {
  const bytes = connection.head.length === 0 ? arrived : Buffer.concat([connection.head, arrived])
  connection.head = Buffer.alloc(0)
  let at = 0
  let publishes = 0
  while (at < bytes.length) {
    if (connection.skip > 0) {
      const skipped = Math.min(connection.skip, bytes.length - at)
      connection.skip -= skipped
      at += skipped
      continue
    }
    let length = 0
    let shift = 0
    let next = at + 1
    while (next < bytes.length && (bytes[next] & 0x80) !== 0) {
      length |= (bytes[next++] & 0x7f) << shift
      shift += 7
    }
    if (next >= bytes.length) {
      connection.head = Buffer.from(bytes.subarray(at))
      break
    }
    length |= bytes[next++] << shift
    if (bytes[at] >> 4 === 1) socket.write(connack)
    else if (bytes[at] >> 4 === 3) publishes++
    connection.skip = length
    at = next
  }
  if (publishes > 0) socket.write(pubacks.subarray(0, publishes * 4))
}

/** Listens on 127.0.0.1; port 0 takes any free one. */
export async function startAckSink (port: number): Promise<{ port: number, server: Server }> {
  const pubacks = Buffer.alloc(pubacksMax * 4)
  for (let at = 0; at < pubacks.length; at += 4) pubacks.set([0x40, 2, 0, 1], at)
  const server = createServer({ noDelay: true }, socket => {
    const connection = new SinkConnection()
    socket.on('data', bytes => { answer(socket, connection, bytes, pubacks) })
    socket.on('error', () => { socket.destroy() })
  })
  await new Promise<void>(resolve => { server.listen(port, '127.0.0.1', resolve) })
  return { port: (server.address() as AddressInfo).port, server }
}
