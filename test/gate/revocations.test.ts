import t, { type Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { isRevoked, Revocations } from '../../src/gate/revocations.js'
import { openNodes } from '../../src/store/open-nodes.js'
import type { Principal } from '../../src/tenancy/model.js'
import { startPrivateRedis, type PrivateRedis } from '../support/private-redis.js'
import { skipWithout } from '../support/services.js'

const principal = (tenant: string | null, device: string | null, credentialId: string): Principal => ({ credentialId, role: 'device', tenant, device })

t.test('a revocation names exactly those who rest on it', async t => {
  const credential = { kind: 'credential', tenant: 'a', credentialId: 'c1' } as const
  t.ok(isRevoked(credential, principal('a', 'd', 'c1')))
  t.notOk(isRevoked(credential, principal('b', 'd', 'c1')), 'public ids are a tenant\'s own')
  t.notOk(isRevoked(credential, principal('a', 'd', 'c2')))
  t.ok(isRevoked({ kind: 'credential', tenant: null, credentialId: 'p' }, principal(null, null, 'p')))
  t.ok(isRevoked({ kind: 'device', tenant: 'a', device: 'd' }, principal('a', 'd', 'c9')))
  t.notOk(isRevoked({ kind: 'device', tenant: 'a', device: 'd' }, principal('a', null, 'c9')))
  t.ok(isRevoked({ kind: 'tenant', tenant: 'a' }, principal('a', null, 'c9')))
  t.notOk(isRevoked({ kind: 'tenant', tenant: 'a' }, principal(null, null, 'c9')))
})

interface Node { readonly revocations: Revocations, readonly cut: string[] }

function nodeOn (t: Test, redis: PrivateRedis): Node {
  const opened = openNodes({ url: redis.url, prefix: 'test' }, { clock: systemClock, log: silentLog })
  const everybody = ['c1', 'c2', 'c3'].map(id => principal('a', `d-${id}`, id))
  const cut: string[] = []
  const disconnect = (wanted: (one: Principal) => boolean): number => {
    const gone = everybody.filter(wanted)
    cut.push(...gone.map(one => one.credentialId))
    return gone.length
  }
  const revocations = new Revocations({ revocations: opened.revocations, authenticator: { forget: () => {} }, tenants: { forget: () => {} }, connections: { disconnect }, log: silentLog, intervalMs: 50 })
  revocations.open()
  t.teardown(async () => {
    await revocations.close()
    await opened.close()
  })
  return { revocations, cut }
}

async function until (what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 15_000
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`)
    await new Promise(resolve => { setTimeout(resolve, 20) })
  }
}

t.test('what one node revokes is cut on the others, also what it revoked while Redis was away or before a flush', { timeout: 60_000 }, async t => {
  if (skipWithout(t, 'redis')) return
  const redis = await startPrivateRedis()
  t.teardown(async () => { await redis.close() })
  const [one, other] = [nodeOn(t, redis), nodeOn(t, redis)]
  await until('both follow', () => one.revocations.following && other.revocations.following)
  one.revocations.announce({ kind: 'credential', tenant: 'a', credentialId: 'c1' })
  await until('the first', () => other.cut.includes('c1'))
  t.strictSame(other.cut, ['c1'])
  await redis.kill()
  one.revocations.announce({ kind: 'device', tenant: 'a', device: 'd-c2' })
  await redis.start()
  await until('the one that waited', () => other.cut.includes('c2'))
  // The restart began with an empty Redis, as after a flush: places are Redis's time and stay good.
  one.revocations.announce({ kind: 'tenant', tenant: 'a' })
  await until('all of the tenant', () => other.cut.includes('c3'))
  const late = nodeOn(t, redis)
  await until('the late one follows', () => late.revocations.following)
  await new Promise(resolve => { setTimeout(resolve, 200) })
  t.strictSame(late.cut, [], 'a node that starts later has no connections that rest on the past')
})
