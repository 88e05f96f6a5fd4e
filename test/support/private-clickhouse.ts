/** ClickHouse over HTTP for one test (the engine of chdb behind a small front), which the test may kill, pause and start again. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, PrivateFolder, PrivateProcess, startRestartable, type Restartable } from './private-process.js'
import { repositoryDirectory, serviceControl } from './service-control.js'

export type PrivateClickHouse = Restartable

const startTimeoutMs = 60_000

/** @throws Error with the end of its log. */
export async function startClickHouseFront (): Promise<PrivateClickHouse> {
  const { waitUntilItAnswers } = await serviceControl('processes')
  const { probeClickHouse } = await serviceControl('probes')
  const port = await freePort(['127.0.0.1'])
  const folder = new PrivateFolder('clickhouse')
  const logFile = join(folder.directory, 'log')
  const data = join(folder.directory, 'data')
  mkdirSync(data)
  const front = join(repositoryDirectory, 'scripts/service-control/clickhouse-front.mjs')
  return await startRestartable({
    folder,
    url: `http://127.0.0.1:${port}`,
    launch: () => new PrivateProcess(folder, { command: process.execPath, args: [front, '--port', String(port), '--data', data], cwd: repositoryDirectory, environment: { ...process.env, NODE_OPTIONS: '' }, logFile }),
    answers: async started => {
      await waitUntilItAnswers(async () => await probeClickHouse('127.0.0.1', port), { timeoutMs: startTimeoutMs, ended: () => started.ended, name: `the ClickHouse front on port ${port}`, logFile })
    }
  })
}
