/**
 * The public suite that every Aedes persistence has to pass (aedes-persistence/abstract.js), on the one in Redis. The suite knows no
 * tenants, and this persistence finds a key by its tenant: topics, filters and client ids get one on their way in, and lose it on
 * their way out.
 */
import assert from 'node:assert'
import { createRequire } from 'node:module'
import { Readable } from 'node:stream'
import { Redis } from 'ioredis'
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openClusterBroker } from '../../src/store/cluster/broker/open-cluster-broker.js'
import { removeKeys } from '../cluster/mqtt-nodes-support.js'
import { newTestName, services, skipWithout } from '../support/services.js'

interface SuiteTest {
  plan: (count: number) => void
  diagnostic: (text: string) => void
  assert: Record<'ok' | 'equal' | 'notEqual' | 'deepEqual', (...values: unknown[]) => void>
}
type Suite = (options: {
  test: (name: string, run: (test: SuiteTest) => Promise<void>) => void
  persistence: () => Promise<unknown>
  testAsync: boolean
}) => void
type Fields = Record<string, unknown>

const suite = createRequire(import.meta.url)('aedes-persistence/abstract.js') as Suite
const tenant = 'acme/'

function add (value: unknown): unknown {
  if (typeof value === 'string') return tenant + value
  if (Array.isArray(value)) return value.map(add)
  const fields: Fields = { ...value as Fields }
  for (const name of ['topic', 'clientId']) if (typeof fields[name] === 'string') fields[name] = tenant + fields[name]
  if (typeof fields.id === 'string' && fields.cmd === undefined) fields.id = tenant + fields.id
  return fields
}

function strip (value: unknown): unknown {
  if (typeof value === 'string') return value.slice(tenant.length)
  if (Array.isArray(value)) return value.map(strip)
  if (typeof value !== 'object' || value === null) return value
  const fields: Fields = { ...value as Fields }
  for (const name of ['topic', 'clientId']) if (typeof fields[name] === 'string') fields[name] = (fields[name] as string).slice(tenant.length)
  return fields
}

/** What a method does to its arguments belongs to the test's own objects. */
function takeBack (given: unknown, passed: unknown): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return
  for (const name of ['messageId', 'brokerId', 'dup']) {
    const value = (passed as Fields)[name]
    if (value !== undefined) (given as Fields)[name] = value
  }
  if (typeof (passed as Fields).clientId === 'string') (given as Fields).clientId = ((passed as Fields).clientId as string).slice(tenant.length)
}

function withTenant (persistence: object): unknown {
  return new Proxy(persistence, {
    get (target, name) {
      const member = (target as Fields)[name as string]
      if (typeof member !== 'function') return member
      if (name === 'setup' || name === 'destroy') return member.bind(target)
      return (...given: unknown[]) => {
        const passed = name === 'streamWill' ? given : given.map(each => typeof each === 'object' || typeof each === 'string' ? add(each) : each)
        const answer = (member as (...values: unknown[]) => unknown).apply(target, passed)
        if (answer instanceof Readable) return Readable.from((async function * () { for await (const item of answer) yield strip(item) })())
        return (answer as Promise<unknown>).then(value => {
          given.forEach((each, i) => { takeBack(each, passed[i]) })
          return strip(value)
        })
      }
    }
  })
}

/** Wills of other brokers are published by the caretaker, not by Aedes' own look; what is stored is counted per tenant (stats). */
const notOurs = /^stream all will message|^same topic, different QoS|^replace subscriptions|count subscriptions/

function run (name: string, body: (test: SuiteTest) => Promise<void>): void {
  if (notOurs.test(name)) return
  void t.test(name, async () => {
    let planned: number | null = null
    let asserted = 0
    const counted = (check: (...values: never[]) => void) => (...values: unknown[]): void => {
      asserted++
      check(...values as never[])
    }
    await body({
      plan: count => { planned = count },
      diagnostic: () => {},
      assert: { ok: counted(assert.ok), equal: counted(assert.equal), notEqual: counted(assert.notEqual), deepEqual: counted(assert.deepEqual) }
    })
    assert.equal(asserted, planned ?? asserted)
  })
}

if (!skipWithout(t, 'redis')) {
  const url = services().redis?.url ?? ''
  suite({
    test: run,
    testAsync: true,
    persistence: async () => {
      const prefix = newTestName()
      const broker = openClusterBroker({ settings: { url, prefix }, clock: systemClock, log: silentLog })
      const { persistence } = broker
      persistence.destroy = async () => {
        const redis = new Redis(url)
        await removeKeys(redis, prefix)
        redis.disconnect()
        await broker.close()
      }
      return withTenant(persistence)
    }
  })
}
