/**
 * Work that one node does for all: what a dead node leaves behind (its wills are published, its clients forgotten, its interest
 * dropped), sessions past their expiry. A lock in Redis keeps two from doing it at once; whoever dies at it is followed by another.
 */
import { decodePacket } from '../../broker/codec.js'
import type { BrokerPacket } from '../../broker/types.js'
import type { BrokerShared } from './broker-redis.js'
import { leaveScript } from './node-scripts.js'
import { call, script } from './script.js'
import { expireScript, seenScript, willScript } from './session-scripts.js'

const sweepEveryMs = 60_000
const lockMs = 30_000
const pageRows = 200
/** Connected sessions are marked as seen this often at most; one of a node that died may live so much longer. */
const seenEveryMsMax = 3600_000
/** Tenants remembered as known to Redis; one beyond is said again. */
const tenantsMax = 100_000

/** ARGV: clients and owners by turns. */
const disownScript = script(`
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1] .. 'o', ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1] .. 'o', ARGV[i]) end
end
return 1`)

export class Caretaker {
  readonly #shared: BrokerShared
  readonly #tenants = new Set<string>()
  #publishWill: ((packet: BrokerPacket) => Promise<void>) | null = null
  #timer: NodeJS.Timeout | null = null
  #seenMs = 0
  readonly #burying = new Set<string>()

  constructor (shared: BrokerShared) { this.#shared = shared }

  open (publishWill: (packet: BrokerPacket) => Promise<void>): void {
    this.#publishWill = publishWill
    this.#timer = setInterval(() => {
      this.sweep([]).catch((error: unknown) => { this.#shared.log.debug({ error: (error as Error).message }, 'looking for expired sessions failed') })
    }, sweepEveryMs).unref()
  }

  /** The live nodes, as the messaging knows them. */
  liveNodes: () => readonly string[] = () => []

  close (): void { if (this.#timer !== null) clearInterval(this.#timer) }

  /** Enters the tenant of a client id or topic in the list that sweeps go by. */
  tenantSeen (text: string): void {
    const { redis, keys } = this.#shared
    const base = keys.base(text)
    if (this.#tenants.has(base)) return
    if (this.#tenants.size >= tenantsMax) this.#tenants.clear()
    this.#tenants.add(base)
    redis.run(async client => await client.sadd(`${keys.nodes}tenants`, base)).catch(() => { this.#tenants.delete(base) })
  }

  /** Redis has lost its data: tenants are entered anew. */
  forgetTenants (): void { this.#tenants.clear() }

  async #bases (): Promise<string[]> {
    const { redis, keys } = this.#shared
    return await redis.run(async client => await client.smembers(`${keys.nodes}tenants`))
  }

  async #locked (name: string, ms: number): Promise<boolean> {
    const { redis, keys, nodeId } = this.#shared
    return await redis.run(async client => await client.set(`${keys.nodes}lock:${name}`, nodeId, 'PX', ms, 'NX')) === 'OK'
  }

  /** Nodes whose lease has ended. */
  bury (nodes: readonly string[]): void {
    for (const node of nodes) {
      if (this.#burying.has(node)) continue
      this.#burying.add(node)
      this.#bury(node).catch((error: unknown) => {
        this.#shared.log.warn({ node, error: (error as Error).message }, 'what a dead node left could not be seen to')
      }).finally(() => this.#burying.delete(node))
    }
  }

  async #bury (node: string): Promise<void> {
    if (!await this.#locked(node, lockMs)) return
    const { redis, keys, log } = this.#shared
    log.warn({ node }, 'a node is gone: its wills are published')
    for (const base of await this.#bases()) {
      await this.#wills(base, node)
      await this.#disown(base, node)
    }
    await redis.run(async client => await call(client, leaveScript, keys.nodes, [node]))
  }

  async #wills (base: string, node: string): Promise<void> {
    const { redis, log } = this.#shared
    for (let cursor = '0'; ;) {
      const [next, rows] = await redis.run(async client => await client.hscanBuffer(`${base}w:${node}`, cursor, 'COUNT', pageRows))
      for (let i = 0; i < rows.length; i += 2) {
        try {
          // Published first: a will that is published twice is better than one that is not.
          await this.#publishWill?.(decodePacket(rows[i + 1]))
        } catch (error) {
          log.error({ client: rows[i].toString(), error: (error as Error).message }, 'a will of a dead node could not be published')
        }
        await redis.run(async client => await call(client, willScript, base, [node, rows[i], '', 0]))
      }
      cursor = next.toString()
      if (cursor === '0') return
    }
  }

  async #disown (base: string, node: string): Promise<void> {
    const { redis } = this.#shared
    for (let cursor = '0'; ;) {
      const [next, rows] = await redis.run(async client => await client.hscan(`${base}o`, cursor, 'COUNT', pageRows))
      const owned: string[] = []
      for (let i = 0; i < rows.length; i += 2) if (rows[i + 1].startsWith(`${node}|`)) owned.push(rows[i], rows[i + 1])
      if (owned.length > 0) await redis.run(async client => await call(client, disownScript, base, owned))
      cursor = next
      if (cursor === '0') return
    }
  }

  /** Ends sessions past their expiry and returns how many; counts what is stored. @param liveNodes beyond those known. */
  async sweep (liveNodes: readonly string[]): Promise<number> {
    await this.#markSeen()
    const bases = await this.#bases()
    let ended = 0
    if (await this.#locked('sweep', sweepEveryMs / 2)) {
      for (const base of bases) ended += await this.#expire(base, [...this.liveNodes(), ...liveNodes])
    }
    await this.#countStored(bases)
    return ended
  }

  async #expire (base: string, live: readonly string[]): Promise<number> {
    const { redis, ledger } = this.#shared
    const { sessionExpiryMs } = ledger.limits
    const [seconds, micros] = await redis.run(async client => await client.time())
    const now = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
    const args = [now - sessionExpiryMs, now - sessionExpiryMs - this.#seenEveryMs, pageRows, ...live]
    for (let total = 0; ;) {
      const [looked, ended] = await redis.run(async client => await call(client, expireScript, base, args)) as [number, number]
      total += ended
      ledger.stats.sessionsExpired += ended
      if (looked < pageRows || ended === 0) return total
    }
  }

  get #seenEveryMs (): number { return Math.min(seenEveryMsMax, Math.max(sweepEveryMs, this.#shared.ledger.limits.sessionExpiryMs / 8)) }

  /** So that the session of a client that is connected for long does not look old once this node dies. */
  async #markSeen (): Promise<void> {
    const now = performance.now()
    if (now - this.#seenMs < this.#seenEveryMs) return
    this.#seenMs = now
    const { redis, keys, live } = this.#shared
    const byBase = new Map<string, string[]>()
    for (const { client } of live.all()) {
      if (client.clean === true) continue
      const base = keys.base(client.id)
      const clients = byBase.get(base)
      if (clients === undefined) byBase.set(base, [client.id])
      else clients.push(client.id)
    }
    for (const [base, clients] of byBase) {
      for (let i = 0; i < clients.length; i += pageRows) await redis.run(async client => await call(client, seenScript, base, clients.slice(i, i + pageRows)))
    }
  }

  async #countStored (bases: readonly string[]): Promise<void> {
    const { redis, ledger } = this.#shared
    const totals = { retained: 0, retainedBytes: 0, sessions: 0, subscriptions: 0, queued: 0, queuedBytes: 0, wills: 0, incoming: 0 }
    for (const base of bases) {
      const counts = await redis.run(async client => await client.hgetall(`${base}c`))
      for (const name of Object.keys(totals) as (keyof typeof totals)[]) totals[name] += Number(counts[name] ?? 0)
    }
    Object.assign(ledger.stats, totals)
  }
}
