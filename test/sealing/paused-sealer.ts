/** A process that seals one bucket and says so: for tests that stop it in the middle. Started with a JSON argument. */
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { sealBucket } from '../../src/sealing/seal-bucket.js'
import { openStore } from '../../src/store/open-store.js'
import type { RawStore } from '../../src/store/raw-store.js'
import type { StoreSpec } from '../../workers/protocol.js'
import type { SealTask } from '../../workers/seal-protocol.js'

const { spec, task, pauseAt } = JSON.parse(process.argv[2]) as { spec: StoreSpec, task: SealTask, pauseAt: 'afterHead' | 'beforeWrite' | 'afterWrite' }
const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })

/** The other process stops this one here and lets it go on later. */
async function pause (step: string): Promise<void> {
  if (step !== pauseAt) return
  process.stdout.write('here\n')
  await new Promise(resolve => { setTimeout(resolve, 300) })
}

const raw: RawStore = Object.create(store.raw, {
  scanChunks: { value: async function * (...parameters: Parameters<RawStore['scanChunks']>) {
    yield * store.raw.scanChunks(...parameters)
    await pause('afterHead')
  } },
  readSealed: { value: async (...parameters: Parameters<RawStore['readSealed']>) => await store.raw.readSealed(...parameters) },
  writeSealed: { value: async (...parameters: Parameters<RawStore['writeSealed']>) => {
    await pause('beforeWrite')
    await store.raw.writeSealed(...parameters)
    await pause('afterWrite')
  } }
}) as RawStore
const paused = { raw, getTenant: store.getTenant.bind(store), getPlan: store.getPlan.bind(store), erasedParts: store.erasedParts.bind(store) }
const { outcome } = await sealBucket(task, { store: paused, nowUs: systemClock.nowUs, cpuMs: systemClock.monotonicMs })
process.stdout.write(`${outcome}\n`)
await store.close()
