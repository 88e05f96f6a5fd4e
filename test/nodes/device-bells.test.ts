/** Bells of one node, and of two over a real Redis, which goes and comes back. */
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { DeviceBells } from '../../src/nodes/device-bells.js'
import type { LiveBus, LiveBusListener } from '../../src/store/live-bus.js'
import { openBellBus, openLiveBus } from '../../src/store/open-live.js'
import { newTestName, services, skipWithout, startPrivateRedis } from '../support/services.js'

t.setTimeout(60_000)

async function until (what: string, holds: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 10_000
  while (!holds()) {
    if (performance.now() > deadlineMs) throw new Error(`it does not come true: ${what}`)
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
}

interface Teardown { teardown(undo: () => unknown): unknown }

function bellsOn (t: Teardown, bus: LiveBus | null): { bells: DeviceBells, heard: string[], relinked: () => number } {
  const bells = new DeviceBells({ bus })
  const heard: string[] = []
  let relinked = 0
  bells.onRing((tenant, device, reason, name) => { heard.push(`${tenant} ${device} ${reason} ${name}`) })
  bells.onRelinked(() => { relinked++ })
  bells.open()
  t.teardown(async () => { await bells.close() })
  return { bells, heard, relinked: () => relinked }
}

void t.test('on a node alone a ring is heard at once, until the listener stops', async t => {
  const { bells, heard, relinked } = bellsOn(t, null)
  let others = 0
  const stop = bells.onRing(() => { others++ })
  bells.ring('t', 'd', 'twin', 'n')
  t.strictSame(heard, ['t d twin n'])
  stop()
  bells.ring('t', 'd', 'commands')
  t.strictSame(heard, ['t d twin n', 't d commands '])
  t.equal(others, 1)
  t.equal(relinked(), 0)
})

void t.test('rings reach the other node once, the own one once, and no live stream', async t => {
  const { redis } = services()
  if (skipWithout(t, 'redis') || redis === null) return
  const settings = { url: redis.url, prefix: newTestName() }
  const options = { clock: systemClock, log: silentLog }
  const [a, b] = [bellsOn(t, openBellBus(settings, options)), bellsOn(t, openBellBus(settings, options))]
  const live = openLiveBus(settings, options)
  const streamed: string[] = []
  let streaming = false
  live.open({ link: up => { streaming = up }, message: text => { streamed.push(text) } })
  t.teardown(async () => { await live.close() })
  await until('all hear', () => a.relinked() === 1 && b.relinked() === 1 && streaming)
  for (let i = 0; i < 500; i++) {
    a.bells.ring('t', `d${i % 250}`, 'twin', i % 2 === 0 ? '' : 'n')
    b.bells.ring('t', `e${i}`, 'commands')
  }
  const own = (list: readonly string[], what: string): number => list.filter(text => text.startsWith(`t ${what}`)).length
  t.equal(own(a.heard, 'd'), 500, 'at once')
  await until('each hears the other', () => own(b.heard, 'd') >= 250 && own(a.heard, 'e') >= 500)
  // Whatever was on its way is there before an answer to something later.
  b.bells.ring('t', 'last', 'registry')
  await until('the last is heard', () => a.heard.includes('t last registry '))
  t.equal(own(b.heard, 'd'), 250, 'the same ring twice in a moment is one')
  t.equal(own(a.heard, 'd'), 500)
  t.equal(own(a.heard, 'e'), 500)
  t.strictSame(streamed, [])
  const startMs = performance.now()
  a.bells.ring('t', 'timed', 'twin')
  await until('it is heard', () => b.heard.includes('t timed twin '))
  t.comment(`a ring took ${(performance.now() - startMs).toFixed(1)} ms, looked at every 5`)
})

void t.test('a Redis that was away: rings are not kept, and all are told to look again', async t => {
  if (skipWithout(t, 'redis')) return
  const redis = await startPrivateRedis()
  t.teardown(async () => { await redis.close() })
  const settings = { url: redis.url, prefix: 'bells' }
  const [a, b] = [1, 2].map(() => bellsOn(t, openBellBus(settings, { clock: systemClock, log: silentLog })))
  await until('both hear', () => a.relinked() === 1 && b.relinked() === 1)
  await redis.kill()
  for (let i = 0; i < 100; i++) a.bells.ring('t', `d${i}`, 'twin')
  t.equal(a.heard.length, 100, 'listeners here hear all the same')
  await redis.start()
  await until('both look again', () => a.relinked() >= 2 && b.relinked() >= 2)
  await until('a ring is heard again', () => {
    a.bells.ring('t', 'back', 'commands')
    return b.heard.includes('t back commands ')
  })
})

/** A bus whose sends the test lets through one by one. */
class HeldBus implements LiveBus {
  readonly nodeId = 'held'
  listener: LiveBusListener | null = null
  readonly sends: { readonly text: string, readonly done: (sent: boolean) => void }[] = []
  open (listener: LiveBusListener): void { this.listener = listener }
  async send (_to: string | null, text: string): Promise<boolean> { return await new Promise(resolve => { this.sends.push({ text, done: resolve }) }) }
  async close (): Promise<void> { /* Nothing is open. */ }
}

void t.test('more rings than may wait are lost, and the others are told so', async t => {
  const bus = new HeldBus()
  const { bells } = bellsOn(t, bus)
  bells.ring('t', 'first', 'twin')
  await until('it is sent', () => bus.sends.length === 1)
  for (let i = 0; i < 10_050; i++) bells.ring('t', `d${i}`, 'twin')
  t.equal(bells.stats.lost, 50)
  bus.sends[0].done(true)
  await until('the rest is sent', () => bus.sends.length === 2)
  const message = JSON.parse(bus.sends[1].text) as { rings: unknown[], lost: boolean }
  t.match([message.rings.length, message.lost], [10_000, true])
  const other = bellsOn(t, bus)
  bus.listener?.message(bus.sends[1].text.replace('"held"', '"other"'))
  t.equal(other.relinked(), 1)
  bus.listener?.message('not JSON')
  t.equal(other.relinked(), 2, 'what a newer server says')
  bus.sends[1].done(true)
})
