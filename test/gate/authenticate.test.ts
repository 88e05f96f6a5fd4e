import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { Authenticator, newCredential, newSecret } from '../../src/gate/authenticate.js'
import type { Credential, Tenant } from '../../src/tenancy/model.js'

function harness () {
  const credentials = new Map<string, Credential>()
  const tenants = new Map<string, Tenant>([['acme', { id: 'acme', name: '', createdAt: 0, retention: [{ sinceStamp: 0, days: 1 }], disabled: false }]])
  const control = { nowMs: 0, away: false }
  const answer = <T>(value: T): T => {
    if (control.away) throw new TwinfoldError('store_unavailable', 'Cassandra does not answer')
    return value
  }
  const authenticator = new Authenticator({
    getCredential: async hash => answer(credentials.get(hash) ?? null),
    getTenant: async id => answer(tenants.get(id) ?? null)
  }, { leaseMs: 10_000, cachedMax: 100, clock: { monotonicMs: () => control.nowMs } })
  const add = (device: string): string => {
    const { secret, credential } = newCredential('device', 'acme', device, '', 0)
    credentials.set(credential.hash, credential)
    return secret
  }
  return { authenticator, control, credentials, tenants, add }
}

t.test('known devices are let in while the registry is away, strangers hear that it cannot be told', async t => {
  const { authenticator, control, add } = harness()
  const known = add('pump-1')
  const neverSeen = add('pump-2')
  const wrong = newSecret('device')
  t.equal((await authenticator.authenticate(known))?.device, 'pump-1')
  t.equal(await authenticator.authenticate(wrong), null)
  control.away = true
  control.nowMs += 5 * 60_000
  t.equal((await authenticator.authenticate(known))?.device, 'pump-1')
  t.equal(authenticator.cached(known)?.device, 'pump-1', 'without a promise for a moment')
  await t.rejects(authenticator.authenticate(neverSeen), { code: 'store_unavailable' })
  await t.rejects(authenticator.authenticate(wrong), { code: 'store_unavailable' })
  t.equal(await authenticator.authenticate('too short'), null, 'what can be no secret needs no registry')
})

t.test('a revocation on this node is obeyed at once, in an outage too, and costs no other device its place', async t => {
  const { authenticator, control, credentials, add } = harness()
  const revoked = add('pump-1')
  const other = add('pump-2')
  const principal = await authenticator.authenticate(revoked)
  await authenticator.authenticate(other)
  for (const [hash, { id }] of credentials) if (id === principal?.credentialId) credentials.delete(hash)
  authenticator.forget(({ credentialId }) => credentialId === principal?.credentialId)
  control.away = true
  await t.rejects(authenticator.authenticate(revoked), { code: 'store_unavailable' })
  t.equal((await authenticator.authenticate(other))?.device, 'pump-2')
})

t.test('a tenant that is enabled again is let in at once on this node', async t => {
  const { authenticator, tenants, add } = harness()
  const secret = add('pump-1')
  const tenant = tenants.get('acme') as Tenant
  tenants.set('acme', { ...tenant, disabled: true })
  t.equal(await authenticator.authenticate(secret), null)
  tenants.set('acme', tenant)
  authenticator.forget(principal => principal.tenant === 'acme')
  t.equal((await authenticator.authenticate(secret))?.device, 'pump-1')
})
