/**
 * Answers a query task with JSON bytes. Runs in a worker thread: nothing per point happens on the main thread. A task looks at
 * its deadline between rows and gives itself up, so that a long query costs its own caller an answer and nobody a thread.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { readingsOf } from '../series/merge.js'
import type { Store } from '../store/store.js'
import type { QueryResult, QueryTask, RangeQuery } from '../../workers/protocol.js'
import { bytesOf, formatTime, formatValues } from './format-values.js'
import { LatestReader } from './read-latest.js'
import { AggregateRunner } from './run-aggregate.js'
import { runShape } from './run-shape.js'
import { readReadings } from '../store/read-readings.js'

export { formatTime, formatValue } from './format-values.js'

export class QueryRunner {
  readonly #store: Store
  readonly #clock: Clock
  readonly #latest: LatestReader
  readonly #aggregates: AggregateRunner

  constructor (store: Store, { clock }: { readonly clock: Clock }) {
    this.#store = store
    this.#clock = clock
    this.#latest = new LatestReader(store, clock)
    this.#aggregates = new AggregateRunner(store)
  }

  /** @throws TwinfoldError `store_unavailable`, also past the task's deadline. */
  async run (task: QueryTask): Promise<QueryResult> {
    const checkpoint = (): void => {
      if (task.deadlineUs !== undefined && this.#clock.nowUs() > task.deadlineUs) throw tookTooLong()
    }
    checkpoint()
    switch (task.kind) {
      case 'range': return await runRange(this.#store, task, checkpoint)
      case 'latest': return await this.#latest.run(task, checkpoint)
      case 'aggregate': return await this.#aggregates.run(task, checkpoint)
      case 'shape': return await runShape(this.#store, task, checkpoint)
    }
  }
}

export function tookTooLong (): TwinfoldError {
  return new TwinfoldError('store_unavailable', 'the query took too long; ask for a shorter range or fewer readings')
}

async function runRange (store: Store, task: RangeQuery, checkpoint: () => void): Promise<QueryResult> {
  const metrics = task.metrics === null ? null : new Set(task.metrics)
  const parts: string[] = []
  let lastTs: number | null = null
  let more = false
  reading: for await (const chunk of readReadings(store, { ...task, metrics, checkpoint })) {
    for (const reading of readingsOf(chunk, task.order)) {
      if (parts.length === task.limit) {
        more = true
        break reading
      }
      parts.push(`{"ts":${formatTime(reading.ts, task.times)},"values":${formatValues(reading.values)}}`)
      lastTs = reading.ts
    }
  }
  return { body: bytesOf(`[${parts.join(',')}]`), readings: parts.length, lastTs, more }
}
