/** Starts something at a steady rate whatever becomes of it (an open loop): a server that is slow is not given a rest by its clients. */

const tickMs = 2

/** Calls `start` for i = 0, 1, … at the rate for so many seconds; resolves when all that was started has ended. Rejects with the first failure. */
export async function paced (ratePerSecond: number, seconds: number, start: (i: number) => Promise<void>): Promise<{ readonly started: number, readonly seconds: number }> {
  const total = Math.round(ratePerSecond * seconds)
  const running: Promise<void>[] = []
  let failure: Error | null = null
  const startedMs = performance.now()
  let i = 0
  while (i < total && failure === null) {
    const due = Math.min(total, Math.floor((performance.now() - startedMs) * ratePerSecond / 1000) + 1)
    for (; i < due; i++) running.push(start(i).catch((error: Error) => { failure ??= error }))
    await new Promise(resolve => { setTimeout(resolve, tickMs) })
  }
  await Promise.all(running)
  if (failure !== null) throw failure as Error
  return { started: i, seconds: (performance.now() - startedMs) / 1000 }
}
