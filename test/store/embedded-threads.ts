/** Thread and process entries of the embedded store's tests: what they write is told only after the store has said so. */
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay, usPerMinute } from '../../src/core/reading.js'
import { openEmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import type { Store } from '../../src/store/store.js'
import { chunkOf, day0, slabOf, sliceOf, writeOf } from './store-fixtures.js'

export interface WriterData {
  readonly directory: string
  readonly tenant: string
  readonly writer: number
  readonly rows: number
  /** End at once, without closing anything, when that many rows are written. */
  readonly dieAfter?: number
}

/** Row `i` of a writer: one chunk, one slab and one cursor, in one of a few windows. */
export function rowOf (tenant: string, writer: number, i: number) {
  const start = day0 + (i % 4) * 30 * usPerDay
  const slice = sliceOf(i + 1, writer.toString(16).padStart(16, '0'))
  return {
    chunk: chunkOf(tenant, `d${writer}`, { slice, part: i, bucket: { start, widthMinutes: 1440 }, bytes: Buffer.alloc(2000, i) }),
    slab: slabOf(tenant, { shard: writer, minute: start + usPerMinute, slice, bytes: Buffer.alloc(500, i) })
  }
}

export async function writeRow (store: Store, tenant: string, writer: number, i: number): Promise<void> {
  const { chunk, slab } = rowOf(tenant, writer, i)
  await store.raw.writeHead(writeOf({ chunks: [chunk], slabs: [slab] }))
  await store.putCursor(slab.slice.journalId, 'test', i, false)
}

async function thread (data: WriterData): Promise<void> {
  const store = await openEmbeddedStore({ directory: data.directory, clock: systemClock, log: silentLog })
  for (let i = 0; i < data.rows; i++) {
    await writeRow(store, data.tenant, data.writer, i)
    if (i + 1 === data.dieAfter) process.exit(0)
  }
  parentPort?.postMessage('done')
  await store.close()
}

/** A process that writes until it is killed, and tells each row's number when it is acknowledged. */
async function child (directory: string): Promise<void> {
  const store = await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true })
  process.stdout.write('open\n')
  const write = async (writer: number): Promise<void> => {
    for (let i = 0; ; i++) {
      await writeRow(store, 'killed', writer, i)
      process.stdout.write(`${writer} ${i}\n`)
    }
  }
  if (process.argv[4] === 'hold') setInterval(() => {}, 1000)
  else await Promise.all([write(1), write(2), write(3)])
}

if (!isMainThread && workerData !== null && typeof workerData === 'object' && 'directory' in workerData) await thread(workerData as WriterData)
else if (process.argv[2] === 'child') await child(process.argv[3])
