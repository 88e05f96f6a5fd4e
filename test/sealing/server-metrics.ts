/** What a server under test says of itself. */
import { testAdminKey, type TestServer } from '../support/server.js'

/** Sum of the metric over its labels; 0 where it has none yet. */
export async function metricOf (server: TestServer, name: string): Promise<number> {
  const answer = await fetch(`${server.httpUrl}/metrics`, { headers: { authorization: `Bearer ${testAdminKey}` } })
  const text = await answer.text()
  let sum = 0
  for (const line of text.split('\n')) if (line.startsWith(`${name} `) || line.startsWith(`${name}{`)) sum += Number(line.slice(line.lastIndexOf(' ')))
  return sum
}

/** @throws Error where it does not come true in time */
export async function until (isSo: () => Promise<boolean>, timeoutMs: number): Promise<void> {
  const endMs = Date.now() + timeoutMs
  while (!await isSo()) {
    if (Date.now() > endMs) throw new Error(`not so after ${timeoutMs} ms`)
    await new Promise(resolve => { setTimeout(resolve, 100) })
  }
}
