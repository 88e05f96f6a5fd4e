/**
 * One slice of the journal into the staging table: read, check, decode, refuse. What the packer writes and what the hot follower
 * puts into the hot state both begin here, so both see the same points. The outcome depends on the slice and the tenants'
 * settings in force at its stamps alone.
 */
import { LRUCache } from 'lru-cache'
import { deadLettersPerSliceMax, futureUsMax } from '../core/limits.js'
import { usPerDay } from '../core/reading.js'
import { decodeIdentity, RecordFlags, RecordKind, type RecordIdentity } from '../journal/record.js'
import { readSlice, scanRecords, type RecordView } from '../journal/segment-scan.js'
import { refusedToDeadLetter } from '../store/dead-letter-row.js'
import type { DeadLetter, DeadLetterReason } from '../store/dead-letter-store.js'
import type { RegistryStore } from '../store/registry.js'
import type { IdempotencyRecord } from '../store/small-stores.js'
import { retentionDaysAt, type Tenant } from '../tenancy/model.js'
import type { PackResult, PackTask } from '../../workers/protocol.js'
import { BodyDecoder } from './decode/body.js'
import type { DecodeContext } from './decode/decode-types.js'
import { forEachPublish } from './decode/publish-run.js'
import { SliceTable } from './slice-table.js'
import { deviceLookup, tenantLookup, type TaskLookup } from './task-lookup.js'

/** What a slice holds, beside the readings in the table. */
export interface DecodedSlice {
  readonly records: number
  readonly messages: number
  readonly bytesIn: number
  readonly letters: readonly DeadLetter[]
  readonly keys: readonly IdempotencyRecord[]
  /** Refused parts by `tenant \0 reason`. */
  readonly refused: readonly (readonly [string, number])[]
  readonly damaged: PackResult['damaged']
}

interface PendingRecord {
  readonly kind: RecordKind
  readonly flags: number
  readonly identity: RecordIdentity
  readonly stamp: number
  readonly position: number
  readonly buffer: Buffer
  readonly bodyStart: number
  readonly bodyEnd: number
}

interface Tally {
  messages: number
  readonly letters: DeadLetter[]
  readonly lettersByTenant: Map<string, number>
  readonly refused: Map<string, number>
}

/** State of decoding one record; reused, so that nothing is allocated per message. */
class RecordContext implements DecodeContext {
  tenant = ''
  device = ''
  deviceNumber = -1
  multiDevice = false
  exact = false
  stamp = 0
  oldestTs = 0
  newestTs = 0
  source: 'mqtt' | 'http' = 'mqtt'
  kind: RecordKind = RecordKind.bodyAuto
  /**
   * Between stamp and part in the id of a dead letter. A replay has the stamp of the letter that it replays; the record's
   * position keeps its own letters apart from that one, which is deleted after the replay.
   */
  letterMark = ''
  /** Index of the refused part inside its message, for the dead letter's id. */
  refusedParts = 0
  readonly lastUnstamped = new Map<number, number>()
  readonly table: SliceTable
  readonly deviceAllowed: (device: string) => boolean
  readonly refuse: (reason: DeadLetterReason, detail: string, device: string, payload: Uint8Array) => void

  constructor (table: SliceTable, deviceAllowed: (context: RecordContext, device: string) => boolean,
    refuse: (context: RecordContext, reason: DeadLetterReason, detail: string, device: string, payload: Uint8Array) => void) {
    this.table = table
    this.deviceAllowed = device => deviceAllowed(this, device)
    this.refuse = (reason, detail, device, payload) => { refuse(this, reason, detail, device, payload) }
  }
}

export class SliceDecoder {
  /** The readings of the slice decoded last. */
  readonly table = new SliceTable()
  readonly #decoder = new BodyDecoder(this.table)
  readonly #tenants: TaskLookup<Tenant | 'unknown'>
  /** `tenant \0 device` to whether it is registered. */
  readonly #devices: TaskLookup<boolean>
  readonly #identities = new LRUCache<string, RecordIdentity>({ max: 50_000 })
  readonly #context: RecordContext
  #journalId = ''
  #missing = new Set<string>()
  #tally: Tally = newTally()

  /** @param options `leaseMs`: how long a tenant or the existence of a device may be remembered */
  constructor (registry: Pick<RegistryStore, 'getTenant' | 'getDevice'>, { leaseMs }: { readonly leaseMs: number }) {
    this.#tenants = tenantLookup(registry, { leaseMs, rememberedMax: 10_000 })
    this.#devices = deviceLookup(registry, { leaseMs: leaseMs * 6, rememberedMax: 500_000 })
    this.#context = new RecordContext(this.table,
      (context, device) => this.#deviceAllowed(context, device),
      (context, reason, detail, device, payload) => { this.#refuse(context, reason, detail, device, payload) })
  }

  /** Rejects where the registry does not answer about a tenant or device that it must be asked about. */
  async decode (task: Pick<PackTask, 'journalId' | 'mark' | 'segments'>): Promise<DecodedSlice> {
    this.table.reset()
    this.#journalId = task.journalId
    this.#tally = newTally()
    this.#context.lastUnstamped.clear()
    for (const lookup of [this.#tenants, this.#devices]) lookup.begin()
    const { records, damaged, bytesIn } = this.#readRecords(task)
    await this.#tenants.load(records.map(record => record.identity.tenant))
    const keys: IdempotencyRecord[] = []
    for (const record of records) {
      if (record.identity.idempotencyKey !== '') {
        const { tenant, idempotencyKey, fingerprint } = record.identity
        keys.push({ tenant, key: idempotencyKey, fingerprint, stamp: record.stamp })
      }
      await this.#decodeRecord(record)
    }
    const { messages, letters, refused } = this.#tally
    return { records: records.length, messages, bytesIn, letters, keys, refused: [...refused], damaged }
  }

  /** Of a tenant whose readings are in the table. */
  retentionDaysOf (tenant: string, stamp: number): number {
    // Only readings of known tenants are in the table.
    return retentionDaysAt(this.#tenants.get(tenant) as Tenant, stamp)
  }

  #readRecords (task: Pick<PackTask, 'journalId' | 'mark' | 'segments'>): { records: PendingRecord[], damaged: PackResult['damaged'], bytesIn: number } {
    const records: PendingRecord[] = []
    const damaged: { path: string, position: number }[] = []
    let bytesIn = 0
    for (const piece of readSlice(task.segments, task.mark.from, task.mark.to)) {
      const visit = (view: RecordView): void => {
        // What is for the applier is none of the packer's.
        if (view.kind === RecordKind.mark || view.kind === RecordKind.deviceMessages || view.kind === RecordKind.intent) return
        bytesIn += view.bodyEnd - view.bodyStart
        records.push({
          kind: view.kind,
          flags: view.flags,
          identity: this.#identity(piece.buffer, view.identityStart, view.identityEnd),
          stamp: view.stamp,
          position: view.position,
          buffer: piece.buffer,
          bodyStart: view.bodyStart,
          bodyEnd: view.bodyEnd
        })
      }
      for (const damage of scanRecords(piece.buffer, piece.base, piece.from, piece.to, task.journalId, visit, piece.segmentBase)) {
        damaged.push({ path: piece.path, position: damage.position })
      }
    }
    return { records, damaged, bytesIn }
  }

  /** Identities repeat from record to record (one per connection), but those with an idempotency key never do. */
  #identity (buffer: Buffer, start: number, end: number): RecordIdentity {
    const text = buffer.toString('latin1', start, end)
    let identity = this.#identities.get(text)
    if (identity === undefined) {
      identity = decodeIdentity(buffer.subarray(start, end))
      if (identity.idempotencyKey === '') this.#identities.set(text, identity)
    }
    return identity
  }

  /** Decodes a record; where it names devices not known yet, looks them up and decodes it once more from the same state. */
  async #decodeRecord (record: PendingRecord): Promise<void> {
    const mayAsk = record.identity.device === '' || (record.flags & RecordFlags.multiDevice) !== 0
    if (!mayAsk) {
      this.#decodeNow(record)
      return
    }
    const undo = this.#checkpoint()
    this.#missing.clear()
    this.#decodeNow(record)
    if (this.#missing.size === 0) return
    await this.#devices.load(this.#missing)
    this.#missing.clear()
    undo()
    this.#decodeNow(record)
  }

  #checkpoint (): () => void {
    const { rows, points } = this.table
    const tally = this.#tally
    const letters = tally.letters.length
    const { messages } = tally
    const refused = new Map(tally.refused)
    const lettersByTenant = new Map(tally.lettersByTenant)
    const lastUnstamped = new Map(this.#context.lastUnstamped)
    return () => {
      this.table.rows = rows
      this.table.points = points
      tally.letters.length = letters
      tally.messages = messages
      restore(tally.refused, refused)
      restore(tally.lettersByTenant, lettersByTenant)
      restore(this.#context.lastUnstamped, lastUnstamped)
    }
  }

  #decodeNow (record: PendingRecord): void {
    const context = this.#context
    const { identity } = record
    const tenant = this.#tenants.get(identity.tenant)
    context.tenant = identity.tenant
    context.source = record.kind === RecordKind.mqttPublishes ? 'mqtt' : 'http'
    context.kind = record.kind === RecordKind.mqttPublishes ? RecordKind.bodyAuto : record.kind
    context.stamp = record.stamp
    context.letterMark = (record.flags & RecordFlags.replay) === 0 ? '' : `r${record.position}-`
    context.refusedParts = 0
    if (tenant === 'unknown') {
      // The tenant was deleted after the gate had accepted: there is nobody left to keep a dead letter for.
      this.#count(identity.tenant, 'device_unknown')
      return
    }
    context.oldestTs = record.stamp - retentionDaysAt(tenant, record.stamp) * usPerDay
    context.newestTs = record.stamp + futureUsMax
    context.multiDevice = (record.flags & RecordFlags.multiDevice) !== 0
    context.exact = (record.flags & RecordFlags.reserved) !== 0
    if (record.kind === RecordKind.mqttPublishes) {
      this.#decodePublishes(record)
    } else {
      this.#setDevice(identity.device)
      this.#decodeBody(record.buffer, record.bodyStart, record.bodyEnd)
    }
  }

  #setDevice (device: string): void {
    this.#context.device = device
    this.#context.deviceNumber = device === '' ? -1 : this.table.deviceNumber(this.#context.tenant, device)
  }

  #decodePublishes (record: PendingRecord): void {
    const context = this.#context
    const { buffer } = record
    let lastTopicStart = -1
    let lastTopicEnd = -1
    let allowed = true
    const brokenAt = forEachPublish(buffer, record.bodyStart, record.bodyEnd, (topicStart, topicEnd, payloadStart, payloadEnd) => {
      if (lastTopicStart === -1 || !sameBytes(buffer, lastTopicStart, lastTopicEnd, topicStart, topicEnd)) {
        lastTopicStart = topicStart
        lastTopicEnd = topicEnd
        const topic = buffer.toString('latin1', topicStart, topicEnd)
        const device = topic === 'telemetry' ? record.identity.device : topic.slice(8, topic.lastIndexOf('/'))
        this.#setDevice(device)
        // A device's own topic and a gateway's children were checked at the gate; an application's are checked here.
        allowed = record.identity.device !== '' || this.#deviceAllowed(context, device)
      }
      context.refusedParts = 0
      if (allowed) this.#decodeBody(buffer, payloadStart, payloadEnd)
      else this.#refuse(context, 'device_unknown', `no device '${context.device}' is registered; create it with POST /api/v1/devices`, context.device, buffer.subarray(payloadStart, payloadEnd))
      context.stamp++
    })
    if (brokenAt >= 0) {
      this.#setDevice(record.identity.device)
      this.#refuse(context, 'packet_invalid', 'the journal holds no whole PUBLISH here; the rest of the record was passed over', context.device, buffer.subarray(brokenAt, record.bodyEnd))
    }
  }

  #decodeBody (buffer: Buffer, from: number, to: number): void {
    const context = this.#context
    this.#tally.messages++
    const { rows, points } = this.table
    try {
      this.#decoder.decode(context.kind, buffer, from, to, context)
    } catch (error) {
      // A fault of ours must not stop the slice: the message is kept for a replay after the fault is mended.
      this.table.rows = rows
      this.table.points = points
      this.#refuse(context, 'worker_failed', `decoding failed: ${(error as Error).message}`, context.device, buffer.subarray(from, to))
    }
  }

  #deviceAllowed (context: RecordContext, device: string): boolean {
    const key = `${context.tenant}\0${device}`
    const known = this.#devices.peek(key)
    if (known !== undefined) return known
    this.#missing.add(key)
    return true
  }

  #count (tenant: string, reason: DeadLetterReason): void {
    const key = `${tenant}\0${reason}`
    this.#tally.refused.set(key, (this.#tally.refused.get(key) ?? 0) + 1)
  }

  #refuse (context: RecordContext, reason: DeadLetterReason, detail: string, device: string, payload: Uint8Array): void {
    this.#count(context.tenant, reason)
    const part = context.refusedParts++
    const kept = this.#tally.lettersByTenant.get(context.tenant) ?? 0
    if (kept >= deadLettersPerSliceMax) return
    this.#tally.lettersByTenant.set(context.tenant, kept + 1)
    const { tenant, stamp, source, kind: format, multiDevice } = context
    this.#tally.letters.push(refusedToDeadLetter({ tenant, stamp, index: `${context.letterMark}${part}`, journalId: this.#journalId, reason, detail, device, source, format, multiDevice, payload }))
  }
}

function restore<K, V> (map: Map<K, V>, saved: ReadonlyMap<K, V>): void {
  map.clear()
  for (const [key, value] of saved) map.set(key, value)
}

function newTally (): Tally {
  return { messages: 0, letters: [], lettersByTenant: new Map(), refused: new Map() }
}

function sameBytes (buffer: Buffer, aStart: number, aEnd: number, bStart: number, bEnd: number): boolean {
  if (aEnd - aStart !== bEnd - bStart) return false
  for (let i = aStart, j = bStart; i < aEnd; i++, j++) if (buffer[i] !== buffer[j]) return false
  return true
}
