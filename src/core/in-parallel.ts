/** Bounded side-by-side work. */

const atOnceDefault = 32

/** The results in the order of the items; at most `atOnce` run side by side. Rejects with the first failure, when none runs any more. */
export async function inParallel<T, R> (items: readonly T[], run: (item: T, index: number) => Promise<R>, atOnce = atOnceDefault): Promise<R[]> {
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
