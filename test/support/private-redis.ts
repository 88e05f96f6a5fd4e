/** A Redis of one test, which the test may kill, stop, pause and start again as it likes. */
import { join } from 'node:path'
import { freePort, PrivateFolder, PrivateProcess, startRestartable, type Restartable } from './private-process.js'
import { serviceControl } from './service-control.js'

export interface PrivateRedisOptions {
  /** Every write is in the synced append-only file before it is answered, so a restart finds it; false (nothing survives) unless given. */
  readonly appendOnly?: boolean
}

export type PrivateRedis = Restartable

const startTimeoutMs = 20_000

/** @throws Error saying why there is no redis-server, or with the end of its log. */
export async function startPrivateRedis ({ appendOnly = false }: PrivateRedisOptions = {}): Promise<PrivateRedis> {
  const { ensureRedisServer, redisArguments } = await serviceControl('redis-server')
  const { waitUntilItAnswers } = await serviceControl('processes')
  const { probeRedis } = await serviceControl('probes')
  const { command, environment } = await ensureRedisServer(() => { /* A test has nobody to tell. */ })
  const port = await freePort(['127.0.0.1'])
  const folder = new PrivateFolder('redis')
  const logFile = join(folder.directory, 'log')
  return await startRestartable({
    folder,
    url: `redis://127.0.0.1:${port}`,
    launch: () => new PrivateProcess(folder, { command, environment, args: redisArguments({ directory: folder.directory, port, appendOnly, memoryMaxMb: 512 }), cwd: folder.directory, logFile }),
    answers: async started => {
      await waitUntilItAnswers(async () => await probeRedis('127.0.0.1', port), { timeoutMs: startTimeoutMs, ended: () => started.ended, name: `Redis on port ${port}`, logFile })
    }
  })
}
