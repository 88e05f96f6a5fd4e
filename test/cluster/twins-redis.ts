/** INVARIANTS 5 where Redis loses the hot copies of twins, or comes back with old ones: what a reader sees is never below what was acknowledged. */
import { Redis } from 'ioredis'
import mqtt from 'mqtt'
import type { Test } from 'tap'
import type { Random } from '../../simulators/fleet/seeded-random.js'
import type { PrivateRedis } from '../support/services.js'
import { allChanges, getTwin, historyFindings, pauseMs, type TwinAnswer } from '../support/twin-drill.js'
import { addReader, addWriter, Load, newReads, seenBy, write, WriterLedger } from './twins-load.js'
import type { TwoNodes } from './two-nodes.js'

const devices = ['r0', 'r1', 'r2']
const waitMs = 30_000

/** A client for one command: Redis is killed between them. */
async function ask<T> (redis: PrivateRedis, action: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(redis.url, { maxRetriesPerRequest: null })
  client.on('error', () => { /* It tries again. */ })
  try {
    return await action(client)
  } finally {
    client.disconnect()
  }
}

/** SAVE writes the file that a restart reads. */
const snapshot = async (redis: PrivateRedis): Promise<void> => { await ask(redis, async client => await client.save()) }
const flush = async (redis: PrivateRedis): Promise<void> => { await ask(redis, async client => await client.flushall()) }

/** The versions of the copies that Redis holds. */
async function copies (redis: PrivateRedis): Promise<number[]> {
  return await ask(redis, async client => {
    const keys = (await client.keys('*entity/twin/*')).filter(key => devices.some(device => key.endsWith(`/${device}/`))).sort()
    return (await Promise.all(keys.map(async key => await client.get(key)))).map(copy => Number.parseInt(copy ?? '', 10))
  })
}

interface Named { readonly version: number, readonly state?: Record<string, number> }

/** The answer to `twin/get` and the first desired, at a device that connects. */
async function asDevice (port: number, device: string, token: string): Promise<{ readonly asked: Named, readonly desired: Named }> {
  const client = mqtt.connect({ port, clientId: device, username: token, reconnectPeriod: 100 })
  client.on('error', () => { /* It tries again. */ })
  try {
    const told = new Map<string, Named>()
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => { reject(new Error(`${device} was told ${JSON.stringify([...told])}`)) }, waitMs)
      client.on('message', (topic, payload) => {
        const kind = topic.split('/').slice(3).join('/')
        if (!told.has(kind)) told.set(kind, JSON.parse(payload.toString()) as Named)
        const [asked, desired] = [told.get('get/accepted'), told.get('desired')]
        if (asked === undefined || desired === undefined) return
        clearTimeout(timer)
        resolve({ asked, desired })
      })
      client.on('connect', () => { client.subscribe([`devices/${device}/twin/desired`, `devices/${device}/twin/get/accepted`], { qos: 1 }, () => { client.publish('twin/get', '') }) })
    })
  } finally {
    client.end(true)
  }
}

/** @returns the version of each device in the end */
export async function redisLosesCopies (test: Test, { a, b }: TwoNodes, redis: PrivateRedis, random: Random): Promise<ReadonlyMap<string, number>> {
  const tokens = await a.api.createDevices(devices)
  const ledgers = devices.map(device => new WriterLedger(device))
  const reads = newReads()
  const load = new Load(test)
  for (const ledger of ledgers) {
    await seenBy([a, b], ledger.device)
    for (const node of [a, b]) {
      addWriter(load, ledger, node, node.name, { conditional: false, pauseMs: () => random() * 40 })
      addReader(load, ledger, node, reads)
    }
  }
  await underLoad(redis, random)
  await load.stop()
  test.strictSame(reads.behind.slice(0, 5), [], `${reads.count} reads, none behind what was acknowledged`)
  test.strictSame(reads.failed.slice(0, 5), [], 'and none failed')
  await diesBeforeCopies(test, { a, b }, redis, { ledgers, tokens })
  await a.start()
  const versions = new Map<string, number>()
  for (const ledger of ledgers) {
    const { version } = await getTwin(a.api, ledger.device)
    versions.set(ledger.device, version)
    const changes = await allChanges(b.api, ledger.device)
    test.strictSame([...historyFindings(changes, version), ...ledger.findings(changes)], [], `${ledger.device}: ${version} versions, what was acknowledged is there`)
  }
  return versions
}

async function underLoad (redis: PrivateRedis, random: Random): Promise<void> {
  await pauseMs(300)
  await snapshot(redis)
  await pauseMs(300)
  for (let i = 0; i < 3; i++) {
    await flush(redis)
    await pauseMs(random() * 300)
  }
  await redis.kill()
  await pauseMs(500)
  // With the copies of a second and more ago.
  await redis.start()
  await pauseMs(700)
  await redis.kill()
  await redis.start()
  await pauseMs(500)
}

/** The copies are old, the commits newer, and who made those is dead: nothing but the record says so. */
async function diesBeforeCopies (test: Test, { a, b }: Pick<TwoNodes, 'a' | 'b'>, redis: PrivateRedis, { ledgers, tokens }: { readonly ledgers: readonly WriterLedger[], readonly tokens: readonly string[] }): Promise<void> {
  for (const { device } of ledgers) await getTwin(a.api, device)
  await snapshot(redis)
  await redis.kill()
  for (const ledger of ledgers) for (let i = 0; i < 3; i++) await write(ledger, a.api, { leaf: 'z', number: i, ifMatch: null })
  await a.kill()
  await redis.start()
  const old = await copies(redis)
  test.ok(old.length === devices.length && old.every((version, i) => version < ledgers[i].floor), `Redis holds copies of versions ${old.join(', ')}; ${ledgers.map(({ floor }) => floor).join(', ')} were acknowledged`)
  const { body } = await b.api.ask('POST', '/twins/get', { devices })
  const twins = (body as { twins: TwinAnswer[] }).twins
  test.strictSame(twins.map(({ version, desired }) => [version, desired.z]), ledgers.map(({ floor }) => [floor, 2]), 'asked for many')
  const device = await asDevice(b.server.mqttPort, devices[0], tokens[0])
  test.strictSame([device.asked.version, device.desired.version, device.desired.state?.z], [ledgers[0].floor, ledgers[0].floor, 2], 'asked for and told as a device')
}
