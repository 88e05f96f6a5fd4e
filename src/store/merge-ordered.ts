/** What every backend's scans share: several ordered sources as one. */
import { inParallel } from '../core/in-parallel.js'

/**
 * Joins ordered sources into one order. `before(a, b)`: a comes first; of equals one of them does. The first rows are asked for side
 * by side, later ones when a source's turn has come. Closes all sources however it ends.
 */
export async function * mergeOrdered<T> (sources: readonly AsyncIterable<T>[], before: (a: T, b: T) => boolean): AsyncGenerator<T, void> {
  if (sources.length === 1) {
    yield * sources[0]
    return
  }
  const iterators = sources.map(source => source[Symbol.asyncIterator]())
  try {
    const heads = await inParallel(iterators, async iterator => await iterator.next())
    for (;;) {
      let first = -1
      for (let i = 0; i < heads.length; i++) {
        const head = heads[i]
        if (head.done === true) continue
        if (first === -1 || before(head.value, heads[first].value as T)) first = i
      }
      if (first === -1) return
      yield heads[first].value as T
      heads[first] = await iterators[first].next()
    }
  } finally {
    await Promise.allSettled(iterators.map(async iterator => await iterator.return?.()))
  }
}
