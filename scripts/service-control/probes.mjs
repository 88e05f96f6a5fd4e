/**
 * Who answers on a port, asked in the service's own protocol: an open port alone proves nothing (a forwarder accepts before
 * its target runs, and something else may sit there). Each probe resolves to `{ answers: true }`, or to `{ answers: false,
 * open, reason }`, where `open` says that something accepted the connection. None rejects.
 */
import { connect } from 'node:net'

const probeTimeoutMs = 3000
const answerBytesMax = 64 * 1024

/** Sends `request`, then hands what has come so far to `judge` until it says something other than undefined. */
function ask (host, port, request, judge, timeoutMs) {
  return new Promise(resolve => {
    const socket = connect({ host, port })
    let open = false
    let received = Buffer.alloc(0)
    const end = result => {
      socket.destroy()
      clearTimeout(timer)
      resolve(result)
    }
    const timer = setTimeout(() => { end({ answers: false, open, reason: `no answer within ${timeoutMs} ms` }) }, timeoutMs)
    socket.on('connect', () => { open = true; socket.write(request) })
    socket.on('error', error => { end({ answers: false, open, reason: error.code === 'ECONNREFUSED' ? 'nothing listens' : error.message }) })
    socket.on('close', () => { end({ answers: false, open, reason: 'closed the connection without an answer' }) })
    socket.on('data', chunk => {
      received = Buffer.concat([received, chunk])
      const verdict = judge(received)
      if (verdict === true) end({ answers: true })
      else if (verdict === false || received.length > answerBytesMax) end({ answers: false, open, reason: 'something else answers on this port' })
    })
  })
}

/** Cassandra: an OPTIONS frame of the native protocol, version 4 (section 4.1.3), must be answered by SUPPORTED. */
export function probeCassandra (host, port, timeoutMs = probeTimeoutMs) {
  const options = Buffer.from([0x04, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00])
  return ask(host, port, options, received => {
    if (received[0] !== 0x84) return false
    if (received.length < 9) return undefined
    return received[4] === 0x06
  }, timeoutMs)
}

/** Redis: PING. A server that wants a password first answers NOAUTH: it is there, but of no use to us. */
export async function probeRedis (host, port, timeoutMs = probeTimeoutMs) {
  let refused = ''
  const result = await ask(host, port, 'PING\r\n', received => {
    const line = received.toString('latin1')
    if (!/^[+-]/.test(line)) return false
    if (!line.includes('\r\n')) return undefined
    if (line.startsWith('-')) refused = line.slice(1, line.indexOf('\r\n'))
    return line.startsWith('+PONG')
  }, timeoutMs)
  return refused === '' ? result : { answers: false, open: true, reason: `Redis says ${refused}` }
}

/** ClickHouse: GET /ping is answered by `Ok.` without credentials. */
export function probeClickHouse (host, port, timeoutMs = probeTimeoutMs) {
  const request = `GET /ping HTTP/1.1\r\nHost: ${host}:${port}\r\nConnection: close\r\n\r\n`
  return ask(host, port, request, received => {
    const text = received.toString('latin1')
    if (text.length >= 5 && !text.startsWith('HTTP/')) return false
    return /\r\n\r\n[\s\S]*Ok\./.test(text) ? /^HTTP\/1\.1 200/.test(text) : undefined
  }, timeoutMs)
}

/**
 * Name of the data centre of the Cassandra node at that address.
 * @throws Error where it wants credentials or does not answer.
 */
export async function cassandraDataCenter (host, port) {
  const driver = (await import('cassandra-driver')).default
  const client = new driver.Client({
    contactPoints: [`${host}:${port}`],
    policies: { loadBalancing: new driver.policies.loadBalancing.RoundRobinPolicy() },
    socketOptions: { connectTimeout: probeTimeoutMs, readTimeout: probeTimeoutMs }
  })
  try {
    const { rows } = await client.execute('SELECT data_center FROM system.local')
    return rows[0].data_center
  } finally {
    await client.shutdown()
  }
}
