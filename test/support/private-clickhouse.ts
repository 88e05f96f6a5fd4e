/** ClickHouse over HTTP for one test (the engine of chdb behind a small front), which the test may kill, pause and start again. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, PrivateFolder, PrivateProcess } from './private-process.js'
import { repositoryDirectory, serviceControl } from './service-control.js'

export interface PrivateClickHouse {
  readonly url: string
  /** SIGKILL. Resolves once the process is gone. */
  kill (): Promise<void>
  /** Starts a killed one again on its data; resolves when it answers. */
  start (): Promise<void>
  /** SIGSTOP: connections stay open, nothing answers. */
  pause (): void
  /** SIGCONT. */
  resume (): void
  /** Kills it and removes its data. */
  close (): Promise<void>
}

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
  let current: PrivateProcess | null = null

  async function start (): Promise<void> {
    if (current?.ended === '') return
    const front = join(repositoryDirectory, 'scripts/service-control/clickhouse-front.mjs')
    const started = new PrivateProcess(folder, { command: process.execPath, args: [front, '--port', String(port), '--data', data], cwd: repositoryDirectory, environment: { ...process.env, NODE_OPTIONS: '' }, logFile })
    current = started
    await waitUntilItAnswers(async () => await probeClickHouse('127.0.0.1', port), { timeoutMs: startTimeoutMs, ended: () => started.ended, name: `the ClickHouse front on port ${port}`, logFile })
  }

  try {
    await start()
  } catch (error) {
    await folder.close()
    throw error
  }
  return {
    url: `http://127.0.0.1:${port}`,
    start,
    kill: async () => { await current?.kill() },
    pause: () => { current?.signal('SIGSTOP') },
    resume: () => { current?.signal('SIGCONT') },
    close: async () => {
      await current?.kill()
      await folder.close()
    }
  }
}
