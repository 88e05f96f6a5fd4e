/**
 * What the drills of twins share (INVARIANTS 5): devices that report, writers that desire, both with ledgers of what was acknowledged, and
 * the comparison of a twin and its history with them. A leaf of sixteen takes each number in turn, so every number shows in the history.
 */
import mqtt, { type MqttClient } from 'mqtt'
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'
import type { Random } from '../../simulators/fleet/seeded-random.js'

/** Numbers share so many leaves; far more than may be under way at once. */
const leaves = 16
const pageChanges = 1000

export const pauseMs = async (ms: number): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, ms) }) }

/** @throws Error after `timeoutMs` */
export async function until (what: string, timeoutMs: number, holds: () => Promise<boolean> | boolean): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs
  while (!await holds()) {
    if (performance.now() > deadlineMs) throw new Error(`it does not come true in ${timeoutMs} ms: ${what}`)
    await pauseMs(20)
  }
}

export interface TwinAnswer {
  readonly version: number
  readonly desiredVersion: number
  readonly desired: Readonly<Record<string, unknown>>
  readonly reported: Readonly<Record<string, unknown>>
  readonly tags: Readonly<Record<string, string>>
}

export interface ChangeAnswer {
  readonly version: number
  readonly time: number
  readonly kind: 'created' | 'changed' | 'deleted'
  readonly patch: { readonly desired?: Record<string, unknown>, readonly reported?: Record<string, unknown>, readonly tags?: Record<string, unknown> }
}

/** @throws Error on any answer but 200 */
export async function getTwin (api: TwinfoldApi, device: string): Promise<TwinAnswer> {
  const { status, body } = await api.ask('GET', `/devices/${device}/twin`)
  if (status !== 200) throw new Error(`GET of the twin of ${device}: ${status} ${JSON.stringify(body)}`)
  return body as TwinAnswer
}

/** All that is kept, oldest first. */
export async function allChanges (api: TwinfoldApi, device: string): Promise<ChangeAnswer[]> {
  const found: ChangeAnswer[] = []
  for (let before: number | null = null; ;) {
    const { status, body } = await api.ask('GET', `/devices/${device}/twin/changes?times=ms&limit=${pageChanges}${before === null ? '' : `&before=${before}`}`)
    if (status !== 200) throw new Error(`changes of ${device}: ${status} ${JSON.stringify(body)}`)
    const { changes, next } = body as { changes: ChangeAnswer[], next: number | null }
    found.push(...changes)
    if (next === null) return found.reverse()
    before = next
  }
}

/** What was sent under numbers, and which of them were acknowledged. */
export class NumberLedger {
  readonly #part: 'desired' | 'reported'
  readonly #prefix: string
  readonly acked = new Set<number>()
  last = 0

  constructor (part: 'desired' | 'reported', prefix: string) {
    this.#part = part
    this.#prefix = prefix
  }

  /** The newest number that was acknowledged; 0 for none. */
  ackedMax = 0

  next (): number { return ++this.last }

  acknowledge (number: number): void {
    this.acked.add(number)
    if (number > this.ackedMax) this.ackedMax = number
  }

  body (number: number): Record<string, number> {
    return { [this.#prefix]: number, [`${this.#prefix}${number % leaves}`]: number }
  }

  /** Once all that was sent is acknowledged the state is known to the leaf. */
  expected (): Record<string, number> {
    const state: Record<string, number> = {}
    for (let number = Math.max(1, this.last - leaves + 1); number <= this.last; number++) Object.assign(state, this.body(number))
    return state
  }

  /** Acknowledged numbers that the history does not show exactly once, and numbers in it that were never sent. */
  findings (changes: readonly ChangeAnswer[]): string[] {
    const found: string[] = []
    const shown = new Map<number, number>()
    for (const { version, patch } of changes) {
      for (const [leaf, value] of Object.entries(patch[this.#part] ?? {})) {
        if (!new RegExp(`^${this.#prefix}\\d+$`).test(leaf) || typeof value !== 'number') continue
        shown.set(value, (shown.get(value) ?? 0) + 1)
        if (value > this.last || leaf !== `${this.#prefix}${value % leaves}`) found.push(`version ${version} holds ${leaf}: ${value}, which was never sent`)
      }
    }
    for (const number of this.acked) if (shown.get(number) !== 1) found.push(`${this.#part} ${number} was acknowledged and is ${shown.get(number) ?? 0} times in the history`)
    return found
  }
}

/** Where versions are not 1 to `version` without a gap, or times do not grow with them. */
export function historyFindings (changes: readonly ChangeAnswer[], version: number): string[] {
  const found: string[] = []
  if (changes.length !== version) found.push(`version ${version} of ${changes.length} changes`)
  for (const [i, change] of changes.entries()) {
    if (change.version !== i + 1) found.push(`the change at place ${i + 1} has version ${change.version}`)
    if (i > 0 && change.time <= changes[i - 1].time) found.push(`version ${change.version} is not later than the one before`)
  }
  return found.slice(0, 5)
}

export interface GadgetOptions {
  readonly id: string
  readonly token: string
  readonly random: Random
  /** Between an acknowledgement and the next report, ms at most. */
  readonly pauseMsMax: number
  readonly inFlight: number
}

/** A device that reports at QoS 1; after a reconnect it sends again what was not acknowledged, in order, as a client library does. */
export class TwinReporter {
  readonly ledger = new NumberLedger('reported', 'r')
  readonly #options: GadgetOptions
  #unacked: number[] = []
  #again: number[] = []
  #underWay = 0
  #client: MqttClient | null = null
  #producing = true
  #run = 0

  constructor (options: GadgetOptions) {
    this.#options = options
  }

  get outstanding (): number { return this.#unacked.length }

  /** Connects to this server from now on, and again whenever the connection ends. */
  run (port: number): void {
    this.#client?.end(true)
    const run = ++this.#run
    void this.#connect(port, run)
  }

  stopProducing (): void { this.#producing = false }

  close (): void {
    this.#run++
    this.#client?.end(true)
  }

  async #connect (port: number, run: number): Promise<void> {
    const { id, token } = this.#options
    while (run === this.#run) {
      const client = mqtt.connect({ port, clientId: id, username: token, reconnectPeriod: 0, clean: true, connectTimeout: 5000 })
      this.#client = client
      client.on('error', () => { /* It closes, and is tried again. */ })
      client.once('connect', () => {
        this.#again = [...this.#unacked]
        this.#underWay = 0
        this.#pump(client)
      })
      await new Promise<void>(resolve => { client.once('close', () => { resolve() }) })
      client.end(true)
      await pauseMs(20)
    }
  }

  #pump (client: MqttClient): void {
    while (client === this.#client && client.connected && this.#underWay < this.#options.inFlight) {
      const number = this.#again.shift() ?? (this.#producing ? this.ledger.next() : null)
      if (number === null) return
      if (!this.#unacked.includes(number)) this.#unacked.push(number)
      this.#underWay++
      client.publish('twin/reported', JSON.stringify(this.ledger.body(number)), { qos: 1 }, error => {
        if (error !== undefined && error !== null) return
        this.ledger.acknowledge(number)
        this.#unacked = this.#unacked.filter(one => one !== number)
        if (client !== this.#client) return
        this.#underWay--
        setTimeout(() => { this.#pump(client) }, this.#options.random() * this.#options.pauseMsMax)
      })
    }
  }
}

/** Changes desired over HTTP, one number after the other; one that got no answer is sent again until it has one. */
export class DesiredWriter {
  readonly ledger: NumberLedger
  /** The newest version that an answer named. */
  version = 0
  readonly refused: string[] = []
  readonly #device: string
  readonly #random: Random
  readonly #pauseMsMax: number
  #api: TwinfoldApi | null = null
  #producing = true
  #closed = false
  #done: Promise<void> | null = null

  constructor (device: string, random: Random, pauseMsMax: number, prefix = 'd') {
    this.#device = device
    this.#random = random
    this.#pauseMsMax = pauseMsMax
    this.ledger = new NumberLedger('desired', prefix)
  }

  run (api: TwinfoldApi): void {
    this.#api = api
    this.#done ??= this.#loop()
  }

  /** Ends it, whatever was acknowledged. */
  close (): void {
    this.#producing = false
    this.#closed = true
  }

  /** Resolves when the last number was acknowledged. */
  async finish (): Promise<void> {
    this.#producing = false
    await this.#done
  }

  async #loop (): Promise<void> {
    while (this.#producing) {
      const number = this.ledger.next()
      while (!await this.#write(number) && !this.#closed) await pauseMs(20)
      await pauseMs(this.#random() * this.#pauseMsMax)
    }
  }

  async #write (number: number): Promise<boolean> {
    try {
      const { status, body } = await (this.#api as TwinfoldApi).ask('PATCH', `/devices/${this.#device}/twin`, { desired: this.ledger.body(number) })
      if (status !== 200) {
        // 5xx: not known, or not taken; both are tried again.
        if (status < 500) this.refused.push(`${status} ${JSON.stringify(body)}`)
        return status < 500
      }
      this.ledger.acknowledge(number)
      this.version = Math.max(this.version, (body as TwinAnswer).version)
      return true
    } catch {
      return false
    }
  }
}
