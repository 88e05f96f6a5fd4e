import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { IdempotencyKeys } from '../../src/edge/http/idempotency-keys.js'
import { openJournal, type JournalFiles } from '../../src/journal/journal.js'
import { readBack } from '../journal/journal-support.js'
import { bench, MemoryStore } from './http-support.js'

async function journalIn (directory: string): Promise<JournalFiles> {
  return await openJournal({ directory, clock: systemClock, log: silentLog, diskBytesMax: 256 * 1024 * 1024 })
}

function temporaryDirectory (t: { teardown(undo: () => void): unknown }): string {
  const directory = mkdtempSync(join(tmpdir(), 'http-journal-'))
  t.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
  return directory
}

void t.test('every 202 is a record on disk with that stamp and those bytes, and nothing else is', async t => {
  const directory = temporaryDirectory(t)
  const journal = await journalIn(directory)
  const b = await bench(t, { journal })
  const answers = new Map<string, number>()
  await Promise.all(Array.from({ length: 300 }, async (_, i) => {
    const body = i % 10 === 0 ? '' : `{"i":${i},"pad":"${'x'.repeat((i * 997) % 30_000)}"}`
    const answer = await b.call('POST', i % 3 === 0 ? 'telemetry' : 'devices/pump-1/telemetry', { key: b.keys.device, body })
    if (answer.status === 202) answers.set(body, answer.json.stamp)
  }))
  t.equal(answers.size, 270)
  await journal.close()
  const again = await journalIn(directory)
  const { records, damages } = readBack(again)
  await again.close()
  t.same(damages, [])
  t.same(new Map(records.map(({ text, stamp }) => [text, stamp])), answers)
  t.equal(records.length, 270)
})

void t.test('an Idempotency-Key survives a restart before its record is packed', async t => {
  const directory = temporaryDirectory(t)
  const journal = await journalIn(directory)
  const b = await bench(t, { journal })
  const send = async (to: typeof b, key: string, body: string): ReturnType<typeof b.call> => await to.call('POST', 'telemetry', { key, body, headers: { 'idempotency-key': 'once' } })
  const first = await send(b, b.keys.device, '{"a":1}')
  t.equal(first.status, 202)
  await journal.close()
  const again = await journalIn(directory)
  t.teardown(async () => { await again.close() })
  const recovered = new IdempotencyKeys(new MemoryStore(), { clock: systemClock })
  recovered.recover(again.recoverKeys(0), again.durableEnd)
  t.equal(recovered.size, 1)
  const restarted = await bench(t, { journal: again, idempotency: recovered })
  // The same credential as before the restart.
  for (const credential of b.store.credentials.values()) restarted.store.credentials.set(credential.hash, credential)
  const repeated = await send(restarted, b.keys.device, '{"a":1}')
  t.equal(repeated.headers['idempotent-replayed'], 'true')
  t.equal(repeated.text, first.text)
  t.equal((await send(restarted, b.keys.device, '{"a":2}')).status, 422)
  t.equal(readBack(again).records.length, 1)
})
