/** Writers and readers of one twin through several nodes: versions that were acknowledged, and readers that must never see less. */
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'
import { getTwin, pauseMs, until, type ChangeAnswer, type TwinAnswer } from '../support/twin-drill.js'
import type { NodeProcess } from './two-nodes.js'

const knownMs = 15_000

export interface Success {
  readonly version: number
  readonly leaf: string
  readonly number: number
  /** The version that it was conditional on; null: on none. */
  readonly ifMatch: number | null
}

/** Everything that writers of one twin were told. */
export class WriterLedger {
  readonly device: string
  readonly successes: Success[] = []
  /** `leaf:number` of what got no answer. */
  readonly unknown = new Set<string>()
  readonly sent = new Set<string>()
  readonly strange: string[] = []
  conflicts = 0
  /** No device: it is deleted. */
  absent = 0
  /** The newest version that was acknowledged. */
  floor = 0

  constructor (device: string) {
    this.device = device
  }

  note (success: Success): void {
    this.successes.push(success)
    this.floor = Math.max(this.floor, success.version)
  }

  /** What versions and history say against the ledger. @param changes all of them, oldest first */
  findings (changes: readonly ChangeAnswer[]): string[] {
    const found = [...this.strange]
    const versions = new Set<number>()
    for (const { version, leaf, number, ifMatch } of this.successes) {
      if (versions.has(version)) found.push(`version ${version} was acknowledged to two writers`)
      versions.add(version)
      if (ifMatch !== null && version !== ifMatch + 1) found.push(`If-Match ${ifMatch} led to version ${version}`)
      if (changes[version - 1]?.patch.desired?.[leaf] !== number) found.push(`version ${version} was acknowledged for ${leaf}: ${number}, the history has ${JSON.stringify(changes[version - 1])}`)
    }
    const seen = new Set<string>()
    for (const { version, patch, kind } of changes) {
      const entries = Object.entries(patch.desired ?? {})
      if (kind === 'changed' && entries.length !== 1) found.push(`version ${version} is no change that was sent: ${JSON.stringify(patch)}`)
      for (const [leaf, number] of entries) {
        const text = `${leaf}:${String(number)}`
        if (!this.sent.has(text) || seen.has(text)) found.push(`version ${version} holds ${text}, ${seen.has(text) ? 'again' : 'which was never sent'}`)
        if (!versions.has(version) && !this.unknown.has(text)) found.push(`version ${version} was made by ${text}, whose writer was told something else`)
        seen.add(text)
      }
    }
    return found.slice(0, 5)
  }
}

/** What runs until it is stopped, or the test ends. */
export class Load {
  readonly #running: Promise<void>[] = []
  #stopped = false

  constructor (test: { teardown(undo: () => unknown): unknown }) {
    test.teardown(async () => { await this.stop() })
  }

  add (loop: () => Promise<void>): void {
    this.#running.push((async () => { while (!this.#stopped) await loop() })())
  }

  async stop (): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#running)
  }
}

/** A writer of a leaf of its own. Every number is sent once, whatever becomes of it. */
export function addWriter (load: Load, ledger: WriterLedger, node: NodeProcess, leaf: string, options: { readonly conditional: boolean, readonly pauseMs: () => number }): void {
  let number = 0
  let base: number | null = null
  load.add(async () => {
    try {
      if (options.conditional && base === null) {
        const { status, body } = await node.api.ask('GET', `/devices/${ledger.device}/twin`)
        if (status === 200) base = (body as TwinAnswer).version
      }
      if (!options.conditional || base !== null) base = await write(ledger, node.api, { leaf, number: ++number, ifMatch: options.conditional ? base : null })
    } catch {
      base = null
      await pauseMs(20)
    }
    await pauseMs(options.pauseMs())
  })
}

/** @returns the version that is known now; null where it is not */
export async function write (ledger: WriterLedger, api: TwinfoldApi, { leaf, number, ifMatch }: Omit<Success, 'version'>): Promise<number | null> {
  const text = `${leaf}:${number}`
  ledger.sent.add(text)
  ledger.unknown.add(text)
  const { status, body } = await api.ask('PATCH', `/devices/${ledger.device}/twin`, { desired: { [leaf]: number } }, ifMatch === null ? {} : { 'if-match': `"${ifMatch}"` })
  if (status >= 500) return null
  ledger.unknown.delete(text)
  if (status === 200) {
    const { version } = body as TwinAnswer
    ledger.note({ version, leaf, number, ifMatch })
    return version
  }
  if (status === 412 && ifMatch !== null) ledger.conflicts++
  else if (status === 404) ledger.absent++
  else ledger.strange.push(`PATCH was answered with ${status} ${JSON.stringify(body)}`)
  return null
}

export interface Reads {
  count: number
  /** Answers other than 200, and requests that failed, while the node ran. */
  readonly failed: string[]
  /** Answers below what was acknowledged before the question. */
  readonly behind: string[]
}

/** Asks for the twin all the time, alone and among many, and compares with what was acknowledged before each question. */
export function addReader (load: Load, ledger: WriterLedger, node: NodeProcess, reads: Reads): void {
  let bulk = false
  load.add(async () => {
    const { server } = node
    const { floor } = ledger
    bulk = !bulk
    try {
      const { status, body } = bulk ? await node.api.ask('POST', '/twins/get', { devices: [ledger.device] }) : await node.api.ask('GET', `/devices/${ledger.device}/twin`)
      if (status !== 200) {
        reads.failed.push(`${node.name}: ${status} ${JSON.stringify(body)}`)
        await pauseMs(20)
        return
      }
      const twin = bulk ? (body as { twins: (TwinAnswer | null)[] }).twins[0] : body as TwinAnswer
      reads.count++
      if ((twin?.version ?? -1) < floor) reads.behind.push(`${node.name} said ${twin?.version ?? 'null'} (${bulk ? 'many' : 'one'}) after ${floor} was acknowledged`)
    } catch (error) {
      if (server.running && server === node.server) reads.failed.push(`${node.name}: ${(error as Error).message}`)
      await pauseMs(20)
    }
    await pauseMs(2)
  })
}

/** Waits until both know it: a node remembers for a short time that a device was not there (docs: device directory). */
export async function seenBy (nodes: readonly NodeProcess[], device: string): Promise<TwinAnswer[]> {
  const found: TwinAnswer[] = []
  for (const { api } of nodes) {
    await until(`${device} is known everywhere`, knownMs, async () => (await api.ask('GET', `/devices/${device}/twin`)).status === 200)
    found.push(await getTwin(api, device))
  }
  return found
}

export const newReads = (): Reads => ({ count: 0, failed: [], behind: [] })
