/**
 * Answers a query task with JSON bytes. Runs in a worker thread: nothing per point happens on the main thread. A task looks at
 * its deadline between rows and gives itself up, so that a long query costs its own caller an answer and nobody a thread.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import type { Store } from '../store/store.js'
import type { QueryResult, QueryTask, RangeQuery } from '../../workers/protocol.js'
import { formatReadings } from './format-readings.js'
import { JsonBytes } from './json-bytes.js'
import { NumberTexts } from './number-texts.js'
import { LatestReader } from './read-latest.js'
import { AggregateRunner } from './run-aggregate.js'
import { runShape } from './run-shape.js'
import { readReadings } from '../store/read-readings.js'

export class QueryRunner {
  readonly #store: Store
  readonly #clock: Clock
  readonly #latest: LatestReader
  readonly #aggregates: AggregateRunner
  readonly #numbers = new NumberTexts()

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
      case 'range': return await runRange(this.#store, task, checkpoint, this.#numbers)
      case 'latest': return await this.#latest.run(task, checkpoint)
      case 'aggregate': return await this.#aggregates.run(task, checkpoint)
      case 'shape': return await runShape(this.#store, task, checkpoint)
    }
  }
}

export function tookTooLong (): TwinfoldError {
  return new TwinfoldError('store_unavailable', 'the query took too long; ask for a shorter range or fewer readings')
}

async function runRange (store: Store, task: RangeQuery, checkpoint: () => void, numbers: NumberTexts): Promise<QueryResult> {
  const metrics = task.metrics === null ? null : new Set(task.metrics)
  const { order, limit, times } = task
  const out = new JsonBytes()
  out.ascii('[')
  let readings = 0
  let lastTs: number | null = null
  let more = false
  for await (const chunk of readReadings(store, { ...task, metrics, checkpoint })) {
    const read = formatReadings(out, chunk, { order, most: limit - readings, times, numbers })
    readings += read.count
    lastTs = read.lastTs ?? lastTs
    more = read.more
    if (more) break
  }
  if (readings > 0) out.cutTo(out.length - 1)
  out.ascii(']')
  return { body: out.take(), readings, lastTs, more }
}
