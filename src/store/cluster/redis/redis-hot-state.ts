/**
 * The hot state in Redis: a hash a device, merged by a script, so that late, repeated and concurrent writes of any number of nodes
 * end in the same values. It holds what it is told and nothing else: a key may vanish (flush, eviction, 7 days without a write)
 * and Redis may come back with older data; neither is ever complete then (hot-state.ts).
 *
 * Bounded: `hotMetricsPerDeviceMax` values a device, of `hotStringBytesMax` at most, written in pipelines of at most
 * `pipelineValuesMax` values.
 */
import type { Redis } from 'ioredis'
import { TwinfoldError } from '../../../core/errors.js'
import { hotKeptMs, hotMetricsPerDeviceMax } from '../../../core/limits.js'
import type { DeviceLatest, HotState, KnownLatest, LatestValue } from '../../hot-state.js'
import { forgetScript, mergeScript, readScript, type Script } from './hot-scripts.js'
import { decodeHotValue, encodeHotValue } from './hot-values.js'

/** What it needs of `openRedis`. */
export interface HotRedis {
  readonly client: Pick<Redis, 'pipeline' | 'script'>
  readonly prefix: string
  /** Rejects with `store_unavailable` where Redis does not answer. */
  run<T>(action: () => Promise<T>): Promise<T>
}

interface Call { readonly script: Script, readonly key: string, readonly args: readonly (string | number)[] }

const pipelineValuesMax = 4000

export class RedisHotState implements HotState {
  readonly #redis: HotRedis

  constructor (redis: HotRedis) { this.#redis = redis }

  async putLatest (devices: readonly DeviceLatest[]): Promise<void> {
    let calls: Call[] = []
    let waiting = 0
    for (const { tenant, device, values } of devices) {
      for (let from = 0; from < values.length; from += hotMetricsPerDeviceMax) {
        const part = values.slice(from, from + hotMetricsPerDeviceMax)
        calls.push(this.#merge(tenant, device, part, ''))
        waiting += part.length
      }
      if (waiting < pipelineValuesMax) continue
      await this.#callAll(calls)
      calls = []
      waiting = 0
    }
    if (calls.length > 0) await this.#callAll(calls)
  }

  async getLatest (tenant: string, device: string, generation: string | null): Promise<KnownLatest> {
    const [answer] = await this.#callAll([{ script: readScript, key: this.#key(tenant, device), args: [] }])
    const [fields, instance] = answer as [string[], string]
    const values: LatestValue[] = []
    const basis = `${generation ?? ''}/${instance}`
    let complete = false
    let whole = true
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i]
      if (name.startsWith('m')) {
        const value = decodeHotValue(name.slice(1), fields[i + 1])
        if (value === null) whole = false
        else values.push(value)
      } else if (name === 'c') {
        complete = generation !== null && fields[i + 1] === basis
      } else if (name === 'o') {
        whole = false
      }
    }
    values.sort((a, b) => a.metric < b.metric ? -1 : 1)
    return { values, complete: complete && whole, basis: whole && generation !== null ? basis : null }
  }

  async fillLatest ({ tenant, device, values }: DeviceLatest, basis: string): Promise<void> {
    // A device with more than is kept is never complete, so there is nothing to fill.
    if (values.length <= hotMetricsPerDeviceMax) await this.#callAll([this.#merge(tenant, device, values, basis)])
  }

  async forgetDevice (tenant: string, device: string, erasedBefore: number): Promise<void> {
    await this.#callAll([{ script: forgetScript, key: this.#key(tenant, device), args: [hotKeptMs, erasedBefore] }])
  }

  /** Neither tenant nor device ids hold a slash. */
  #key (tenant: string, device: string): string {
    return `${this.#redis.prefix}:hot/${tenant}/${device}`
  }

  #merge (tenant: string, device: string, values: readonly LatestValue[], basis: string): Call {
    const args: (string | number)[] = [hotKeptMs, hotMetricsPerDeviceMax, basis]
    for (const value of values) args.push(`m${value.metric}`, encodeHotValue(value))
    return { script: mergeScript, key: this.#key(tenant, device), args }
  }

  /** One round trip; a Redis that does not know a script yet is given it, and all is said again, which changes nothing. */
  async #callAll (calls: readonly Call[]): Promise<unknown[]> {
    if (calls.length === 0) return []
    try {
      return await this.#redis.run(async () => await this.#pipelinedWithScripts(calls))
    } catch (error) {
      if (error instanceof TwinfoldError) throw error
      throw new TwinfoldError('store_unavailable', `the hot state in Redis: ${(error as Error).message}`, { cause: error, retryAfterMs: 1000 })
    }
  }

  async #pipelinedWithScripts (calls: readonly Call[]): Promise<unknown[]> {
    const first = await this.#pipelined(calls)
    if (first.missing === null) return first.answers
    for (const { text } of new Set(calls.map(({ script }) => script))) await this.#redis.client.script('LOAD', text)
    const second = await this.#pipelined(calls)
    if (second.missing !== null) throw second.missing
    return second.answers
  }

  async #pipelined (calls: readonly Call[]): Promise<{ answers: unknown[], missing: Error | null }> {
    const pipeline = this.#redis.client.pipeline()
    for (const { script, key, args } of calls) pipeline.evalsha(script.sha1, 1, key, ...args)
    const answers: unknown[] = []
    for (const [error, answer] of await pipeline.exec() ?? []) {
      if (error?.message.startsWith('NOSCRIPT') === true) return { answers, missing: error }
      if (error !== null) throw error
      answers.push(answer)
    }
    return { answers, missing: null }
  }
}
