/** What the scans of the raw tables share: ordered joins of several sources, and bounded side-by-side work. */

/** Reads or single writes that one call keeps under way; the client's own limit stands behind it. */
const parallelMax = 32

/** The results in the order of the items; at most `atOnce` run side by side. Rejects with the first failure, when none runs any more. */
export async function inParallel<T, R> (items: readonly T[], run: (item: T, index: number) => Promise<R>, atOnce = parallelMax): Promise<R[]> {
  const results = new Array<R>(items.length)
  const failures: unknown[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const index = next++
      try {
        results[index] = await run(items[index], index)
      } catch (error) {
        failures.push(error)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, lane))
  if (failures.length > 0) throw failures[0]
  return results
}

/** Joins ordered sources into one order, all asked side by side at first. `before(a, b)`: a comes first. Closes all sources however it ends. */
export async function * mergeOrdered<T> (sources: readonly AsyncIterable<T>[], before: (a: T, b: T) => boolean): AsyncGenerator<T> {
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
    await Promise.all(iterators.map(async iterator => await iterator.return?.()))
  }
}
