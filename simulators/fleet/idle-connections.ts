/** Connections that subscribe to one filter and then say nothing, to measure what an idle device costs a server. */
import { connect } from 'node:net'
import type { FleetOptions } from './fleet-options.js'
import { encodeConnect, encodeSubscribe } from './packets.js'

const openingMax = 100

async function openOne (options: FleetOptions, index: number): Promise<void> {
  const username = options.tokens.length > 0 ? options.tokens[index] : options.key
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host: options.host, port: options.port, noDelay: true })
    let received = 0
    socket.on('connect', () => {
      socket.write(encodeConnect({ clientId: `idle-${index}`, username }))
      socket.write(encodeSubscribe(1, `devices/${options.devicePrefix}${index}/commands/#`, 1))
    })
    socket.on('data', bytes => {
      received += bytes.length
      // CONNACK (4 bytes) and SUBACK (5 bytes).
      if (received >= 9) resolve()
    })
    socket.on('error', reject)
    socket.on('close', () => { reject(new Error(`idle connection ${index} was closed`)) })
  })
}

/** Opens `connections` connections and keeps them until the process is stopped; `onReady` when all are subscribed. */
export async function holdIdle (options: FleetOptions, onReady: (connections: number) => void): Promise<void> {
  let at = 0
  const openNext = async (): Promise<void> => {
    for (let index = at++; index < options.connections; index = at++) await openOne(options, index)
  }
  await Promise.all(Array.from({ length: openingMax }, openNext))
  onReady(options.connections)
  await new Promise<void>(resolve => { process.once('SIGTERM', resolve) })
}
