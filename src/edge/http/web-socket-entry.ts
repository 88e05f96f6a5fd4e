/**
 * MQTT over WebSocket at /mqtt (MQTT 3.1.1 section 6): the upgrade, its limits, and nothing of MQTT itself. Every other
 * upgrade is refused on the socket, because Node stops timing a connection that asked for one.
 */
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { createWebSocketStream, WebSocketServer, type WebSocket } from 'ws'
import { TwinfoldError } from '../../core/errors.js'
import { mqttPacketBytesMax } from '../../core/limits.js'
import type { EdgeContext } from './edge-context.js'
import { problemMediaType, problemOf } from './problem.js'

/** Names of the protocol that clients offer; 3.1 clients use the second. */
const subProtocols = ['mqtt', 'mqttv3.1']
/** A message may hold several packets; they are framed and capped one by one behind it. */
const messageBytesMax = 4 * mqttPacketBytesMax
/** Time for the closing handshake before a connection is cut. */
const closeGraceMs = 2000
const goingAway = 1001
const textRefused = 1003

export class WebSocketEntry {
  readonly #context: EdgeContext
  readonly #server: WebSocketServer

  constructor (server: Server, context: EdgeContext) {
    this.#context = context
    this.#server = new WebSocketServer({
      noServer: true,
      maxPayload: messageBytesMax,
      perMessageDeflate: false,
      clientTracking: true,
      handleProtocols: offered => subProtocols.find(name => offered.has(name)) ?? false
    })
    server.on('upgrade', (request, socket, head) => { this.#upgrade(request, socket, head) })
  }

  #upgrade (request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => { socket.destroy() })
    const path = (request.url ?? '').split('?', 1)[0]
    if (this.#context.closing) { refuse(socket, '503 Service Unavailable', new TwinfoldError('not_ready', 'the server is stopping')); return }
    if (path !== '/mqtt') { refuse(socket, '404 Not Found', new TwinfoldError('not_found', 'the WebSocket is at /mqtt')); return }
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map(name => name.trim())
    // MQTT 3.1.1 [MQTT-6.0.0-3]: the client offers "mqtt".
    if (!offered.some(name => subProtocols.includes(name))) {
      refuse(socket, '400 Bad Request', new TwinfoldError('invalid_request', `offer the sub-protocol ${subProtocols.join(' or ')}`))
      return
    }
    this.#server.handleUpgrade(request, socket, head, webSocket => { this.#accept(webSocket, request) })
  }

  #accept (webSocket: WebSocket, request: IncomingMessage): void {
    const { stats, options } = this.#context
    stats.webSockets++
    webSocket.on('close', () => { stats.webSockets-- })
    // [MQTT-6.0.0-1]: anything but binary data closes the connection. First, so that its bytes go no further.
    webSocket.on('message', (_data, isBinary) => {
      if (isBinary) return
      webSocket.close(textRefused)
      stream.destroy()
    })
    // As a TCP socket: when the client has closed and all is read, the stream is over.
    const stream = createWebSocketStream(webSocket)
    stream.on('end', () => { stream.destroy() })
    stream.on('error', () => { webSocket.terminate() })
    options.mqtt.accept(stream, request)
  }

  /** Tells every client that the server goes away, and cuts those that do not answer in time. */
  close (): void {
    for (const client of this.#server.clients) client.close(goingAway)
    const timer = setTimeout(() => { for (const client of this.#server.clients) client.terminate() }, closeGraceMs)
    timer.unref()
  }
}

function refuse (socket: Duplex, status: string, error: TwinfoldError): void {
  const body = JSON.stringify(problemOf(error))
  socket.end(`HTTP/1.1 ${status}\r\ncontent-type: ${problemMediaType}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`, () => { socket.destroy() })
}
